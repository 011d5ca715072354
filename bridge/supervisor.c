#include "bridge/supervisor.h"

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
#include "bridge/commands/audit.h"
#include "bridge/commands/subscriber.h"
#include "bridge/ops/http.h"
#include "bridge/publish/publisher.h"
#include "bridge/store/spooler.h"
#include "bridge/store/state.h"
#include "bridge/telemetry/energy.h"
#include "bridge/telemetry/poller.h"
#include "devices/lines/link.h"

enum { SAMPLE_BYTES = 8 << 20, OUTCOME_BYTES = 4 << 20 };

#define WATCH_MIN_NS CLOCK_NS_PER_S /* between two looks at the promises */
#define WATCH_MAX_NS (5 * CLOCK_NS_PER_S)
#define SLACK_NS     (2 * CLOCK_NS_PER_S) /* a promise broken by less is a busy machine */
#define LEAVE_NS     (3 * CLOCK_NS_PER_S)
/* A broker that is frozen is found out within twice the keepalive and this. */
#define FOUND_OUT_NS (5 * CLOCK_NS_PER_S)
#define GRACE_NS     (300 * CLOCK_NS_PER_MS)

/* The threads that are watched, beside the pollers. */
enum thread { SUBSCRIBER, PUBLISHER, STATE, AUDIT, SPOOLER, HTTP, THREADS };

static const char *const thread_words[THREADS] = {[SUBSCRIBER] = "subscriber",
                                                  [PUBLISHER] = "publisher",
                                                  [STATE] = "thread of the state file",
                                                  [AUDIT] = "thread of the audit log",
                                                  [SPOOLER] = "spooler",
                                                  [HTTP] = "thread of http"};

struct supervisor {
    struct conf *conf;
    char run[9]; /* 8 hex digits */
    struct health health;
    struct inbox *inbox;
    struct layouts *layouts;
    struct outbox *outbox;
    struct latest *latest; /* the last sample of each device */
    struct recent *recent; /* the last outcomes */
    struct last_outcomes *last;
    struct state *state;
    struct trust trust;  /* in the clock */
    struct scans *scans; /* for the Sparkplug node; NULL = there is none */
    struct edge *edge;
    struct spooler *spooler; /* NULL: samples are kept in memory only */
    struct audit *audit;
    struct energy *energy;
    struct subscriber *subscriber;
    struct publisher *publisher;
    struct http *http; /* NULL: none is wanted */
    unsigned n_pollers;
    struct mailbox **mailboxes; /* this and the next two: one per poller */
    struct poller **pollers;
    bool *poller_stuck;
    bool stuck[THREADS];
    int64_t watchdog_ns;  /* how often systemd wants to hear; CLOCK_NEVER = not at all */
    int64_t utc_ahead_ms; /* of the monotonic clock, when last looked */
};

/* ---- start and stop ---- */

/* How many devices of this poller take commands. */
static unsigned count_commanded(const struct device_list *list, unsigned poller)
{
    unsigned n = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        n += list->devices[i].poller == poller && device_takes_commands(&list->devices[i]);
    return n;
}

static bool make_queues(struct supervisor *supervisor)
{
    const struct device_list *list = &supervisor->conf->devices;
    supervisor->inbox = inbox_new();
    supervisor->layouts = layouts_new();
    supervisor->latest = latest_new(list);
    supervisor->recent = recent_new();
    supervisor->outbox = outbox_new(list->n_devices, SAMPLE_BYTES, OUTCOME_BYTES);
    supervisor->mailboxes = calloc(list->n_pollers, sizeof *supervisor->mailboxes);
    supervisor->pollers = calloc(list->n_pollers, sizeof *supervisor->pollers);
    supervisor->poller_stuck = calloc(list->n_pollers, sizeof *supervisor->poller_stuck);
    if (supervisor->outbox && supervisor->conf->mqtt.qos == 0)
        outbox_keep_sent(supervisor->outbox,
                         2 * supervisor->conf->mqtt.keepalive_ns + FOUND_OUT_NS);
    bool good = health_init(&supervisor->health, list->n_devices) && supervisor->inbox &&
                supervisor->layouts && supervisor->latest && supervisor->recent &&
                supervisor->outbox && supervisor->mailboxes && supervisor->pollers &&
                supervisor->poller_stuck;
    for (unsigned poller = 0; good && poller < list->n_pollers; poller++) {
        supervisor->mailboxes[poller] = mailbox_new(count_commanded(list, poller));
        good = supervisor->mailboxes[poller];
        supervisor->n_pollers += good;
    }
    if (!good)
        log_error("out of memory or descriptors");
    return good;
}

