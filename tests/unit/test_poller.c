/* poller: one sample a scan, commands first, and a dead neighbour costs little.
 *
 * The poller's own thread over a fake link and a fake clock: waiting takes no
 * time and everything happens in one order. The script runs in that thread,
 * before each call on the link and at each sample.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bridge/base/log.h"
#include "bridge/commands/audit.h"
#include "bridge/telemetry/poller.h"
#include "bridge/wire/sample_json.h"
#include "devices/lines/link_new.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "site.h"

enum { SAMPLES_MOST = 2000, OUTCOMES_MOST = 16 };

/* What the poller said, in order. */
struct seen {
    unsigned device;
    int64_t taken_ns;
    int online; /* said of the device after it: -1 = nothing */
    char text[1024];
};

static struct stage {
    struct conf conf;
    struct fake_link *fake;
    struct mailbox *mailbox;
    struct inbox *inbox;
    struct layouts *layouts;
    struct latest *latest;
    struct health health;
    struct seen samples[SAMPLES_MOST];
    unsigned n_samples;
    struct outcome outcomes[OUTCOMES_MOST];
    unsigned n_outcomes;
    unsigned n_presence;
    /* The end of the script. */
    unsigned until_samples, of_device;
    int64_t until_ns;
    bool until_left; /* it has said that it has, too */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool ended;
    /* A command to be put before the n-th call of a function to an address. */
    struct command command;
    int64_t put_ns;
    struct fake_rule put_before;
    unsigned n_before;
} stage = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* ---- what the poller uses instead of the real thing ---- */

struct link *link_new(const struct device_modbus *modbus)
{
    (void)modbus;
    return &stage.fake->link;
}

static void end_script(void)
{
    mailbox_stop(stage.mailbox);
    pthread_mutex_lock(&stage.mutex);
    stage.ended = true;
    pthread_cond_signal(&stage.cond);
    pthread_mutex_unlock(&stage.mutex);
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size)
{
    (void)outbox;
    if (stage.n_samples == SAMPLES_MOST)
        abort();
    struct seen *sample = &stage.samples[stage.n_samples++];
    *sample = (struct seen){.device = device, .taken_ns = taken_ns, .online = -1};
    size = sample_json_of_packed(layout, packed, size, sample->text, sizeof sample->text - 1);
    if (size == 0)
        abort();
}

void outbox_call_control(struct outbox *outbox, unsigned device)
{
    (void)outbox, (void)device;
}

bool audit_was_available(const struct audit *audit)
{
    (void)audit;
    return true;
}

void outbox_wake(struct outbox *outbox)
{
    (void)outbox;
}

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    (void)outbox;
    unsigned of_device = 0;
    stage.n_presence++;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        of_device += stage.samples[i].device == stage.of_device;
        if (stage.samples[i].device == device && i + 1 == stage.n_samples)
            stage.samples[i].online = online;
    }
    if (of_device >= stage.until_samples || fake_now_ns - FAKE_MONO_NS >= stage.until_ns ||
        (stage.until_left && mailbox_wait_left(stage.mailbox, 0)))
        end_script();
}

static void before_call(struct fake_link *fake, const struct fake_call *call)
{
    const struct fake_rule *at = &stage.put_before;
    struct command replaced;
    (void)fake;
    if (at->function == 0 || call->function != at->function || call->address != at->address ||
        ++stage.n_before != at->from)
        return;
    stage.put_ns = fake_now_ns;
    mailbox_put(stage.mailbox, &stage.command, &replaced);
}

/* ---- the stage ---- */

#define METER(more)                                                                                \
    "{ id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\"; poll = \"1s\"; modbus: { "          \
    "host = \"127.0.0.1\"; port = 1502; address = 2; timeout = \"5s\"; " more " }; }"
#define ONE_BATTERY SITE_ONE(SITE_DISCHARGE)
#define ONE_METER   "meters = ( " METER("") " );"
#define BOTH        SITE_ONE(SITE_DISCHARGE) " meters = ( " METER("") " );"

