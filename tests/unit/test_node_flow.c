/* node_flow: when a Sparkplug node says what. The MQTT module is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/publish/node_flow.h"
#include "fake_clock.h"

#define MS CLOCK_NS_PER_MS

/* ---- the session ---- */

enum { SAID_MAX = 64 };

static struct {
    unsigned n, room;
    char topics[SAID_MAX][TOPIC_MAX + 1];
    struct sparkplug_wish first[SAID_MAX]; /* of each payload */
    unsigned n_metrics[SAID_MAX];
    uint64_t tickets[SAID_MAX];
    const char *refused; /* part of a topic */
} said;

static struct node_flow *flow;

unsigned mqtt_room(struct mqtt *mqtt)
{
    (void)mqtt;
    return said.room;
}

void mqtt_set_will(struct mqtt *mqtt, const void *payload, size_t size, bool retained)
{
    (void)mqtt, (void)payload, (void)size, (void)retained;
}

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    (void)mqtt;
    assert_true(message->plain);
    if (said.refused != NULL && strstr(message->topic, said.refused) != NULL) {
        node_flow_delivered(flow, ticket, MQTT_REFUSED);
        return true;
    }
    assert_true(said.n < SAID_MAX);
    (void)snprintf(said.topics[said.n], sizeof(said.topics[0]), "%s", message->topic);
    said.tickets[said.n] = ticket;
    if (message->qos == 0)
        assert_true(sparkplug_decode(message->payload, message->payload_size, &said.first[said.n],
                                     1, &said.n_metrics[said.n]));
    said.n++;
    return true;
}

/* ---- the site: two devices of one register ---- */

static struct point row = {.name = "value", .type = POINT_INT16, .scale = 1.0};
static struct device devices[2] = {{.name = "A", .n_points = 1, .points = &row},
                                   {.name = "B", .n_points = 1, .points = &row}};
static struct conf conf;
static struct outbox *outbox;
static struct scans *scans;
static struct births *births;
static struct node_post post;
static struct health health;
static struct layout layouts[2];
static int64_t now_ns;

static int set_up(void **state)
{
    (void)state;
    said.n = 0;
    said.room = 20;
    said.refused = NULL;
    now_ns = 1000 * MS;
    strcpy(conf.site, "site");
    strcpy(conf.mqtt.prefix, "flux");
    strcpy(conf.sparkplug.group, "flux");
    conf.devices.devices = devices;
    conf.devices.n_devices = 2;
    outbox = outbox_new(2, 1 << 16, 1 << 16);
    scans = scans_new(1 << 16);
    births = births_new(&conf);
    for (unsigned i = 0; i < 2; i++)
        layouts[i] = sample_layout(&conf.devices.devices[i]);
    node_post_begin(&post, &conf, NULL, NULL, 0);
    flow = node_flow_new(&(struct node_flow_setup){.conf = &conf,
                                                   .births = births,
                                                   .post = &post,
                                                   .outbox = outbox,
                                                   .scans = scans,
                                                   .health = &health});
    return flow == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    node_flow_free(flow);
    node_post_end(&post, false);
    births_free(births);
    scans_free(scans);
    outbox_free(outbox);
    return 0;
}

static void put(unsigned device, int64_t ts_ms, double number)
{
    const struct value value = {.state = VALUE_READ, .number = number, .raw = (uint64_t)number};
    unsigned char packed[256];
    const struct sample sample = {
        .layout = &layouts[device], .ts_ms = ts_ms, .run = "12345678", .seq = 1, .values = &value};
    size_t size = sample_pack(&sample, packed, sizeof(packed));
    assert_true(size > 0);
    scans_put(scans, device, &layouts[device], packed, size);
}

static void run_at(int64_t ms)
{
    now_ns = ms * MS;
    (void)node_flow_run(flow, now_ns);
}

/* The next thing said: its type and device in the topic, its metrics, and the first's time. */
static unsigned at;

static void assert_said(const char *topic, unsigned n, int64_t ts_ms)
{
    while (at < said.n && strstr(said.topics[at], "/bridge/sparkplug") != NULL)
        at++;
    assert_true(at < said.n);
    assert_string_equal(said.topics[at], topic);
    assert_int_equal(said.n_metrics[at], n);
    if (ts_ms != 0)
        assert_int_equal(said.first[at].ts_ms, ts_ms);
    at++;
}

static void assert_silent(void)
{
    while (at < said.n && strstr(said.topics[at], "/bridge/sparkplug") != NULL)
        at++;
    assert_int_equal(at, said.n);
}

/* Both devices are online and gave something at 1; births begin. */
static void come_up(void)
{
    at = 0;
    put(0, 1, 5);
    put(1, 1, 6);
    outbox_set_online(outbox, 0, true);
    outbox_set_online(outbox, 1, true);
    node_flow_note(flow);
    node_flow_begin(flow, true);
    run_at(1000);
    assert_said("spBv1.0/flux/NBIRTH/site", 2, 0);
    assert_said("spBv1.0/flux/DBIRTH/site/A", 1, 1);
}

