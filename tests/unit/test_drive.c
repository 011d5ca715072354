#include "devices_bed.h"

#include <math.h>

/* Rows of a battery that is told in percent, and has a pair of limits. */
#define ROWS                                                                                       \
    "points = (\n"                                                                                 \
    "{ name = \"soe\"; address = 1; type = \"uint16\"; unit = \"%\"; },\n"                         \
    "{ name = \"rated\"; address = 2; type = \"uint16\"; scale = 10; unit = \"W\"; },\n"           \
    "{ name = \"out_rate\"; address = 10; type = \"int16\"; scale = 0.01; unit = \"%\"; "          \
    "access = \"rw\"; },\n"                                                                        \
    "{ name = \"in_rate\"; address = 11; type = \"int16\"; scale = -0.01; unit = \"%\"; "          \
    "access = \"rw\"; },\n"                                                                        \
    "{ name = \"low\"; address = 12; type = \"int32\"; unit = \"W\"; access = \"rw\"; },\n"        \
    "{ name = \"high\"; address = 14; type = \"int32\"; unit = \"W\"; access = \"rw\"; },\n"       \
    "{ name = \"mode\"; address = 20; type = \"uint16\"; access = \"rw\"; },\n"                    \
    "{ name = \"minutes\"; address = 21; type = \"uint16\"; unit = \"min\"; access = \"rw\"; },\n" \
    "{ name = \"limit\"; address = 22; type = \"uint16\"; unit = \"W\"; access = \"rw\"; },\n"     \
    "{ name = \"counter\"; address = 23; type = \"uint16\"; access = \"rw\"; } );\n"

static struct profile *read_profile(const char *text, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    struct profile *profile = profile_read_file(&given.cfg, "test.cfg", "test");
    assert_said(&given, said);
    return profile;
}

static struct profile *read_control(const char *control, const char *said)
{
    char text[8192];
    snprintf(text, sizeof text, "%scontrol: {\n%s };\n", ROWS, control);
    return read_profile(text, said);
}

static unsigned point_of(const struct profile *profile, const char *name)
{
    for (unsigned i = 0; i < profile->n_points; i++)
        if (strcmp(profile->points[i].name, name) == 0)
            return i;
    fail_msg("no point %s", name);
    return 0;
}

static double number_of(const struct profile *profile, const struct value *values,
                        const struct drive_site *site, const struct drive_write *write, double kw)
{
    double number = NAN;
    assert_true(
        drive_number(&profile->drive, site, profile->points, values, write, kw, 1, &number));
    return number;
}

/* What of each kind of value is written, and what the registers then hold. */
static void percent_and_pairs(void **state)
{
    (void)state;
    struct profile *profile =
        read_control("engage = ( { point = \"minutes\"; value = \"device_timeout\"; },\n"
                     "  { point = \"limit\"; value = \"max_kw\"; },\n"
                     "  { point = \"counter\"; value = \"keepalive\"; },\n"
                     "  { point = \"mode\"; value = \"my_mode\"; default = 3; } );\n"
                     "set = ( { point = \"out_rate\"; value = \"setpoint\"; of = \"rated\"; },\n"
                     "  { point = \"in_rate\"; value = \"setpoint\"; of = \"rated\"; },\n"
                     "  { block = ( { point = \"low\"; value = \"setpoint\"; },\n"
                     "    { point = \"high\"; value = \"setpoint\"; } ); } );\n"
                     "keepalive: { point = \"counter\"; values = [ 7, 8, 9 ]; every = \"2s\"; };\n"
                     "device_timeout: { point = \"minutes\"; value = 2; };\n"
                     "idle = \"release\";\n",
                     "");
    const struct drive *drive = &profile->drive;
    const struct drive_site site = {.timeout_s = 180, .keys = {5, 4}};
    struct value values[PROFILE_POINTS_MAX] = {0};
    assert_true(drive->idle_release);
    assert_true(drive->timeout_s == 120);
    assert_int_equal(drive->set.n, 4);
    assert_false(drive->set.writes[2].joined);
    assert_true(drive->set.writes[3].joined);
    /* Without proof: nothing that engage writes is a number for good. */
    assert_int_equal(drive->n_proofs, 0);
    const struct drive_write *engage = drive->engage.writes, *set = drive->set.writes;
    assert_true(number_of(profile, values, &site, &engage[0], 1) == 3);
    assert_true(number_of(profile, values, &site, &engage[1], 1) == 5000);
    assert_true(number_of(profile, values, &site, &engage[2], 1) == 8);
    assert_true(number_of(profile, values, &site, &engage[3], 1) == 4);
    /* A percentage of what is not known is not known, but for that of nothing. */
    double number;
    assert_false(drive_number(drive, &site, profile->points, values, &set[0], 2.5, 0, &number));
    assert_true(number_of(profile, values, &site, &set[0], 0) == 0);
    values[point_of(profile, "rated")] = (struct value){.state = VALUE_READ, .number = 10000};
    assert_true(number_of(profile, values, &site, &set[0], -2.5) == -25);
    assert_true(number_of(profile, values, &site, &set[1], -2.5) == -25);
    assert_true(number_of(profile, values, &site, &set[2], -2.5) == -2500);
    assert_int_equal(drive_fits(drive, profile->points, 0.0005), CODEC_OFF_STEP);
    assert_int_equal(drive_fits(drive, profile->points, 12.345), CODEC_FITS);
    assert_int_equal(drive_fits(drive, profile->points, 1e9), CODEC_OUT_OF_RANGE);
    profile_free(profile);
}

