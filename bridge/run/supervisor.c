#include "bridge/run/supervisor.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/notify.h"
#include "bridge/battery/trust.h"
#include "bridge/run/parts.h"
#include "bridge/run/reload.h"
#include "bridge/site/change.h"
#include "devices/lines/link.h"

#define WATCH_MIN_NS CLOCK_NS_PER_S /* between two looks at the promises */
#define WATCH_MAX_NS (5 * CLOCK_NS_PER_S)
#define SLACK_NS     (2 * CLOCK_NS_PER_S) /* a promise broken by less is a busy machine */

/* The threads that are watched, beside the pollers. */
enum thread { SUBSCRIBER, PUBLISHER, PRESENCE, STATE, AUDIT, SPOOLER, HTTP, THREADS };

static const char *const thread_words[THREADS] = {[SUBSCRIBER] = "subscriber",
                                                  [PUBLISHER] = "publisher",
                                                  [PRESENCE] = "thread of the devices' sessions",
                                                  [STATE] = "thread of the state file",
                                                  [AUDIT] = "thread of the audit log",
                                                  [SPOOLER] = "spooler",
                                                  [HTTP] = "thread of http"};

struct supervisor {
    struct parts parts;
    bool stuck[THREADS];
    bool starving;        /* the watchdog is not fed */
    int64_t watchdog_ns;  /* how often systemd wants to hear; CLOCK_NEVER = not at all */
    int64_t utc_ahead_ms; /* of the monotonic clock, when last looked */
};

/* ---- watching ---- */

/* Whether a thread has just become late, or is on time again. Here all is by the clock of the
 * machine awake: what slept broke no promise. */
static bool has_turned(bool *stuck, int64_t promise_ns, int64_t now_ns)
{
    bool late = promise_ns < now_ns - SLACK_NS;
    bool turned = late != *stuck;
    *stuck = late;
    return turned;
}

static void tell(const char *thread, bool stuck)
{
    if (stuck)
        log_error("the %s has stopped moving", thread);
    else
        log_info("the %s moves again", thread);
}

/* A stuck poller says nothing any more, so its devices are told offline here;
 * its next good read says online again. */
