/* session: when it connects again. The MQTT module is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/mqtt/session.h"
#include "fake_clock.h"
#include "fake_session.h"

#define S CLOCK_NS_PER_S

static struct mqtt_callbacks callbacks;
static unsigned n_connects;
static const char *local_fault; /* the attempt cannot even begin */

struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *given)
{
    (void)conf, (void)client_id, (void)will_topic;
    callbacks = *given;
    return (struct mqtt *)&callbacks;
}

void mqtt_free(struct mqtt *mqtt)
{
    (void)mqtt;
}

bool mqtt_connect(struct mqtt *mqtt, const char *address, char why[MQTT_WHY_MAX])
{
    (void)mqtt;
    assert_string_equal(address, "192.0.2.1");
    n_connects++;
    if (local_fault != NULL)
        snprintf(why, MQTT_WHY_MAX, "%s", local_fault);
    return local_fault == NULL;
}

static struct session session;
static struct conf_mqtt conf;
static struct outbox *outbox;
static atomic_bool stirred;
static char why[MQTT_WHY_MAX];
static struct mqtt_end end;

static int setup(void **state)
{
    (void)state;
    fake_clock_reset();
    conf.reconnect_spread_ns = 5 * S;
    n_connects = 0;
    local_fault = NULL;
    outbox = outbox_new(1, 1, 1);
    const struct session_setup given = {
        .conf = &conf, .outbox = outbox, .stirred = &stirred, .seed = 7};
    return session_init(&session, &given, "id", "will") ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    session_destroy(&session);
    outbox_free(outbox);
    return 0;
}

static enum session_event step(void)
{
    return session_step(&session, clock_mono_ns(), "192.0.2.1", why, &end);
}

static void come_up(void)
{
    callbacks.connected(callbacks.context);
    assert_int_equal(step(), SESSION_CAME_UP);
}

/* It ends so; returns how long it waits. */
static int64_t pause_after(struct mqtt_end how)
{
    callbacks.down(callbacks.context, &how);
    assert_int_not_equal(step(), SESSION_NOTHING);
    return session.retry_ns - clock_mono_ns();
}

static void wait_and_connect(void)
{
    unsigned n = n_connects;
    clock_pause(session.retry_ns - clock_mono_ns());
    assert_int_equal(step(), SESSION_NOTHING);
    assert_int_equal(n_connects, n + 1);
}

/* Up for long, lost: all of the spread is used, and nothing beyond. */
static void test_a_loss_is_spread(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 300; i++) {
        wait_and_connect();
        come_up();
        clock_pause(60 * S);
        int64_t pause_ns = pause_after((struct mqtt_end){.why = NULL});
        least = pause_ns < least ? pause_ns : least;
        most = pause_ns > most ? pause_ns : most;
    }
    assert_in_range(least, 0, S / 2);
    assert_in_range(most, 4 * S, 5 * S);
}

/* The n-th pause is anything from 0 up to 1, 2, 4, ... 60 s. */
static void test_failures_pause_longer_and_longer(void **state)
{
    (void)state;
    const int64_t lengths_s[] = {1, 2, 4, 8, 16, 32, 60, 60};
    int64_t most[8] = {0}, least[8];
    for (int round = 0; round < 200; round++) {
        session_retry(&session, clock_mono_ns());
        for (int i = 0; i < 8; i++) {
            wait_and_connect();
            int64_t pause_ns = pause_after((struct mqtt_end){.why = "refused"});
            most[i] = pause_ns > most[i] ? pause_ns : most[i];
            least[i] = round == 0 || pause_ns < least[i] ? pause_ns : least[i];
        }
    }
    for (int i = 0; i < 8; i++) {
        assert_in_range(most[i], lengths_s[i] * S * 8 / 10, lengths_s[i] * S);
        assert_in_range(least[i], 0, lengths_s[i] * S / 10);
    }
}

/* A cluster that has lost its majority takes sessions, and nothing in them: all sites would
 * come again each half minute for as long. */
static void test_a_broker_that_answers_nothing_is_tried_less_and_less(void **state)
{
    (void)state;
    int64_t most = 0;
    for (int i = 0; i < 100; i++) {
        wait_and_connect();
        come_up();
        clock_pause(31 * S);
        int64_t pause_ns = pause_after((struct mqtt_end){.overdue = true});
        most = pause_ns > most ? pause_ns : most;
    }
    assert_in_range(most, 50 * S, 60 * S);
    /* One that was good for long is lost as others are. */
    wait_and_connect();
    come_up();
    clock_pause(3600 * S);
    assert_in_range(pause_after((struct mqtt_end){.overdue = true}), 0, 5 * S);
}