/* A made setpoint: direction and size, each told apart. */
static void direction_and_size(void **state)
{
    (void)state;
    static const struct {
        int command, watts;
        enum fault fault;
        double kw;
    } rows[] = {{0xAA, 4500, FAULT_NONE, -4.5},
                {0xBB, 4500, FAULT_NONE, 4.5},
                {0xCC, 4500, FAULT_NONE, 0},
                {0, 0, FAULT_NONE, 0}, /* a battery that was never told */
                {0, 4500, FAULT_IMPLAUSIBLE, 0}};
    struct given given;
    given_cfg(&given);
    struct profile *profile =
        profile_read_file(&given.cfg, FLUXBRIDGE_SOURCE_PROFILES "/sungrow-sh.cfg", "sungrow-sh");
    const unsigned setpoint = (unsigned)profile->drive.setpoint;
    assert_string_equal(profile->points[setpoint].name, "target_power");
    assert_true(profile->points[setpoint].made && profile->points[setpoint].writable);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct value values[PROFILE_POINTS_MAX] = {0};
        values[point_of(profile, "command")] =
            (struct value){.state = VALUE_READ, .number = rows[i].command};
        values[point_of(profile, "forced_power")] =
            (struct value){.state = VALUE_READ, .number = rows[i].watts};
        drive_make(&profile->drive, profile->points, values);
        assert_int_equal(values[setpoint].state, rows[i].fault ? VALUE_FAULT : VALUE_READ);
        if (rows[i].fault)
            assert_int_equal(values[setpoint].fault, rows[i].fault);
        else
            assert_true(values[setpoint].number == rows[i].kw);
    }
    /* Not read, or not due: nor is it. */
    struct value values[PROFILE_POINTS_MAX] = {0};
    drive_make(&profile->drive, profile->points, values);
    assert_int_equal(values[setpoint].state, VALUE_ABSENT);
    values[point_of(profile, "command")] =
        (struct value){.state = VALUE_FAULT, .fault = FAULT_TIMEOUT};
    values[point_of(profile, "forced_power")] = values[point_of(profile, "command")];
    drive_make(&profile->drive, profile->points, values);
    assert_int_equal(values[setpoint].state, VALUE_FAULT);
    assert_int_equal(values[setpoint].fault, FAULT_TIMEOUT);
    profile_free(profile);
    assert_said(&given, "");
}

/* A row called target_power is in kW, whatever its registers hold. */
/* A float32 is the decimal that was written to it. */
static void a_setpoint_as_float(void **state)
{
    (void)state;
    struct profile *profile = read_profile(
        "points = (\n{ name = \"soe\"; address = 1; type = \"uint16\"; unit = \"%\"; },\n"
        "{ name = \"power\"; address = 2; type = \"float32\"; unit = \"kW\"; access = \"rw\"; } "
        ");\n"
        "control: { setpoint = \"power\"; };\n",
        "");
    const unsigned power = point_of(profile, "power");
    struct value values[PROFILE_POINTS_MAX] = {0};
    uint16_t words[2];
    assert_int_equal(codec_encode(&profile->points[power], 33.3, words), CODEC_FITS);
    values[power] = codec_decode(&profile->points[power], words);
    assert_true(drive_held(&profile->drive, profile->points, values).number == 33.3);
    profile_free(profile);
}

