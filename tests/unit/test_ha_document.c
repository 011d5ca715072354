/* discovery: the documents, and which of an earlier run are to be removed.
 * That they keep Home Assistant's rules is for the integration test to say. */
#include <jansson.h>

#include "bridge/model/reason.h"
#include "bridge/model/sample.h"
#include "bridge/publish/ha_document.h"
#include "given.h"
#include "site.h"

static struct conf conf;
static const struct device *battery, *meter;
static struct device odd;
static struct profile *odd_profile;

/* A type with everything that the real ones do not have. */
static const char odd_type[] =
    "manufacturer = \"Odd\"; model = \"1\"; points = ("
    " { name = \"mode\"; address = 1; type = \"uint16\"; enumerated = true; },"
    " { name = \"phase\"; address = 2; type = \"int16\"; enumerated = true; every = 5; labels ="
    "   ( { value = 0; label = \"off\"; }, { value = -3; label = \"it's on\"; } ); },"
    " { name = \"fan\"; address = 3; type = \"bool\"; bits = [ 0, 1 ]; },"
    " { name = \"pump\"; address = 4; type = \"bool\"; bits = [ 0, 1 ]; every = 5; },"
    " { name = \"slow_power\"; address = 5; type = \"int16\"; unit = \"kW\"; every = 5; },"
    " { name = \"flow\"; address = 6; type = \"uint16\"; unit = \"l/h\"; scale = 0.25; },"
    " { name = \"energy_in\"; address = 8; type = \"uint32\"; unit = \"Wh\"; counter = true; },"
    " { name = \"humidity\"; address = 12; type = \"int16\"; unit = \"%\"; scale = 0.001; },"
    " { name = \"serial\"; address = 14; type = \"string\"; registers = 4; },"
    " { name = \"voltage\"; address = 20; type = \"int16\"; unit = \"V\";"
    "   scale_register = \"voltage_scale\"; },"
    " { name = \"voltage_scale\"; address = 21; type = \"int16\"; } );";

static int read_site(void **state)
{
    struct cfg cfg = {.out = stderr};
    if (given_directory(state) != 0)
        return -1;
    site_read(
        &conf,
        SITE_ONE(
            SITE_DISCHARGE
            "ttl = \"7500ms\"; status_labels = "
            "( { value = 0; label = \"standby\"; } );") "meters = ( { id = \"m1\"; name = "
                                                        "\"Grid-Meter\"; type = \"acuvim2-vendor\";"
                                                        " poll = \"2s\"; modbus: { host = \"h\"; "
                                                        "address = 2; }; } );");
    strcpy(conf.ha_prefix, "ha/main");
    battery = &conf.devices.devices[0];
    meter = &conf.devices.devices[1];
    given_file("odd.cfg", odd_type);
    odd_profile = profile_read_file(&cfg, "odd.cfg", "odd");
    if (odd_profile == NULL)
        return -1;
    odd = (struct device){.id = "odd_1",
                          .name = "_Odd--1_",
                          .profile = odd_profile,
                          .n_points = odd_profile->n_points,
                          .points = odd_profile->points,
                          .poll_ns = 500000000};
    return 0;
}

static int free_site(void **state)
{
    profile_free(odd_profile);
    conf_free(&conf);
    return remove_directory(state);
}

/* ---- looking into documents ---- */

static json_t *document(const struct device *device)
{
    char *text = device != NULL ? ha_document_device(&conf, device) : ha_document_bridge(&conf);
    assert_non_null(text);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

/* The member at a path such as "components/soe/unit_of_measurement". */
static json_t *at(json_t *root, const char *path)
{
    char copy[128], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strtok_r(copy, "/", &rest); key != NULL; key = strtok_r(NULL, "/", &rest))
        root = json_object_get(root, key);
    return root;
}