static void stage_begin(const char *devices)
{
    fake_clock_reset();
    site_read(&stage.conf, devices);
    stage.fake = fake_link_new();
    stage.fake->clock_ns = &fake_now_ns;
    stage.fake->cost_ns = CLOCK_NS_PER_MS;
    stage.fake->before = before_call;
    uint16_t *registers = stage.fake->registers[1];
    registers[STATUS] = 1;
    registers[TARGET] = 20;
    registers[SOURCE] = 2;
    registers[SOE] = 54;
    registers[BLOCKS] = 10;
    stage.fake->registers[2][0] = 0x4366; /* 230 V */
    stage.mailbox = mailbox_new(4);
    stage.inbox = inbox_new();
    stage.layouts = layouts_new();
    stage.latest = latest_new(&stage.conf.devices);
    memset(&stage.health, 0, sizeof stage.health);
    assert_true(health_init(&stage.health, stage.conf.devices.n_devices));
    stage.n_samples = stage.n_outcomes = stage.n_presence = stage.n_before = 0;
    stage.put_before = (struct fake_rule){0};
    stage.command =
        (struct command){.id = "d-1",
                         .value = 50,
                         .expires_ns = CLOCK_NEVER,
                         .point = (unsigned)stage.conf.devices.devices[0].control.setpoint};
    stage.put_ns = -1;
    stage.until_ns = INT64_MAX;
    stage.until_left = false;
    stage.of_device = 0;
    stage.ended = false;
}

/* Runs the poller until `device` has had `samples`. */
static void stage_run(unsigned device, unsigned samples)
{
    static struct inbox_message message;
    stage.of_device = device;
    stage.until_samples = samples;
    struct poller *poller = poller_start(&(struct poller_setup){
        .conf = &stage.conf,
        .mailbox = stage.mailbox,
        .inbox = stage.inbox,
        .layouts = stage.layouts,
        .latest = stage.latest,
        .health = &stage.health,
        .run = "5f3a9c1e",
        .origin_ns = FAKE_MONO_NS,
    });
    assert_non_null(poller);
    pthread_mutex_lock(&stage.mutex);
    while (!stage.ended)
        pthread_cond_wait(&stage.cond, &stage.mutex);
    pthread_mutex_unlock(&stage.mutex);
    poller_stop(poller);
    while (inbox_take(stage.inbox, 0, &message, &stage.outcomes[stage.n_outcomes]) == INBOX_OUTCOME)
        assert_true(++stage.n_outcomes < OUTCOMES_MOST);
}

static void stage_end(void)
{
    mailbox_free(stage.mailbox);
    inbox_free(stage.inbox);
    latest_free(stage.latest);
    layouts_free(stage.layouts);
    health_free(&stage.health);
    conf_free(&stage.conf);
    free(stage.fake);
}

static json_int_t integer_of(const struct seen *sample, const char *key)
{
    json_t *json = json_loads(sample->text, 0, NULL);
    assert_non_null(json);
    json_t *value = json_object_get(json, key);
    if (value == NULL)
        value = json_object_get(json_object_get(json, "data"), key);
    assert_true(json_is_integer(value));
    json_int_t number = json_integer_value(value);
    json_decref(json);
    return number;
}

static void assert_has(const struct seen *sample, const char *part)
{
    if (strstr(sample->text, part) == NULL)
        fail_msg("no %s in %s", part, sample->text);
}

/* The i-th call of a function, from 0. */
static const struct fake_call *call_of(unsigned function, unsigned index)
{
    for (unsigned i = 0; i < stage.fake->n_calls; i++) {
        if (stage.fake->calls[i].function == function && index-- == 0)
            return &stage.fake->calls[i];
    }
    fail_msg("no such call");
    return NULL;
}

static double seconds(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / (double)CLOCK_NS_PER_S;
}

/* ---- samples ---- */

static void test_every_scan_is_one_sample(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage_run(0, 50);
    assert_int_equal(stage.n_samples, 50);
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 50);
    assert_int_equal(stage.fake->n_opened, 1);
    assert_int_equal(stage.health.samples, 50);
    assert_int_equal(stage.health.samples_bad, 0);
    assert_int_equal(stage.health.missed_ticks, 0);
    for (unsigned i = 0; i < 50; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        /* When its first request was sent: on the tick, for ever. */
        assert_int_equal(integer_of(sample, "ts"), FAKE_UTC_MS + 1000 * i + (i == 0));
        assert_int_equal(sample->taken_ns, call_of(FAKE_READ, i)->at_ns);
        assert_int_equal(sample->online, true);
    }
    assert_string_equal(stage.samples[49].text,
                        "{\"ts\":1763791249000,\"run\":\"5f3a9c1e\",\"seq\":50,"
                        "\"quality\":\"good\",\"data\":{\"status\":\"ready\",\"status_code\":1,"
                        "\"target_power\":20,\"command_source\":2,\"soe\":54,"
                        "\"available_blocks\":10}}");
    stage_end();
}

