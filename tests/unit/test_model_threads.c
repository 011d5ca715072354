/* The way of a command through its real threads, there and back.
 *
 * Subscriber, inbox, mailbox, poller and battery as the daemon has them, over a fake
 * link whose device lies by a seeded generator; the test is broker and disk. Bursts of
 * commands and stops, repetitions, nonsense, losses of the broker and restarts. What is
 * sent, written and told is one list in the order in which it happened; in the end of
 * each burst, when every command has its outcome, it must make sense:
 *
 *   - one outcome each, and that is true: what is refused or superseded was never
 *     written, what is confirmed was, once, between its sending and its outcome;
 *   - when a stop is told, nothing that was sent before it is written any more, and a
 *     zero has been written since it was sent, unless nobody was reached;
 *   - whatever else is written is the deadman's or the exit's, and no value outside of
 *     the limits.
 *
 * Time is a fake clock that the poller alone moves, as fast as it can. FLUXBRIDGE_SEED
 * and FLUXBRIDGE_BURSTS override the seed, which is printed, and the length.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "bridge/base/log.h"
#include "bridge/commands/audit_file.h"
#include "bridge/commands/subscriber.h"
#include "bridge/telemetry/poller.h"
#include "devices/lines/link_new.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "from_environment.h"
#include "poller_quiet.h"
#include "site.h"

enum {
    BURSTS = 300,
    BURST_MOST = 8,
    EVENTS_MOST = 20000,
    LINES_MOST = 4000,
    FALLBACK = -20,
    PATIENCE_S = 30
};

enum event_kind { SENT, WRITTEN, TOLD };

struct event {
    enum event_kind kind;
    unsigned number; /* SENT, TOLD: of the command in its burst */
    int value;       /* WRITTEN */
    enum outcome_kind outcome;
    bool correction, duplicate;
};

struct sent {
    char id[16];
    int value;
    bool stop, repeated, malformed;
};

static struct stage {
    struct conf conf;
    struct fake_link *fake;
    struct mailbox *mailbox;
    struct inbox *inbox;
    struct layouts *layouts;
    struct latest *latest;
    struct state *state;
    struct health health;
    struct subscriber *subscriber;
    struct poller *poller;
    uint64_t device_random; /* the poller's thread's */

    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t cond;
    struct event events[EVENTS_MOST];
    unsigned n_events, n_told, n_samples;
    struct sent sent[BURST_MOST];
    unsigned n_sent;
    char *lines[LINES_MOST]; /* of the audit log */
    unsigned n_lines;
    bool reads; /* them, once in each run */
    unsigned counts[OUTCOME_COUNT], corrections, own, duplicates;
} stage = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* splitmix64 */
static uint64_t draw(uint64_t *random)
{
    uint64_t z = (*random += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static bool one_in(uint64_t *random, unsigned n)
{
    return draw(random) % n == 0;
}

/* Mutex held. */
static void note(struct event event)
{
    if (stage.n_events == EVENTS_MOST)
        abort();
    stage.events[stage.n_events++] = event;
    pthread_cond_broadcast(&stage.cond);
}

/* ---- the disk ---- */

bool audit_available(struct audit *audit)
{
    (void)audit;
    return true;
}

static enum outcome_kind kind_of(const char *word)
{
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (strcmp(word, outcome_word((enum outcome_kind)i)) == 0)
            return (enum outcome_kind)i;
    }
    abort();
}

/* Mutex held. -1 = none of this burst's. */
static int number_of(const char *id)
{
    for (unsigned i = 0; i < stage.n_sent; i++) {
        if (strcmp(stage.sent[i].id, id) == 0)
            return (int)i;
    }
    return -1;
}

static void take_outcome(const json_t *json)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    const char *source = json_string_value(json_object_get(json, "source"));
    const int number = id != NULL ? number_of(id) : -1;
    struct event event = {
        .kind = TOLD,
        .number = (unsigned)number,
        .outcome = kind_of(json_string_value(json_object_get(json, "outcome"))),
        .correction = json_object_get(json, "correction") != NULL,
        .duplicate = json_object_get(json, "duplicate") != NULL,
    };
    if (number < 0) {
        /* Of the bridge itself, or the correction of a burst before. */
        if (!event.correction &&
            (source == NULL || (strcmp(source, "deadman") != 0 && strcmp(source, "exit") != 0)))
            abort();
        stage.own += !event.correction;
        stage.corrections += event.correction;
        return;
    }
    stage.n_told += !event.correction;
    stage.corrections += event.correction;
    stage.duplicates += event.duplicate;
    stage.counts[event.outcome]++;
    note(event);
}

