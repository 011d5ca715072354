#include "bridge/cli/survey.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "devices/lines/link_new.h"

/* For connecting and for an answer: a network on site is not far away. */
#define SURVEY_TIMEOUT_NS CLOCK_NS_PER_S
/* Whether a unit is there on a serial line: a device that is answers within a tenth of
 * that (MODBUS over Serial Line V1.02, section 2.4.1: "1s to several second" is for
 * slow ones, and there are 247 to be asked). */
#define KNOCK_TIMEOUT_NS (300 * CLOCK_NS_PER_MS)
enum { STACK_BYTES = 256 * 1024 };

struct survey {
    const struct survey_setup *setup;
    unsigned size;
    atomic_uint next; /* the next address and port to look at */
    atomic_uint done, found;
    atomic_bool stopping;
    int progress; /* eventfd */
    pthread_mutex_t mutex;
    /* Under the mutex while threads run. */
    struct finding *findings;
    unsigned n_findings, room;
    bool lost;
    unsigned n_threads;
    pthread_t threads[SURVEY_THREADS];
};

static void note(struct survey *survey, const struct finding *finding)
{
    pthread_mutex_lock(&survey->mutex);
    if (survey->n_findings == survey->room) {
        const unsigned room = survey->room > 0 ? 2 * survey->room : 64;
        struct finding *more = realloc(survey->findings, room * sizeof(*more));
        if (more != NULL) {
            survey->findings = more;
            survey->room = room;
        }
    }
    if (survey->n_findings < survey->room)
        survey->findings[survey->n_findings++] = *finding;
    else
        survey->lost = true;
    pthread_mutex_unlock(&survey->mutex);
}

/* One address and port, by all units. */
static void look(struct survey *survey, uint32_t address, uint16_t port)
{
    const struct survey_setup *setup = survey->setup;
    struct device_modbus modbus = {.port = port, .timeout_ns = SURVEY_TIMEOUT_NS};
    struct finding finding = {.address = address, .port = port};
    bool answered = false;

    address_range_print(address, modbus.host);
    struct link *link = link_new(&modbus);
    bool open = link != NULL && link_open(link, SURVEY_TIMEOUT_NS) == FAULT_NONE;
    if (link == NULL || !open) {
        link_free(link);
        return;
    }
    atomic_fetch_add(&survey->found, 1);
    eventfd_write(survey->progress, 1);
    for (unsigned i = 0; i < setup->units.n && !atomic_load(&survey->stopping); i++) {
        modbus.address = finding.unit = setup->units.items[i];
        if (recognise_unit(link, &modbus, setup->profiles, setup->n_profiles, &finding.guess) !=
            FAULT_NONE)
            continue;
        note(survey, &finding);
        answered = true;
    }
    if (!answered)
        note(survey, &(struct finding){.address = address, .port = port});
    link_free(link);
}

/* One unit of the serial line. */
static void knock(struct survey *survey, struct link *link, unsigned unit)
{
    const struct survey_setup *setup = survey->setup;
    struct device_modbus modbus = *setup->serial;
    struct finding finding = {.unit = (uint16_t)unit};
    uint16_t word;

    modbus.address = unit;
    modbus.timeout_ns = SURVEY_TIMEOUT_NS;
    enum fault fault = link_open(link, KNOCK_TIMEOUT_NS);
    if (fault == FAULT_NONE)
        fault = link_read(link, (uint8_t)unit, POINT_HOLDING, 0, 1, &word, KNOCK_TIMEOUT_NS);
    if (fault_is_silence(fault) || recognise_unit(link, &modbus, setup->profiles, setup->n_profiles,
                                                  &finding.guess) != FAULT_NONE)
        return;
    atomic_fetch_add(&survey->found, 1);
    note(survey, &finding);
}

/* The whole line, which one thread has to itself. */
static void *walk(void *argument)
{
    struct survey *survey = argument;
    const struct survey_setup *setup = survey->setup;
    struct link *link = link_new(setup->serial);

    survey->lost = link == NULL;
    for (unsigned i = 0; link != NULL && i < survey->size && !atomic_load(&survey->stopping); i++) {
        knock(survey, link, setup->units.items[i]);
        atomic_fetch_add(&survey->done, 1);
        eventfd_write(survey->progress, 1);
    }
    if (link == NULL)
        atomic_store(&survey->done, survey->size);
    eventfd_write(survey->progress, 1);
    link_free(link);
    return NULL;
}

static void *work(void *argument)
{
    struct survey *survey = argument;
    const struct survey_setup *setup = survey->setup;

    while (!atomic_load(&survey->stopping)) {
        const unsigned target = atomic_fetch_add(&survey->next, 1);
        if (target >= survey->size)
            break;
        look(survey, setup->range.first + target / setup->ports.n,
             setup->ports.items[target % setup->ports.n]);
        atomic_fetch_add(&survey->done, 1);
        eventfd_write(survey->progress, 1);
    }
    return NULL;
}

struct survey *survey_start(const struct survey_setup *setup)
{
    struct survey *survey = calloc(1, sizeof(*survey));
    pthread_attr_t attributes;

    if (survey == NULL)
        return NULL;
    survey->setup = setup;
    const bool serial = setup->serial != NULL;
    survey->size =
        serial ? setup->units.n : (setup->range.last - setup->range.first + 1) * setup->ports.n;
    pthread_mutex_init(&survey->mutex, NULL);
    survey->progress = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (survey->progress >= 0 && survey->n_threads < (serial ? 1 : SURVEY_THREADS) &&
           survey->n_threads < survey->size &&
           pthread_create(&survey->threads[survey->n_threads], &attributes, serial ? walk : work,
                          survey) == 0)
        survey->n_threads++;
    pthread_attr_destroy(&attributes);
    if (survey->n_threads == 0) {
        survey_free(survey);
        return NULL;
    }
    return survey;
}

int survey_fd(const struct survey *survey)
{
    return survey->progress;
}

unsigned survey_done(struct survey *survey, unsigned *found)
{
    eventfd_t count;
    (void)eventfd_read(survey->progress, &count);
    *found = atomic_load(&survey->found);
    return atomic_load(&survey->done);
}

unsigned survey_size(const struct survey *survey)
{
    return survey->size;
}

static int compare(const void *first, const void *second)
{
    const struct finding *a = first, *b = second;
    if (a->address != b->address)
        return a->address < b->address ? -1 : 1;
    return a->port != b->port ? a->port - b->port : a->unit - b->unit;
}

void survey_stop(struct survey *survey)
{
    atomic_store(&survey->stopping, true);
    for (unsigned i = 0; i < survey->n_threads; i++)
        pthread_join(survey->threads[i], NULL);
    survey->n_threads = 0;
    if (survey->n_findings > 0)
        qsort(survey->findings, survey->n_findings, sizeof(*survey->findings), compare);
}

const struct finding *survey_findings(const struct survey *survey, unsigned *n, bool *whole)
{
    *n = survey->n_findings;
    *whole = !survey->lost;
    return survey->findings;
}

void survey_free(struct survey *survey)
{
    if (survey == NULL)
        return;
    if (survey->progress >= 0)
        close(survey->progress);
    pthread_mutex_destroy(&survey->mutex);
    free(survey->findings);
    free(survey);
}