static void test_devices_of_one_link_take_turns(void **state)
{
    (void)state;
    stage_begin(BOTH);
    stage_run(1, 10);
    json_int_t seq[2] = {0, 0};
    for (unsigned i = 0; i < stage.n_samples; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(sample->device, i % 2);
        assert_int_equal(integer_of(sample, "seq"), ++seq[sample->device]);
        /* The second has its turn in the middle of the first's period. */
        assert_true(integer_of(sample, "ts") / 500 % 2 == sample->device);
        assert_has(sample, sample->device == 0 ? "\"soe\":54" : "\"voltage_l1_n\":230");
    }
    assert_int_equal(stage.fake->n_opened, 1);
    stage_end();
}

static void test_a_refused_point_is_named_and_the_others_stay(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(
        stage.fake,
        (struct fake_rule){.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS});
    stage_run(0, 3);
    for (unsigned i = 0; i < 3; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        assert_has(sample, "\"quality\":\"partial\"");
        assert_has(sample, "\"soe\":null");
        assert_has(sample, "\"target_power\":20");
        assert_has(sample, "\"errors\":{\"soe\":\"illegal_address\"}}");
        assert_int_equal(sample->online, true);
    }
    stage_end();
}

static void test_a_scan_with_nothing_due_changes_nothing(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    for (unsigned i = 0; i < stage.conf.devices.devices[0].n_points; i++)
        stage.conf.devices.devices[0].points[i].every = 2;
    stage_run(0, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_has(&stage.samples[i], "\"quality\":\"good\"");
        assert_int_equal(stage.samples[i].online, i % 2 == 0 ? true : -1);
    }
    assert_int_equal(stage.health.samples_bad, 0);
    stage_end();
}

static void test_ticks_that_passed_are_counted(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage.fake->cost_ns = 5 * CLOCK_NS_PER_S / 2; /* opening too: the first scan takes 5 s */
    stage_run(0, 3);
    assert_int_equal(stage.health.missed_ticks, 5 + 2 + 2);
    assert_int_equal(integer_of(&stage.samples[1], "seq"), 2);
    /* Back on the grid, not at once. */
    assert_int_equal(integer_of(&stage.samples[1], "ts"), FAKE_UTC_MS + 6000);
    assert_int_equal(integer_of(&stage.samples[2], "ts"), FAKE_UTC_MS + 9000);
    stage_end();
}

/* ---- retries ---- */

static void test_a_silent_device_is_asked_as_documented(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_READ, .to = 5, .fault = FAULT_TIMEOUT});
    stage_run(0, 4);
    /* Three attempts, each of 5 s, with pauses of 1 s and 2 s; then it is said. */
    assert_true(seconds(call_of(FAKE_READ, 0)->at_ns, call_of(FAKE_READ, 1)->at_ns) >= 6.0);
    assert_true(seconds(call_of(FAKE_READ, 0)->at_ns, call_of(FAKE_READ, 1)->at_ns) < 6.1);
    assert_true(seconds(call_of(FAKE_READ, 1)->at_ns, call_of(FAKE_READ, 2)->at_ns) >= 7.0);
    assert_true(seconds(call_of(FAKE_READ, 1)->at_ns, call_of(FAKE_READ, 2)->at_ns) < 7.1);
    const bool online[] = {false, false, false, true};
    for (unsigned i = 0; i < 4; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        assert_int_equal(sample->online, online[i]);
        assert_has(sample, online[i] ? "\"quality\":\"good\"" : "\"quality\":\"bad\"");
        if (!online[i])
            assert_has(sample, "\"soe\":\"timeout\"");
    }
    /* Known to be down, it is asked once a scan: 3 + 1 + 1, then it answers, in the three
     * parts in which one that does was looked for. */
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 8);
    assert_int_equal(stage.health.samples_bad, 3);
    /* Under the time of the attempt that failed last, not of the first. */
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

static void test_one_good_attempt_in_time_is_a_good_sample(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_READ, .to = 2, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"good\"");
    assert_int_equal(stage.samples[0].online, true);
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