void audit_put(struct audit *audit, const struct audit_entry *entry)
{
    (void)audit;
    json_t *json = json_loads(entry->payload, JSON_REJECT_DUPLICATES, NULL);
    pthread_mutex_lock(&stage.mutex);
    take_outcome(json);
    if (stage.n_lines < LINES_MOST)
        stage.lines[stage.n_lines++] = strdup(entry->line);
    pthread_mutex_unlock(&stage.mutex);
    json_decref(json);
}

bool audit_take_earlier(struct audit *audit, char **lines)
{
    (void)audit;
    size_t size = 0;
    FILE *text = open_memstream(lines, &size);
    for (unsigned i = 0; stage.reads && i < stage.n_lines; i++)
        fprintf(text, "%s\n", stage.lines[i]);
    stage.reads = false;
    fclose(text);
    return true;
}

void audit_read_earlier(struct audit *audit)
{
    (void)audit;
}

/* ---- the device ---- */

struct link *link_new(const struct device_modbus *modbus)
{
    (void)modbus;
    return &stage.fake->link;
}

static void misbehave(struct fake_link *fake, uint64_t *random)
{
    static const enum fault faults[] = {FAULT_TIMEOUT, FAULT_BAD_REPLY, FAULT_CONNECTION,
                                        FAULT_BUSY, FAULT_ILLEGAL_ADDRESS};
    static const unsigned registers[] = {STATUS, SOE, TARGET, 0};
    fake->n_rules = 0;
    fake->cost_ns = one_in(random, 3) ? 300 * CLOCK_NS_PER_MS : CLOCK_NS_PER_MS;
    fake->registers[1][SOE] = one_in(random, 8) ? 5 : 54;
    fake->registers[1][STATUS] = one_in(random, 8) ? 0 : 1;
    fake->stale = one_in(random, 4);
    if (one_in(random, 2))
        return;
    fake_rule_add(
        fake, (struct fake_rule){.unit = (unsigned)(draw(random) % 3),
                                 .function = one_in(random, 2) ? FAKE_READ : FAKE_WRITE,
                                 .address = registers[draw(random) % 4],
                                 .fault = one_in(random, 4) ? FAULT_NONE : faults[draw(random) % 5],
                                 .ignores = one_in(random, 2),
                                 .to = one_in(random, 2) ? 3 : 0});
}

static void before_call(struct fake_link *fake, const struct fake_call *call)
{
    uint64_t *random = &stage.device_random;
    if (fake->n_calls > FAKE_CALLS / 2)
        fake->n_calls = 0;
    if (one_in(random, 40))
        misbehave(fake, random);
    if (call->function != FAKE_WRITE)
        return;
    if (call->unit != 1 || call->address != TARGET)
        abort();
    pthread_mutex_lock(&stage.mutex);
    note((struct event){.kind = WRITTEN, .value = (int16_t)call->words[0]});
    pthread_mutex_unlock(&stage.mutex);
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size)
{
    (void)outbox, (void)device, (void)taken_ns, (void)layout, (void)packed, (void)size;
    pthread_mutex_lock(&stage.mutex);
    stage.n_samples++;
    pthread_cond_broadcast(&stage.cond);
    pthread_mutex_unlock(&stage.mutex);
}

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    (void)outbox, (void)device, (void)online;
}

/* ---- the bridge ---- */

#define METER                                                                                      \
    "{ id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\"; poll = \"1s\"; modbus: { "          \
    "host = \"127.0.0.1\"; port = 1502; address = 2; timeout = \"5s\"; }; }"

static void bridge_start(void)
{
    stage.mailbox = mailbox_new(1);
    stage.inbox = inbox_new();
    stage.reads = true;
    stage.subscriber = subscriber_start(&(struct subscriber_setup){
        .conf = &stage.conf,
        .inbox = stage.inbox,
        .mailboxes = &stage.mailbox,
        .health = &stage.health,
    });
    stage.poller = poller_start(&(struct poller_setup){
        .conf = &stage.conf,
        .mailbox = stage.mailbox,
        .inbox = stage.inbox,
        .layouts = stage.layouts,
        .latest = stage.latest,
        .health = &stage.health,
        .state = stage.state,
        .run = "5f3a9c1e",
        .origin_ns = fake_now_ns,
    });
    assert_non_null(stage.subscriber);
    assert_non_null(stage.poller);
}

/* As the supervisor ends it, with time for the batteries to leave or without. */
static void bridge_stop(bool in_time)
{
    subscriber_drain(stage.subscriber);
    mailbox_leave(stage.mailbox);
    if (in_time)
        assert_true(mailbox_wait_left(stage.mailbox, CLOCK_NEVER));
    mailbox_stop(stage.mailbox);
    poller_stop(stage.poller);
    subscriber_stop(stage.subscriber);
    mailbox_free(stage.mailbox);
    inbox_free(stage.inbox);
}

