#include "devices_bed.h"

#include <math.h>

#include "devices/registers/codec.h"

static void every_key_of_control(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(
        battery(NAMES, MODBUS, "",
                "ready_status = ( 2, 3 ); min_kw = 0; max_kw = 100.5; positive_is = \"discharge\";"
                "soe_min = 0; soe_max = 100; ttl = \"30s\"; max_clock_skew = \"0s\";"
                "allow_bare = true; on_exit = \"fallback\"; kw_per_block = 50; max_step_kw = 25.5;"
                "min_interval = \"2s\"; command_source = 0;"
                "status_labels = ( { value = 0; label = \"standby\"; }, { value = 3; label = "
                "\"running\"; } ); deadman: { timeout = \"60s\"; value = 100; };"),
        &list, ""));
    const struct device *device = list.devices;
    const struct device_control *control = &device->control;
    assert_int_equal(control->n_ready, 2);
    assert_int_equal(control->ready_status[0], 2);
    assert_int_equal(control->ready_status[1], 3);
    assert_true(control->min_kw == 0 && control->max_kw == 100.5);
    assert_true(control->soe_min == 0 && control->soe_max == 100);
    assert_int_equal(control->ttl_ns, 30000000000);
    assert_int_equal(control->max_clock_skew_ns, 0);
    assert_true(control->allow_bare);
    assert_int_equal(control->on_exit, DEVICE_FALLBACK);
    assert_true(control->kw_per_block == 50 && control->max_step_kw == 25.5);
    assert_int_equal(control->min_interval_ns, 2000000000);
    assert_int_equal(control->command_source, 0);
    assert_int_equal(control->deadman_timeout_ns, 60000000000);
    assert_true(control->deadman_value == 100);
    assert_string_equal(device->points[control->status].name, "status");
    assert_string_equal(device->points[control->soe].name, "soe");
    assert_string_equal(device->points[control->setpoint].name, "target_power");
    assert_string_equal(device->points[control->blocks].name, "available_blocks");
    assert_string_equal(device->points[control->source].name, "command_source");
    const struct point *status = &device->points[control->status];
    assert_string_equal(point_label(status, 0), "standby");
    assert_string_equal(point_label(status, 2), "ready"); /* it has no label of its own */
    assert_string_equal(point_label(status, 3), "running");
    assert_null(point_label(status, 1));
    assert_int_equal(status->n_labels, 3);
    /* The type itself is as it was. */
    assert_int_equal(device->profile->points[control->status].n_labels, 0);
    device_list_free(&list);
}

static void the_sign_is_turned_at_the_register(void **state)
{
    (void)state;
    static const struct {
        const char *is;
        uint16_t word;
    } rows[] = {{"discharge", 50}, {"charge", 0xffce}};
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char control[256];
        struct device_list list;
        snprintf(control, sizeof control,
                 "ready_status = [ 1 ]; min_kw = -100; max_kw = 250; positive_is = \"%s\";",
                 rows[i].is);
        assert_true(read_devices(battery(NAMES, MODBUS, "", control), &list, ""));
        const struct point *point = &list.devices->points[list.devices->control.setpoint];
        uint16_t word;
        assert_int_equal(codec_encode(point, 50, &word), CODEC_FITS);
        assert_int_equal(word, rows[i].word);
        assert_true(codec_decode(point, &word).number == 50);
        assert_true(point->min == -100 && point->max == 250);
        assert_true(list.devices->profile->points[1].scale == 1);
        device_list_free(&list);
    }
}

/* The believable range of a setpoint turns with its sign. */
static void a_turned_range(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(
        battery(NAMES, MODBUS, "points = ( { name = \"target_power\"; low = -300; high = 200; } );",
                "ready_status = [ 1 ]; min_kw = -1; max_kw = 1; positive_is = \"charge\";"),
        &list, ""));
    assert_true(list.devices->points[1].low == -200 && list.devices->points[1].high == 300);
    device_list_free(&list);
}

