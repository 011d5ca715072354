/* poller: many lines in one thread, each answering when the test lets it.
 *
 * The poller's own thread over fake links that stay busy and a fake clock: what
 * a test wants to happen at a time happens while the poller waits for it.
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/log.h"
#include "bridge/telemetry/poller.h"
#include "devices/lines/link_new.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "poller_quiet.h"
#include "site.h"

enum { LINES = 6, AT_ONCE = 4 /* the poller's own */, SAMPLES_MOST = 200, FIRST_PORT = 1502 };

#define MS CLOCK_NS_PER_MS
#define S  CLOCK_NS_PER_S

static struct stage {
    struct conf conf;
    struct fake_link *fakes[LINES]; /* by port */
    struct mailbox *mailbox;
    struct inbox *inbox;
    struct layouts *layouts;
    struct latest *latest;
    struct health health;
    struct {
        unsigned device;
        int64_t taken_ns, put_ns;
        bool good;
    } samples[SAMPLES_MOST];
    unsigned n_samples;
    unsigned until_samples, of_device; /* the end of the script, or: */
    int64_t until_ns;
    sem_t ended;
    int64_t part_ns; /* then the first line has a part of its answer; CLOCK_NEVER = none */
    struct command command;
    int64_t command_ns; /* when it is put */
    /* Who the poller is, for what looks at its promise. */
    sem_t begun;
    bool has_begun;
    struct poller *poller;
    bool late; /* it has promised what it cannot keep */
} stage;

/* ---- what the poller uses instead of the real thing ---- */

struct link *link_new(const struct device_modbus *modbus)
{
    return &stage.fakes[modbus->port - FIRST_PORT]->link;
}

static void end_script(void)
{
    mailbox_stop(stage.mailbox);
    sem_post(&stage.ended);
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample sample;
    (void)outbox;
    if (stage.n_samples == SAMPLES_MOST || !sample_unpack(layout, packed, size, &sample, values))
        abort();
    stage.samples[stage.n_samples].device = device;
    stage.samples[stage.n_samples].taken_ns = taken_ns;
    stage.samples[stage.n_samples].put_ns = fake_now_ns;
    stage.samples[stage.n_samples++].good = sample.quality == SAMPLE_GOOD;
    unsigned of_device = 0;
    for (unsigned i = 0; i < stage.n_samples; i++)
        of_device += stage.samples[i].device == stage.of_device;
    if (device == stage.of_device && of_device == stage.until_samples)
        end_script();
}

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    (void)outbox, (void)device, (void)online;
}

/* ---- what happens as time passes ---- */

/* The earliest of what is still to come; `fake` NULL for what is the stage's. */
static int64_t next_event(struct fake_link **fake)
{
    int64_t next_ns = stage.command_ns < stage.until_ns ? stage.command_ns : stage.until_ns;
    next_ns = stage.part_ns < next_ns ? stage.part_ns : next_ns;
    *fake = NULL;
    for (unsigned i = 0; i < LINES; i++) {
        struct fake_link *at = stage.fakes[i];
        if (at->link.is_busy && at->answers_ns < next_ns) {
            next_ns = at->answers_ns;
            *fake = at;
        }
    }
    return next_ns;
}

static bool happens(int64_t until_ns)
{
    struct command replaced;
    struct fake_link *fake;
    if (!stage.has_begun)
        sem_wait(&stage.begun);
    stage.has_begun = true;
    stage.late = stage.late || poller_promise_ns(stage.poller) < clock_awake_ns();
    int64_t next_ns = next_event(&fake);
    if (next_ns > until_ns)
        return false;
    if (next_ns > fake_now_ns)
        fake_now_ns = next_ns;
    if (fake != NULL) {
        fake_answers(fake);
    } else if (next_ns == stage.part_ns) {
        stage.part_ns = CLOCK_NEVER;
        fake_answers(stage.fakes[0]);
    } else if (next_ns == stage.command_ns) {
        stage.command_ns = CLOCK_NEVER;
        mailbox_put(stage.mailbox, &stage.command, &replaced);
    } else {
        stage.until_ns = CLOCK_NEVER;
        end_script();
    }
    return true;
}

/* ---- the stage ---- */

#define DEVICE(id, port)                                                                           \
    "{ id = \"" id "\"; name = \"" id "\"; type = \"powerpack\"; poll = \"1s\"; modbus: { "        \
    "host = \"127.0.0.1\"; port = " port "; address = 1; timeout = \"5s\"; }; }"
#define THREE                                                                                      \
    "bess = ( " DEVICE("a", "1502") ", " DEVICE("b", "1503") ", " DEVICE("c", "1504") " );"