static void stage_begin(uint64_t seed)
{
    fake_clock_reset();
    site_read(&stage.conf,
              SITE_ONE(SITE_DISCHARGE "ttl = \"10h\"; on_exit = \"fallback\"; deadman: { "
                                      "timeout = \"30s\"; value = -20.0; };") " meters = ( " METER
                                                                              " );");
    stage.fake = fake_link_new();
    stage.fake->clock_ns = &fake_now_ns;
    stage.fake->before = before_call;
    stage.fake->registers[1][STATUS] = 1;
    stage.fake->registers[1][SOE] = 54;
    stage.device_random = seed ^ 0x5555;
    stage.layouts = layouts_new();
    stage.latest = latest_new(&stage.conf.devices);
    stage.state = state_open("", NULL);
    assert_true(health_init(&stage.health, stage.conf.devices.n_devices));
    bridge_start();
}

static void stage_end(void)
{
    bridge_stop(true);
    state_close(stage.state);
    latest_free(stage.latest);
    layouts_free(stage.layouts);
    health_free(&stage.health);
    conf_free(&stage.conf);
    free(stage.fake);
    for (unsigned i = 0; i < stage.n_lines; i++)
        free(stage.lines[i]);
}

/* ---- the broker ---- */

static void send_one(uint64_t burst, unsigned number, uint64_t *random)
{
    static struct inbox_message message;
    struct sent *sent = &stage.sent[number];
    memset(&message, 0, sizeof message);
    *sent = (struct sent){.stop = one_in(random, 3), .malformed = one_in(random, 20)};
    snprintf(sent->id, sizeof sent->id, "%llu-%u", (unsigned long long)burst, number);
    /* Another value for each of a burst, and never the fallback. */
    sent->value = sent->stop ? 0 : (int)(1 + number + BURST_MOST * (draw(random) % 10));
    if (one_in(random, 2))
        sent->value = sent->value < -FALLBACK - 8 ? -sent->value : sent->value;
    strcpy(message.topic, "flux/demo/Site-BESS-01/set/target_power");
    message.mono_ns = clock_mono_ns();
    message.utc_ms = clock_utc_ms();
    snprintf(message.payload, sizeof message.payload, "{\"id\":\"%s\",\"value\":%d%s}", sent->id,
             sent->value, sent->malformed ? ",\"what\":1" : "");
    message.payload_size = strlen(message.payload);
    pthread_mutex_lock(&stage.mutex);
    stage.n_sent = number + 1;
    note((struct event){.kind = SENT, .number = number});
    pthread_mutex_unlock(&stage.mutex);
    assert_true(inbox_put_message(stage.inbox, &message));
}

static void wait_told(unsigned n)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&stage.mutex);
    while (stage.n_told < n && error == 0)
        error = pthread_cond_timedwait(&stage.cond, &stage.mutex, &until);
    const unsigned told = stage.n_told;
    pthread_mutex_unlock(&stage.mutex);
    if (told < n)
        fail_msg("%u commands, and %u outcomes", n, told);
}

/* The broker is away for so many polls. */
static void wait_samples(unsigned n)
{
    pthread_mutex_lock(&stage.mutex);
    for (const unsigned until = stage.n_samples + n; stage.n_samples < until;)
        pthread_cond_wait(&stage.cond, &stage.mutex);
    pthread_mutex_unlock(&stage.mutex);
}

/* ---- whether it makes sense ---- */

/* How often something happened to a command, or a value was written, in between. */
static unsigned written_between(unsigned from, unsigned to, int value)
{
    unsigned n = 0;
    for (unsigned i = from; i < to; i++)
        n += stage.events[i].kind == WRITTEN && stage.events[i].value == value;
    return n;
}

static unsigned position(enum event_kind kind, unsigned number)
{
    unsigned at = stage.n_events;
    unsigned n = 0;
    for (unsigned i = 0; i < stage.n_events; i++) {
        const struct event *event = &stage.events[i];
        if (event->kind != kind || event->number != number || event->correction)
            continue;
        at = i;
        n++;
    }
    if (n != 1)
        fail_msg("command %s was told %u times", stage.sent[number].id, n);
    return at;
}

