/* sessions: when the devices' follow the bridge's, and who finds room in it. MQTT and the
 * lookup are the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/mqtt/sessions.h"
#include "fake_clock.h"
#include "fake_session.h"

#define S CLOCK_NS_PER_S

enum { DEVICES = 50 };

struct mqtt {
    struct mqtt_callbacks callbacks;
    unsigned connects;
    unsigned window, room;
    unsigned landing; /* so many land after the first look at the room */
};

struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks)
{
    (void)conf, (void)client_id, (void)will_topic;
    struct mqtt *mqtt = calloc(1, sizeof(*mqtt));
    assert_non_null(mqtt);
    mqtt->callbacks = *callbacks;
    return mqtt;
}

void mqtt_free(struct mqtt *mqtt)
{
    free(mqtt);
}

bool mqtt_connect(struct mqtt *mqtt, const char *address, char why[MQTT_WHY_MAX])
{
    (void)address, (void)why;
    mqtt->connects++;
    return true;
}

/* The devices' sessions likewise. */
struct presence {
    struct mqtt mqtt;
};

struct presences *presences_new(const struct conf_mqtt *mqtt, unsigned n)
{
    (void)mqtt, (void)n;
    static char all;
    return (struct presences *)&all;
}

void presences_free(struct presences *presences)
{
    (void)presences;
}

struct presence *presence_new(struct presences *presences, unsigned place, const char *client_id,
                              const char *topic, const struct mqtt_callbacks *callbacks)
{
    (void)presences, (void)place;
    return (struct presence *)mqtt_new(NULL, client_id, topic, callbacks);
}

void presence_free(struct presence *presence)
{
    free(presence);
}

bool presence_connect(struct presence *presence, const char *address, char why[MQTT_WHY_MAX])
{
    return mqtt_connect(&presence->mqtt, address, why);
}

void presence_forget(struct presence *presence)
{
    (void)presence;
}

bool presence_publish(struct presence *presence, const struct mqtt_message *message,
                      uint64_t ticket)
{
    return mqtt_publish(&presence->mqtt, message, ticket);
}

void presence_disconnect(struct presence *presence, int64_t until_ns, bool with_will)
{
    mqtt_disconnect(&presence->mqtt, until_ns, with_will);
}

void mqtt_limits_words(struct mqtt *mqtt, char words[MQTT_WHY_MAX])
{
    (void)mqtt;
    words[0] = '\0';
}

unsigned mqtt_window(struct mqtt *mqtt)
{
    return mqtt->window;
}

unsigned mqtt_room(struct mqtt *mqtt)
{
    const unsigned room = mqtt->room;
    mqtt->room += mqtt->landing;
    mqtt->landing = 0;
    return room;
}

struct lookup *lookup_ask(const struct conf_mqtt *conf, const char *address,
                          void (*wake)(void *context), void *context)
{
    (void)conf, (void)address, (void)wake;
    return context;
}

bool lookup_take(struct lookup *lookup, struct lookup_result *result)
{
    (void)lookup;
    *result = (struct lookup_result){.good = true, .addresses.n = 2};
    snprintf(result->addresses.list[0].text, ADDRESS_TEXT_MAX, "192.0.2.1");
    snprintf(result->addresses.list[1].text, ADDRESS_TEXT_MAX, "192.0.2.2");
    return true;
}

void lookup_drop(struct lookup *lookup)
{
    (void)lookup;
}

static struct conf conf;
static struct device devices[DEVICES];
static struct outbox *outbox;
static struct sessions sessions;

static int setup(void **state)
{
    (void)state;
    fake_clock_reset();
    memset(devices, 0, sizeof(devices));
    for (unsigned i = 0; i < DEVICES; i++)
        snprintf(devices[i].name, sizeof(devices[i].name), "d%u", i);
    conf = (struct conf){.site = "demo",
                         .mqtt = {.host = "broker",
                                  .prefix = "flux",
                                  .version = 5,
                                  .device_wills = true,
                                  .reconnect_spread_ns = 5 * S},
                         .devices = {.n_devices = DEVICES, .devices = devices}};
    outbox = outbox_new(DEVICES, 1, 1);
    const struct mqtt_callbacks callbacks = {.context = NULL};
    return sessions_init(&sessions, &conf, outbox, &callbacks, NULL, 7) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sessions.lookup = NULL;
    sessions_destroy(&sessions);
    outbox_free(outbox);
    return 0;
}

static void run(void)
{
    while (sessions_run_bridge(&sessions, clock_mono_ns()) != SESSION_NOTHING)
        ;
    sessions_run_devices(&sessions, clock_mono_ns());
}

static struct mqtt *of(const struct session *session)
{
    return session->presence != NULL ? &session->presence->mqtt : session->mqtt;
}

static void take(struct session *session)
{
    of(session)->callbacks.connected(of(session)->callbacks.context);
}

static void lose(struct session *session)
{
    const struct mqtt_end end = {.why = "gone"};
    of(session)->callbacks.down(of(session)->callbacks.context, &end);
}