/* Also when none is wanted. */
static bool start_http(struct supervisor *supervisor)
{
    if (supervisor->conf->http_listen[0] == '\0')
        return true;
    supervisor->http = http_start(
        &(struct view){
            .conf = supervisor->conf,
            .health = &supervisor->health,
            .outbox = supervisor->outbox,
            .latest = supervisor->latest,
            .recent = supervisor->recent,
            .audit = supervisor->audit,
            .publisher = supervisor->publisher,
            .run = supervisor->run,
            .started_ns = clock_mono_ns(),
        },
        supervisor->inbox);
    return supervisor->http != NULL;
}

static void tell_edge(void *edge, const struct outcome *outcome)
{
    edge_put_outcome(edge, outcome);
}

static bool start_edge(struct supervisor *supervisor)
{
    supervisor->scans = scans_new(SCANS_BYTES);
    if (supervisor->scans)
        supervisor->edge = edge_new(&(struct edge_setup){
            .conf = supervisor->conf,
            .outbox = supervisor->outbox,
            .scans = supervisor->scans,
            .health = &supervisor->health,
            .state = supervisor->state,
            .inbox = supervisor->inbox,
            .seed = (uint32_t)strtoul(supervisor->run, NULL, 16),
        });
    if (!supervisor->edge)
        log_error("cannot make the Sparkplug node: out of memory");
    return supervisor->edge;
}

static bool start(struct supervisor *supervisor)
{
    char path[CONF_PATH_MAX + 1];
    if (!make_queues(supervisor))
        return false;
    state_path(supervisor->conf, path);
    if (!(supervisor->state = state_open(path))) {
        log_error("cannot start the thread of the state file");
        return false;
    }
    trust_look(&supervisor->trust, &supervisor->health, supervisor->state, clock_is_synchronised(),
               clock_mono_ns());
    supervisor->last =
        last_outcomes_new(&supervisor->conf->devices, supervisor->state, supervisor->outbox);
    if (!supervisor->last) {
        log_error("out of memory for the last outcomes");
        return false;
    }
    if (supervisor->conf->spool_path[0] != '\0') {
        supervisor->spooler = spooler_start(supervisor->conf, supervisor->layouts,
                                            supervisor->outbox, supervisor->state);
        if (!supervisor->spooler)
            return false;
    }
    supervisor->audit =
        audit_start(supervisor->conf->audit_path, supervisor->outbox, supervisor->state);
    if (!supervisor->audit) {
        log_error("cannot start the thread of the audit log");
        return false;
    }
    audit_show(supervisor->audit, supervisor->recent, supervisor->last);
    if (supervisor->conf->sparkplug.enabled && !start_edge(supervisor))
        return false;
    supervisor->subscriber = subscriber_start(&(struct subscriber_setup){
        .conf = supervisor->conf,
        .inbox = supervisor->inbox,
        .mailboxes = supervisor->mailboxes,
        .audit = supervisor->audit,
        .health = &supervisor->health,
        .told = supervisor->edge ? tell_edge : NULL,
        .context = supervisor->edge,
    });
    if (!supervisor->subscriber)
        return false;
    supervisor->publisher = publisher_start(&(struct publisher_setup){
        .conf = supervisor->conf,
        .outbox = supervisor->outbox,
        .inbox = supervisor->inbox,
        .state = supervisor->state,
        .latest = supervisor->latest,
        .last = supervisor->last,
        .edge = supervisor->edge,
        .health = &supervisor->health,
        .run = supervisor->run,
        .started_ms = clock_utc_ms(),
    });
    if (!supervisor->publisher)
        return false;
    if (!start_http(supervisor))
        return false;
    if (supervisor->conf->ha_enabled &&
        !(supervisor->energy = energy_start(supervisor->conf, supervisor->state)))
        return false;
    int64_t origin_ns = clock_mono_ns();
    for (unsigned i = 0; i < supervisor->n_pollers; i++) {
        supervisor->pollers[i] = poller_start(&(struct poller_setup){
            .conf = supervisor->conf,
            .poller = i,
            .mailbox = supervisor->mailboxes[i],
            .layouts = supervisor->layouts,
            .outbox = supervisor->outbox,
            .latest = supervisor->latest,
            .inbox = supervisor->inbox,
            .audit = supervisor->audit,
            .health = &supervisor->health,
            .energy = supervisor->energy,
            .scans = supervisor->scans,
            .state = supervisor->state,
            .run = supervisor->run,
            .origin_ns = origin_ns,
        });
        if (!supervisor->pollers[i])
            return false;
    }
    return true;
}

