#include "bridge/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024 };

const char *const log_level_words[] = {"error", "warning", "info", "debug", NULL};

static atomic_int log_level = LOG_LEVEL_INFO;

static struct {
    pthread_mutex_t mutex;
    char text[LOG_TEXT_MAX + 1];
} last_error = {.mutex = PTHREAD_MUTEX_INITIALIZER};

bool log_last_error(char text[LOG_TEXT_MAX + 1])
{
    pthread_mutex_lock(&last_error.mutex);
    memcpy(text, last_error.text, sizeof(last_error.text));
    pthread_mutex_unlock(&last_error.mutex);
    return text[0] != '\0';
}

static void keep_error(const char *text, size_t length)
{
    if (length > LOG_TEXT_MAX)
        length = LOG_TEXT_MAX;
    pthread_mutex_lock(&last_error.mutex);
    memcpy(last_error.text, text, length);
    last_error.text[length] = '\0';
    pthread_mutex_unlock(&last_error.mutex);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

/* JOURNAL_STREAM names the device and inode of the journal's socket: it is
 * inherited, so a stderr redirected into a file is told apart by comparing
 * (systemd.exec(5)). */
static bool log_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

/* Returns the length of the prefix, which always fits. */
static size_t log_prefix(char line[LOG_LINE_MAX], enum log_level level)
{
    static const int severities[] = {3, 4, 6, 7}; /* syslog's, RFC 5424 table 2 */
    if (log_is_journal())
        return (size_t)snprintf(line, LOG_LINE_MAX, "<%d>", severities[level]);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(line, LOG_LINE_MAX, "%Y-%m-%dT%H:%M:%S", &utc);
    length += (size_t)snprintf(line + length, LOG_LINE_MAX - length,
                               ".%03ldZ %s: ", now.tv_nsec / 1000000, log_level_words[level]);
    return length;
}

/* Shortens a text that was cut off to end in "..." after a whole UTF-8
 * character, within `size` bytes without the NUL. Returns its new length. */
static size_t log_cut(char *text, size_t size)
{
    static const char mark[] = "...";
    size_t end = size - strlen(mark);
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    memcpy(text + end, mark, strlen(mark));
    return end + strlen(mark);
}

static void log_line(enum log_level level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void log_line(enum log_level level, const char *format, va_list arguments)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    int error = errno; /* %m is the caller's, and it stays what it was */
    char line[LOG_LINE_MAX + 1];
    size_t prefix = log_prefix(line, level);
    char *text = line + prefix;
    size_t room = LOG_LINE_MAX - prefix; /* with one byte for the newline */
    errno = error;
    int wanted = vsnprintf(text, room, format, arguments);
    size_t length = wanted < 0 ? 0 : (size_t)wanted;
    if (length >= room)
        length = log_cut(text, room - 1);
    /* Topics and texts from outside are in here: no byte of theirs may begin a
     * line of its own or speak to a terminal. */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    if (level == LOG_LEVEL_ERROR)
        keep_error(text, length);
    text[length] = '\n';
    /* Nobody is left to be told when stderr is gone. */
    ssize_t written = write(STDERR_FILENO, line, prefix + length + 1);
    (void)written;
    errno = error;
}

#define LOG_VERB(name, level)                                                                      \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, format);                                                               \
        log_line(level, format, arguments);                                                        \
        va_end(arguments);                                                                         \
    }

LOG_VERB(log_error, LOG_LEVEL_ERROR)
LOG_VERB(log_warning, LOG_LEVEL_WARNING)
LOG_VERB(log_info, LOG_LEVEL_INFO)
