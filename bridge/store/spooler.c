#include "bridge/store/spooler_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* A sample is on disk a second after it was taken: half of it to wait for the
 * broker, half to write. */
#define PATIENCE_NS (CLOCK_NS_PER_S / 2)
/* Deliveries are gathered for so long before they are removed from disk. */
#define GATHER_NS (CLOCK_NS_PER_S / 5)
/* Between two lines on rows that make no sense. */
#define ASIDE_NS (60 * CLOCK_NS_PER_S)

/* What can fail. */
enum work { APPEND = 1, REMOVE = 2, TRIM = 4, READ = 8 };

void spooler_count_lost(void *context, int64_t row)
{
    struct spooler *spooler = context;
    outbox_drop_row(spooler->outbox, row, spooler->conf->devices.n_devices);
}

/* A spool that is damaged, or was taken away, is replaced, with all that can be
 * read of it. Why is said `first`, and not with each try. */
static bool renew(struct spooler *spooler, bool first)
{
    const int64_t now_ns = clock_mono_ns();
    if (!spool_is_damaged(spooler->spool) || now_ns < spooler->renewable_ns)
        return false;
    spooler->renewable_ns = now_ns + SPOOLER_RENEW_NS;
    if (first)
        log_error("the spool fails path=%s samples=%llu why=\"%s\"", spool_path(spooler->spool),
                  (unsigned long long)spool_count(spooler->spool), spool_error(spooler->spool));
    atomic_store(&spooler->promise_ns, clock_awake_ns() + SPOOLER_RENEW_NS);
    if (spool_renew(spooler->spool, spooler_count_lost, spooler))
        return true;
    spooler->renewable_ns = now_ns + SPOOLER_RETRY_NS;
    return false;
}

/* Now it is about to use the disk, or has just done so. */
static void promise(struct spooler *spooler)
{
    atomic_store(&spooler->promise_ns, clock_awake_ns());
}

/* Says once that the disk fails, and once that all of it works again. */
static bool check(struct spooler *spooler, enum work work, bool good)
{
    const unsigned before = spooler->failing;
    promise(spooler);
    spooler->failing = good ? before & ~(unsigned)work : before | work;
    if (!good && renew(spooler, before == 0))
        spooler->failing = 0;
    if (before == 0 && spooler->failing != 0)
        log_error("the spool cannot be used, samples stay in memory path=%s why=\"%s\"",
                  spool_path(spooler->spool), spool_error(spooler->spool));
    if (before != 0 && spooler->failing == 0)
        log_info("the spool works again path=%s", spool_path(spooler->spool));
    return good;
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
                .layout = spooler->spilled[i].layout,
                .bytes = spooler->spilled[i].packed,
                .size = spooler->spilled[i].size,
            };
        if (!check(spooler, APPEND, spool_append(spooler->spool, spooler->samples, n))) {
            if ((spooler->failing & APPEND) == 0)
                continue; /* a new file was begun: it is for them, too */
            return clock_mono_ns() + SPOOLER_RETRY_NS;
        }
        for (size_t i = 0; i < n; i++)
            spooler->spilled[i].row = spooler->samples[i].row;
        outbox_spilled(spooler->outbox, spooler->spilled, n);
        spooler->more = true;
    }
    return next_ns == CLOCK_NEVER ? CLOCK_NEVER : next_ns + PATIENCE_NS;
}

static bool remove_delivered(struct spooler *spooler)
{
    size_t n;
    while ((n = outbox_delivered(spooler->outbox, spooler->rows, AT_ONCE)) > 0) {
        if (!check(spooler, REMOVE, spool_remove(spooler->spool, spooler->rows, n)))
            return false;
        outbox_removed(spooler->outbox, n);
    }
    return true;
}

/* The device's index, or their number for one that is configured no more. */
static unsigned find_device(const struct spooler *spooler, const struct layout *layout)
{
    const struct device_list *list = &spooler->conf->devices;
    unsigned i = 0;
    while (i < list->n_devices &&
           (layout == NULL || strcmp(list->devices[i].name, layout->device) != 0))
        i++;
    return i;
}

static void count_dropped(void *context, const struct spool_sample *sample)
{
    struct spooler *spooler = context;
    outbox_drop_row(spooler->outbox, sample->row, find_device(spooler, sample->layout));
}