/* From here on no command is begun: what is under way ends, and on_exit is carried
 * out, for which a slow device gets its time: to say what it is in, to take the
 * fallback or zero instead, and to have that read back. */
static void leave(struct supervisor *supervisor)
{
    const struct device_list *list = &supervisor->conf->devices;
    int64_t slowest_ns = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        if (device_takes_commands(&list->devices[i]) &&
            list->devices[i].modbus.timeout_ns > slowest_ns)
            slowest_ns = list->devices[i].modbus.timeout_ns;
    const int64_t until_ns = clock_mono_ns() + LEAVE_NS + 8 * slowest_ns;
    subscriber_drain(supervisor->subscriber);
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        mailbox_leave(supervisor->mailboxes[i]);
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        if (supervisor->pollers[i] && !mailbox_wait_left(supervisor->mailboxes[i], until_ns))
            log_warning("on_exit: not all was confirmed in time poller=%u", i);
}

/* Also what was started in part. Commands under way end first and are answered,
 * then the answers go to disk, then to the broker. */
static void stop(struct supervisor *supervisor)
{
    http_stop(supervisor->http);
    if (supervisor->subscriber)
        leave(supervisor);
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        mailbox_stop(supervisor->mailboxes[i]);
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        poller_stop(supervisor->pollers[i]);
    energy_stop(supervisor->energy);
    if (supervisor->publisher)
        publisher_stop_hearing(supervisor->publisher);
    if (supervisor->subscriber)
        subscriber_stop(supervisor->subscriber);
    audit_stop(supervisor->audit);
    if (supervisor->publisher)
        publisher_stop(supervisor->publisher, GRACE_NS);
    spooler_stop(supervisor->spooler);
    edge_free(supervisor->edge);
    scans_free(supervisor->scans);
    state_close(supervisor->state);
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        mailbox_free(supervisor->mailboxes[i]);
    outbox_free(supervisor->outbox);
    latest_free(supervisor->latest);
    recent_free(supervisor->recent);
    last_outcomes_free(supervisor->last);
    layouts_free(supervisor->layouts);
    inbox_free(supervisor->inbox);
    free(supervisor->mailboxes);
    free(supervisor->pollers);
    free(supervisor->poller_stuck);
    health_free(&supervisor->health);
}

/* ---- watching ---- */

/* Whether a thread has just become late, or is on time again. */
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
    const struct device_list *list = &supervisor->conf->devices;
    bool stuck = supervisor->poller_stuck[poller];
    char name[DEVICE_HOST_MAX + 64] = "";
    unsigned n_links = 0;
    for (unsigned i = 0; i < list->n_devices; i++) {
        const struct device_modbus *modbus = &list->devices[i].modbus;
        if (list->devices[i].poller != poller)
            continue;
        if (stuck)
            outbox_set_online(supervisor->outbox, i, false);
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
        return subscriber_promise_ns(supervisor->subscriber);
    case PUBLISHER:
        return publisher_promise_ns(supervisor->publisher);
    case AUDIT:
        return audit_promise_ns(supervisor->audit);
    case SPOOLER:
        return supervisor->spooler ? spooler_promise_ns(supervisor->spooler) : CLOCK_NEVER;
    case HTTP:
        return http_promise_ns(supervisor->http);
    default:
        return state_promise_ns(supervisor->state);
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
    for (unsigned i = 0; i < supervisor->n_pollers; i++) {
        int64_t promise_ns = poller_promise_ns(supervisor->pollers[i]);
        if (has_turned(&supervisor->poller_stuck[i], promise_ns, now_ns))
            tell_poller(supervisor, i);
        first_ns = sooner(first_ns, promise_ns);
    }
    first_ns += SLACK_NS;
    return first_ns > now_ns + WATCH_MIN_NS ? first_ns : now_ns + WATCH_MIN_NS;
}

