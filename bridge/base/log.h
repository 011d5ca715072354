/* log: one line per event on stderr.
 *
 * A sentence, then key=value pairs. Each failure is logged once, by the module
 * that ends it, at its beginning and at its end. On journald (JOURNAL_STREAM
 * names stderr) lines begin with the level as <3>..<7>, elsewhere with the UTC
 * time. Any thread; a line is one write() of at most 1 KiB, cut off with "...",
 * and its control characters are replaced. errno stays as it was, %m is its text.
 *
 * Whoever reads stderr may stop doing so, and a file's disk may hang: from log_start()
 * to log_stop() a thread of its own writes, and nobody else waits for them. What it has
 * not written yet is bounded; beyond that lines are lost, counted, and that is said.
 */
#ifndef BRIDGE_BASE_LOG_H
#define BRIDGE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

extern const char *const log_level_words[]; /* "error" ... "debug", NULL */

/* The last line that was logged as an error, without its time; false when none was. */
enum { LOG_TEXT_MAX = 1023 };
bool log_last_error(char text[LOG_TEXT_MAX + 1]);

void log_set_level(enum log_level level);

/* False when there is no thread to be had: then whoever says something writes it. */
bool log_start(void);

/* Waits for what has been said, but not for long. */
void log_stop(void);

/* Lines that nobody took, since the start. */
uint64_t log_lost(void);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