/* Hands one sample back to the outbox. What makes no sense is set aside. */
static bool hand_back(void *context, const struct spool_sample *sample)
{
    struct spooler *spooler = context;
    if (sample->layout == NULL && spooler->n_bad < AT_ONCE) {
        spooler->bad[spooler->n_bad++] = sample->row;
        spooler->read_row = sample->row;
    } else if (sample->layout != NULL &&
               outbox_refill(spooler->outbox, sample->row, find_device(spooler, sample->layout),
                             sample->layout, sample->bytes, sample->size)) {
        spooler->read_row = sample->row;
    } else {
        spooler->read_full = true;
    }
    return !spooler->read_full;
}

static bool set_bad_aside(struct spooler *spooler)
{
    const unsigned n = spooler->n_bad;
    if (!check(spooler, REMOVE, spool_remove(spooler->spool, spooler->bad, n)))
        return false;
    spooler->n_bad = 0;
    for (unsigned i = 0; i < n; i++)
        outbox_set_row_aside(spooler->outbox, spooler->bad[i], spooler->conf->devices.n_devices);
    if (spooler->n_aside == 0)
        spooler->first_aside = spooler->bad[0];
    spooler->n_aside += n;
    return true;
}

/* Returns when there is more to tell. */
static int64_t tell_aside(struct spooler *spooler, int64_t now_ns, bool stopping)
{
    if (spooler->n_aside == 0)
        return CLOCK_NEVER;
    if (now_ns < spooler->aside_ns && !stopping)
        return spooler->aside_ns;
    log_error(
        "the spool holds rows that make no sense: they are set aside path=%s rows=%llu first=%lld",
        spool_path(spooler->spool), (unsigned long long)spooler->n_aside,
        (long long)spooler->first_aside);
    spooler->n_aside = 0;
    spooler->aside_ns = now_ns + ASIDE_NS;
    return CLOCK_NEVER;
}

/* Whether to go on at once: behind rows that make no sense, of which there may be any
 * number; what waits for the disk, and the end, wait for no more than some of them. */
static bool refill(struct spooler *spooler)
{
    bool rewind;
    while (outbox_wants_refill(spooler->outbox, &rewind) || rewind) {
        int64_t before = spooler->read_row;
        if (rewind)
            spooler->read_row = before = 0;
        spooler->read_full = false;
        spooler->more =
            check(spooler, READ, spool_read(spooler->spool, before, AT_ONCE, hand_back, spooler)) &&
            (spooler->read_full || spooler->read_row != before);
        if (spooler->n_bad > 0)
            return set_bad_aside(spooler);
        if (!spooler->more || spooler->read_full)
            return false;
    }
    return false;
}

/* ---- the thread ---- */

/* What it holds from an earlier run is sent, what was lost is counted. */
static enum spool_opened open_spool(struct spooler *spooler, const char *path, char why[256])
{
    const struct conf *conf = spooler->conf;
    uint64_t lost;
    const enum spool_opened opened = spool_open(
        &(struct spool_setup){
            .path = path,
            .max_bytes = spooler_is_wanted(spooler) ? conf->spool_max_size : INT64_MAX,
            .layouts = spooler->layouts,
            .state = spooler->state,
        },
        &spooler->spool, &lost, why);
    if (opened != SPOOL_OPENED)
        return opened;
    if (spooler_is_wanted(spooler))
        spooler_adopt(spooler);
    const uint64_t count = spool_count(spooler->spool);
    if (count > 0)
        log_info("the spool holds samples of an earlier run samples=%llu",
                 (unsigned long long)count);
    while (lost-- > 0)
        outbox_drop_row(spooler->outbox, 0, conf->devices.n_devices);
    spooler->more = count > 0;
    outbox_set_spool(spooler->outbox, spooler_is_wanted(spooler), count, spooler->more);
    return opened;
}

static void tell_not_open(struct spooler *spooler, const char why[256])
{
    outbox_set_spool(spooler->outbox, false, 0, false);
    if (strcmp(why, spooler->why) != 0)
        log_error("%s; %s until then", why,
                  spooler_is_wanted(spooler) ? "samples stay in memory"
                                             : "what waits there is not sent");
    strcpy(spooler->why, why);
}

/* What there is to be opened. */
static bool find_place(struct spooler *spooler, char path[CONF_PATH_MAX + 1])
{
    strcpy(path, spooler->conf->spool_path);
    return path[0] != '\0' || spooler_find_left(spooler, path);
}

