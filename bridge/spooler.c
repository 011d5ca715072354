#include "bridge/spooler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/log.h"
#include "bridge/spool.h"
#include "bridge/wire.h"

/* A sample is on disk a second after it was taken: half of it to wait for the
 * broker, half to write. */
#define PATIENCE_NS (CLOCK_NS_PER_S / 2)
/* Until a failing disk is tried again. */
#define RETRY_NS CLOCK_NS_PER_S
/* Deliveries are gathered for so long before they are removed from disk. */
#define GATHER_NS (CLOCK_NS_PER_S / 5)

enum { AT_ONCE = 512, BYTES_AT_ONCE = 1 << 20 };

struct spooler {
    const struct conf *conf;
    struct outbox *outbox;
    struct spool *spool;
    pthread_t thread;
    atomic_bool stopping;
    bool failing;
    int64_t read_row; /* rows up to this one have been read back */
    bool read_full;   /* the outbox took no more */
    struct outbox_spilled spilled[AT_ONCE];
    struct spool_sample samples[AT_ONCE];
    int64_t rows[AT_ONCE];
    char bytes[BYTES_AT_ONCE];
};

/* Says once that the disk fails, and once that it works again. */
static bool check(struct spooler *spooler, bool good)
{
    if (!good && !spooler->failing)
        log_error("the spool cannot be used, samples stay in memory path=%s why=\"%s\"",
                  spooler->conf->spool_path, spool_error(spooler->spool));
    if (good && spooler->failing)
        log_info("the spool works again path=%s", spooler->conf->spool_path);
    spooler->failing = !good;
    return good;
}

static const char *name_of(const struct spooler *spooler, unsigned device)
{
    return spooler->conf->devices.devices[device].name;
}

/* Puts what has waited too long on disk; returns when to look again. */
static int64_t spill(struct spooler *spooler, int64_t until_ns)
{
    int64_t next_ns;
    size_t n;
    while ((n = outbox_spill(spooler->outbox, until_ns, spooler->spilled, AT_ONCE, spooler->bytes,
                             BYTES_AT_ONCE, &next_ns)) > 0) {
        for (size_t i = 0; i < n; i++)
            spooler->samples[i] = (struct spool_sample){
                .device = name_of(spooler, spooler->spilled[i].device),
                .payload = spooler->spilled[i].payload,
                .payload_size = spooler->spilled[i].payload_size,
            };
        if (!check(spooler, spool_append(spooler->spool, spooler->samples, n)))
            return clock_mono_ns() + RETRY_NS;
        for (size_t i = 0; i < n; i++)
            spooler->spilled[i].row = spooler->samples[i].row;
        outbox_spilled(spooler->outbox, spooler->spilled, n);
    }
    return next_ns == CLOCK_NEVER ? CLOCK_NEVER : next_ns + PATIENCE_NS;
}

static bool remove_delivered(struct spooler *spooler)
{
    size_t n;
    while ((n = outbox_delivered(spooler->outbox, spooler->rows, AT_ONCE)) > 0) {
        /* Rows that cannot be removed now are sent once more after a restart. */
        if (!check(spooler, spool_remove(spooler->spool, spooler->rows, n)))
            return false;
    }
    return true;
}

static void count_dropped(void *context, const char *device)
{
    struct spooler *spooler = context;
    const struct device_list *list = &spooler->conf->devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (strcmp(list->devices[i].name, device) == 0)
            outbox_count_drop(spooler->outbox, i);
    }
}

/* Hands one sample back to the outbox. A device that is configured no more
 * still has a topic. */
static void hand_back(void *context, const struct spool_sample *sample)
{
    struct spooler *spooler = context;
    const struct device_list *list = &spooler->conf->devices;
    char topic[WIRE_TOPIC_MAX + 1] = "";
    unsigned device = 0;
    if (spooler->read_full)
        return;
    while (device < list->n_devices && strcmp(list->devices[device].name, sample->device) != 0)
        device++;
    if (device == list->n_devices)
        (void)wire_topic(topic, spooler->conf, sample->device, "backfill");
    if (outbox_refill(spooler->outbox, sample->row, device, topic, sample->payload,
                      sample->payload_size))
        spooler->read_row = sample->row;
    else
        spooler->read_full = true;
}

static void refill(struct spooler *spooler)
{
    bool rewind;
    while (outbox_wants_refill(spooler->outbox, &rewind) || rewind) {
        int64_t before = spooler->read_row;
        if (rewind)
            spooler->read_row = before = 0;
        spooler->read_full = false;
        if (!check(spooler, spool_read(spooler->spool, before, AT_ONCE, hand_back, spooler)) ||
            spooler->read_full || spooler->read_row == before)
            return;
    }
}

static void *spooler_thread(void *argument)
{
    struct spooler *spooler = argument;
    for (;;) {
        bool stopping = atomic_load(&spooler->stopping);
        int64_t now_ns = clock_mono_ns();
        int64_t next_ns = spill(spooler, stopping ? CLOCK_NEVER : now_ns - PATIENCE_NS);
        if (!remove_delivered(spooler) || stopping)
            next_ns = now_ns + RETRY_NS;
        if (spool_count(spooler->spool) > 0) {
            (void)check(spooler, spool_trim(spooler->spool, count_dropped, spooler));
            refill(spooler);
        }
        outbox_set_spool(spooler->outbox, !spooler->failing, spool_count(spooler->spool));
        if (stopping)
            return NULL;
        if (spool_count(spooler->spool) > 0 && next_ns > now_ns + GATHER_NS)
            next_ns = now_ns + GATHER_NS;
        outbox_wait_spool(spooler->outbox, next_ns);
    }
}

struct spooler *spooler_start(const struct conf *conf, struct outbox *outbox)
{
    char why[256] = "out of memory or threads";
    struct spooler *spooler = calloc(1, sizeof(*spooler));
    if (spooler == NULL || !outbox_use_spool(outbox))
        goto failed;
    spooler->conf = conf;
    spooler->outbox = outbox;
    spooler->spool = spool_open(conf->spool_path, conf->spool_max_size, why);
    if (spooler->spool == NULL)
        goto failed;
    if (spool_count(spooler->spool) > 0)
        log_info("the spool holds samples of an earlier run samples=%llu",
                 (unsigned long long)spool_count(spooler->spool));
    if (pthread_create(&spooler->thread, NULL, spooler_thread, spooler) == 0)
        return spooler;

failed:
    log_error("%s", why);
    if (spooler != NULL)
        spool_close(spooler->spool);
    free(spooler);
    return NULL;
}

void spooler_stop(struct spooler *spooler)
{
    if (spooler == NULL)
        return;
    atomic_store(&spooler->stopping, true);
    outbox_wake_spool(spooler->outbox);
    pthread_join(spooler->thread, NULL);
    spool_close(spooler->spool);
    free(spooler);
}
