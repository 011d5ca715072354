#include "bridge/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
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

#include "bridge/base/clock.h"

enum { LOG_LINE_MAX = 1024, QUEUE_BYTES = 256 << 10 /* a line of each of a thousand devices */ };

#define STOP_NS (2 * CLOCK_NS_PER_S)

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

/* Lines on their way to stderr: one block is filled while the other is written. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t moved; /* there is a line, or there is none left, or it is to end */
    pthread_t thread;
    bool runs, stopping;
    bool writes; /* the other block */
    unsigned filling;
    size_t size;         /* of what is in the one that is filled */
    uint64_t lost, told; /* lines; of these, those that were said to be lost */
    char blocks[2][QUEUE_BYTES];
} queue = {.mutex = PTHREAD_MUTEX_INITIALIZER};

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

/* Nobody is left to be told when stderr is gone. Non-blocking it is when whoever else has it
 * made it so. */
static void log_write(const char *bytes, size_t size)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    while (size > 0) {
        const ssize_t written = write(STDERR_FILENO, bytes, size);
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            (void)poll(&out, 1, -1);
        } else if (written == 0 || errno != EINTR) {
            return;
        }
    }
}

/* Never waits for who reads stderr: the latest is what is lost when nobody does. */
static void log_put(const char *line, size_t size)
{
    pthread_mutex_lock(&queue.mutex);
    const bool runs = queue.runs;
    if (runs && size <= sizeof(queue.blocks[0]) - queue.size) {
        memcpy(queue.blocks[queue.filling] + queue.size, line, size);
        queue.size += size;
        pthread_cond_broadcast(&queue.moved);
    } else if (runs) {
        queue.lost++;
    }
    pthread_mutex_unlock(&queue.mutex);
    if (!runs)
        log_write(line, size);
}

/* Returns the size of the line, with its newline. */
static size_t log_format(char line[LOG_LINE_MAX + 1], enum log_level level, const char *format,
                         va_list arguments) __attribute__((format(printf, 3, 0)));
static size_t log_format(char line[LOG_LINE_MAX + 1], enum log_level level, const char *format,
                         va_list arguments)
{
    int error = errno; /* %m is the caller's */
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
    return prefix + length + 1;
}

static void log_line(enum log_level level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void log_line(enum log_level level, const char *format, va_list arguments)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    int error = errno; /* stays what it was */
    char line[LOG_LINE_MAX + 1];
    log_put(line, log_format(line, level, format, arguments));
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

/* ---- the thread --------------------------------------------------------- */

static void write_lines(const char *lines, size_t size)
{
    while (size > 0) {
        const size_t line = (size_t)((const char *)memchr(lines, '\n', size) - lines) + 1;
        log_write(lines, line);
        lines += line;
        size -= line;
    }
}

static void write_lost(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void write_lost(const char *format, ...)
{
    char line[LOG_LINE_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    log_write(line, log_format(line, LOG_LEVEL_WARNING, format, arguments));
    va_end(arguments);
}

/* Locked. */
static bool has_more(void)
{
    return queue.size > 0 || queue.lost > queue.told;
}

/* Locked, but for the while that it writes: the lines that wait, or, when there is
 * none, how many were lost before. */
static void write_next(void)
{
    const char *lines = queue.blocks[queue.filling];
    const size_t size = queue.size;
    const uint64_t lost = queue.lost - queue.told;
    queue.filling ^= 1;
    queue.size = 0;
    queue.writes = true;
    pthread_mutex_unlock(&queue.mutex);
    if (size > 0) {
        write_lines(lines, size);
    } else {
        write_lost("the log could not be written, and lines of it were lost count=%" PRIu64, lost);
    }
    pthread_mutex_lock(&queue.mutex);
    queue.told += size > 0 ? 0 : lost;
    queue.writes = false;
    pthread_cond_broadcast(&queue.moved);
}

static void *log_thread(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&queue.mutex);
    while (has_more() || !queue.stopping) {
        if (has_more())
            write_next();
        else
            pthread_cond_wait(&queue.moved, &queue.mutex);
    }
    pthread_mutex_unlock(&queue.mutex);
    return NULL;
}

uint64_t log_lost(void)
{
    pthread_mutex_lock(&queue.mutex);
    const uint64_t lost = queue.lost;
    pthread_mutex_unlock(&queue.mutex);
    return lost;
}

bool log_start(void)
{
    clock_cond_init(&queue.moved);
    queue.stopping = false;
    queue.runs = pthread_create(&queue.thread, NULL, log_thread, NULL) == 0;
    if (!queue.runs)
        log_error("cannot start the thread of the log");
    return queue.runs;
}

void log_stop(void)
{
    const int64_t until_ns = clock_mono_ns() + STOP_NS;
    pthread_mutex_lock(&queue.mutex);
    const bool runs = queue.runs;
    while (runs && (has_more() || queue.writes) && clock_mono_ns() < until_ns)
        clock_cond_wait(&queue.moved, &queue.mutex, until_ns);
    const bool done = !has_more() && !queue.writes;
    queue.stopping = true;
    queue.runs = runs && !done; /* else what is still said waits for nobody, and is lost */
    pthread_cond_broadcast(&queue.moved);
    pthread_mutex_unlock(&queue.mutex);
    if (runs && done)
        pthread_join(queue.thread, NULL);
}
