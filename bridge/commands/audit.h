/* audit: the log of every command's fate, on disk before it is told.
 *
 * A thread of its own, so that a slow disk delays no command: it takes
 * outcomes, appends one JSON line each, fsyncs once for all that wait, and
 * only then puts them into the outbox; nor before what of the state belongs to an
 * outcome, such as that its stop is owed, is on disk, or that disk has refused it. When the file
 * cannot be written, or the disk has not taken a line within AUDIT_PATIENCE_NS, its outcome is
 * published all the same, marked "audited":false; the line is kept (bounded) until it can be
 * written. While that is so, and when the disk has not answered for
 * AUDIT_SILENCE_NS, audit_available() is false: setpoints other than zero are
 * refused.
 *
 * Whoever sends commands that are refused, as many as he can, is not to take the spool's
 * disk with them: when what is free is no more than the spool may come to need
 * (audit_spare()), one line a second is written of what was refused or had been answered
 * before; the others are told with "audited":false, and counted in the log. What was written
 * to a device, or may have been, always has its line.
 *
 * Before the first line is written to a path, that is noted on disk in the state: whatever the
 * next run is told to write to, it reads there which ids were answered.
 *
 * That thread alone touches the file. Nobody waits for it but audit_stop(), which
 * does so for AUDIT_PATIENCE_NS.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_H
#define BRIDGE_COMMANDS_AUDIT_H

#include <stdbool.h>

#include "bridge/commands/last_outcomes.h"
#include "bridge/commands/recent.h"
#include "bridge/store/outbox.h"
#include "bridge/store/state.h"

#define AUDIT_SILENCE_NS  INT64_C(2000000000)
#define AUDIT_PATIENCE_NS INT64_C(5000000000)

struct audit;

/* `path` "" = no file: outcomes wait for the state only, and it is available while that answers.
 * `state` NULL: outcomes do not wait for it. A path that cannot be opened is no error here: it is
 * logged, tried again, and audit_available() tells; a disk that answers is waited for. NULL when
 * out of memory or threads. */
struct audit *audit_start(const char *path, struct outbox *outbox, struct state *state);

/* Before the first outcome: what is published is put there as well. */
void audit_show(struct audit *audit, struct recent *recent, struct last_outcomes *last);

/* Room is left for the spool at this path, of at most so many bytes; "" = there is none. Any
 * thread. */
void audit_spare(struct audit *audit, const char *spool, int64_t most);

/* Who else is told what is published, `outcome` of its entry; NULL = nobody. `told` copies and
 * returns; when this does, nobody is told who was before. */
void audit_tell(struct audit *audit, void (*told)(void *context, const struct outcome *outcome),
                void *context);

/* Writes what waits, then ends. */
void audit_stop(struct audit *audit);

/* Subscriber. Whether a new line is sure to find room: the last write
 * succeeded, the disk answers, the state's too, and the file system has space. Asks the thread,
 * and takes what was last known when that is at the disk. */
bool audit_available(struct audit *audit);

/* Subscriber. The lines of earlier runs, as audit_file_read() gives them, first those of the
 * files that it was before; which are there before audit_available() is true; the caller's to free.
 * NULL: not yet, there are none, or they were taken already. False: they are still to be read, or
 * once more. */
bool audit_take_earlier(struct audit *audit, char **lines);

/* Has them read again, and waits for that as long as the disk answers. */
void audit_read_earlier(struct audit *audit);

/* Any thread. The same as it was last known: asks neither lock nor disk. */
bool audit_was_available(const struct audit *audit);

/* Subscriber. Takes copies. `line` is the audit line without newline, `payload`
 * the outcome for `topic`, a JSON object; a response topic (or NULL) gets it too,
 * with its correlation data, and who looks on (audit_show) the ticket. `kept_mark` is
 * of the state, see there; 0 = nothing of it. */
struct audit_entry {
    uint64_t ticket;
    bool is_last; /* the last outcome of that device from now on */
    bool is_idle; /* for this command nothing was or will be written: refused, or a repetition */
    unsigned device;
    enum takeover takeover;
    const char *line;
    const char *topic;
    const char *payload;
    const char *response_topic;
    const void *correlation;
    size_t correlation_size;
    uint64_t kept_mark;
    const struct outcome *outcome; /* for audit_tell(); NULL = it was told before */
};
void audit_put(struct audit *audit, const struct audit_entry *entry);

/* SIGHUP: the file was rotated; opens it anew. Any thread. */
void audit_reopen(struct audit *audit);

/* Lines that are not yet written, and all that follow, go into this file instead, which
 * is judged as at the start. "" = no file any more: what is not yet written goes into the one
 * of before, if that takes it. What it was before is read at a start, too. Any thread. False when
 * out of memory: nothing has changed. */
bool audit_move(struct audit *audit, const char *path);

/* By when the thread promised to be back, of the machine awake; for the supervisor. */
int64_t audit_promise_ns(const struct audit *audit);

#endif