/* Both are born, and what they gave before is told. */
static void begin(void)
{
    come_up();
    assert_said("spBv1.0/flux/DBIRTH/site/B", 1, 1);
    for (unsigned i = 0; i < said.n; i++)
        node_flow_delivered(flow, said.tickets[i], MQTT_DELIVERED);
    run_at(1300); /* what was read before the births is history */
    assert_said("spBv1.0/flux/DDATA/site/A", 1, 1);
    node_flow_delivered(flow, said.tickets[said.n - 1], MQTT_DELIVERED);
    run_at(1600);
    assert_said("spBv1.0/flux/DDATA/site/B", 1, 1);
    node_flow_delivered(flow, said.tickets[said.n - 1], MQTT_DELIVERED);
    run_at(1900);
    assert_silent();
}

static void test_what_comes_together_is_told_together(void **state)
{
    (void)state;
    begin();
    put(0, 2000, 7);
    run_at(2000);
    assert_said("spBv1.0/flux/DDATA/site/A", 1, 2000);
    put(0, 2030, 8);
    run_at(2030);
    put(1, 2060, 9);
    run_at(2060);
    assert_silent();
    run_at(2101);
    assert_said("spBv1.0/flux/DDATA/site/A", 1, 2030);
    assert_said("spBv1.0/flux/DDATA/site/B", 1, 2060);
    put(0, 2300, 8); /* nothing has changed */
    run_at(2300);
    assert_silent();
}

/* It is called online a moment after its sample was put: its birth has that sample, and
 * does not wait for the next. */
static void test_a_late_device_is_born_with_its_first_values(void **state)
{
    (void)state;
    begin();
    outbox_set_online(outbox, 1, false);
    run_at(3000);
    assert_said("spBv1.0/flux/DDEATH/site/B", 0, 0);
    put(1, 3100, 7);
    run_at(3100);
    assert_silent();
    outbox_set_online(outbox, 1, true);
    run_at(3111);
    assert_said("spBv1.0/flux/DBIRTH/site/B", 1, 3100);
}

/* Its poller stands still: nothing comes, and JSON calls it offline. */
static void test_a_device_that_says_nothing_dies_within_a_second(void **state)
{
    (void)state;
    begin();
    outbox_set_online(outbox, 0, false);
    run_at(1000 + 1899 + 1);
    assert_said("spBv1.0/flux/DDEATH/site/A", 0, 0);
    outbox_set_online(outbox, 0, true); /* nothing was read: it is not born */
    run_at(5000);
    assert_silent();
    put(0, 5100, 5);
    run_at(5100);
    assert_said("spBv1.0/flux/DBIRTH/site/A", 1, 5100);
}

/* Which is seen when there is something else to tell of it. */
static void test_nothing_is_told_of_a_device_after_its_death(void **state)
{
    (void)state;
    begin();
    outbox_set_online(outbox, 1, false);
    node_flow_put_outcome(
        flow, &(struct outcome){.command = {.placed = true, .device = 1, .device_name = "B"},
                                .kind = OUTCOME_FAILED});
    run_at(2000);
    assert_said("spBv1.0/flux/DDEATH/site/B", 0, 0);
    assert_silent();
    outbox_set_online(outbox, 1, true);
    put(1, 2100, 7);
    run_at(2100);
    assert_said("spBv1.0/flux/DBIRTH/site/B", 9, 2100);
    assert_said("spBv1.0/flux/DDATA/site/B", 8, 0);
}

static void test_a_birth_that_is_refused_bars_its_device(void **state)
{
    (void)state;
    said.refused = "DBIRTH/site/B";
    come_up();
    put(1, 1200, 7);
    run_at(1200);
    for (; at < said.n; at++)
        assert_null(strstr(said.topics[at], "/B"));
    said.refused = NULL;
    node_flow_forget(flow);
    put(1, 1400, 8);
    run_at(1400);
    assert_string_equal(said.topics[said.n - 1], "spBv1.0/flux/DBIRTH/site/B");
}

/* Two sessions in a row that end on a birth are its fault, but not where the broker has sent
 * what none may. */
static void test_an_illegal_end_bars_nobody(void **state)
{
    (void)state;
    come_up();
    node_flow_lost(flow, true);
    for (unsigned turn = 0; turn < 3; turn++) {
        said.n = at = 0;
        node_flow_begin(flow, true);
        run_at(2000 + turn);
        assert_said("spBv1.0/flux/NBIRTH/site", 2, 0);
        assert_said("spBv1.0/flux/DBIRTH/site/A", 1, 0);
        node_flow_lost(flow, turn == 2);
    }
    said.n = at = 0;
    node_flow_begin(flow, true);
    run_at(2003);
    for (; at < said.n; at++)
        assert_null(strstr(said.topics[at], "/A"));
}

static void test_nothing_is_told_without_room(void **state)
{
    (void)state;
    begin();
    put(0, 2000, 7);
    said.room = 1;
    run_at(2000);
    assert_silent();
    assert_true(atomic_load(&post.crowded));
    said.room = 20;
    run_at(2001);
    assert_said("spBv1.0/flux/DDATA/site/A", 1, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_comes_together_is_told_together, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_late_device_is_born_with_its_first_values, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_device_that_says_nothing_dies_within_a_second,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_told_of_a_device_after_its_death, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_birth_that_is_refused_bars_its_device, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_illegal_end_bars_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_told_without_room, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