static void check_command(unsigned number, bool ending)
{
    const struct sent *sent = &stage.sent[number];
    const unsigned from = position(SENT, number), to = position(TOLD, number);
    const enum outcome_kind outcome = stage.events[to].outcome;
    const unsigned writes = written_between(from, to, sent->value);
    const unsigned ever = written_between(0, stage.n_events, sent->value);
    if (sent->malformed) {
        assert_int_equal(outcome, OUTCOME_REFUSED);
        assert_true(sent->stop || ever == 0);
    } else if (sent->stop) {
        /* Only one that comes when the bridge is stopping already. */
        assert_true((ending || outcome != OUTCOME_REFUSED) && outcome != OUTCOME_SUPERSEDED);
        assert_true(outcome == OUTCOME_UNKNOWN || outcome == OUTCOME_REFUSED || writes > 0);
        for (unsigned i = 0; i < number && outcome != OUTCOME_REFUSED; i++) {
            if (!stage.sent[i].stop && written_between(to, stage.n_events, stage.sent[i].value) > 0)
                fail_msg("%s was written after the stop %s", stage.sent[i].id, sent->id);
        }
    } else if (outcome == OUTCOME_REFUSED || outcome == OUTCOME_SUPERSEDED) {
        if (ever != 0)
            fail_msg("%s was not to be written", sent->id);
    } else {
        assert_int_equal(writes, 1);
        assert_int_equal(ever, 1);
    }
}

static void check_burst(bool ending)
{
    pthread_mutex_lock(&stage.mutex);
    for (unsigned i = 0; i < stage.n_sent; i++)
        check_command(i, ending);
    for (unsigned i = 0; i < stage.n_events; i++) {
        const struct event *event = &stage.events[i];
        bool known = event->kind != WRITTEN || event->value == 0 || event->value == FALLBACK;
        for (unsigned k = 0; k < stage.n_sent; k++)
            known = known || stage.sent[k].value == event->value;
        if (!known)
            fail_msg("%d was written, and nobody wants it", event->value);
    }
    stage.n_events = stage.n_told = stage.n_sent = 0;
    pthread_mutex_unlock(&stage.mutex);
}

/* The first outcome of an id that was answered in an earlier burst, or run. */
static void repeat_an_old_id(uint64_t burst)
{
    static struct inbox_message message;
    memset(&message, 0, sizeof message);
    pthread_mutex_lock(&stage.mutex);
    stage.sent[0] = (struct sent){.repeated = true};
    snprintf(stage.sent[0].id, sizeof stage.sent[0].id, "%llu-0", (unsigned long long)burst);
    stage.n_sent = 1;
    pthread_mutex_unlock(&stage.mutex);
    strcpy(message.topic, "flux/demo/Site-BESS-01/set/target_power");
    message.mono_ns = clock_mono_ns();
    message.utc_ms = clock_utc_ms();
    snprintf(message.payload, sizeof message.payload, "{\"id\":\"%s\",\"value\":77}",
             stage.sent[0].id);
    message.payload_size = strlen(message.payload);
    assert_true(inbox_put_message(stage.inbox, &message));
    wait_told(1);
    pthread_mutex_lock(&stage.mutex);
    /* Malformed it was no id's outcome: then this is the id's first. */
    const struct event *told = &stage.events[stage.n_events - 1];
    for (unsigned i = 0; i < stage.n_events; i++) {
        if (stage.events[i].kind == TOLD)
            told = &stage.events[i];
    }
    if (told->duplicate)
        assert_int_equal(written_between(0, stage.n_events, 77), 0);
    stage.n_events = stage.n_told = stage.n_sent = 0;
    pthread_mutex_unlock(&stage.mutex);
}

static void test_the_threads_keep_their_word(void **state)
{
    const uint64_t seed = from_environment("FLUXBRIDGE_SEED", (uint64_t)time(NULL));
    const uint64_t bursts = from_environment("FLUXBRIDGE_BURSTS", BURSTS);
    uint64_t random = seed;
    (void)state;
    print_message("seed %llu, %llu bursts\n", (unsigned long long)seed, (unsigned long long)bursts);
    stage_begin(seed);
    for (uint64_t burst = 1; burst <= bursts; burst++) {
        const unsigned n = 1 + (unsigned)(draw(&random) % BURST_MOST);
        for (unsigned i = 0; i < n; i++)
            send_one(burst, i, &random);
        if (one_in(&random, 10)) {
            bridge_stop(one_in(&random, 2)); /* each has its outcome then, too */
            check_burst(true);
            bridge_start();
        } else {
            wait_told(n);
            check_burst(false);
        }
        if (one_in(&random, 8))
            wait_samples(200);
        if (one_in(&random, 8))
            repeat_an_old_id(burst);
    }
    stage_end();
    for (int i = 0; i < OUTCOME_COUNT; i++)
        print_message("%s %u\n", outcome_word((enum outcome_kind)i), stage.counts[i]);
    print_message("corrections %u\nthe bridge's own %u\nduplicates %u\n", stage.corrections,
                  stage.own, stage.duplicates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_threads_keep_their_word)};
    link_init_stop();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