static bool is_stuck(const struct supervisor *supervisor)
{
    bool stuck = false;
    for (enum thread thread = 0; thread < THREADS; thread++)
        stuck = stuck || supervisor->stuck[thread];
    for (unsigned i = 0; i < supervisor->n_pollers; i++)
        stuck = stuck || supervisor->poller_stuck[i];
    return stuck;
}

/* Schedules of polls do not care, but whoever reads `ts` should know. */
static void watch_clock(struct supervisor *supervisor, int64_t now_ns)
{
    trust_look(&supervisor->trust, &supervisor->health, supervisor->state, clock_is_synchronised(),
               now_ns);
    int64_t jump_ms = clock_jump_ms(&supervisor->utc_ahead_ms, clock_utc_ms(), now_ns);
    if (jump_ms == 0)
        return;
    log_warning("the clock has jumped by_ms=%lld", (long long)jump_ms);
    health_count(&supervisor->health.clock_jumps);
}

/* ---- signals ---- */

/* Takes over the log level; of all else a changed configuration wants a restart. */
static void reload(struct supervisor *supervisor, const char *path)
{
    audit_reopen(supervisor->audit);
    publisher_reload(supervisor->publisher);

    char *text = NULL, *rest = NULL;
    size_t size;
    struct cfg cfg = {.out = open_memstream(&text, &size), .waits = true};
    struct conf conf;
    bool good = conf_read(&cfg, path, &conf);
    if (cfg.out)
        fclose(cfg.out);
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        log_warning("%s", line);
    if (good) {
        log_set_level((enum log_level)conf.log_level);
        log_info("reloaded level=%s", log_level_words[conf.log_level]);
    } else {
        log_warning("the configuration is not taken over problems=%u", cfg.problems);
    }
    conf_free(&conf);
    free(text);
}

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

/* Serves signals until one of them ends the program, and returns it. */
static int serve(struct supervisor *supervisor, const sigset_t *signals, const char *path)
{
    int64_t look_ns = 0;
    int64_t feed_ns = supervisor->watchdog_ns == CLOCK_NEVER ? CLOCK_NEVER : 0;
    for (;;) {
        int64_t now_ns = clock_mono_ns();
        if (now_ns >= look_ns) {
            look_ns = watch(supervisor, now_ns);
            atomic_store(&supervisor->health.stuck, is_stuck(supervisor));
            watch_clock(supervisor, now_ns);
        }
        if (now_ns >= feed_ns) {
            if (!atomic_load(&supervisor->health.stuck))
                notify("WATCHDOG=1");
            feed_ns = now_ns + supervisor->watchdog_ns;
        }
        int64_t pause_ns = sooner(look_ns, feed_ns) - now_ns;
        if (pause_ns < 0)
            pause_ns = 0;
        const struct timespec pause = {.tv_sec = (time_t)(pause_ns / CLOCK_NS_PER_S),
                                       .tv_nsec = (long)(pause_ns % CLOCK_NS_PER_S)};
        int signal = sigtimedwait(signals, NULL, &pause);
        if (signal == SIGHUP)
            reload(supervisor, path);
        else if (signal > 0)
            return signal;
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

int supervisor_run(struct conf *conf, const char *path)
{
    struct supervisor supervisor = {
        .conf = conf,
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
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN);
    link_init_stop();
    /* Threads inherit this and never see a signal; here the rest comes back. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = make_run(supervisor.run) && start(&supervisor);
    sigorset(&main_thread, &before, &waited);
    pthread_sigmask(SIG_SETMASK, &main_thread, NULL);
    if (good) {
        log_info("fluxbridge is up version=%s site=%s devices=%u links=%u run=%s",
                 FLUXBRIDGE_VERSION, conf->site, conf->devices.n_devices, conf->devices.n_links,
                 supervisor.run);
        if (conf->simulated)
            log_warning("every device is simulated");
        notify("READY=1");
        int signal = serve(&supervisor, &waited, path);
        notify_stopping(longest_stop_ns(&conf->devices));
        log_info("stopping signal=%s", signal == SIGINT ? "SIGINT" : "SIGTERM");
    }
    /* Whoever asks a second time does not want to wait. */
    pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
    stop(&supervisor);
    log_info("stopped run=%s", supervisor.run);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