/* Compares it with JSON; NULL: it must not be there. */
static void assert_at(json_t *root, const char *path, const char *expected)
{
    char *text =
        json_dumps(at(root, path), JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    if (expected == NULL)
        assert_null(text);
    else if (text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s is %s and not %s", path, text != NULL ? text : "not there", expected);
    free(text);
}

static void assert_component(json_t *root, const char *key, const char *member,
                             const char *expected)
{
    char path[128];
    snprintf(path, sizeof path, "components/%s/%s", key, member);
    assert_at(root, path, expected);
}

/* A sensor's class, unit, state class and precision. */
static void assert_kind(json_t *root, const char *key, const char *device_class, const char *unit,
                        const char *state_class, const char *precision)
{
    assert_component(root, key, "platform", "\"sensor\"");
    assert_component(root, key, "device_class", device_class);
    assert_component(root, key, "unit_of_measurement", unit);
    assert_component(root, key, "state_class", state_class);
    assert_component(root, key, "suggested_display_precision", precision);
}

#define MEASUREMENT "\"measurement\""
#define TOTAL       "\"total\""
#define INCREASING  "\"total_increasing\""

/* ---- tests ---- */

static void test_topics(void **state)
{
    char topic[TOPIC_MAX + 1];
    (void)state;
    assert_true(ha_document_topic_device(topic, &conf, "6d1f0c5e-8a43"));
    assert_string_equal(topic, "ha/main/device/fluxbridge-demo-6d1f0c5e-8a43/config");
    assert_true(ha_document_topic_bridge(topic, &conf));
    assert_string_equal(topic, "ha/main/device/fluxbridge-demo-bridge/config");
    assert_true(ha_document_topic_by_name(topic, &conf, "Site-BESS-01"));
    assert_string_equal(topic, "ha/main/device/fluxbridge-demo-Site-BESS-01/config");
}

/* An id is any text. What no topic of Home Assistant's takes is replaced, and two ids
 * stay two. */
static void test_odd_ids(void **state)
{
    static const char *const ids[] = {"bridge", "a b", "a/b", "a+b", "a_b", "\xc3\xbc"};
    char topics[6][TOPIC_MAX + 1], of_bridge[TOPIC_MAX + 1];
    (void)state;
    assert_true(ha_document_topic_bridge(of_bridge, &conf));
    for (unsigned i = 0; i < 6; i++) {
        assert_true(ha_document_topic_device(topics[i], &conf, ids[i]));
        const char *id = topics[i] + strlen("ha/main/device/");
        assert_int_equal(strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-"),
                         strlen(id) - strlen("/config"));
        assert_string_not_equal(topics[i], of_bridge);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(topics[i], topics[j]);
    }
    assert_string_equal(topics[4], "ha/main/device/fluxbridge-demo-a_b/config");
}

static void test_the_bridge(void **state)
{
    static const char *const counters[] = {"samples", "drops", "reconnects", "missed_ticks"};
    json_t *root = document(NULL);
    (void)state;
    assert_at(root, "device",
              "{\"identifiers\":[\"fluxbridge-demo-bridge\"],\"name\":\"fluxbridge demo\","
              "\"manufacturer\":\"fluxbridge\",\"model\":\"Modbus to MQTT bridge\","
              "\"sw_version\":\"" FLUXBRIDGE_VERSION "\"}");
    assert_at(root, "origin",
              "{\"name\":\"fluxbridge\",\"sw_version\":\"" FLUXBRIDGE_VERSION "\"}");
    assert_at(root, "state_topic", "\"flux/demo/bridge/health\"");
    assert_int_equal(json_object_size(at(root, "components")), 6);
    /* Nothing may make the one unavailable that tells whether it is there. */
    assert_at(root, "availability", NULL);
    assert_component(root, "device-connectivity", "availability", NULL);
    assert_component(root, "device-connectivity", "state_topic", "\"flux/demo/bridge/status\"");
    for (unsigned i = 0; i < 4; i++)
        assert_kind(root, counters[i], NULL, NULL, INCREASING, "0");
    assert_kind(root, "spool_depth", NULL, NULL, MEASUREMENT, "0");
    assert_component(root, "samples", "availability", "[{\"topic\":\"flux/demo/bridge/status\"}]");
    assert_component(root, "samples", "value_template", "\"{{ value_json['samples'] }}\"");
    assert_component(root, "samples", "entity_category", "\"diagnostic\"");
    assert_component(root, "samples", "expire_after", "30");
    assert_component(root, "samples", "unique_id", "\"fluxbridge-demo-bridge-samples\"");
    assert_component(root, "missed_ticks", "default_entity_id",
                     "\"sensor.demo_bridge_missed_ticks\"");
    json_decref(root);
}

static void test_a_device(void **state)
{
    json_t *root = document(battery);
    (void)state;
    assert_at(root, "device",
              "{\"identifiers\":[\"fluxbridge-demo-b1\"],\"name\":\"Site-BESS-01\","
              "\"manufacturer\":\"PowerPack\",\"model\":\"BESS\",\"model_id\":\"powerpack\","
              "\"via_device\":\"fluxbridge-demo-bridge\"}");
    assert_at(root, "state_topic", "\"flux/demo/Site-BESS-01/state\"");
    assert_at(root, "qos", "1");
    assert_at(root, "availability_mode", "\"all\"");
    assert_at(root, "availability",
              "[{\"topic\":\"flux/demo/bridge/status\"},"
              "{\"topic\":\"flux/demo/Site-BESS-01/status\"}]");
    assert_int_equal(json_object_size(root), 7);
    assert_component(root, "device-connectivity", "state_topic",
                     "\"flux/demo/Site-BESS-01/status\"");
    assert_component(root, "device-connectivity", "availability",
                     "[{\"topic\":\"flux/demo/bridge/status\"}]");
    assert_component(root, "device-connectivity", "platform", "\"binary_sensor\"");
    assert_component(root, "device-connectivity", "payload_on", "\"online\"");
    assert_component(root, "device-connectivity", "payload_off", "\"offline\"");
    assert_component(root, "soe", "name", "\"SOE\"");
    assert_component(root, "soe", "expire_after", "3");
    assert_component(root, "soe", "value_template",
                     "\"{% set v = value_json.data['soe'] %}"
                     "{{ v if v is number else 'None' }}\"");
    json_decref(root);
}

static void test_kinds(void **state)
{
    json_t *bess = document(battery), *acuvim = document(meter), *other = document(&odd);
    (void)state;
    assert_kind(bess, "soe", "\"battery\"", "\"%\"", MEASUREMENT, "0");
    assert_kind(bess, "target_power", "\"power\"", "\"kW\"", MEASUREMENT, "0");
    assert_kind(bess, "available_blocks", NULL, NULL, MEASUREMENT, "0");
    assert_kind(bess, "command_source", NULL, NULL, NULL, "0");
    assert_component(bess, "command_source", "entity_category", "\"diagnostic\"");
    assert_component(bess, "available_blocks", "entity_category", NULL);
    assert_kind(acuvim, "voltage_l1_l2", "\"voltage\"", "\"V\"", MEASUREMENT, "1");
    assert_kind(acuvim, "current_n", "\"current\"", "\"A\"", MEASUREMENT, "2");
    assert_kind(acuvim, "active_power_total", "\"power\"", "\"W\"", MEASUREMENT, "0");
    assert_kind(acuvim, "reactive_power_l1", "\"reactive_power\"", "\"var\"", MEASUREMENT, "0");
    assert_kind(acuvim, "apparent_power_l1", "\"apparent_power\"", "\"VA\"", MEASUREMENT, "0");
    assert_kind(acuvim, "power_factor_total", "\"power_factor\"", NULL, MEASUREMENT, "3");
    assert_kind(acuvim, "frequency", "\"frequency\"", "\"Hz\"", MEASUREMENT, "3");
    assert_kind(acuvim, "energy_import", "\"energy\"", "\"kWh\"", INCREASING, "1");
    assert_kind(acuvim, "energy_net", "\"energy\"", "\"kWh\"", TOTAL, "1");
    assert_kind(acuvim, "reactive_energy_export", "\"reactive_energy\"", "\"kvarh\"", INCREASING,
                "1");
    assert_kind(acuvim, "apparent_energy", NULL, "\"kVAh\"", INCREASING, "1");
    assert_kind(other, "flow", NULL, "\"l/h\"", MEASUREMENT, "2");
    assert_kind(other, "energy_in", "\"energy\"", "\"Wh\"", INCREASING, "0");
    assert_kind(other, "humidity", NULL, "\"%\"", MEASUREMENT, "1");
    assert_kind(other, "serial", NULL, NULL, NULL, NULL);
    assert_component(other, "serial", "entity_category", "\"diagnostic\"");
    assert_component(
        other, "serial", "value_template",
        "\"{% set v = value_json.data['serial'] %}{{ v if v is string else 'None' }}\"");
    /* How fine it is only the device knows. */
    assert_kind(other, "voltage", "\"voltage\"", "\"V\"", MEASUREMENT, "1");
    assert_component(acuvim, "voltage_l1_l2", "name", "\"Voltage L1 L2\"");
    assert_component(acuvim, "voltage_ln_avg", "name", "\"Voltage LN avg\"");
    assert_component(acuvim, "current_n", "name", "\"Current N\"");
    assert_component(acuvim, "soe", "name", NULL);
    assert_int_equal(json_object_size(at(acuvim, "components")), 36 + 1);
    json_decref(bess);
    json_decref(acuvim);
    json_decref(other);
}

static void test_enumerations(void **state)
{
    json_t *bess = document(battery), *other = document(&odd);
    (void)state;
    /* Two codes are called "ready" here. */
    assert_kind(bess, "status", "\"enum\"", NULL, NULL, NULL);
    assert_component(bess, "status", "options", "[\"standby\",\"ready\"]");
    assert_component(bess, "status", "value_template",
                     "\"{% set v = value_json.data['status_code'] %}"
                     "{{ value_json.data['status'] if v in [0, 1, 7] else 'None' }}\"");
    assert_kind(bess, "status_code", NULL, NULL, NULL, "0");
    assert_component(bess, "status_code", "entity_category", "\"diagnostic\"");
    assert_component(bess, "status_code", "value_template",
                     "\"{% set v = value_json.data['status_code'] %}"
                     "{{ v if v is number else 'None' }}\"");
    /* Without labels there are no options, and an enum sensor must have some. */
    assert_kind(other, "mode", NULL, NULL, NULL, NULL);
    assert_component(other, "mode", "options", NULL);
    assert_component(other, "mode", "value_template",
                     "\"{% set v = value_json.data['mode'] %}"
                     "{{ v if v is string else 'None' }}\"");
    assert_component(other, "phase", "options", "[\"off\",\"it's on\"]");
    json_decref(bess);
    json_decref(other);
}

/* Most samples do not have these members; then nothing must change. */
static void test_slow_poll_classes(void **state)
{
    json_t *root = document(&odd);
    (void)state;
    assert_component(root, "slow_power", "value_template",
                     "\"{% set v = value_json.data['slow_power'] %}"
                     "{{ v if v is number else '' if v is undefined else 'None' }}\"");
    assert_component(root, "pump", "value_template",
                     "\"{% set v = value_json.data['pump'] %}{{ ('ON' if v else 'OFF') "
                     "if v is boolean else '' if v is undefined else 'None' }}\"");
    assert_component(root, "phase", "value_template",
                     "\"{% set v = value_json.data['phase_code'] %}"
                     "{{ value_json.data['phase'] if v in [0, -3] else "
                     "(this.state if this.state not in ['unknown', 'unavailable'] else 'None') "
                     "if v is undefined else 'None' }}\"");
    assert_component(root, "fan", "value_template",
                     "\"{% set v = value_json.data['fan'] %}{{ ('ON' if v else 'OFF') "
                     "if v is boolean else 'None' }}\"");
    assert_component(root, "fan", "platform", "\"binary_sensor\"");
    assert_component(root, "fan", "expire_after", "2"); /* 3 x 500 ms */
    json_decref(root);
}

static void test_the_setpoint(void **state)
{
    struct device device = *battery;
    json_t *root = document(battery);
    (void)state;
    assert_component(root, "set-target_power", "platform", "\"number\"");
    assert_component(root, "set-target_power", "min", "-250.0");
    assert_component(root, "set-target_power", "max", "250.0");
    assert_component(root, "set-target_power", "step", "1.0");
    assert_component(root, "set-target_power", "mode", "\"box\"");
    assert_component(root, "set-target_power", "device_class", "\"power\"");
    assert_component(root, "set-target_power", "unit_of_measurement", "\"kW\"");
    assert_component(root, "set-target_power", "default_entity_id",
                     "\"number.demo_site_bess_01_target_power\"");
    assert_component(root, "set-target_power", "unique_id",
                     "\"fluxbridge-demo-b1-set-target_power\"");
    assert_component(root, "set-target_power", "command_topic",
                     "\"flux/demo/Site-BESS-01/set/target_power\"");
    assert_component(root, "set-target_power", "value_template",
                     "\"{% set v = value_json.data['target_power'] %}"
                     "{{ v if v is number and -250 <= v <= 250 else 'None' }}\"");
    assert_component(root, "set-target_power", "expire_after", NULL); /* numbers have none */
    const char *template_text =
        json_string_value(at(root, "components/set-target_power/command_template"));
    assert_non_null(strstr(template_text, "\"ttl_s\":7.5,"));
    json_decref(root);

    device.controllable = false;
    root = document(&device);
    assert_null(at(root, "components/set-target_power"));
    assert_non_null(at(root, "components/target_power"));
    json_decref(root);
}

static void test_commands(void **state)
{
    struct device device = *battery;
    (void)state;
    json_t *root = document(&device);
    assert_component(root, "command-stop", "platform", "\"button\"");
    assert_component(root, "command-stop", "payload_press", "\"0\"");
    for (unsigned i = 0; i < 2; i++) {
        static const char *const same[] = {"command_topic", "command_template"};
        char number[64], stop[64];
        snprintf(number, sizeof number, "components/set-target_power/%s", same[i]);
        snprintf(stop, sizeof stop, "components/command-stop/%s", same[i]);
        assert_true(json_equal(at(root, number), at(root, stop)));
    }
    assert_component(root, "command-outcome", "state_topic", "\"flux/demo/Site-BESS-01/control\"");
    assert_component(root, "command-outcome", "device_class", "\"enum\"");
    assert_int_equal(json_array_size(at(root, "components/command-outcome/options")),
                     OUTCOME_COUNT);
    assert_component(root, "command-outcome", "expire_after", NULL); /* it stays as long as it is */
    assert_component(root, "command-reason", "platform", "\"sensor\"");
    assert_component(root, "schedule-entry", "state_topic", "\"flux/demo/Site-BESS-01/schedule\"");
    assert_component(root, "schedule-entry", "device_class", "\"power\"");
    assert_component(root, "schedule-entry", "unit_of_measurement", "\"kW\"");
    assert_component(root, "schedule-next", "device_class", "\"timestamp\"");
    /* Without a deadman there is neither lease nor takeover. */
    assert_null(at(root, "components/deadman-took-over"));
    assert_null(at(root, "components/lease-end"));
    json_decref(root);

    device.control.deadman_timeout_ns = 1;
    root = document(&device);
    assert_component(root, "deadman-took-over", "device_class", "\"problem\"");
    assert_component(root, "lease-end", "device_class", "\"timestamp\"");
    json_decref(root);

    /* A meter takes none. */
    root = document(meter);
    assert_null(at(root, "components/command-outcome"));
    assert_null(at(root, "components/command-stop"));
    assert_null(at(root, "components/schedule-entry"));
    json_decref(root);
}

static void test_a_fine_step(void **state)
{
    struct device device = *battery;
    struct point points[8];
    (void)state;
    memcpy(points, device.points, device.n_points * sizeof points[0]);
    device.points = points;
    points[device.control.setpoint].scale = -0.1;
    json_t *root = document(&device);
    assert_component(root, "set-target_power", "step", "0.1");
    assert_component(root, "target_power", "suggested_display_precision", "1");
    json_decref(root);
    points[device.control.setpoint].scale = 0.0001;
    root = document(&device);
    assert_component(root, "set-target_power", "step", "0.001"); /* the least there is */
    json_decref(root);
}

static void test_integrated_energy(void **state)
{
    static const char *const names[] = {SAMPLE_CHARGED, SAMPLE_DISCHARGED};
    json_t *bess = document(battery), *acuvim = document(meter);
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_kind(bess, names[i], "\"energy\"", "\"kWh\"", INCREASING, "2");
        assert_null(json_object_get(at(acuvim, "components"), names[i]));
    }
    assert_component(bess, SAMPLE_CHARGED, "name", "\"Energy charged integrated\"");
    json_decref(bess);
    json_decref(acuvim);
}

static void test_names_of_any_form(void **state)
{
    json_t *root = document(&odd);
    (void)state;
    assert_component(root, "mode", "default_entity_id", "\"sensor.demo_odd_1_mode\"");
    assert_component(root, "mode", "unique_id", "\"fluxbridge-demo-odd_1-mode\"");
    json_decref(root);
}

/* Pairs of a name and an id. */
static void assert_former(const char *info, const char *const *expected)
{
    char name[DEVICE_NAME_MAX + 1] = "untouched", id[DEVICE_ID_MAX + 1] = "";
    unsigned index = 0;
    for (; *expected != NULL; expected += 2) {
        assert_true(ha_document_next_former(info, &index, name, id));
        assert_string_equal(name, expected[0]);
        assert_string_equal(id, expected[1]);
    }
    assert_false(ha_document_next_former(info, &index, name, id));
}

static void test_what_was_announced(void **state)
{
    (void)state;
    assert_former("{\"devices\":[\"Old-1\",\"Site-BESS-01\"],\"ids\":[\"x/1\",\"b1\"]}",
                  (const char *[]){"Old-1", "x/1", "Site-BESS-01", "b1", NULL});
    /* An earlier release has not told the ids. */
    assert_former("{\"devices\":[\"grid-meter\",\"Old-2\"]}",
                  (const char *[]){"grid-meter", "", "Old-2", "", NULL});
    assert_former("{\"devices\":[\"A\",\"B\"],\"ids\":[7]}",
                  (const char *[]){"A", "", "B", "", NULL});
}

static void test_nothing_is_removed_for_nonsense(void **state)
{
    static const char *const nonsense[] = {
        "",
        "{}",
        "[\"Old\"]",
        "{\"devices\":\"Old\"}",
        "{\"devices\":[7,null,{},\"\",\"bridge\",\"a/b\",\"+\",\"#\",\"a b\",\"\\u0000\"]}",
        "{\"devices\":[\"Old\"]",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++)
        assert_former(nonsense[i], (const char *[]){NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_the_bridge),
        cmocka_unit_test(test_a_device),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_enumerations),
        cmocka_unit_test(test_slow_poll_classes),
        cmocka_unit_test(test_the_setpoint),
        cmocka_unit_test(test_a_fine_step),
        cmocka_unit_test(test_integrated_energy),
        cmocka_unit_test(test_names_of_any_form),
        cmocka_unit_test(test_odd_ids),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_what_was_announced),
        cmocka_unit_test(test_nothing_is_removed_for_nonsense),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