/* What an attempt read before it broke is not mixed with the next one's. */
static void test_an_attempt_begins_from_nothing(void **state)
{
    (void)state;
    stage_begin(ONE_METER);
    fake_rule_add(stage.fake,
                  (struct fake_rule){
                      .function = FAKE_READ, .address = 0x100, .to = 1, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"good\"");
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 4);
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

static void test_half_a_scan_to_the_end_is_a_partial_sample(void **state)
{
    (void)state;
    stage_begin(ONE_METER);
    fake_rule_add(stage.fake, (struct fake_rule){
                                  .function = FAKE_READ, .address = 0x100, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"partial\"");
    assert_has(&stage.samples[0], "\"voltage_l1_n\":230");
    assert_has(&stage.samples[0], "\"errors\":{\"energy_import\":\"timeout\"}}");
    assert_int_equal(stage.samples[0].online, true);
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 6);
    stage_end();
}

static void test_a_link_that_does_not_open(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_OPEN, .to = 8, .fault = FAULT_CONNECTION});
    stage_run(0, 100);
    assert_has(&stage.samples[0], "\"soe\":\"connection\"");
    assert_int_equal(stage.samples[0].online, false);
    assert_int_equal(stage.samples[99].online, true);
    /* Knocked at with growing pauses of at most 12 s, while samples go on. */
    assert_int_equal(stage.fake->n_opened, 9);
    double longest = 0;
    for (unsigned i = 1; i < 9; i++) {
        double pause = seconds(call_of(FAKE_OPEN, i - 1)->at_ns, call_of(FAKE_OPEN, i)->at_ns);
        longest = pause > longest ? pause : longest;
    }
    assert_true(longest > 7 && longest < 13.1);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(integer_of(&stage.samples[i], "seq"), i + 1);
    stage_end();
}

/* ---- neighbours ---- */

static void test_a_dead_neighbour_takes_little_of_the_time(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
    stage_run(0, 300);
    int64_t lost_ns = 0;
    for (unsigned i = 0; i < stage.fake->n_calls; i++)
        lost_ns += stage.fake->calls[i].fault == FAULT_TIMEOUT ? 5 * CLOCK_NS_PER_S : 0;
    int64_t whole_ns = fake_now_ns - FAKE_MONO_NS;
    assert_true(lost_ns > 0);
    assert_true(lost_ns <= whole_ns / 5);
    /* And what is lost to it is counted. */
    assert_true(stage.health.missed_ticks > 0);
    unsigned bad = 0;
    json_int_t seq = 0;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        const struct seen *sample = &stage.samples[i];
        if (sample->device == 0) {
            assert_has(sample, "\"quality\":\"good\"");
            assert_int_equal(sample->online, true);
        } else {
            assert_has(sample, "\"quality\":\"bad\"");
            assert_int_equal(integer_of(sample, "seq"), ++seq);
            bad++;
        }
    }
    assert_true(bad > 100); /* not asked, it is still reported as what it is */
    stage_end();
}

static void test_a_gateway_that_answers_for_a_dead_unit_keeps_the_link(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake, (struct fake_rule){
                                  .unit = 2, .function = FAKE_READ, .fault = FAULT_GATEWAY_TARGET});
    stage_run(0, 30);
    assert_int_equal(stage.fake->n_opened, 1);
    bool was_bad = false;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        if (stage.samples[i].device == 0)
            continue;
        assert_has(&stage.samples[i], "\"gateway_target\"");
        assert_int_equal(stage.samples[i].online, false);
        was_bad = true;
    }
    assert_true(was_bad);
    stage_end();
}

/* ---- commands ---- */

static const struct outcome *only_outcome(void)
{
    const struct outcome *found = NULL;
    for (unsigned i = 0; i < stage.n_outcomes; i++) {
        if (stage.outcomes[i].correction)
            continue;
        assert_null(found);
        found = &stage.outcomes[i];
    }
    assert_non_null(found);
    assert_string_equal(found->command.id, "d-1");
    return found;
}

/* A stop of what the register holds, before that call. */
static void stop_before(struct fake_rule call)
{
    stage.command.stop = true;
    stage.command.value = 0;
    stage.put_before = call;
}

/* It comes while the meter's first block is on its way, and is carried out
 * before the second. */