#define SIX                                                                                        \
    "bess = ( " DEVICE("a", "1502") ", " DEVICE("b", "1503") ", " DEVICE("c", "1504") ", " DEVICE( \
        "d", "1505") ", " DEVICE("e", "1506") ", " DEVICE("f", "1507") " );"
#define BATTERY SITE_ONE(SITE_DISCHARGE)

static void stage_begin(const char *devices)
{
    memset(&stage, 0, sizeof stage);
    fake_clock_reset();
    fake_happens = happens;
    site_read(&stage.conf, devices);
    for (unsigned i = 0; i < LINES; i++) {
        struct fake_link *fake = stage.fakes[i] = fake_link_new();
        fake->clock_ns = &fake_now_ns;
        fake->registers[1][STATUS] = 1;
        fake->registers[1][SOE] = 54;
        fake->registers[1][BLOCKS] = 10;
    }
    stage.mailbox = mailbox_new(4);
    stage.inbox = inbox_new();
    stage.layouts = layouts_new();
    stage.latest = latest_new(&stage.conf.devices);
    assert_true(health_init(&stage.health, stage.conf.devices.n_devices));
    stage.command = (struct command){.id = "d-1", .value = 50, .expires_ns = CLOCK_NEVER};
    if (stage.conf.devices.devices[0].controllable)
        stage.command.point = (unsigned)stage.conf.devices.devices[0].control.setpoint;
    stage.until_ns = stage.command_ns = stage.part_ns = CLOCK_NEVER;
    sem_init(&stage.ended, 0, 0);
    sem_init(&stage.begun, 0, 0);
}

/* Runs the poller to the end of the script; schedules begin at `origin_ns`. */
static void stage_run(int64_t origin_ns)
{
    struct poller *poller = poller_start(&(struct poller_setup){
        .conf = &stage.conf,
        .mailbox = stage.mailbox,
        .inbox = stage.inbox,
        .layouts = stage.layouts,
        .latest = stage.latest,
        .health = &stage.health,
        .run = "5f3a9c1e",
        .origin_ns = origin_ns,
    });
    assert_non_null(poller);
    stage.poller = poller;
    sem_post(&stage.begun);
    sem_wait(&stage.ended);
    poller_stop(poller);
    assert_false(stage.late);
}

static void stage_end(void)
{
    for (unsigned i = 0; i < LINES; i++) {
        assert_int_equal(stage.fakes[i]->n_closed, stage.fakes[i]->n_opened);
        free(stage.fakes[i]);
    }
    mailbox_free(stage.mailbox);
    inbox_free(stage.inbox);
    latest_free(stage.latest);
    layouts_free(stage.layouts);
    health_free(&stage.health);
    conf_free(&stage.conf);
    sem_destroy(&stage.ended);
    sem_destroy(&stage.begun);
}

/* From now on this line's answers take so long. */
static void takes(unsigned line, int64_t busy_ns)
{
    stage.fakes[line]->n_busy = UINT32_MAX;
    stage.fakes[line]->busy_ns = busy_ns;
}

/* When the i-th call of a function came on a line, from 0; since the start. */
static int64_t when(unsigned line, unsigned function, unsigned index)
{
    const struct fake_link *fake = stage.fakes[line];
    for (unsigned i = 0; i < fake->n_calls; i++)
        if (fake->calls[i].function == function && index-- == 0)
            return fake->calls[i].at_ns - FAKE_MONO_NS;
    fail_msg("no such call");
    return 0;
}

/* ---- many lines ---- */

static void test_a_silent_line_slows_no_other(void **state)
{
    (void)state;
    stage_begin(THREE);
    takes(0, 2 * MS);
    takes(2, 2 * MS);
    takes(1, INT64_MAX);
    stage.of_device = 2;
    stage.until_samples = 30;
    stage_run(FAKE_MONO_NS);
    unsigned n[LINES] = {0};
    for (unsigned i = 0; i < stage.n_samples; i++) {
        unsigned device = stage.samples[i].device;
        int64_t tick_ns = FAKE_MONO_NS + n[device]++ * S;
        assert_int_equal(stage.samples[i].good, device != 1);
        if (device == 1)
            continue;
        assert_in_range(stage.samples[i].taken_ns, tick_ns, tick_ns + 10 * MS);
        assert_in_range(stage.samples[i].put_ns, tick_ns, tick_ns + 10 * MS);
    }
    assert_in_range(n[0], 29, 30);
    assert_true(n[1] > 0);
    stage_end();
}