static void a_setpoint_in_watts(void **state)
{
    (void)state;
    struct profile *profile = read_profile(
        "points = ( { name = \"target_power\"; address = 5; type = \"int32\"; scale = -1; "
        "unit = \"W\"; min = -5000; max = 5000; access = \"rw\"; },\n"
        "{ name = \"soe\"; address = 1; type = \"uint16\"; unit = \"%\"; } );\n"
        "control: { keepalive: { rewrite = true; every = \"2s\"; }; };",
        "");
    const struct point *point = &profile->points[0];
    uint16_t words[4];
    assert_string_equal(point->unit, "kW");
    assert_true(point->min == -5 && point->max == 5);
    assert_int_equal(codec_encode(point, 4.999, words), CODEC_FITS);
    assert_int_equal((int32_t)((uint32_t)words[0] << 16 | words[1]), -4999);
    assert_int_equal(profile->n_points, 2); /* it needs no other */
    assert_int_equal(profile->drive.set.n, 1);
    profile_free(profile);
}

static void mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *control, *said;
    } rows[] = {
        {"", "test.cfg:12: control needs the setpoint's row 'target_power', or a list 'set' that "
             "says how else it is written\n"
             "test.cfg:12: set does not say how a charge is written: it needs \"setpoint\" or "
             "\"magnitude\"\n"
             "test.cfg:12: set does not say how a discharge is written: it needs \"setpoint\" or "
             "\"magnitude\"\n"
             "test.cfg:12: set does not say how a stop is written: it needs \"setpoint\" or "
             "\"magnitude\"\n"},
        /* One run shows them all. */
        {"setpoint = \"low\"; status = \"nobody\";\n"
         "soe = { point = \"soe\"; of = \"none\"; };\n"
         "engage = ( { point = \"rated\"; value = 1; },\n"
         "  { point = \"mode\"; value = 70000; },\n"
         "  { point = \"mode\"; value = \"Mode 1\"; },\n"
         "  { point = \"mode\"; value = 1; default = 2; of = \"rated\"; },\n"
         "  { point = \"mode\"; value = \"setpoint\"; },\n"
         "  { point = \"out_rate\"; value = \"setpoint\"; },\n"
         "  { point = \"mode\"; value = \"keepalive\"; },\n"
         "  { block = ( { point = \"low\"; value = 0; }, { point = \"mode\"; value = 0; } ); } );\n"
         "release = ( { point = \"low\"; value = \"setpoint\"; when = \"stop\"; } );\n"
         "keepalive: { point = \"mode\"; rewrite = true; };\n"
         "device_timeout: { point = \"mode\"; value = 5; };\n"
         "proof = [ \"counter\" ]; idle = \"sleep\";\n",
         "test.cfg:26: idle must be \"hold\" or \"release\"\n"
         "test.cfg:14: control names 'none', and there is no such row\n"
         "test.cfg:13: control names 'nobody', and there is no such row\n"
         "test.cfg:24: missing key 'every'\n"
         "test.cfg:25: mode is in '': a device_timeout is in s, ms or min\n"
         "test.cfg:15: control writes 'rated': its row needs access = \"rw\"\n"
         "test.cfg:16: 70000 does not fit the register of mode\n"
         "test.cfg:17: 'Mode 1': a write's value is a number, \"setpoint\", \"magnitude\", "
         "\"keepalive\", \"device_timeout\", or the name of a key (a-z, 0-9, _)\n"
         "test.cfg:18: a default is for a key's value\n"
         "test.cfg:18: 'of' is for \"setpoint\" and \"magnitude\"\n"
         "test.cfg:19: mode is in '': a setpoint goes to W, kW, MW or %\n"
         "test.cfg:20: out_rate is in %: 'of' must name the point it is a part of\n"
         "test.cfg:22: mode does not follow on low: the rows of a block lie one behind the "
         "other\n"
         "test.cfg:26: counter is neither written by engage or set nor a power: nothing says what "
         "it has to read\n"
         "test.cfg:23: release writes setpoint: it takes numbers and keys alone\n"
         "test.cfg:23: release has no setpoint, so 'when' has no meaning in it\n"
         "test.cfg:15: \"keepalive\" is for the keepalive's own point\n"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++)
        assert_null(read_control(rows[i].control, rows[i].said));
}

/* ---- a site's part ---- */

/* 1 the type, 2 modbus, 3 control, 4 what else the device has. */
static bool read_device(const char *type, const char *modbus, const char *control, const char *more,
                        struct device_list *list, const char *said)
{
    struct given given;
    char text[4096];
    snprintf(text, sizeof text,
             "devices: { bess = ( { id = \"b\"; name = \"B\"; type = \"%s\";\n"
             "modbus: { host = \"h\"; address = 1; %s };\n"
             "control: { min_kw = -20; max_kw = 20; %s };\n%s } ); };\n",
             type, modbus, control, more);
    given_file("test.cfg", text);
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    const bool good = device_list_read(&given.cfg, cfg_member(root, "devices"), HERE, list);
    cfg_close(root);
    assert_said(&given, said);
    return good;
}

