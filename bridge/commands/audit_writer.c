#include "bridge/commands/audit_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/commands/audit_file.h"
#include "bridge/commands/audit_formers.h"

enum { AT_ONCE = 256 /* lines in one write */ };

/* Says what has changed since `before`. */
static void tell(const struct audit *audit, int before, int now, uint64_t lost)
{
    if (now > 0 && now != before) {
        errno = now;
        log_error("the audit log cannot be written: %m: %s; setpoints other than zero are "
                  "refused until then file=%s",
                  audit_file_remedy(now), audit->path);
    } else if (now == 0 && (before > 0 || lost > 0)) {
        log_info("the audit log is written again file=%s lost=%" PRIu64, audit->path, lost);
    }
}

static void tell_tight(const struct audit *audit, bool tight, uint64_t left_out)
{
    if (tight)
        log_warning("there is no more room on the disk than the spool may need: of commands that "
                    "are refused one a second is written to the audit log: make room file=%s",
                    audit->path);
    else
        log_info("there is room again: all that is refused is written to the audit log file=%s "
                 "left_out=%" PRIu64,
                 audit->path, left_out);
}

/* What a state that lies elsewhere has kept is found by nobody; but where ids are from, so are
 * leases. */
static void tell_older(const struct audit *audit)
{
    log_warning("the audit log is older than the state file: if site or spool.path was changed "
                "while the bridge was ended, it knows no lease, stop or schedule of before: see "
                "spool in fluxbridge.conf(5) file=%s",
                audit->path);
}

bool audit_has_unwritten(const struct audit *audit, bool *untried)
{
    bool unwritten = false;
    *untried = false;
    for (const struct audit_record *record = audit->first; record; record = record->next) {
        unwritten = unwritten || !record->written;
        *untried = *untried || !record->tried;
    }
    return unwritten;
}

bool audit_knows_more(const struct audit *audit)
{
    return !audit->knew && audit->state != NULL && state_is_loaded(audit->state);
}

void audit_free(struct audit *audit)
{
    for (struct audit_record *record = audit->first, *next; record; record = next) {
        next = record->next;
        free(record->outcome);
        free(record);
    }
    if (audit->file >= 0)
        close(audit->file);
    pthread_cond_destroy(&audit->called);
    pthread_cond_destroy(&audit->looked);
    pthread_cond_destroy(&audit->waits);
    pthread_mutex_destroy(&audit->mutex);
    free(audit->earlier);
    free(audit->path);
    free(audit->next);
    free(audit);
}

/* What one visit to the file is for, and what it has found there. */
struct errand {
    int n; /* lines to be written */
    struct audit_record *records[AT_ONCE];
    struct iovec lines[AT_ONCE];
    bool anew;
    bool reads; /* what earlier runs have written; as often as it was asked for: */
    unsigned asked;
    bool is_first; /* of those that this state has heard of */
    char formers[AUDIT_FORMERS_SIZE], *earlier;
    uint64_t mark; /* of the state, which is to be on disk before a line; 0 = nothing of it */
    char spool[CONF_PATH_MAX + 1];
    int64_t spool_most;
    int error, status;
    bool tight;
};

/* Locked. The records whose lines are next. */
static void gather(const struct audit *audit, struct errand *errand)
{
    for (struct audit_record *record = audit->first; record && errand->n < AT_ONCE;
         record = record->next) {
        if (record->written)
            continue;
        char *line = record->texts;
        errand->lines[errand->n] = (struct iovec){.iov_base = line, .iov_len = strlen(line)};
        errand->records[errand->n++] = record;
    }
}

/* Locked. */
static void begin_errand(struct audit *audit, struct errand *errand)
{
    const bool loaded = audit->state != NULL && state_is_loaded(audit->state);
    gather(audit, errand);
    errand->anew = audit->reopen || audit->status != 0;
    errand->asked = audit->reads_asked += audit_knows_more(audit);
    errand->reads = errand->asked != audit->reads_done;
    audit->reopen = audit->wanted = false;
    if (errand->reads) {
        audit->knew = audit->state == NULL || loaded;
        audit_formers_get(audit->state, errand->formers);
        errand->is_first = loaded && errand->formers[0] == '\0';
    }
    if (loaded && !audit->noted) {
        audit_formers_add(audit->state, audit->path);
        audit->note_mark = state_mark(audit->state);
        audit->noted = true;
    }
    errand->mark = errand->n > 0 ? audit->note_mark : 0;
    strcpy(errand->spool, audit->spool);
    errand->spool_most = audit->spool_most;
    errand->tight = audit->tight;
}

/* At the disk. */
static int write_lines(struct audit *audit, const struct errand *errand)
{
    int error = 0;
    if (errand->anew || audit->file < 0 || !audit_file_is_linked(audit->file)) {
        if (audit->file >= 0)
            close(audit->file);
        error = audit_file_open(audit->path, &audit->file);
    }
    return error != 0 || errand->n == 0 ? error
                                        : audit_file_write(audit->file, errand->lines, errand->n);
}

