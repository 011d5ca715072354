#include "devices_bed.h"

#include <math.h>

static void what_may_be_written(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(battery(NAMES, MODBUS, "", CONTROL), &list, ""));
    const struct device *device = list.devices;
    for (unsigned i = 0; i < device->n_points + 2; i++) {
        bool writable = (int)i == device_find_point(device, "target_power") ||
                        (int)i == device_find_point(device, "command_source");
        assert_int_equal(device_may_write(device, i), writable);
    }
    assert_int_equal(device_find_point(device, "none"), -1);
    device_list_free(&list);

    assert_true(read_devices(battery(NAMES, MODBUS, "", NULL), &list, ""));
    assert_false(list.devices->controllable);
    for (unsigned i = 0; i < list.devices->n_points; i++)
        assert_false(device_may_write(list.devices, i));
    device_list_free(&list);
}

static void scale_and_unit_of_a_device(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(
        read_devices("devices: { meters = ( { id = \"a\"; name = \"a\"; type = \"acuvim2\";\n"
                     "modbus: { host = \"h\"; address = 1; };\n"
                     "points = ( { name = \"active_power_total\"; scale = 1; },\n"
                     "           { name = \"voltage_l1_n\"; scale = -2.5; unit = \"kV\"; },\n"
                     "           { name = \"current_l1\"; unit = \"\"; } ); } ); };\n",
                     &list, ""));
    const struct point *points = list.devices->points;
    assert_true(points[2].scale == 1);
    assert_string_equal(points[2].unit, "W");
    assert_true(points[0].scale == -2.5);
    assert_string_equal(points[0].unit, "kV");
    assert_true(points[1].scale == 1);
    assert_string_equal(points[1].unit, "");
    assert_true(list.profiles[0]->points[2].scale == 1000);
    device_list_free(&list);

    assert_true(read_devices(
        battery(NAMES, MODBUS, "points = ( { name = \"target_power\"; scale = 0.1; } );",
                "ready_status = [ 1 ]; min_kw = -250; max_kw = 250; positive_is = \"charge\";"),
        &list, ""));
    assert_true(list.devices->points[1].scale == -0.1);
    device_list_free(&list);
}

static void plausible_values_of_a_device(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(
        "devices: { meters = ( { id = \"a\"; name = \"a\"; type = \"acuvim2\";\n"
        "longest_silence = \"1m\"; modbus: { host = \"h\"; address = 1; };\n"
        "points = ( { name = \"active_power_total\"; low = -5e5; high = 5e5; deadband = 100;\n"
        "             sentinels = [ 0x7fc00000 ]; },\n"
        "           { name = \"energy_import\"; counter = false; } ); } ); };\n",
        &list, ""));
    const struct point *points = list.devices->points;
    assert_true(points[2].low == -5e5 && points[2].high == 5e5 && points[2].deadband == 100);
    assert_int_equal(points[2].n_sentinels, 1);
    assert_int_equal(points[2].sentinels[0], 0x7fc00000);
    assert_true(list.profiles[0]->points[3].counter);
    assert_false(points[3].counter);
    assert_true(isnan(points[0].low) && points[0].deadband == 0);
    assert_int_equal(device_silence_ns(list.devices), 60000000000);
    list.devices->poll_ns = 60000000001;
    assert_int_equal(device_silence_ns(list.devices), 60000000001);
    device_list_free(&list);
}