static void what_a_site_says(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_device("powerpack-direct", "device_timeout = \"5s\";",
                            "ramp_up = 5000; idle = \"release\";", "", &list, ""));
    const struct device *device = &list.devices[0];
    const struct device_control *control = &device->control;
    assert_ptr_equal(device_drive(device), &device->profile->drive);
    assert_true(control->drive.timeout_s == 5 && control->drive.idle_release);
    assert_true(control->drive.keys[0] == 5000 && control->drive.keys[1] == 100000);
    assert_int_equal(control->status, -1);
    assert_int_equal(control->setpoint, device_find_point(device, "target_power"));
    assert_int_equal(control->soe, device_find_point(device, "soe"));
    assert_true(device->points[control->setpoint].max == 20);
    /* A command names the setpoint and nothing behind its back. */
    for (unsigned i = 0; i < device->n_points; i++)
        assert_int_equal(device_may_write(device, i), (int)i == control->setpoint);
    device_list_free(&list);
    /* What is allowed and may surprise. */
    assert_true(read_device("powerpack-direct", "", "deadman: { timeout = \"9s\"; value = 2; };",
                            "", &list,
                            "test.cfg:3: warning: the deadman's 2 kW have no lease, so no "
                            "keepalive: the battery ends them itself after 10 s\n"));
    device_list_free(&list);
    assert_true(read_device("sungrow-sh", "", "positive_is = \"discharge\";",
                            "points = ( { name = \"target_power\"; low = -40; high = 40; } );",
                            &list, ""));
    device_list_free(&list);
}

static void what_a_site_says_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *type, *modbus, *control, *more, *said;
    } rows[] = {
        {"powerpack-direct", "device_timeout = \"2999ms\";", "", "",
         "test.cfg:2: device_timeout 2.999 s does not fit the register of timeout_s (s)\n"
         "test.cfg:2: device_timeout 2.999 s must be at least three times the keepalive's 1 s\n"},
        {"sungrow-sh", "device_timeout = \"9s\";", "", "",
         "test.cfg:2: type 'sungrow-sh' has no device_timeout that can be set\n"},
        {"victron-ess", "device_timeout = \"9s\";", "positive_is = \"discharge\";", "",
         "test.cfg:2: type 'victron-ess' has no device_timeout that can be set\n"
         "test.cfg:3: the type says how it is commanded, and positive is \"charge\" there: leave "
         "positive_is out\n"},
        {"powerpack-direct", "", "ready_status = [ 1 ]; command_source = 2; ramp_up = 1e10;", "",
         "test.cfg:3: ramp_up 1e+10 does not fit the register of ramp_up\n"
         "test.cfg:3: type 'powerpack-direct' writes no command_source\n"
         "test.cfg:3: type 'powerpack-direct' has no status to be ready\n"},
        {"victron-ess", "", "kw_per_block = 50;", "",
         "test.cfg:3: type 'victron-ess' does not say how many blocks there are\n"},
        {"sungrow-sh", "", "", "writable = [ \"forced_power\", \"target_power\" ];",
         "test.cfg:4: 'forced_power' is written by the type's control group alone: command "
         "target_power\n"
         "test.cfg:4: 'target_power' is written by the type's control group alone: command "
         "target_power\n"},
        {"sungrow-sh", "", "deadman: { timeout = \"9s\"; value = 0.0005; };",
         "points = ( { name = \"target_power\"; scale = 2; } );",
         "test.cfg:4: target_power is made of other points: only low, high and deadband are its "
         "own\n"
         "test.cfg:3: deadman value 0.0005 is finer than the register of target_power can hold\n"},
        {"powerpack", "device_timeout = \"9s\";",
         "ready_status = [ 1 ]; positive_is = \"discharge\"; idle = \"hold\";", "",
         "test.cfg:2: type 'powerpack' has no device_timeout that can be set\n"
         "test.cfg:3: type 'powerpack' does not say how it is let go: idle has no meaning\n"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct device_list list;
        assert_false(read_device(rows[i].type, rows[i].modbus, rows[i].control, rows[i].more, &list,
                                 rows[i].said));
        device_list_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percent_and_pairs),
        cmocka_unit_test(direction_and_size),
        cmocka_unit_test(a_setpoint_as_float),
        cmocka_unit_test(a_setpoint_in_watts),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(what_a_site_says),
        cmocka_unit_test(what_a_site_says_wrong),
    };
    return cmocka_run_group_tests_name("drive", tests, given_directory, remove_directory);
}