/* A limit that is wrong for the sake of another is told where it stands. */
static void the_line_of_a_limit(void **state)
{
    (void)state;
    static const char BEGIN[] = "devices: { bess = ( {\n"
                                "id = \"a\"; name = \"B\"; type = \"powerpack\";\n"
                                "modbus: { host = \"h\"; address = 1; };\n"
                                "control: { ready_status = [ 1 ]; positive_is = \"discharge\";\n";
    static const struct {
        const char *rest, *said;
    } rows[] = {
        {"max_kw = 2;\nmin_kw = 1;\n", "6: min_kw and max_kw must span zero, not 1 to 2"},
        {"min_kw = -2;\nmax_kw = -1;\n", "6: min_kw and max_kw must span zero, not -2 to -1"},
        {"min_kw = 0;\nmax_kw = 40000;\n",
         "6: max_kw 40000 does not fit the register of target_power"},
        {"min_kw = 0; max_kw = 1;\nsoe_min = 95;\n", "6: soe_min 95 must be below soe_max 90"},
        {"min_kw = 0; max_kw = 1;\nsoe_max = 5;\n", "6: soe_min 10 must be below soe_max 5"},
        {"min_kw = 0; max_kw = 1;\ndeadman: {\ntimeout = \"1s\";\nvalue = 2; };\n",
         "8: deadman value 2 is not within min_kw 0 and max_kw 1"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s}; } ); };\n", BEGIN, rows[i].rest);
        assert_bad(text, rows[i].said);
    }
}