static void test_a_command_goes_between_two_transactions(void **state)
{
    (void)state;
    stage_begin(BOTH);
    stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = 0, .from = 2};
    stage_run(1, 3);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fake->n_writes, 1);
    assert_int_equal(stage.fake->registers[1][TARGET], 50);
    unsigned at = 0;
    for (unsigned seen = 0; seen < 2; at++)
        seen += stage.fake->calls[at].unit == 2 && stage.fake->calls[at].address == 0;
    const struct fake_call *calls = &stage.fake->calls[at];
    assert_int_equal(calls[0].unit, 1); /* the state, read for it */
    assert_int_equal(calls[0].function, FAKE_READ);
    assert_int_equal(calls[1].function, FAKE_WRITE);
    assert_int_equal(calls[1].unit, 1);
    assert_int_equal(calls[2].address, TARGET); /* read back */
    assert_int_equal(calls[3].unit, 2);         /* on with the scan */
    assert_int_equal(calls[3].address, 0x100);
    stage_end();
}

static void test_a_command_does_not_wait_for_retries(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
    stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = 0, .from = 1};
    stage_run(0, 10);
    const struct outcome *outcome = only_outcome();
    assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
    /* After the one transaction that was under way. */
    const struct fake_call *silent = NULL;
    for (unsigned i = 0; silent == NULL; i++)
        silent = stage.fake->calls[i].unit == 2 ? &stage.fake->calls[i] : NULL;
    assert_true(outcome->done_ns - silent->at_ns < 5 * CLOCK_NS_PER_S + 10 * CLOCK_NS_PER_MS);
    stage_end();
}

/* Its neighbour is silent, with all its retries and timeouts: a stop waits for the
 * one request that is under way, whatever else is due. */