/* Runs until the bridge session is up, and all the devices' are; how long after it the last
 * one began to connect. */
static int64_t bring_up(void)
{
    const unsigned before = of(&sessions.bridge)->connects;
    while (of(&sessions.bridge)->connects == before) {
        run();
        clock_pause(S / 100);
    }
    take(&sessions.bridge);
    const int64_t up_ns = clock_mono_ns();
    int64_t last_ns = up_ns;
    for (unsigned n_up = 0; n_up < DEVICES;) {
        run();
        n_up = 0;
        for (unsigned i = 0; i < DEVICES; i++) {
            if (sessions.devices[i].state == SESSION_CONNECTING) {
                take(&sessions.devices[i]);
                last_ns = clock_mono_ns();
            }
            n_up += sessions.devices[i].state == SESSION_UP;
        }
        assert_true(clock_mono_ns() - up_ns < 60 * S);
        clock_pause(S / 100);
    }
    return last_ns - up_ns;
}

static void end_attempt(unsigned advice, const char *why, const char *address, unsigned connects)
{
    struct mqtt *mqtt = of(&sessions.bridge);
    const struct mqtt_end end = {.why = why, .advice = advice};
    mqtt->callbacks.down(mqtt->callbacks.context, &end);
    run();
    assert_int_equal(mqtt->connects, connects);
    assert_string_equal(sessions.address, address);
}

/* What the next attempt is to do better, or only again, it does at the same address, and at
 * once; else the next address has its turn. */
static void test_which_address_is_next(void **state)
{
    (void)state;
    run();
    run();
    assert_string_equal(sessions.address, "192.0.2.1");
    end_attempt(MQTT_TRY_NOW, NULL, "192.0.2.1", 2);
    end_attempt(MQTT_TRY, NULL, "192.0.2.2", 3);
    end_attempt(MQTT_TRY_NOW, NULL, "192.0.2.2", 4);
    assert_false(sessions.trouble.logged);
}

/* A file that is missing is looked for soon. */
static void test_a_missing_file(void **state)
{
    static const char why[] = "ca_file: No such file or directory file=/a";
    (void)state;
    run();
    run();
    end_attempt(MQTT_TRY, why, "192.0.2.2", 2);
    end_attempt(MQTT_TRY, why, "192.0.2.2", 2);
    assert_int_equal(sessions.bridge.retry_ns - clock_mono_ns(), 2 * S);
}

/* One that was up and says to go elsewhere is followed by the next address, at once; any
 * other end begins with the first one. */
static void test_which_address_is_next_after_a_loss(void **state)
{
    (void)state;
    run();
    run();
    take(&sessions.bridge);
    run();
    end_attempt(MQTT_ELSEWHERE, NULL, "192.0.2.2", 2);
    take(&sessions.bridge);
    run();
    end_attempt(MQTT_ELSEWHERE, NULL, "192.0.2.2", 2); /* there is no other */
    clock_pause(30 * S);
    run();
    run();
    assert_string_equal(sessions.address, "192.0.2.1");
    take(&sessions.bridge);
    run();
    end_attempt(MQTT_TRY, NULL, "192.0.2.1", 3);
    clock_pause(5 * S);
    run();
    run();
    assert_int_equal(of(&sessions.bridge)->connects, 4);
    assert_string_equal(sessions.address, "192.0.2.1");
}

/* Up, and then down like that; the address that is tried after it, a pause later. */
static const char *address_after(struct mqtt_end end)
{
    struct mqtt *mqtt = of(&sessions.bridge);
    take(&sessions.bridge);
    run();
    assert_int_equal(sessions.bridge.state, SESSION_UP);
    mqtt->callbacks.down(mqtt->callbacks.context, &end);
    run();
    assert_int_equal(sessions.bridge.state, SESSION_DOWN);
    clock_pause(120 * S);
    run();
    run();
    assert_int_equal(sessions.bridge.state, SESSION_CONNECTING);
    return sessions.address;
}

/* It lets us in, and that is all: the others are not to wait for it for ever. */
static void test_an_address_that_is_of_no_use(void **state)
{
    const struct mqtt_end cut = {.unproved = true};
    (void)state;
    run();
    run();
    assert_string_equal(address_after(cut), "192.0.2.1"); /* once is no habit */
    assert_string_equal(address_after(cut), "192.0.2.2");
    assert_string_equal(address_after((struct mqtt_end){.why = "gone"}), "192.0.2.1");
    assert_string_equal(address_after((struct mqtt_end){.overdue = true, .unproved = true}),
                        "192.0.2.2");
    assert_string_equal(address_after((struct mqtt_end){.overdue = true, .unproved = true}),
                        "192.0.2.1"); /* a new round */
    assert_string_equal(address_after((struct mqtt_end){.overdue = true}), "192.0.2.2");
}