/* The lists that change a device's own rows. */
static void a_device_of_its_own(void **state)
{
    (void)state;
    static const char PROFILE[] =
        "word_order = \"cdab\"; points = (\n"
        "{ name = \"a\"; address = 10; type = \"int32\"; access = \"rw\"; max = 5; },\n"
        "{ name = \"b\"; address = 12; type = \"int32\"; word_order = \"abcd\"; },\n"
        "{ name = \"c\"; address = 1; type = \"bool\"; function = 1; access = \"rw\"; },\n"
        "{ name = \"m\"; address = 3; type = \"int16\"; sunspec_model = 1; },\n"
        "{ name = \"n\"; address = 40; type = \"int16\"; },\n"
        "{ name = \"s\"; address = 41; type = \"int16\"; scale_register = \"n\"; } );";
    static const char DEVICE[] =
        "devices: { meters = ( { id = \"1\"; name = \"M\"; type = \"own\";\n"
        "modbus: { host = \"h\"; address = 1; %s };\n%s } ); };";
    struct device_list list;
    char text[1024];
    assert_int_equal(system("mkdir -p profiles"), 0);
    given_file("profiles/own.cfg", PROFILE);

    snprintf(text, sizeof text, DEVICE, "word_order = \"dcba\"; address_shift = -1;",
             "writable = [ \"a\", \"c\" ];");
    assert_true(read_devices(text, &list, ""));
    const struct device *device = list.devices;
    assert_int_equal(device->points[0].order, POINT_DCBA);
    assert_int_equal(device->points[1].order, POINT_ABCD); /* the row's own */
    assert_int_equal(device->points[0].address, 9);
    assert_int_equal(device->points[2].address, 0);
    assert_int_equal(device->points[3].address, 3); /* within its model */
    assert_true(device_may_write(device, 0) && device_may_write(device, 2));
    assert_false(device_may_write(device, 1) || device_may_write(device, 4));
    assert_true(device_takes_commands(device));
    /* Without a control group no row is the setpoint, and a command lives as usual. */
    assert_false(device->controllable);
    assert_int_equal(device->control.setpoint, -1);
    assert_int_equal(device->control.ttl_ns, 10000000000);
    assert_int_equal(device->control.max_clock_skew_ns, 2000000000);
    assert_int_equal(device->profile->points[0].address, 10);
    device_list_free(&list);

    snprintf(text, sizeof text, DEVICE, "", "");
    assert_true(read_devices(text, &list, ""));
    assert_false(device_may_write(list.devices, 0) || device_takes_commands(list.devices));
    assert_ptr_equal(list.devices->points, list.devices->profile->points);
    device_list_free(&list);

    static const struct {
        const char *modbus, *rest, *said;
    } bad[] = {
        {"address_shift = -2;", "", "2: address_shift -2 moves c out of 0..65535"},
        {"address_shift = 65524;", "", "2: address_shift 65524 moves b out of 0..65535"},
        {"address_shift = 70000;", "", "2: address_shift must be from -65535 to 65535, not 70000"},
        {"", "points = ( { name = \"m\"; deadband = 1; } );",
         "3: m: deadband has no meaning without longest_silence: every scan is published"},
        {"", "points = ( { name = \"m\"; high = 32768; } );",
         "3: m: high 32768 is more than int16 holds with this scale"},
        {"", "points = ( { name = \"c\"; counter = true; } );", "3: c: a bool has no counter"},
        {"", "longest_silence = \"1m\"; points = ( { name = \"c\"; deadband = 1; } );",
         "3: c: a bool has no deadband"},
        {"", "points = ( { name = \"n\"; scale = 2; } );",
         "3: n moves the scale of other rows, and has none itself"},
        {"", "writable = 5;", "3: writable must name points: [ \"...\", \"...\" ]"},
        {"", "writable = [ ];", "3: writable must name points: [ \"...\", \"...\" ]"},
        {"", "writable = [ 5 ];", "3: writable must name points: [ \"...\", \"...\" ]"},
        {"", "writable = [ \"z\" ];", "3: type 'own' has no point 'z'"},
        {"", "writable = [ \"b\" ];",
         "3: type 'own' only reads 'b': its row needs access = \"rw\""},
        {"", "writable = [ \"a\", \"a\" ];", "3: writable names 'a' twice"},
    };
    for (unsigned i = 0; i < COUNT(bad); i++) {
        char said[256];
        snprintf(text, sizeof text, DEVICE, bad[i].modbus, bad[i].rest);
        snprintf(said, sizeof said, "test.cfg:%s\n", bad[i].said);
        assert_false(read_devices(text, &list, said));
        device_list_free(&list);
    }
}

static void write_limits_fix_scale_and_unit(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p profiles"), 0);
    given_file("profiles/t.cfg", "points = ( { name = \"p\"; address = 0; type = \"int16\";"
                                 " unit = \"kW\"; access = \"rw\"; max = 5; } );");
    assert_bad(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                       "points = ( { name = \"p\"; scale = 2; } );", NULL),
               "4: p has write limits in 'kW': its scale and unit are fixed");
    assert_bad(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                       "points = ( { name = \"p\"; unit = \"\"; } );", NULL),
               "4: p has write limits in 'kW': its scale and unit are fixed");
    assert_good(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                        "points = ( { name = \"p\"; high = 5; } );", NULL));
}

/* A key of the device that would do nothing is refused. */
static void an_order_or_a_shift_that_changes_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *modbus, *rows, *said;
    } rows[] = {
        {"word_order = \"cdab\"", "type = \"int16\"; address = 1;",
         "word_order \"cdab\" changes no row of type 'own'"},
        {"word_order = \"dcba\"", "type = \"int16\"; address = 1;", NULL},
        {"word_order = \"dcba\"", "type = \"bool\"; function = 1; address = 1;",
         "word_order \"dcba\" changes no row of type 'own'"},
        {"word_order = \"dcba\"", "type = \"uint8\"; byte = \"low\"; address = 1;",
         "word_order \"dcba\" changes no row of type 'own'"},
        {"word_order = \"cdab\"", "type = \"int32\"; address = 1;", NULL},
        {"word_order = \"cdab\"", "type = \"int32\"; address = 1; word_order = \"abcd\";",
         "word_order \"cdab\" changes no row of type 'own'"},
        {"word_order = \"cdab\"", "type = \"string\"; registers = 2; address = 1;",
         "word_order \"cdab\" changes no row of type 'own'"},
        {"address_shift = 1", "type = \"int16\"; address = 1; sunspec_model = 1;",
         "address_shift changes no row of type 'own': SunSpec's are found"},
    };
    assert_int_equal(system("mkdir -p profiles"), 0);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct device_list list;
        char text[512], said[256] = "";
        snprintf(text, sizeof text, "points = ( { name = \"a\"; %s } );", rows[i].rows);
        given_file("profiles/own.cfg", text);
        snprintf(text, sizeof text,
                 "devices: { meters = ( { id = \"1\"; name = \"M\"; type = \"own\";\n"
                 "modbus: { host = \"h\"; address = 1; %s; }; } ); };",
                 rows[i].modbus);
        if (rows[i].said)
            snprintf(said, sizeof said, "test.cfg:2: %s\n", rows[i].said);
        assert_int_equal(read_devices(text, &list, said), rows[i].said == NULL);
        device_list_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_be_written),
        cmocka_unit_test(scale_and_unit_of_a_device),
        cmocka_unit_test(plausible_values_of_a_device),
        cmocka_unit_test(a_device_of_its_own),
        cmocka_unit_test(an_order_or_a_shift_that_changes_nothing),
        cmocka_unit_test(write_limits_fix_scale_and_unit),
    };
    return cmocka_run_group_tests_name("device_points", tests, given_directory, remove_directory);
}
