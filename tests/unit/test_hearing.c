/* hearing: when commands are heard, and when no more. The session is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/publish/hearing.h"
#include "bridge/wire/topic.h"
#include "fake_clock.h"
#include "two_devices.h"

enum { FILTERS_MAX = 8 };

struct mqtt {
    bool has_wildcards, is_full; /* it takes no question */
    unsigned n_subscribed, n_unsubscribed;
    char filters[FILTERS_MAX][TOPIC_MAX + 1];
};

bool mqtt_has_wildcards(struct mqtt *mqtt)
{
    return mqtt->has_wildcards;
}

bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, enum mqtt_hearing hearing, int qos)
{
    assert_int_equal(hearing, MQTT_LIVE);
    assert_int_equal(qos, 1);
    assert_true(mqtt->n_subscribed < FILTERS_MAX);
    strcpy(mqtt->filters[mqtt->n_subscribed++], filter);
    return !mqtt->is_full;
}

bool mqtt_unsubscribe(struct mqtt *mqtt, const char *filter)
{
    assert_string_equal(mqtt->filters[mqtt->n_unsubscribed++], filter);
    return true;
}

static struct hearing hearing;
static struct mqtt mqtt;

static int setup(void **state)
{
    (void)state;
    fake_clock_reset();
    hearing = (struct hearing){.is_deaf = false};
    mqtt = (struct mqtt){.has_wildcards = true};
    hearing_init(&hearing, &conf);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hearing_destroy(&hearing);
    return 0;
}

/* Whether it is over at once. */
static bool is_deaf(void)
{
    hearing_await_end(&hearing, clock_mono_ns());
    return hearing.is_deaf;
}

static void test_commands_are_heard_when_all_is_answered(void **state)
{
    (void)state;
    assert_false(hearing_begin(&hearing, &mqtt));
    assert_int_equal(mqtt.n_subscribed, 2);
    assert_false(hearing_answered(&hearing, mqtt.filters[1]));
    assert_false(hearing_answered(&hearing, "homeassistant/status"));
    assert_true(hearing_answered(&hearing, mqtt.filters[0]));
}

/* What cannot be asked for is not waited for. */
static void test_without_a_subscription_nothing_is_waited_for(void **state)
{
    (void)state;
    mqtt.is_full = true;
    assert_true(hearing_begin(&hearing, &mqtt));
}

static void test_without_wildcards_each_point_is_asked_for(void **state)
{
    (void)state;
    mqtt.has_wildcards = false;
    assert_false(hearing_begin(&hearing, &mqtt));
    assert_true(mqtt.n_subscribed > 0);
    for (unsigned i = 0; i < mqtt.n_subscribed; i++) {
        assert_null(strpbrk(mqtt.filters[i], "+#"));
        assert_int_equal(hearing_answered(&hearing, mqtt.filters[i]), i + 1 == mqtt.n_subscribed);
    }
}

static void test_it_is_over_when_the_broker_has_ended_all(void **state)
{
    (void)state;
    hearing_run(&hearing, &mqtt); /* nothing is to be ended yet */
    hearing_begin(&hearing, &mqtt);
    hearing_answered(&hearing, mqtt.filters[0]);
    hearing_answered(&hearing, mqtt.filters[1]);
    assert_int_equal(mqtt.n_unsubscribed, 0);
    hearing_stop(&hearing);
    assert_false(is_deaf());
    hearing_run(&hearing, &mqtt);
    hearing_run(&hearing, &mqtt); /* once */
    assert_int_equal(mqtt.n_unsubscribed, 2);
    assert_false(hearing_answered(&hearing, mqtt.filters[0]));
    assert_false(is_deaf());
    assert_false(hearing_answered(&hearing, mqtt.filters[1])); /* nobody is to be called online */
    assert_true(is_deaf());
    assert_false(hearing_begin(&hearing, &mqtt)); /* nor is anything asked for again */
    assert_int_equal(mqtt.n_subscribed, 2);
}

static void test_without_a_session_it_is_over_at_once(void **state)
{
    (void)state;
    hearing_stop(&hearing);
    hearing_run(&hearing, NULL);
    assert_true(is_deaf());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands_are_heard_when_all_is_answered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_a_subscription_nothing_is_waited_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_wildcards_each_point_is_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_it_is_over_when_the_broker_has_ended_all, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_a_session_it_is_over_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