static void test_a_silent_device_has_its_timeout(void **state)
{
    (void)state;
    stage_begin(THREE);
    stage.fakes[0]->n_busy = 2; /* opening, asking */
    stage.fakes[0]->busy_ns = S;
    stage.fakes[1]->n_busy = 1;
    stage.fakes[1]->busy_ns = INT64_MAX;
    stage.of_device = 1;
    stage.until_samples = 1;
    stage_run(FAKE_MONO_NS);
    /* The first took its time; the second did not open within 5 s, rested 1 s, and did. */
    assert_int_equal(when(0, FAKE_READ, 0), S);
    assert_int_equal(when(0, FAKE_READ, 1), 3 * S); /* that tick 1 and 2 are past */
    assert_in_range(when(1, FAKE_OPEN, 1) - when(1, FAKE_OPEN, 0), 6 * S, 6 * S);
    const unsigned last = stage.n_samples - 1;
    assert_true(stage.samples[last].good);
    assert_int_equal(stage.samples[last].taken_ns - FAKE_MONO_NS, when(1, FAKE_READ, 0));
    stage_end();
}

static void test_a_few_lines_begin_at_once(void **state)
{
    (void)state;
    stage_begin(SIX);
    for (unsigned i = 0; i < LINES; i++) {
        stage.fakes[i]->n_busy = 2;
        stage.fakes[i]->busy_ns = 10000;
    }
    stage.of_device = LINES - 1;
    stage.until_samples = 1;
    stage_run(FAKE_MONO_NS - 100 * MS); /* all are due */
    for (unsigned i = 0; i < AT_ONCE; i++)
        assert_int_equal(when(i, FAKE_OPEN, 0), 0);
    /* The others when the first has its answer. */
    for (unsigned i = AT_ONCE; i < LINES; i++)
        assert_int_equal(when(i, FAKE_OPEN, 0), when(0, FAKE_READ, 0) + 10000);
    stage_end();
}

static void test_nobody_waits_long_for_his_turn(void **state)
{
    (void)state;
    stage_begin(SIX);
    for (unsigned i = 0; i < LINES; i++)
        takes(i, 4 * S);
    stage.until_ns = FAKE_MONO_NS + S;
    stage_run(FAKE_MONO_NS - 100 * MS);
    for (unsigned i = 0; i < AT_ONCE; i++)
        assert_int_equal(when(i, FAKE_OPEN, 0), 0);
    for (unsigned i = AT_ONCE; i < LINES; i++)
        assert_in_range(when(i, FAKE_OPEN, 0) - when(i - 1, FAKE_OPEN, 0), 1, 5 * MS);
    assert_int_equal(stage.n_samples, 0);
    stage_end();
}

/* With all of them behind, it still promises nothing for a time that has passed:
 * see stage_run(). */
static void test_an_overdue_line_breaks_no_promise(void **state)
{
    (void)state;
    stage_begin(THREE);
    for (unsigned i = 0; i < LINES; i++)
        stage.fakes[i]->cost_ns = 3 * S; /* on the spot, as on a serial line */
    stage.of_device = 2;
    stage.until_samples = 3;
    stage_run(FAKE_MONO_NS);
    stage_end();
}

/* ---- the end ---- */

static void test_it_ends_at_once_with_lines_that_open_or_ask(void **state)
{
    (void)state;
    stage_begin(THREE);
    takes(0, INT64_MAX);
    stage.fakes[1]->n_busy = 2;
    stage.fakes[1]->busy_ns = S / 2;
    stage.until_ns = FAKE_MONO_NS + 3 * S / 4; /* the second has asked by then */
    stage_run(FAKE_MONO_NS);
    assert_int_equal(fake_now_ns, FAKE_MONO_NS + 3 * S / 4);
    assert_int_equal(fake_count(stage.fakes[0], FAKE_READ, 0), 0);
    assert_int_equal(fake_count(stage.fakes[1], FAKE_READ, 0), 1);
    for (unsigned i = 0; i < stage.n_samples; i++)
        assert_int_equal(stage.samples[i].device, 2);
    stage_end();
}

/* ---- commands ---- */

static const struct outcome *only_outcome(void)
{
    static struct inbox_message message;
    static struct outcome outcome, found;
    unsigned n = 0;
    while (inbox_take(stage.inbox, 0, &message, &outcome) == INBOX_OUTCOME) {
        found = outcome;
        n++;
    }
    assert_int_equal(n, 1);
    assert_string_equal(found.command.id, "d-1");
    return &found;
}

/* With available_blocks refused a scan has several transactions. */
static void in_parts(void)
{
    fake_rule_add(stage.fakes[0], (struct fake_rule){.function = FAKE_READ,
                                                     .address = BLOCKS,
                                                     .fault = FAULT_ILLEGAL_ADDRESS});
}

