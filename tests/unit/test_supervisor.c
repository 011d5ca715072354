/* The order in which threads start and end, what happens when one cannot start,
 * and what when one hangs. Pollers, publisher and subscriber are stand-ins that
 * take notes; queues and the audit log are the real ones. */
#include "bridge/run/supervisor.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "bridge/base/clock.h"
#include "bridge/commands/subscriber.h"
#include "bridge/publish/publisher.h"
#include "bridge/telemetry/poller.h"
#include "tests/unit/given.h"
#include "tests/unit/logged.h"
#include "tests/unit/slept.h"

/* ---- the stand-ins ---- */

struct poller {
    struct poller_setup setup;
};

static struct {
    char notes[512];     /* what was called, in order */
    const char *refused; /* the note at which starting fails */
    struct outbox *outbox;
    struct audit *audit;
    char run[9];
    _Atomic int64_t poller_ns[2], publisher_ns, presence_ns, subscriber_ns; /* promises */
} plan;

/* A promise that is always late, but never by much. */
#define A_LITTLE_LATE INT64_C(-1)

static struct logged logged;

static bool note(const char *what)
{
    strcat(strcat(plan.notes, what), " ");
    return !plan.refused || strcmp(plan.refused, what) != 0;
}

/* What is started now must never see a signal. */
static void assert_signals_blocked(void)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    assert_true(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGUSR1));
}

struct subscriber *subscriber_start(const struct subscriber_setup *setup)
{
    assert_signals_blocked();
    plan.audit = setup->audit;
    return note("subscriber") ? (struct subscriber *)&plan : NULL;
}

void subscriber_drain(struct subscriber *subscriber)
{
    (void)subscriber;
    note("drain");
}

/* The last command is answered here. */
void subscriber_stop(struct subscriber *subscriber)
{
    (void)subscriber;
    audit_put(plan.audit,
              &(struct audit_entry){.line = "last", .topic = "result", .payload = "{}"});
    note("-subscriber");
}

/* What a reload would ask of them: test in integration/reload.py. */
struct halt *subscriber_halt(struct subscriber *subscriber)
{
    (void)subscriber;
    fail();
    return NULL;
}

void subscriber_part(struct subscriber *subscriber, unsigned device)
{
    (void)subscriber;
    (void)device;
    fail();
}

bool subscriber_renew(struct subscriber *subscriber, const bool *anew, const bool *others,
                      bool another_log)
{
    (void)another_log;
    (void)subscriber;
    (void)anew;
    (void)others;
    fail();
    return false;
}

struct halt *publisher_halt(struct publisher *publisher)
{
    (void)publisher;
    fail();
    return NULL;
}

struct halt *publisher_leave(struct publisher *publisher, int64_t grace_ns)
{
    (void)publisher;
    (void)grace_ns;
    fail();
    return NULL;
}

void publisher_part(struct publisher *publisher, unsigned device)
{
    (void)publisher;
    (void)device;
    fail();
}

void publisher_alter(struct publisher *publisher, unsigned device)
{
    (void)publisher;
    (void)device;
    fail();
}

void publisher_part_discovery(struct publisher *publisher)
{
    (void)publisher;
    fail();
}

void publisher_renew_discovery(struct publisher *publisher)
{
    (void)publisher;
    fail();
}

void publisher_renew_edge(struct publisher *publisher, struct edge *edge)
{
    (void)publisher;
    (void)edge;
    fail();
}

bool publisher_renew(struct publisher *publisher, const bool *anew)
{
    (void)publisher;
    (void)anew;
    fail();
    return false;
}

struct halt *poller_halt(struct poller *poller)
{
    (void)poller;
    fail();
    return NULL;
}

bool poller_add(struct poller *poller, unsigned device)
{
    (void)poller;
    (void)device;
    fail();
    return false;
}

void poller_part(struct poller *poller, unsigned device)
{
    (void)poller;
    (void)device;
    fail();
}

