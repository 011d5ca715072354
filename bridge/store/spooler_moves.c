#include "bridge/store/spooler_inside.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* In the state: where a spool that is being moved was before, or one that has gone still is. */
#define FORMER "spool/former"

/* A run that is cut off on the way is to be found out by the next: where it was is on disk
 * first. */
static bool former_is_kept(struct state *state, int64_t until_ns)
{
    if (state == NULL)
        return true;
    const uint64_t mark = state_mark(state);
    state_settle(state, mark, until_ns);
    return state_is_kept(state, mark);
}

void spooler_move(struct spooler *spooler)
{
    const char *path = spooler->conf->spool_path;
    const char *why = "the state file does not take where it was";
    const int64_t now_ns = clock_mono_ns();
    spooler->goes = false;
    if (strcmp(spool_path(spooler->spool), path) == 0 || now_ns < spooler->movable_ns)
        return;
    atomic_store(&spooler->promise_ns, clock_awake_ns() + SPOOLER_RENEW_NS);
    if (former_is_kept(spooler->state, clock_awake_ns() + SPOOLER_RETRY_NS)) {
        if (spool_move(spooler->spool, path, spooler_count_lost, spooler)) {
            spooler->movable_ns = 0;
            spooler_note_former(spooler->state, NULL);
            return;
        }
        why = spool_error(spooler->spool);
    }
    if (spooler->movable_ns == 0)
        log_error("the spool cannot be moved, it stays where it is until then path=%s to=%s "
                  "why=\"%s\"",
                  spool_path(spooler->spool), path, why);
    spooler->movable_ns = clock_mono_ns() + SPOOLER_RETRY_NS;
}

/* Rows of another spool, gathered; their bytes are in spooler->bytes. */
struct gathered {
    struct spooler *spooler;
    size_t n, size;
    int64_t row; /* the last that was looked at */
};

static bool gather(void *context, const struct spool_sample *sample)
{
    struct gathered *all = context;
    struct spooler *spooler = all->spooler;
    if (sample->layout == NULL) {
        outbox_set_row_aside(spooler->outbox, 0, spooler->conf->devices.n_devices);
    } else if (all->n == AT_ONCE || all->size + sample->size > BYTES_AT_ONCE) {
        return false;
    } else {
        unsigned char *bytes = spooler->bytes + all->size;
        memcpy(bytes, sample->bytes, sample->size);
        spooler->samples[all->n] = *sample;
        spooler->samples[all->n++].bytes = bytes;
        all->size += sample->size;
    }
    all->row = sample->row;
    return true;
}

/* What an earlier run could not move to its end comes here now. Cut off half way it is sent
 * twice, and lost in no case. */
static bool adopt_all(struct spooler *spooler, struct spool *former)
{
    struct gathered all = {.spooler = spooler};
    int64_t before;
    bool good;
    do {
        before = all.row;
        all.n = all.size = 0;
        good = spool_read(former, before, AT_ONCE, gather, &all) &&
               spool_append(spooler->spool, spooler->samples, all.n);
    } while (good && all.row != before);
    return good;
}

void spooler_adopt(struct spooler *spooler)
{
    char path[CONF_PATH_MAX + 1], why[256] = "";
    struct spool *former = NULL;
    uint64_t lost = 0;
    if (spooler->state == NULL || !state_get(spooler->state, FORMER, path, sizeof(path)))
        return;
    if (strcmp(path, spooler->conf->spool_path) == 0) {
        spooler_note_former(spooler->state, NULL);
        return;
    }
    if (access(path, F_OK) != 0) {
        /* It was moved to its end. What lies there one day is somebody else's. */
        spooler_note_former(spooler->state, NULL);
        return;
    }
    const struct spool_setup setup = {
        .path = path, .max_bytes = INT64_MAX, .layouts = spooler->layouts};
    if (spool_open(&setup, &former, &lost, why) != SPOOL_OPENED) {
        log_error("samples that waited before the spool was moved are still there: %s", why);
        return;
    }
    while (lost-- > 0)
        outbox_drop_row(spooler->outbox, 0, spooler->conf->devices.n_devices);
    const uint64_t n = spool_count(former);
    if (!adopt_all(spooler, former)) {
        log_error("samples that waited before the spool was moved are still there: the next start "
                  "tries again path=%s",
                  path);
        spool_close(former);
        return;
    }
    log_info("samples that waited before the spool was moved are taken over path=%s samples=%llu",
             path, (unsigned long long)n);
    spool_discard(former);
    spooler_note_former(spooler->state, NULL);
}

void spooler_note_former(struct state *state, const char *path)
{
    if (state != NULL)
        (void)state_put(state, FORMER, path);
}

bool spooler_can_move(const struct spooler *spooler, const char *path)
{
    const bool goes = path[0] == '\0';
    if (spooler->spool == NULL)
        return goes || !spooler_is_wanted(spooler);
    return (goes || spooler->failing == 0) &&
           (!spooler_is_wanted(spooler) ||
            strcmp(spool_path(spooler->spool), spooler->conf->spool_path) == 0);
}

bool spooler_is_at(const struct spooler *spooler, const char *path)
{
    return spooler->spool != NULL && strcmp(spool_path(spooler->spool), path) == 0;
}

/* ---- one that goes ---- */

bool spooler_find_left(struct spooler *spooler, char path[CONF_PATH_MAX + 1])
{
    if (spooler->state == NULL || !state_get(spooler->state, FORMER, path, CONF_PATH_MAX + 1))
        return false;
    if (access(path, F_OK) == 0 || errno != ENOENT)
        return true;
    log_info("of the spool that has gone there is no file path=%s", path);
    spooler_note_former(spooler->state, NULL);
    return false;
}

void spooler_tell_goes(struct spooler *spooler)
{
    const uint64_t n = spool_count(spooler->spool);
    if (!spooler->goes && n > 0)
        log_warning("the spool goes once what waits in it is sent path=%s samples=%llu",
                    spool_path(spooler->spool), (unsigned long long)n);
    spooler->goes = true;
}

void spooler_let_go(struct spooler *spooler)
{
    char path[CONF_PATH_MAX + 1];
    strcpy(path, spool_path(spooler->spool));
    spool_discard(spooler->spool);
    spooler_note_former(spooler->state, NULL);
    spooler->spool = NULL;
    spooler->goes = false;
    spooler->failing = 0;
    spooler->movable_ns = spooler->read_row = 0;
    outbox_forget_rows(spooler->outbox);
    log_info("the spool has gone: it was empty path=%s", path);
}