/* By all that it has told so for different times. */
static void test_a_busy_broker_is_left_alone(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 50; i++) {
        wait_and_connect();
        const int64_t pause_ns = pause_after((struct mqtt_end){.advice = MQTT_STAY_AWAY});
        least = pause_ns < least ? pause_ns : least;
        most = pause_ns > most ? pause_ns : most;
        wait_and_connect();
        come_up();
        assert_in_range(pause_after((struct mqtt_end){.advice = MQTT_ELSEWHERE}), 10 * S, 30 * S);
    }
    assert_in_range(least, 10 * S, 15 * S);
    assert_in_range(most, 25 * S, 30 * S);
}

/* Both before anybody looks. */
static void test_one_that_comes_up_and_is_lost(void **state)
{
    (void)state;
    wait_and_connect();
    callbacks.connected(callbacks.context);
    callbacks.down(callbacks.context, &(struct mqtt_end){.why = "gone"});
    assert_int_equal(step(), SESSION_CAME_UP);
    assert_int_equal(step(), SESSION_LOST);
    assert_string_equal(end.why, "gone");
    assert_int_equal(step(), SESSION_NOTHING);
}

/* What the one before has left is not taken for the next one's. */
static void test_one_that_is_ended(void **state)
{
    (void)state;
    wait_and_connect();
    come_up();
    callbacks.down(callbacks.context, &(struct mqtt_end){.why = "gone"});
    session_end(&session, clock_mono_ns());
    assert_true(session.state == SESSION_DOWN);
    wait_and_connect();
    assert_true(session.state == SESSION_CONNECTING);
    callbacks.connected(callbacks.context);
    session_end(&session, clock_mono_ns());
    wait_and_connect();
    assert_true(session.state == SESSION_CONNECTING);
}

static void test_what_the_broker_asks_for_is_tried_at_once(void **state)
{
    (void)state;
    wait_and_connect();
    assert_int_equal(pause_after((struct mqtt_end){.advice = MQTT_TRY_NOW}), 0);
}

/* What it was has to be found out, and then the pauses begin anew. */
static void test_a_fault_is_found_soon(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        wait_and_connect();
        come_up();
        assert_in_range(pause_after((struct mqtt_end){.faulted = true}), 0, 2 * S);
    }
    wait_and_connect();
    come_up();
    assert_in_range(pause_after((struct mqtt_end){.faulted = true, .convicted = true}), 0, S);
}

static void test_an_attempt_that_cannot_begin(void **state)
{
    (void)state;
    local_fault = "ca_file: gone";
    assert_int_equal(step(), SESSION_FAILED);
    assert_string_equal(end.why, "ca_file: gone");
    assert_true(session.state == SESSION_DOWN);
    assert_true(atomic_load(&stirred));
}

static void test_not_without_an_address(void **state)
{
    (void)state;
    assert_int_equal(session_step(&session, clock_mono_ns(), NULL, why, &end), SESSION_NOTHING);
    assert_int_equal(n_connects, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* While the machine sleeps no broker can answer: what is overdue is so by another clock than
 * what is due. */
static void test_a_broker_is_not_silent_while_the_machine_sleeps(void **state)
{
    (void)state;
    assert_int_equal(step(), SESSION_NOTHING);
    come_up();
    fake_tend_ns = clock_awake_ns() + 10 * S;
    assert_int_equal(step(), SESSION_NOTHING);
    assert_true(fake_tended_ns == clock_awake_ns());
    assert_true(session.tend_ns == clock_mono_ns() + 10 * S);
    fake_tend_ns = CLOCK_NEVER;
    assert_int_equal(step(), SESSION_NOTHING);
    assert_true(session.tend_ns == CLOCK_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_loss_is_spread),
        TEST(test_failures_pause_longer_and_longer),
        TEST(test_a_broker_that_answers_nothing_is_tried_less_and_less),
        TEST(test_a_busy_broker_is_left_alone),
        TEST(test_one_that_comes_up_and_is_lost),
        TEST(test_one_that_is_ended),
        TEST(test_what_the_broker_asks_for_is_tried_at_once),
        TEST(test_a_fault_is_found_soon),
        TEST(test_an_attempt_that_cannot_begin),
        TEST(test_not_without_an_address),
        TEST(test_a_broker_is_not_silent_while_the_machine_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