/* It could not be opened yet, or is to be; whether it is now. */
static bool open_late(struct spooler *spooler, const char *path)
{
    char why[256];
    if (open_spool(spooler, path, why) == SPOOL_OPENED) {
        if (spooler->why[0] != '\0')
            log_info("the spool works again path=%s", path);
        spooler->why[0] = '\0';
        return true;
    }
    tell_not_open(spooler, why);
    return false;
}

/* A file that is not to be touched ends the start, as long as that waits. False then. */
static bool open_first(struct spooler *spooler)
{
    char path[CONF_PATH_MAX + 1], why[256];
    promise(spooler);
    const enum spool_opened opened =
        find_place(spooler, path) ? open_spool(spooler, path, why) : SPOOL_OPENED;
    pthread_mutex_lock(&spooler->mutex);
    const bool ends =
        opened == SPOOL_REFUSED && spooler->start == OPENING && spooler_is_wanted(spooler);
    spooler->start = ends ? ENDS : GOES_ON;
    if (ends)
        strcpy(spooler->why, why);
    pthread_cond_signal(&spooler->opened);
    pthread_mutex_unlock(&spooler->mutex);
    if (!ends && opened != SPOOL_OPENED)
        tell_not_open(spooler, why);
    return !ends;
}

static bool take_ts(void *context, const struct spool_sample *sample)
{
    int64_t *ts_ms = context;
    if (sample->layout != NULL && !sample->layout->is_text)
        *ts_ms = sample_packed_ts_ms(sample->bytes, sample->size);
    return false;
}