/* A part of a control group, added to a good one unless it stands alone. */
static void faulty_control(void **state)
{
    (void)state;
    static const char BASE[] = "ready_status = [ 1 ]; positive_is = \"discharge\"; ";
    static const char WHOLE[] =
        "ready_status = [ 1 ]; positive_is = \"discharge\"; min_kw = -100; max_kw = 100; ";
    static const struct {
        const char *base, *rest, *said;
    } rows[] = {
        {"", "",
         "missing key 'ready_status'\ntest.cfg:5: missing key 'min_kw'\n"
         "test.cfg:5: missing key 'max_kw'\ntest.cfg:5: missing key 'positive_is'"},
        {BASE, "min_kw = -1; max_kw = 32768;",
         "max_kw 32768 does not fit the register of target_power"},
        {BASE, "min_kw = -32769; max_kw = 1;",
         "min_kw -32769 does not fit the register of target_power"},
        {BASE, "min_kw = -1; max_kw = 1000001;",
         "max_kw must be from -1000000 to 1000000, not 1000001"},
        {BASE, "min_kw = -1000001; max_kw = 1;",
         "min_kw must be from -1000000 to 1000000, not -1000001"},
        {BASE, "min_kw = 1; max_kw = 2;", "min_kw and max_kw must span zero, not 1 to 2"},
        {BASE, "min_kw = -2; max_kw = -1;", "min_kw and max_kw must span zero, not -2 to -1"},
        {BASE, "min_kw = 0; max_kw = 0;", "min_kw and max_kw must span zero, not 0 to 0"},
        {BASE, "min_kw = \"1\"; max_kw = 1;", "min_kw must be a number"},
        {WHOLE, "soe_min = -1;", "soe_min must be from 0 to 100, not -1"},
        {WHOLE, "soe_min = 101;", "soe_min must be from 0 to 100, not 101"},
        {WHOLE, "soe_max = 100.5;", "soe_max must be from 0 to 100, not 100.5"},
        {WHOLE, "soe_min = 50; soe_max = 50;", "soe_min 50 must be below soe_max 50"},
        {WHOLE, "soe_min = 95;", "soe_min 95 must be below soe_max 90"},
        {WHOLE, "ttl = \"99ms\";", "ttl must be from 100ms to 24h, not 99ms"},
        {WHOLE, "ttl = \"25h\";", "ttl must be from 100ms to 24h, not 25h"},
        {WHOLE, "max_clock_skew = \"61m\";", "max_clock_skew must be from 0ms to 1h, not 61m"},
        {WHOLE, "allow_bare = 1;", "allow_bare must be true or false"},
        {WHOLE, "on_exit = \"zero\";", "on_exit must be \"hold\" or \"fallback\""},
        {WHOLE, "kw_per_block = 0;", "kw_per_block must be from 0.001 to 1000000, not 0"},
        {WHOLE, "max_step_kw = 0;", "max_step_kw must be from 0.001 to 1000000, not 0"},
        {WHOLE, "max_step_kw = -5;", "max_step_kw must be from 0.001 to 1000000, not -5"},
        {WHOLE, "min_interval = \"25h\";", "min_interval must be from 0ms to 24h, not 25h"},
        {WHOLE, "command_source = -1;", "command_source must be from 0 to 65535, not -1"},
        {WHOLE, "command_source = 65536;", "command_source must be from 0 to 65535, not 65536"},
        {WHOLE, "deadman: { };", "missing key 'timeout'"},
        {WHOLE, "deadman: { timeout = \"99ms\"; };", "timeout must be from 100ms to 24h, not 99ms"},
        {WHOLE, "deadman: { timeout = \"60s\"; value = 101; };",
         "deadman value 101 is not within min_kw -100 and max_kw 100"},
        {WHOLE, "deadman: { timeout = \"60s\"; value = -101; };",
         "deadman value -101 is not within min_kw -100 and max_kw 100"},
        {WHOLE, "deadman: { timeout = \"60s\"; value = 0.5; };",
         "deadman value 0.5 is finer than the register of target_power can hold"},
        {WHOLE, "deadman = 5;", "deadman must be a group: { key = value; ... }"},
        {WHOLE, "status_labels = 5;",
         "status_labels must be a list: ( { value = 0; label = \"off\"; } )"},
        {WHOLE, "status_labels = ( { value = 0; label = \"x\"; }, { value = 0; label = \"y\"; } );",
         "value 0 has a label already"},
        {WHOLE, "ready = 1;", "unknown key 'ready'"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char control[512], said[512];
        snprintf(control, sizeof control, "%s%s", rows[i].base, rows[i].rest);
        snprintf(said, sizeof said, "5: %s", rows[i].said);
        assert_bad(battery(NAMES, MODBUS, "", control), said);
    }
    static const char *const good[] = {
        "min_kw = -32768; max_kw = 32767;",
        "min_kw = 0; max_kw = 1;",
        "min_kw = -1; max_kw = 0;",
        "min_kw = -100; max_kw = 100; soe_min = 49.9; soe_max = 50;",
        "min_kw = -100; max_kw = 100; command_source = 65535;",
        "min_kw = -100; max_kw = 100; deadman: { timeout = \"100ms\"; value = -100; };",
        "min_kw = -100; max_kw = 100; deadman: { timeout = \"24h\"; value = 100.0; };",
        "min_kw = -100; max_kw = 100; ttl = \"100ms\"; max_clock_skew = \"1h\";",
        "min_kw = -100; max_kw = 100; kw_per_block = 0.001; max_step_kw = 0.001;",
    };
    for (unsigned i = 0; i < COUNT(good); i++) {
        char control[512];
        snprintf(control, sizeof control, "%s%s", BASE, good[i]);
        assert_good(battery(NAMES, MODBUS, "", control));
    }
}

static void faulty_ready_status(void **state)
{
    (void)state;
#define NO_LIST    "ready_status must be [ 1 to 16 numbers ], such as [ 1 ]"
#define NO_NUMBERS "ready_status must hold whole numbers that fit uint16"
    static const struct {
        const char *ready, *said;
    } rows[] = {
        {"1", NO_LIST},
        {"[ ]", NO_LIST},
        {"[ 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 ]", NO_LIST},
        {"[ \"ready\" ]", NO_NUMBERS},
        {"[ 1.5 ]", NO_NUMBERS},
        {"[ -1 ]", NO_NUMBERS},
        {"[ 65536 ]", NO_NUMBERS},
        {"[ 1, 1 ]", "ready_status names 1 twice"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char control[512], said[128];
        snprintf(control, sizeof control,
                 "min_kw = -1; max_kw = 1; positive_is = \"charge\"; ready_status = %s;",
                 rows[i].ready);
        snprintf(said, sizeof said, "5: %s", rows[i].said);
        assert_bad(battery(NAMES, MODBUS, "", control), said);
    }
    static const char *const good[] = {"[ 0 ]", "[ 65535 ]", "( 1, 2.0 )",
                                       "[ 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 ]"};
    for (unsigned i = 0; i < COUNT(good); i++) {
        char control[256];
        snprintf(control, sizeof control,
                 "min_kw = -1; max_kw = 1; positive_is = \"charge\"; ready_status = %s;", good[i]);
        assert_good(battery(NAMES, MODBUS, "", control));
    }
}

/* Types of other makers: what control needs of them. */
static void types_that_cannot_be_controlled(void **state)
{
    (void)state;
#define STATUS "{ name = \"status\"; address = 0; type = \"uint16\"; }"
#define SOE    "{ name = \"soe\"; address = 1; type = \"float32\"; unit = \"%\"; }"
#define TARGET                                                                                     \
    "{ name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\"; access = \"rw\"; }"
    static const struct {
        const char *points, *more, *said;
    } rows[] = {
        {SOE "," TARGET, "", "control needs a point 'status', and type 't' has none"},
        {STATUS "," TARGET, "", "control needs a point 'soe', and type 't' has none"},
        {STATUS "," SOE, "", "control needs a point 'target_power', and type 't' has none"},
        {STATUS "," SOE
                ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\"; }",
         "", "control needs to write 'target_power', and type 't' only reads it"},
        {STATUS "," SOE "," TARGET, "kw_per_block = 1;",
         "control needs a point 'available_blocks', and type 't' has none"},
        {STATUS "," SOE "," TARGET, "command_source = 0;",
         "control needs a point 'command_source', and type 't' has none"},
        {STATUS "," SOE "," TARGET
                ", { name = \"command_source\"; address = 9; type = \"int16\"; }",
         "command_source = 1;",
         "control needs to write 'command_source', and type 't' only reads it"},
        {STATUS "," SOE "," TARGET ", { name = \"command_source\"; address = 9; type = \"int16\";"
                " access = \"rw\"; }",
         "command_source = 32768;", "command_source 32768 does not fit its register"},
        {SOE "," TARGET ", { name = \"status\"; address = 0; type = \"float32\"; }", "",
         "control needs 'status' to be an integer"},
        {SOE "," TARGET ", { name = \"status\"; address = 0; type = \"int16\"; scale = 2; }", "",
         "control needs 'status' to be an integer"},
        {STATUS "," TARGET ", { name = \"soe\"; address = 1; type = \"int16\"; unit = \"kWh\"; }",
         "", "control needs 'soe' in %, not in 'kWh'"},
        {STATUS "," SOE ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"W\";"
                " access = \"rw\"; }",
         "", "control speaks kW, and target_power is in 'W'"},
        {STATUS "," SOE ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\";"
                " access = \"rw\"; max = 99; }",
         "", "max_kw 100 is above the type's own limit 99"},
        {STATUS "," SOE ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\";"
                " access = \"rw\"; offset = 0.5; }",
         "", "target_power cannot hold 0: its battery could not be told to stop"},
        {STATUS "," SOE ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\";"
                " access = \"rw\"; min = -49; max = 200; }",
         "", "min_kw -50 is below the type's own limit -49"},
        {STATUS "," SOE ", { name = \"target_power\"; address = 3; type = \"int16\"; unit = \"kW\";"
                " access = \"rw\"; min = -200; max = 49; }",
         "positive_is = \"charge\";", "min_kw -50 is below the type's own limit -49"},
    };
    assert_int_equal(system("mkdir -p profiles"), 0);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char profile[1024], control[256], said[256];
        snprintf(profile, sizeof profile, "points = ( %s );", rows[i].points);
        given_file("profiles/t.cfg", profile);
        bool has_sign = strstr(rows[i].more, "positive_is");
        snprintf(control, sizeof control, "ready_status = [ 1 ]; min_kw = -50; max_kw = 100; %s %s",
                 has_sign ? "" : "positive_is = \"discharge\";", rows[i].more);
        snprintf(said, sizeof said, "5: %s", rows[i].said);
        assert_bad(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS, "", control), said);
    }
    given_file("profiles/t.cfg", "points = (" STATUS "," SOE "," TARGET ");");
    struct device_list list;
    assert_true(read_devices(
        battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS, "", CONTROL), &list, ""));
    assert_int_equal(list.devices->control.blocks, -1);
    assert_int_equal(list.devices->control.source, -1);
    assert_true(list.devices->points[0].enumerated); /* labels make it one */
    device_list_free(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_control),
        cmocka_unit_test(the_sign_is_turned_at_the_register),
        cmocka_unit_test(a_turned_range),
        cmocka_unit_test(the_line_of_a_limit),
        cmocka_unit_test(faulty_control),
        cmocka_unit_test(faulty_ready_status),
        cmocka_unit_test(types_that_cannot_be_controlled),
    };
    return cmocka_run_group_tests_name("device_control", tests, given_directory, remove_directory);
}