static void tell_poller(struct supervisor *supervisor, unsigned poller)
{
    const struct device_list *list = &supervisor->parts.conf->devices;
    bool stuck = supervisor->parts.poller_stuck[poller];
    char name[DEVICE_HOST_MAX + 64] = "";
    unsigned n_links = 0;
    for (unsigned i = 0; i < list->n_devices; i++) {
        const struct device_modbus *modbus = &list->devices[i].modbus;
        if (!device_is_there(&list->devices[i]) || list->devices[i].poller != poller)
            continue;
        if (stuck)
            outbox_set_online(supervisor->parts.outbox, i, false);
        n_links += device_is_first(list, i);
        if (modbus->serial[0])
            snprintf(name, sizeof name, "poller of %s", modbus->serial);
        else if (n_links > 1)
            snprintf(name, sizeof name, "poller of %u TCP links", n_links);
        else
            snprintf(name, sizeof name, "poller of %s:%d", modbus->host, (int)modbus->port);
    }
    tell(name, stuck);
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static int64_t promise_of(const struct supervisor *supervisor, enum thread thread)
{
    switch (thread) {
    case SUBSCRIBER:
        return subscriber_promise_ns(supervisor->parts.subscriber);
    case PUBLISHER:
        return publisher_promise_ns(supervisor->parts.publisher);
    case PRESENCE:
        return publisher_presence_promise_ns(supervisor->parts.publisher);
    case AUDIT:
        return audit_promise_ns(supervisor->parts.audit);
    case SPOOLER:
        return spooler_promise_ns(supervisor->parts.spooler);
    case HTTP:
        return http_promise_ns(supervisor->parts.http);
    default:
        return state_promise_ns(supervisor->parts.state);
    }
}

/* Looks at every thread and returns when to look again. */
static int64_t watch(struct supervisor *supervisor, int64_t now_ns)
{
    int64_t first_ns = now_ns + WATCH_MAX_NS - SLACK_NS;
    for (enum thread thread = 0; thread < THREADS; thread++) {
        int64_t promise_ns = promise_of(supervisor, thread);
        if (has_turned(&supervisor->stuck[thread], promise_ns, now_ns))
            tell(thread_words[thread], supervisor->stuck[thread]);
        first_ns = sooner(first_ns, promise_ns);
    }
    for (unsigned i = 0; i < supervisor->parts.n_pollers; i++) {
        if (!supervisor->parts.pollers[i])
            continue;
        int64_t promise_ns = poller_promise_ns(supervisor->parts.pollers[i]);
        if (has_turned(&supervisor->parts.poller_stuck[i], promise_ns, now_ns))
            tell_poller(supervisor, i);
        first_ns = sooner(first_ns, promise_ns);
    }
    first_ns += SLACK_NS;
    return first_ns > now_ns + WATCH_MIN_NS ? first_ns : now_ns + WATCH_MIN_NS;
}

/* Those that wait for nothing but a disk, and keep nobody from a device. */
static bool is_of_disk(enum thread thread)
{
    return thread == STATE || thread == AUDIT || thread == SPOOLER;
}

static bool is_disk_silent(const struct supervisor *supervisor)
{
    bool silent = false;
    for (enum thread thread = 0; thread < THREADS; thread++)
        silent = silent || (supervisor->stuck[thread] && is_of_disk(thread));
    return silent;
}

/* Any other. */
static bool is_stuck(const struct supervisor *supervisor)
{
    bool stuck = false;
    for (enum thread thread = 0; thread < THREADS; thread++)
        stuck = stuck || (supervisor->stuck[thread] && !is_of_disk(thread));
    for (unsigned i = 0; i < supervisor->parts.n_pollers; i++)
        stuck = stuck || supervisor->parts.poller_stuck[i];
    return stuck;
}

/* What /healthz, bridge/health and systemd are told. Of a disk that does not answer systemd
 * gets the word, but is not kept from its watchdog: a new start would find the same disk, and
 * what only this run knows of stops and leases would be gone. */
static void note_stuck(struct supervisor *supervisor)
{
    const bool silent = is_disk_silent(supervisor);
    supervisor->starving = is_stuck(supervisor);
    atomic_store(&supervisor->parts.health.stuck, supervisor->starving || silent);
    if (silent == atomic_exchange(&supervisor->parts.health.disk_silent, silent))
        return;
    notify(silent ? "STATUS=The disk does not answer: of setpoints only stops are written"
                  : "STATUS=");
}

/* Schedules of polls do not care, but whoever reads `ts` should know. */
static void watch_clock(struct supervisor *supervisor)
{
    const int64_t now_ns = clock_mono_ns();
    trust_look(&supervisor->parts.trust, &supervisor->parts.health, supervisor->parts.state,
               clock_is_synchronised(), now_ns);
    int64_t jump_ms = clock_jump_ms(&supervisor->utc_ahead_ms, clock_utc_ms(), now_ns);
    if (jump_ms == 0)
        return;
    log_warning("the clock has jumped by_ms=%lld", (long long)jump_ms);
    health_count(&supervisor->parts.health.clock_jumps);
}

/* ---- signals ---- */

/* How long the end may take: a command under way on the slowest device is not cut
 * off (see the poller's own promise), and then outcomes and farewells go out. */
static int64_t longest_stop_ns(const struct device_list *list)
{
    int64_t longest_ns = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        if (list->devices[i].modbus.timeout_ns > longest_ns)
            longest_ns = list->devices[i].modbus.timeout_ns;
    return 16 * longest_ns + 10 * CLOCK_NS_PER_S;
}

/* Serves signals until one of them ends the program, and returns it; 0: it cannot go on. */
static int serve(struct supervisor *supervisor, const sigset_t *signals, const char *path)
{
    int64_t look_ns = 0;
    int64_t feed_ns = supervisor->watchdog_ns == CLOCK_NEVER ? CLOCK_NEVER : 0;
    for (;;) {
        int64_t now_ns = clock_awake_ns();
        if (now_ns >= look_ns) {
            look_ns = watch(supervisor, now_ns);
            note_stuck(supervisor);
            watch_clock(supervisor);
        }
        if (now_ns >= feed_ns) {
            if (!supervisor->starving)
                notify("WATCHDOG=1");
            feed_ns = now_ns + supervisor->watchdog_ns;
        }
        int64_t pause_ns = sooner(look_ns, feed_ns) - now_ns;
        if (pause_ns < 0)
            pause_ns = 0;
        const struct timespec pause = {.tv_sec = (time_t)(pause_ns / CLOCK_NS_PER_S),
                                       .tv_nsec = (long)(pause_ns % CLOCK_NS_PER_S)};
        int signal = sigtimedwait(signals, NULL, &pause);
        if (signal == SIGHUP) {
            if (!reload(&supervisor->parts, path, supervisor->watchdog_ns))
                return 0;
            look_ns = 0;
        } else if (signal > 0) {
            return signal;
        }
    }
}

/* Hundreds of links are hundreds of descriptors. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool make_run(char run[9])
{
    uint32_t number;
    if (getrandom(&number, sizeof number, 0) != sizeof number) {
        log_error("no random number for the run: %m");
        return false;
    }
    snprintf(run, 9, "%08x", number);
    return true;
}

static unsigned count_devices(const struct device_list *list)
{
    unsigned n = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        n += device_is_there(&list->devices[i]);
    return n;
}

int supervisor_run(struct conf *conf, const char *path)
{
    struct supervisor supervisor = {
        .parts.conf = conf,
        .watchdog_ns = notify_watchdog_ns(),
        .utc_ahead_ms = clock_utc_ms() - clock_mono_ns() / CLOCK_NS_PER_MS,
    };
    sigset_t all, waited, ending, before, main_thread;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV); /* see guard */
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    waited = ending;
    sigaddset(&waited, SIGHUP);

    log_set_level((enum log_level)conf->log_level);
    mallopt(M_ARENA_MAX, 1); /* the hot path allocates nothing: one heap is enough */
    /* And what is large is by itself: room that is not needed yet takes none. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN);
    link_init_stop();
    /* Threads inherit this and never see a signal; here the rest comes back. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = log_start() && change_make_room(conf) && make_run(supervisor.parts.run) &&
                parts_start(&supervisor.parts);
    sigorset(&main_thread, &before, &waited);
    pthread_sigmask(SIG_SETMASK, &main_thread, NULL);
    if (good) {
        log_info("fluxbridge is up version=%s site=%s devices=%u links=%u run=%s",
                 FLUXBRIDGE_VERSION, conf->site, count_devices(&conf->devices),
                 conf->devices.n_links, supervisor.parts.run);
        if (conf->simulated)
            log_warning("every device is simulated");
        notify("READY=1");
        malloc_trim(0); /* what reading the configuration took is given back */
        int signal = serve(&supervisor, &waited, path);
        notify_stopping(longest_stop_ns(&conf->devices));
        good = signal != 0;
        if (good)
            log_info("stopping signal=%s", signal == SIGINT ? "SIGINT" : "SIGTERM");
    }
    /* Whoever asks a second time does not want to wait. */
    pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
    parts_stop(&supervisor.parts);
    log_info("stopped run=%s", supervisor.parts.run);
    log_stop();
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