/* When the first of those on disk was taken; 0 = there is none, or it is not known. */
static int64_t first_ms(struct spooler *spooler)
{
    int64_t ts_ms = 0;
    if (spool_count(spooler->spool) > 0)
        (void)spool_read(spooler->spool, 0, 1, take_ts, &ts_ms);
    return ts_ms;
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static void trim(struct spooler *spooler)
{
    spool_bound(spooler->spool, spooler->conf->spool_max_size);
    if (spool_count(spooler->spool) > 0)
        (void)check(spooler, TRIM, spool_trim(spooler->spool, count_dropped, spooler));
}

/* Returns when there is more to do; with a file. */
static int64_t serve(struct spooler *spooler, int64_t now_ns, bool stopping)
{
    const bool wanted = spooler_is_wanted(spooler);
    int64_t next_ns = CLOCK_NEVER;
    if (wanted) {
        spooler_move(spooler);
        next_ns = spill(spooler, stopping ? CLOCK_NEVER : now_ns - PATIENCE_NS);
    } else {
        spooler_tell_goes(spooler);
    }
    if (!remove_delivered(spooler))
        next_ns = now_ns + SPOOLER_RETRY_NS;
    if (wanted)
        trim(spooler);
    if (spool_count(spooler->spool) > 0)
        next_ns = sooner(next_ns, refill(spooler) ? now_ns : now_ns + GATHER_NS);
    else
        spooler->more = false;
    if (spooler->failing != 0) /* nobody calls who has a sample then */
        next_ns = sooner(next_ns, now_ns + SPOOLER_RETRY_NS);
    outbox_set_spool(spooler->outbox, wanted && spooler->failing == 0, spool_count(spooler->spool),
                     spooler->more);
    outbox_set_spool_since(spooler->outbox, first_ms(spooler));
    return next_ns;
}

/* Returns when there is more to do. */
static int64_t work(struct spooler *spooler, bool stopping)
{
    char path[CONF_PATH_MAX + 1];
    const int64_t now_ns = clock_mono_ns();
    if (spooler->spool == NULL && !find_place(spooler, path))
        return spooler->state == NULL || state_is_loaded(spooler->state)
                   ? CLOCK_NEVER
                   : now_ns + SPOOLER_RETRY_NS;
    if (spooler->spool == NULL && !open_late(spooler, path))
        return now_ns + SPOOLER_RETRY_NS;
    int64_t next_ns = serve(spooler, now_ns, stopping);
    if (spooler->movable_ns != 0)
        next_ns = sooner(next_ns, spooler->movable_ns);
    next_ns = sooner(next_ns, tell_aside(spooler, now_ns, stopping));
    if (!spooler_is_wanted(spooler) && spool_count(spooler->spool) == 0) {
        spooler_let_go(spooler);
        return CLOCK_NEVER;
    }
    return next_ns;
}

/* At the end. */
static void tell_left(const struct spooler *spooler)
{
    int64_t left_ns; /* since when the first waits to be put on disk */
    if (spooler->spool != NULL && !spooler_is_wanted(spooler))
        log_warning(
            "samples stay in the file of the spool that was to go, name it as spool.path to "
            "have them sent path=%s samples=%llu",
            spool_path(spooler->spool), (unsigned long long)spool_count(spooler->spool));
    if (!spooler_is_wanted(spooler))
        return;
    (void)outbox_spill(spooler->outbox, CLOCK_NEVER, NULL, 0, NULL, 0, &left_ns);
    if (left_ns != CLOCK_NEVER)
        log_error("samples are lost: they are neither delivered nor on disk samples=%llu",
                  (unsigned long long)outbox_depth(spooler->outbox).waiting);
}

static void *spooler_thread(void *argument)
{
    struct spooler *spooler = argument;
    if (!open_first(spooler))
        return NULL;
    for (;;) {
        promise(spooler);
        const bool stopping = atomic_load(&spooler->stopping);
        const int64_t next_ns = work(spooler, stopping);
        if (stopping)
            break;
        atomic_store(&spooler->promise_ns, CLOCK_NEVER);
        outbox_wait_spool(spooler->outbox, next_ns);
        halt_here(&spooler->halt);
    }
    tell_left(spooler);
    return NULL;
}

static void spooler_free(struct spooler *spooler)
{
    spool_close(spooler->spool);
    halt_destroy(&spooler->halt);
    pthread_cond_destroy(&spooler->opened);
    pthread_mutex_destroy(&spooler->mutex);
    free(spooler);
}

static struct spooler *spooler_new(const struct conf *conf, struct layouts *layouts,
                                   struct outbox *outbox, struct state *state)
{
    struct spooler *spooler = calloc(1, sizeof(*spooler));
    if (spooler == NULL)
        return NULL;
    spooler->conf = conf;
    spooler->promise_ns = clock_awake_ns();
    halt_init(&spooler->halt);
    pthread_mutex_init(&spooler->mutex, NULL);
    clock_cond_init(&spooler->opened);
    spooler->outbox = outbox;
    spooler->layouts = layouts;
    spooler->state = state;
    return spooler;
}

/* Whether it goes on; also when its disk does not answer. */
static bool wait_first(struct spooler *spooler)
{
    const int64_t until_ns = clock_awake_ns() + STATE_SILENCE_NS;
    pthread_mutex_lock(&spooler->mutex);
    while (spooler->start == OPENING && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&spooler->opened, &spooler->mutex, until_ns);
    if (spooler->start == OPENING)
        spooler->start = GOES_ON;
    const bool goes_on = spooler->start == GOES_ON;
    pthread_mutex_unlock(&spooler->mutex);
    return goes_on;
}

struct spooler *spooler_start(const struct conf *conf, struct layouts *layouts,
                              struct outbox *outbox, struct state *state)
{
    struct spooler *spooler = spooler_new(conf, layouts, outbox, state);
    if (spooler == NULL || !outbox_use_spool(outbox, conf->spool_path[0] != '\0') ||
        pthread_create(&spooler->thread, NULL, spooler_thread, spooler) != 0) {
        log_error("cannot start the thread of the spool: out of memory or threads");
    } else if (wait_first(spooler)) {
        return spooler;
    } else {
        pthread_join(spooler->thread, NULL);
        log_error("%s", spooler->why);
    }
    if (spooler != NULL)
        spooler_free(spooler);
    return NULL;
}

struct halt *spooler_halt(struct spooler *spooler)
{
    halt_ask(&spooler->halt);
    outbox_wake_spool(spooler->outbox);
    return &spooler->halt;
}

int64_t spooler_promise_ns(const struct spooler *spooler)
{
    return atomic_load(&spooler->promise_ns);
}

void spooler_stop(struct spooler *spooler)
{
    if (spooler == NULL)
        return;
    atomic_store(&spooler->stopping, true);
    outbox_wake_spool(spooler->outbox);
    pthread_join(spooler->thread, NULL);
    spooler_free(spooler);
}
