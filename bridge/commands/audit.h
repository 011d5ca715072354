/* audit: the log of every command's fate, on disk before it is told.
 *
 * A thread of its own, so that a slow disk delays no command: it takes
 * outcomes, appends one JSON line each, fsyncs once for all that wait, and
 * only then puts them into the outbox. When the file cannot be written the
 * outcome is published all the same, the line is kept (bounded) until it can,
 * and audit_available() is false: setpoints other than zero are refused.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_H
#define BRIDGE_COMMANDS_AUDIT_H

#include <stdbool.h>

#include "bridge/store/outbox.h"

struct audit;

/* `path` "" = no file: outcomes go straight on, and it is always available.
 * The file is made with mode 0640. A path that cannot be opened is no error
 * here: it is logged, tried again, and audit_available() tells. NULL when out
 * of memory or threads. */
struct audit *audit_start(const char *path, struct outbox *outbox);

/* Writes what waits, then ends. */
void audit_stop(struct audit *audit);

/* Subscriber. Whether a new line is sure to find room: the last write
 * succeeded and the file system has space. */
bool audit_available(struct audit *audit);

/* Any thread. The same as it was last known: asks neither lock nor disk. */
bool audit_was_available(const struct audit *audit);

/* Subscriber. Takes copies. `line` is the audit line without newline, `payload`
 * the outcome for `topic`; a response topic (or NULL) gets it too, with its
 * correlation data. */
struct audit_entry {
    const char *line;
    const char *topic;
    const char *payload;
    const char *response_topic;
    const void *correlation;
    size_t correlation_size;
};
void audit_put(struct audit *audit, const struct audit_entry *entry);

/* Calls `line` for every line of `path`.1 and `path`, oldest first, the last
 * 16 MiB of each; a file that is not there has none. For the start, before
 * audit_start() or after. */
void audit_replay(const char *path, void (*line)(void *context, const char *text), void *context);

/* SIGHUP: the file was rotated; opens it anew. Any thread. */
void audit_reopen(struct audit *audit);

#endif