void poller_end(struct poller *poller, unsigned device)
{
    (void)poller;
    (void)device;
    fail();
}

void poller_rename(struct poller *poller)
{
    (void)poller;
    fail();
}

bool poller_drop(struct poller *poller, unsigned device)
{
    (void)poller;
    (void)device;
    fail();
    return false;
}

int64_t subscriber_promise_ns(const struct subscriber *subscriber)
{
    (void)subscriber;
    return plan.subscriber_ns;
}

struct publisher *publisher_start(const struct publisher_setup *setup)
{
    assert_signals_blocked();
    assert_int_equal(strspn(setup->run, "0123456789abcdef"), 8);
    strcpy(plan.run, setup->run);
    plan.outbox = setup->outbox;
    return note("publisher") ? (struct publisher *)&plan : NULL;
}

/* What arrived before is with the subscriber, which still runs. */
void publisher_stop_hearing(struct publisher *publisher)
{
    (void)publisher;
    note("-hearing");
}

/* The answer to the last command must be there by now, on disk and to be sent. */
void publisher_stop(struct publisher *publisher, int64_t grace_ns)
{
    static struct outbox_item item;
    (void)publisher;
    assert_in_range(grace_ns, 1, CLOCK_NS_PER_S);
    outbox_resumed(plan.outbox, 0);
    assert_true(outbox_take(plan.outbox, 0, OUTBOX_BACKFILL, &item));
    assert_int_equal(access("audit.jsonl", F_OK), 0);
    note("-publisher");
}

int64_t publisher_promise_ns(const struct publisher *publisher)
{
    (void)publisher;
    return plan.publisher_ns;
}

int64_t publisher_presence_promise_ns(const struct publisher *publisher)
{
    (void)publisher;
    return plan.presence_ns;
}

void publisher_reload(struct publisher *publisher)
{
    (void)publisher;
    note("reload");
}

/* For http, which this test does without. */
int64_t publisher_down_since_ns(const struct publisher *publisher)
{
    (void)publisher;
    return 0;
}

/* Sees its devices as online. */
struct poller *poller_start(const struct poller_setup *setup)
{
    assert_signals_blocked();
    assert_string_equal(setup->run, plan.run);
    for (unsigned i = 0; i < setup->conf->devices.n_devices; i++)
        if (setup->conf->devices.devices[i].poller == setup->poller)
            outbox_set_online(setup->outbox, i, true);
    if (!note(setup->poller == 0 ? "poller0" : "poller1"))
        return NULL;
    struct poller *poller = malloc(sizeof *poller);
    poller->setup = *setup;
    return poller;
}

void poller_stop(struct poller *poller)
{
    if (!poller)
        return;
    assert_true(mailbox_is_stopped(poller->setup.mailbox));
    note(poller->setup.poller == 0 ? "-poller0" : "-poller1");
    free(poller);
}

int64_t poller_promise_ns(const struct poller *poller)
{
    const int64_t promise_ns = plan.poller_ns[poller->setup.poller];
    return promise_ns == A_LITTLE_LATE ? clock_awake_ns() - CLOCK_NS_PER_S : promise_ns;
}

/* Of main: it waits here and nowhere else. */
static atomic_uint rounds;

int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    rounds++;
    return (int)syscall(SYS_rt_sigtimedwait, set, info, timeout, _NSIG / 8);
}

static void wait_rounds(unsigned n)
{
    for (const unsigned before = rounds; rounds - before < n;)
        sched_yield();
}

/* ---- the daemon in a thread of its own ---- */