static void test_a_command_waits_for_the_one_transaction_under_way(void **state)
{
    (void)state;
    stage_begin(BATTERY);
    in_parts();
    stage.fakes[0]->busy_ns = 2 * S;
    stage.fakes[0]->n_busy = 2; /* opened at 2 s, answered at 4 s */
    stage.command_ns = FAKE_MONO_NS + 3 * S;
    stage.part_ns = FAKE_MONO_NS + 7 * S / 2; /* wakes it, and changes nothing */
    stage.until_samples = 1;
    stage_run(FAKE_MONO_NS);
    const struct fake_call *calls = stage.fakes[0]->calls;
    assert_int_equal(calls[1].function, FAKE_READ);
    assert_int_equal(calls[1].at_ns, FAKE_MONO_NS + 2 * S);
    assert_int_equal(calls[2].function, FAKE_READ); /* the state, for the command */
    assert_int_equal(calls[2].at_ns, FAKE_MONO_NS + 4 * S);
    assert_int_equal(calls[3].function, FAKE_WRITE);
    assert_int_equal(calls[4].address, TARGET); /* read back */
    assert_int_equal(calls[4].count, 1);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fakes[0]->n_writes, 1);
    /* On with the scan, in the same attempt. */
    assert_int_equal(calls[5].function, FAKE_READ);
    assert_int_equal(stage.samples[0].taken_ns, FAKE_MONO_NS + 2 * S);
    stage_end();
}

/* A line that is out of step keeps a poll waiting, and no command. */
static void test_a_command_goes_ahead_of_a_read_that_waits_for_its_line(void **state)
{
    (void)state;
    stage_begin(BATTERY);
    stage.fakes[0]->busy_ns = 2 * S;
    stage.fakes[0]->n_busy = 2;
    stage.fakes[0]->waits = true;
    stage.command_ns = FAKE_MONO_NS + 3 * S;
    stage.until_samples = 1;
    stage_run(FAKE_MONO_NS);
    const struct fake_call *calls = stage.fakes[0]->calls;
    assert_int_equal(calls[1].function, FAKE_READ);
    assert_int_equal(calls[1].at_ns, FAKE_MONO_NS + 2 * S);
    assert_int_equal(calls[2].function, FAKE_READ); /* the state, for the command */
    assert_int_equal(calls[2].at_ns, FAKE_MONO_NS + 3 * S);
    assert_int_equal(calls[3].function, FAKE_WRITE);
    assert_int_equal(calls[4].address, TARGET); /* read back */
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    /* And once more what had been taken back. */
    assert_int_equal(calls[5].address, calls[1].address);
    assert_int_equal(calls[5].count, calls[1].count);
    stage_end();
}

static void test_a_command_that_comes_while_connecting_goes_first(void **state)
{
    (void)state;
    stage_begin(BATTERY);
    stage.fakes[0]->busy_ns = S;
    stage.fakes[0]->n_busy = 1;
    stage.command_ns = FAKE_MONO_NS + S / 2;
    stage.until_samples = 1;
    stage_run(FAKE_MONO_NS);
    const struct fake_call *calls = stage.fakes[0]->calls;
    assert_int_equal(calls[0].function, FAKE_OPEN);
    assert_int_equal(calls[2].function, FAKE_WRITE);
    assert_int_equal(calls[2].at_ns, FAKE_MONO_NS + S);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fakes[0]->n_opened, 1);
    stage_end();
}

static void test_a_command_wakes_an_idle_line(void **state)
{
    (void)state;
    stage_begin(BATTERY);
    stage.command_ns = FAKE_MONO_NS + S / 2;
    stage.until_samples = 2;
    stage_run(FAKE_MONO_NS);
    assert_int_equal(when(0, FAKE_WRITE, 0), S / 2);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_line_slows_no_other),
        cmocka_unit_test(test_a_silent_device_has_its_timeout),
        cmocka_unit_test(test_a_few_lines_begin_at_once),
        cmocka_unit_test(test_nobody_waits_long_for_his_turn),
        cmocka_unit_test(test_an_overdue_line_breaks_no_promise),
        cmocka_unit_test(test_it_ends_at_once_with_lines_that_open_or_ask),
        cmocka_unit_test(test_a_command_waits_for_the_one_transaction_under_way),
        cmocka_unit_test(test_a_command_goes_ahead_of_a_read_that_waits_for_its_line),
        cmocka_unit_test(test_a_command_that_comes_while_connecting_goes_first),
        cmocka_unit_test(test_a_command_wakes_an_idle_line),
    };
    link_init_stop();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