/* At the disk. */
static void run_errand(struct audit *audit, struct errand *errand)
{
    if (errand->mark != 0)
        state_settle(audit->state, errand->mark, clock_awake_ns() + STATE_SILENCE_NS);
    if (errand->reads)
        errand->error = audit_formers_read(errand->formers, audit->path, &errand->earlier);
    if (errand->is_first && errand->earlier != NULL)
        tell_older(audit);
    if (errand->error == 0)
        errand->error = write_lines(audit, errand);
    errand->status = errand->error != 0                 ? errand->error
                     : audit_file_has_room(audit->file) ? 0
                                                        : ENOSPC;
    if (errand->error == 0)
        errand->tight = audit_file_is_tight(audit->file, errand->spool, errand->spool_most);
}

/* Locked. Takes over the path that it was told. A log that ends does so when its last line is
 * on disk, or has `failed` once more: what is left then is as with no log. */
static void take_over_next(struct audit *audit, bool failed)
{
    bool untried;
    if (audit->next == NULL ||
        (audit->next[0] == '\0' && !failed && audit_has_unwritten(audit, &untried)))
        return;
    free(audit->path);
    audit->path = audit->next;
    audit->next = NULL;
    audit->noted = false;
    if (audit->path[0] != '\0')
        return;
    if (audit_has_unwritten(audit, &untried))
        log_error("the audit log ends before all of its lines were written");
    for (struct audit_record *record = audit->first; record != NULL; record = record->next)
        record->tried = record->written = true;
    audit->status = 0;
    audit->lost = 0;
    audit_settle(audit, true);
}

/* Locked, but for while it is at the disk. False when nobody waits for it any more. */
static bool end_visit(struct audit *audit)
{
    audit->busy_ns = 0;
    audit->looked_ns = clock_awake_ns();
    audit->wanted = audit->wanted || audit->next != NULL;
    pthread_cond_broadcast(&audit->looked);
    return !audit->abandoned;
}

/* Likewise. There is no log; there may have been one. */
static bool visit_nothing(struct audit *audit)
{
    const int file = audit->file;
    audit->reopen = audit->wanted = false;
    audit->reads_done = audit->reads_asked;
    audit->file = -1;
    if (file >= 0) {
        audit->busy_ns = clock_awake_ns();
        pthread_mutex_unlock(&audit->mutex);
        close(file);
        pthread_mutex_lock(&audit->mutex);
    }
    return end_visit(audit);
}

/* Locked, but for while it tells. What has changed since the last visit. */
static void end_errand(struct audit *audit, const struct errand *errand)
{
    const int before = audit->status;
    const uint64_t lost = audit->lost, left_out = audit->left_out;
    const bool turns = errand->tight != audit->tight;
    audit->status = errand->status;
    if (errand->mark != 0)
        audit->note_mark = 0;
    audit->tight = errand->tight;
    if (errand->error == 0)
        audit->reads_done = errand->asked;
    if (errand->status == 0)
        audit->lost = 0;
    if (turns)
        audit->left_out = 0;
    for (int i = 0; i < errand->n; i++) {
        errand->records[i]->tried = true;
        errand->records[i]->written = errand->error == 0;
    }
    audit_settle(audit, true);
    if (audit_first_unpublished(audit) != NULL)
        pthread_cond_signal(&audit->waits);
    if (errand->status == before && lost == 0 && !turns)
        return;
    pthread_mutex_unlock(&audit->mutex);
    tell(audit, before, errand->status, lost);
    if (turns)
        tell_tight(audit, errand->tight, left_out);
    pthread_mutex_lock(&audit->mutex);
}

/* Likewise. */
static bool visit_file(struct audit *audit)
{
    struct errand errand = {.n = 0};
    begin_errand(audit, &errand);
    audit->busy_ns = clock_awake_ns();
    pthread_mutex_unlock(&audit->mutex);
    run_errand(audit, &errand);
    pthread_mutex_lock(&audit->mutex);
    if (errand.earlier != NULL) {
        free(audit->earlier);
        audit->earlier = errand.earlier;
    }
    if (audit->abandoned)
        return false;
    end_errand(audit, &errand);
    if (errand.error != 0)
        take_over_next(audit, true);
    return end_visit(audit);
}

/* Likewise. */
static bool visit(struct audit *audit)
{
    take_over_next(audit, false);
    return audit->path[0] != '\0' ? visit_file(audit) : visit_nothing(audit);
}

void *audit_writer_run(void *argument)
{
    struct audit *audit = argument;
    int64_t retry_ns = 0;
    bool stopping = false, here = true;
    pthread_mutex_lock(&audit->mutex);
    while (!stopping && here) {
        bool untried;
        const bool left = audit_has_unwritten(audit, &untried);
        /* What failed is tried again each second, or when there is more. */
        if (!audit->stopping && !audit->reopen && !audit->wanted && !untried &&
            !(left && clock_awake_ns() >= retry_ns)) {
            clock_cond_wait_awake(&audit->called, &audit->mutex, left ? retry_ns : CLOCK_NEVER);
            continue;
        }
        stopping = audit->stopping;
        here = visit(audit);
        retry_ns =
            here && audit_has_unwritten(audit, &untried) ? clock_awake_ns() + CLOCK_NS_PER_S : 0;
    }
    const bool abandoned = audit->abandoned;
    audit->ended = true;
    pthread_cond_broadcast(&audit->looked);
    pthread_mutex_unlock(&audit->mutex);
    if (abandoned)
        audit_free(audit);
    return NULL;
}