static const char text[] =
    "site = \"demo\";\n"
    "mqtt: { url = \"mqtt://localhost\"; };\n"
    "audit: { path = \"audit.jsonl\"; };\n"
    "devices: { meters = (\n"
    "{ id = \"a\"; name = \"A\"; type = \"acuvim2\"; modbus: { host = \"h\"; address = 1; }; },\n"
    "{ id = \"b\"; name = \"B\"; type = \"acuvim2\";\n"
    "  modbus: { serial = \"/dev/tty\"; address = 1; }; },\n"
    "{ id = \"c\"; name = \"C\"; type = \"acuvim2\"; modbus: { host = \"h\"; address = 2; }; },\n"
    "{ id = \"d\"; name = \"D\"; type = \"acuvim2\"; modbus: { host = \"i\"; address = 1; }; } ); "
    "};\n";

static struct conf conf;
static pthread_t daemon_thread;

static int set_up(void **state)
{
    struct cfg cfg = {.out = stderr};
    if (given_directory(state) != 0)
        return -1;
    given_file("site.cfg", text);
    memset(&plan, 0, sizeof plan);
    plan.poller_ns[0] = plan.poller_ns[1] = plan.publisher_ns = plan.presence_ns =
        plan.subscriber_ns = CLOCK_NEVER;
    return conf_read(&cfg, "site.cfg", &conf) && logged_begin(&logged) ? 0 : -1;
}

static int tear_down(void **state)
{
    logged_free(&logged);
    conf_free(&conf);
    return remove_directory(state);
}

static void *run(void *code)
{
    *(int *)code = supervisor_run(&conf, "site.cfg");
    return NULL;
}

static void start(int *code)
{
    assert_int_equal(pthread_create(&daemon_thread, NULL, run, code), 0);
    assert_true(logged_find(&logged, "fluxbridge is up", "site=demo devices=4 links=3 run="));
}

static void end(int signal)
{
    assert_int_equal(pthread_kill(daemon_thread, signal), 0);
    assert_int_equal(pthread_join(daemon_thread, NULL), 0);
    logged_end(&logged);
}

/* ---- the tests ---- */

static void test_order(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        int code = -1;
        plan.notes[0] = '\0';
        start(&code);
        assert_non_null(strstr(logged.line, plan.run));
        pthread_kill(daemon_thread, i ? SIGINT : SIGTERM);
        pthread_join(daemon_thread, NULL);
        assert_int_equal(code, 0);
        assert_string_equal(plan.notes, "subscriber publisher poller0 poller1 "
                                        "drain -poller0 -poller1 -hearing -subscriber -publisher ");
        assert_true(logged_find(&logged, "stopping", i ? "SIGINT" : "SIGTERM"));
    }
}