/* What it is that ends sessions is found out where it was sent to. */
static void test_a_message_that_ends_sessions_stays_at_its_address(void **state)
{
    (void)state;
    run();
    run();
    for (int i = 0; i < 3; i++) {
        assert_string_equal(address_after((struct mqtt_end){.faulted = true}), "192.0.2.1");
        assert_string_equal(address_after((struct mqtt_end){.faulted = true, .overdue = true}),
                            "192.0.2.1");
    }
}

static void lose_all(void)
{
    clock_pause(60 * S);
    lose(&sessions.bridge);
    for (unsigned i = 0; i < DEVICES; i++)
        lose(&sessions.devices[i]);
    run();
}

/* 20 a second, and of 50 the last after 2.5 s. */
static void test_at_the_start_they_follow_at_once(void **state)
{
    (void)state;
    assert_in_range(bring_up(), 5 * S / 2 - S / 10, 3 * S);
}

static void test_after_a_loss_they_follow_within_twice_the_spread(void **state)
{
    (void)state;
    bring_up();
    for (int i = 0; i < 3; i++) {
        lose_all();
        assert_in_range(bring_up(), 8 * S, 10 * S + S / 2);
    }
}

static void test_without_a_spread_they_follow_at_once(void **state)
{
    (void)state;
    conf.mqtt.reconnect_spread_ns = 0;
    bring_up();
    lose_all();
    assert_in_range(bring_up(), 5 * S / 2 - S / 10, 3 * S);
}

/* How many kinds find room with so much of it, and so many that land meanwhile. */
static unsigned kinds(unsigned window, unsigned room, unsigned landing)
{
    struct mqtt *mqtt = sessions.bridge.mqtt;
    enum outbox_kind last;
    mqtt->window = window;
    mqtt->room = room;
    mqtt->landing = landing;
    return sessions_has_room(&sessions, &last) ? (unsigned)last + 1 : 0;
}

static bool is_called(unsigned room)
{
    sessions.bridge.mqtt->room = room;
    return sessions_is_called(&sessions);
}

enum { NONE, OUTCOMES, LIVE, ALL };

/* In the window of a mosquitto, in one without a bound, and in the least. */
static void test_what_goes_first_finds_room(void **state)
{
    (void)state;
    assert_int_equal(kinds(20, 20, 0), NONE); /* it is not up yet */
    bring_up();
    assert_int_equal(kinds(20, 0, 0), NONE);
    assert_int_equal(kinds(20, 1, 0), OUTCOMES);
    assert_int_equal(kinds(20, 5, 0), OUTCOMES);
    assert_int_equal(kinds(20, 6, 0), LIVE);
    assert_int_equal(kinds(20, 7, 0), ALL);
    assert_int_equal(kinds(20, 20, 0), ALL);
    assert_int_equal(kinds(64, 8, 0), OUTCOMES);
    assert_int_equal(kinds(64, 9, 0), LIVE);
    assert_int_equal(kinds(64, 10, 0), LIVE);
    assert_int_equal(kinds(64, 11, 0), ALL);
    assert_int_equal(kinds(1, 0, 0), NONE);
    assert_int_equal(kinds(1, 1, 0), ALL);
}

static void test_who_finds_no_room_is_called_when_there_is_some(void **state)
{
    (void)state;
    bring_up();
    assert_int_equal(kinds(20, 0, 0), NONE);
    assert_false(is_called(0));
    assert_true(is_called(1));
    assert_int_equal(kinds(20, 1, 0), OUTCOMES);
    assert_false(is_called(5));
    assert_true(is_called(6));
    assert_int_equal(kinds(20, 7, 0), ALL);
    assert_false(is_called(20)); /* nobody has found none */
}

/* One at a time would wake the publisher for each. */
static void test_backlog_is_called_by_half_a_window(void **state)
{
    (void)state;
    bring_up();
    assert_int_equal(kinds(20, 6, 0), LIVE); /* 14 are in flight */
    assert_false(is_called(12));
    assert_true(is_called(13));
    assert_int_equal(kinds(64, 10, 0), LIVE);
    assert_false(is_called(36));
    assert_true(is_called(37));
    assert_int_equal(kinds(2, 0, 0), NONE);
    assert_true(is_called(1));
}

/* All that was in flight lands after the first look: nobody is left lying. */
static void test_what_lands_in_between_is_not_missed(void **state)
{
    (void)state;
    bring_up();
    assert_int_equal(kinds(20, 0, 20), ALL);
    assert_int_equal(kinds(20, 5, 1), LIVE);
    assert_true(is_called(6)); /* as for what has found none before */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_which_address_is_next, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_missing_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_which_address_is_next_after_a_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_address_that_is_of_no_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_message_that_ends_sessions_stays_at_its_address,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_at_the_start_they_follow_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_a_loss_they_follow_within_twice_the_spread,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_spread_they_follow_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_goes_first_finds_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_finds_no_room_is_called_when_there_is_some, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_backlog_is_called_by_half_a_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_lands_in_between_is_not_missed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