static void test_a_stop_waits_for_one_transaction_of_a_silent_neighbour(void **state)
{
    (void)state;
    for (unsigned from = 1; from <= 4; from++) {
        stage_begin(BOTH);
        fake_rule_add(stage.fake,
                      (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
        stop_before((struct fake_rule){.function = FAKE_READ, .address = 0, .from = from});
        stage_run(0, 300);
        const struct outcome *outcome = only_outcome();
        assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
        /* The timeout under way, then a connection. */
        assert_true(outcome->written_ns - stage.put_ns <= 5 * CLOCK_NS_PER_S + 2 * CLOCK_NS_PER_MS);
        assert_int_equal(stage.fake->registers[1][TARGET], 0);
        stage_end();
    }
}

/* A device of 0.8 s a transaction: the stop waits for one of them. */
static void test_a_stop_on_a_slow_device(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage.fake->cost_ns = 800 * CLOCK_NS_PER_MS;
    stop_before((struct fake_rule){.function = FAKE_READ, .address = STATUS, .from = 2});
    stage_run(0, 5);
    const struct outcome *outcome = only_outcome();
    assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
    assert_int_equal(outcome->written_ns - stage.put_ns, 800 * CLOCK_NS_PER_MS);
    stage_end();
}

/* A dead battery, told to stop or fired at by its deadman, takes little of the time. */
static void test_a_dead_battery_takes_little_of_its_neighbours_time(void **state)
{
    (void)state;
    for (int lease = 0; lease < 2; lease++) {
        stage_begin(SITE_ONE(
            SITE_DISCHARGE
            "deadman: { timeout = \"1s\"; value = -20.0; };") " meters = ( " METER("") " );");
        if (!lease)
            stop_before((struct fake_rule){.function = FAKE_READ, .address = 0, .from = 10});
        /* It falls silent when it has been seen to hold 20 kW. */
        fake_rule_add(stage.fake,
                      (struct fake_rule){
                          .unit = 1, .function = FAKE_READ, .from = 4, .fault = FAULT_TIMEOUT});
        fake_rule_add(stage.fake, (struct fake_rule){.unit = 1,
                                                     .function = FAKE_WRITE,
                                                     .fault = FAULT_TIMEOUT,
                                                     .ignores = true});
        stage_run(1, 300);
        int64_t lost_ns = 0;
        for (unsigned i = 0; i < stage.fake->n_calls; i++)
            lost_ns += stage.fake->calls[i].fault == FAULT_TIMEOUT ? 5 * CLOCK_NS_PER_S : 0;
        assert_true(stage.fake->n_writes > 1);
        /* A sixth for its polls, a sixth for what is written to it. */
        assert_true(lost_ns <= (fake_now_ns - FAKE_MONO_NS) * 2 / 5);
        stage_end();
    }
}

static void test_what_waits_at_the_end_is_told(void **state)
{
    (void)state;
    struct command replaced;
    for (int stop = 0; stop < 2; stop++) {
        stage_begin(BOTH);
        stage.command.stop = stop;
        stage.command.value = stop ? 0 : 50;
        mailbox_put(stage.mailbox, &stage.command, &replaced);
        end_script();
        stage_run(0, 1);
        /* There is no time for it any more: the next run owes the stop. */
        assert_int_equal(only_outcome()->kind, stop ? OUTCOME_UNKNOWN : OUTCOME_REFUSED);
        if (!stop)
            assert_int_equal(only_outcome()->reason, REASON_SHUTTING_DOWN);
        assert_int_equal(stage.n_samples, 0);
        stage_end();
    }
}

/* Asked to leave, it carries out what waits of stops, and says when it has. */
static void test_asked_to_leave_it_carries_out_a_stop(void **state)
{
    (void)state;
    struct command replaced;
    stage_begin(BOTH);
    stage.until_left = true;
    stage.command.stop = true;
    stage.command.value = 0;
    mailbox_put(stage.mailbox, &stage.command, &replaced);
    mailbox_leave(stage.mailbox);
    stage_run(0, UINT32_MAX);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fake->registers[1][TARGET], 0);
    stage_end();
}

/* ---- what polls tell of the setpoint ---- */

/* With available_blocks refused a scan has two parts; TARGET is in the first. */
static void in_two_parts(void)
{
    fake_rule_add(stage.fake, (struct fake_rule){.function = FAKE_READ,
                                                 .address = BLOCKS,
                                                 .fault = FAULT_ILLEGAL_ADDRESS});
}

static void test_an_unknown_outcome_is_settled_by_the_next_scan(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        stage_begin(ONE_BATTERY);
        in_two_parts();
        fake_rule_add(
            stage.fake,
            (struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT, .ignores = !taken});
        /* Reads of TARGET: two scans, the state, then the read-back. */
        stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = BLOCKS, .from = 2};
        fake_rule_add(stage.fake, (struct fake_rule){.function = FAKE_READ,
                                                     .address = TARGET,
                                                     .from = 4,
                                                     .to = 4,
                                                     .fault = FAULT_TIMEOUT});
        stage_run(0, 5);
        const struct outcome *outcome = only_outcome();
        assert_int_equal(outcome->kind, OUTCOME_UNKNOWN);
        assert_int_equal(stage.fake->n_writes, 1);
        assert_int_equal(stage.n_outcomes, 2);
        const struct outcome *correction = &stage.outcomes[1];
        assert_true(correction->correction);
        assert_string_equal(correction->command.id, "d-1");
        assert_int_equal(correction->kind, taken ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH);
        assert_true(correction->readback == (taken ? 50.0 : 20.0));
        assert_true(correction->done_ns > outcome->done_ns);
        stage_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scan_is_one_sample),
        cmocka_unit_test(test_devices_of_one_link_take_turns),
        cmocka_unit_test(test_a_refused_point_is_named_and_the_others_stay),
        cmocka_unit_test(test_a_scan_with_nothing_due_changes_nothing),
        cmocka_unit_test(test_ticks_that_passed_are_counted),
        cmocka_unit_test(test_a_silent_device_is_asked_as_documented),
        cmocka_unit_test(test_one_good_attempt_in_time_is_a_good_sample),
        cmocka_unit_test(test_an_attempt_begins_from_nothing),
        cmocka_unit_test(test_half_a_scan_to_the_end_is_a_partial_sample),
        cmocka_unit_test(test_a_link_that_does_not_open),
        cmocka_unit_test(test_a_dead_neighbour_takes_little_of_the_time),
        cmocka_unit_test(test_a_gateway_that_answers_for_a_dead_unit_keeps_the_link),
        cmocka_unit_test(test_a_command_goes_between_two_transactions),
        cmocka_unit_test(test_a_command_does_not_wait_for_retries),
        cmocka_unit_test(test_a_stop_waits_for_one_transaction_of_a_silent_neighbour),
        cmocka_unit_test(test_a_stop_on_a_slow_device),
        cmocka_unit_test(test_a_dead_battery_takes_little_of_its_neighbours_time),
        cmocka_unit_test(test_what_waits_at_the_end_is_told),
        cmocka_unit_test(test_asked_to_leave_it_carries_out_a_stop),
        cmocka_unit_test(test_an_unknown_outcome_is_settled_by_the_next_scan),
    };
    link_init_stop();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