/* Whatever cannot start: what runs is ended in order, and the exit code says so. */
static void test_failed_start(void **state)
{
    (void)state;
    static const struct {
        const char *refused, *notes;
    } cases[] = {
        {"subscriber", "subscriber "},
        {"publisher", "subscriber publisher drain -subscriber "},
        {"poller0", "subscriber publisher poller0 drain -hearing -subscriber -publisher "},
        {"poller1",
         "subscriber publisher poller0 poller1 drain -poller0 -hearing -subscriber -publisher "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        plan.notes[0] = '\0';
        plan.refused = cases[i].refused;
        assert_int_equal(supervisor_run(&conf, "site.cfg"), 1);
        assert_string_equal(plan.notes, cases[i].notes);
    }
    logged_end(&logged);
    assert_false(logged_find(&logged, "fluxbridge is up", ""));
}

static void test_stuck_poller(void **state)
{
    (void)state;
    int code = -1;
    bool online[4] = {false, false, false, false};
    plan.poller_ns[0] = clock_awake_ns() - 10 * CLOCK_NS_PER_S;
    plan.poller_ns[1] = A_LITTLE_LATE;
    start(&code);
    assert_true(logged_find(&logged, "the poller of", ""));
    assert_non_null(strstr(logged.line, "error: the poller of 2 TCP links has stopped moving\n"));
    for (unsigned device = 0; outbox_take_presence(plan.outbox, &device, &online[device]);)
        device++;
    assert_false(online[0]);
    assert_true(online[1]);
    assert_false(online[2]);
    assert_false(online[3]);

    plan.poller_ns[1] = CLOCK_NEVER;
    plan.poller_ns[0] = CLOCK_NEVER;
    assert_true(logged_find(&logged, "the poller of", ""));
    assert_non_null(strstr(logged.line, "info: the poller of 2 TCP links moves again\n"));
    plan.poller_ns[1] = 0;
    assert_true(logged_find(&logged, "the poller of", ""));
    assert_non_null(strstr(logged.line, "error: the poller of /dev/tty has stopped moving\n"));
    end(SIGTERM);
    assert_false(logged_find(&logged, "the poller of", ""));
}

static void test_stuck_publisher_and_subscriber(void **state)
{
    (void)state;
    int code = -1;
    plan.publisher_ns = plan.subscriber_ns = 0;
    start(&code);
    assert_true(logged_find(&logged, "the subscriber has stopped moving", ""));
    assert_true(logged_find(&logged, "the publisher has stopped moving", ""));
    plan.publisher_ns = plan.subscriber_ns = CLOCK_NEVER;
    assert_true(logged_find(&logged, "the subscriber moves again", ""));
    assert_true(logged_find(&logged, "the publisher moves again", ""));
    end(SIGTERM);
    assert_int_equal(code, 0);
}

/* What systemd hears is read at `systemd`. */
static bool is_fed(int systemd, int flags)
{
    char word[100];
    ssize_t size;
    bool fed = false;
    while (!fed && (size = recv(systemd, word, sizeof word - 1, flags)) >= 0) {
        word[size] = '\0';
        fed = strcmp(word, "WATCHDOG=1") == 0;
    }
    return fed;
}

/* Whoever else keeps something from a device, or its word from the broker. */
static void test_who_stands_still_starves_the_watchdog(void **state)
{
    (void)state;
    _Atomic int64_t *const promises[] = {&plan.publisher_ns, &plan.presence_ns, &plan.subscriber_ns,
                                         &plan.poller_ns[1]};
    const struct timeval patience = {.tv_sec = 60};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int systemd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int code = -1;
    assert_non_null(getcwd(address.sun_path, sizeof address.sun_path - 10));
    strcat(address.sun_path, "/systemd");
    assert_int_equal(bind(systemd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(systemd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "50000", 1);
    start(&code);
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        assert_true(is_fed(systemd, 0));
        *promises[i] = 0;
        assert_true(logged_find(&logged, "has stopped moving", ""));
        wait_rounds(2); /* it was said in one, and has been noted in the next */
        while (is_fed(systemd, MSG_DONTWAIT)) {
        }
        wait_rounds(10);
        assert_false(is_fed(systemd, MSG_DONTWAIT));
        *promises[i] = CLOCK_NEVER;
        assert_true(logged_find(&logged, "moves again", ""));
    }
    assert_true(is_fed(systemd, 0));
    end(SIGTERM);
    assert_int_equal(code, 0);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    close(systemd);
}

static void test_hangup(void **state)
{
    (void)state;
    int code = -1;
    start(&code);
    assert_int_equal(rename("audit.jsonl", "old"), 0);
    pthread_kill(daemon_thread, SIGHUP);
    assert_true(logged_find(&logged, "info: reloaded", "level=info"));
    assert_non_null(strstr(plan.notes, "reload "));

    given_file("site.cfg", "site = 1;\n");
    pthread_kill(daemon_thread, SIGHUP);
    assert_true(logged_find(&logged, "warning: site.cfg:1: site must be a text in quotes", ""));
    assert_true(logged_find(&logged, "warning: the configuration is not taken over", "problems=3"));
    end(SIGTERM);
    assert_int_equal(code, 0);
    assert_int_equal(access("audit.jsonl", F_OK), 0); /* made anew */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_failed_start),
        TEST(test_stuck_poller),
        TEST(test_stuck_publisher_and_subscriber),
        TEST(test_who_stands_still_starves_the_watchdog),
        TEST(test_hangup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
