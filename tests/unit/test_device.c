#include "given.h"

#include <math.h>

#include "devices/registers/codec.h"
#include "devices/registers/device.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *const HERE[] = {"profiles", FLUXBRIDGE_SOURCE_PROFILES, NULL};

/* Reads `text` as the `devices` group. Free the list in any case. */
static bool read_devices(const char *text, struct device_list *list, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    const struct cfg_setting *group = cfg_member(root, "devices");
    assert_non_null(group);
    bool good = device_list_read(&given.cfg, group, HERE, list);
    cfg_close(root);
    assert_int_equal(good, given.cfg.problems == 0);
    assert_said(&given, said);
    return good;
}

/* One battery, its parts on lines of their own:
 * 2 names, 3 modbus, 4 more of the device, 5 control. */
#define NAMES   "id = \"b1\"; name = \"B-1\"; type = \"powerpack\";"
#define MODBUS  "host = \"10.0.0.7\"; address = 1;"
#define CONTROL "ready_status = [ 1 ]; min_kw = -250.0; max_kw = 250; positive_is = \"discharge\";"

static const char *battery(const char *names, const char *modbus, const char *more,
                           const char *control)
{
    static char text[4096];
    snprintf(text, sizeof text, "devices: { bess = ( {\n%s\nmodbus: { %s };\n%s\n%s%s%s\n} ); };\n",
             names, modbus, more, control ? "control: { " : "", control ? control : "",
             control ? " };" : "");
    return text;
}

static void assert_bad(const char *text, const char *said)
{
    struct device_list list;
    char expected[1024];
    snprintf(expected, sizeof expected, "test.cfg:%s\n", said);
    assert_false(read_devices(text, &list, expected));
    device_list_free(&list);
}

static void assert_good(const char *text)
{
    struct device_list list;
    assert_true(read_devices(text, &list, ""));
    device_list_free(&list);
}

static void a_site_as_documented(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(
        "devices: {\n"
        "  bess = ( { id = \"6d1f\"; name = \"Site-BESS-01\"; type = \"powerpack\";\n"
        "    modbus: { host = \"192.168.1.100\"; port = 502; address = 1; timeout = \"5s\";\n"
        "              retry_count = 3; };\n"
        "    poll = \"1s\";\n"
        "    control: { ready_status = [ 1 ]; min_kw = -250.0; max_kw = 250.0;\n"
        "      positive_is = \"discharge\"; }; } );\n"
        "  meters = (\n"
        "    { id = \"a\"; name = \"Grid-Meter\"; type = \"acuvim2\"; poll = \"500ms\";\n"
        "      modbus: { host = \"192.168.1.101\"; port = 1502; address = 2; timeout = \"2s\"; }; "
        "},\n"
        "    { id = \"b\"; name = \"PV-Meter\"; type = \"acuvim2-vendor\";\n"
        "      modbus: { serial = \"/dev/ttyUSB0\"; address = 247; baud = 19200; parity = "
        "\"odd\";\n"
        "                data_bits = 8; stop_bits = 2; }; } );\n"
        "};\n",
        &list, ""));
    assert_int_equal(list.n_devices, 3);
    assert_int_equal(list.n_profiles, 3);
    assert_int_equal(list.n_links, 3);
    const struct device *b = &list.devices[0], *m = &list.devices[1], *s = &list.devices[2];
    assert_string_equal(b->id, "6d1f");
    assert_string_equal(b->name, "Site-BESS-01");
    assert_true(b->battery && b->controllable);
    assert_string_equal(b->profile->type, "powerpack");
    assert_int_equal(b->n_points, 5);
    assert_string_equal(b->modbus.host, "192.168.1.100");
    assert_string_equal(b->modbus.serial, "");
    assert_int_equal(b->modbus.port, 502);
    assert_int_equal(b->modbus.address, 1);
    assert_int_equal(b->modbus.timeout_ns, 5000000000);
    assert_int_equal(b->modbus.retry_count, 3);
    assert_int_equal(b->poll_ns, 1000000000);

    assert_false(m->battery || m->controllable);
    assert_int_equal(m->poll_ns, 500000000);
    assert_int_equal(m->modbus.port, 1502);
    assert_int_equal(m->modbus.timeout_ns, 2000000000);

    assert_string_equal(s->modbus.host, "");
    assert_string_equal(s->modbus.serial, "/dev/ttyUSB0");
    assert_int_equal(s->modbus.address, 247);
    assert_int_equal(s->modbus.baud, 19200);
    assert_int_equal(s->modbus.parity, DEVICE_PARITY_ODD);
    assert_int_equal(s->modbus.data_bits, 8);
    assert_int_equal(s->modbus.stop_bits, 2);
    device_list_free(&list);
}

static void defaults(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices(battery(NAMES, MODBUS, "", CONTROL), &list, ""));
    const struct device *device = list.devices;
    const struct device_modbus *modbus = &device->modbus;
    assert_int_equal(device->poll_ns, 1000000000);
    assert_int_equal(modbus->port, 502);
    assert_int_equal(modbus->timeout_ns, 5000000000);
    assert_int_equal(modbus->retry_count, 3);
    assert_int_equal(modbus->baud, 9600);
    assert_int_equal(modbus->parity, DEVICE_PARITY_NONE);
    assert_int_equal(modbus->data_bits, 8);
    assert_int_equal(modbus->stop_bits, 1);
    const struct device_control *control = &device->control;
    assert_int_equal(control->n_ready, 1);
    assert_int_equal(control->ready_status[0], 1);
    assert_true(control->min_kw == -250 && control->max_kw == 250);
    assert_true(control->soe_min == 10 && control->soe_max == 90);
    assert_int_equal(control->ttl_ns, 10000000000);
    assert_int_equal(control->max_clock_skew_ns, 2000000000);
    assert_false(control->allow_bare);
    assert_int_equal(control->on_exit, DEVICE_HOLD);
    assert_true(isnan(control->kw_per_block) && isnan(control->max_step_kw));
    assert_int_equal(control->min_interval_ns, 0);
    assert_int_equal(control->command_source, -1);
    assert_int_equal(control->deadman_timeout_ns, 0);
    assert_true(control->deadman_value == 0);
    device_list_free(&list);
}

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

static void faulty_devices(void **state)
{
    (void)state;
    static const struct {
        const char *names, *more, *said;
    } rows[] = {
        {"", "",
         "1: missing key 'id'\ntest.cfg:1: missing key 'name'\ntest.cfg:1: missing key 'type'"},
        {"id = \"\"; name = \"a\"; type = \"powerpack\";", "", "2: id must not be empty"},
        {"id = \"a\tb\"; name = \"a\"; type = \"powerpack\";", "",
         "2: id must be UTF-8 without control characters"},
        {"id = \"a\"; name = \"\"; type = \"powerpack\";", "", "2: name must not be empty"},
        {"id = \"a\"; name = \"a/b\"; type = \"powerpack\";", "",
         "2: name 'a/b' is not 1 to 64 of A-Z a-z 0-9 _ -"},
        {"id = \"a\"; name = \"Bridge\"; type = \"powerpack\";", "",
         "2: a device cannot be called 'bridge': that topic is the bridge's own"},
        {"id = \"a\"; name = \"1234567890123456789012345678901234567890123456789012345678901234x\";"
         "type = \"powerpack\";",
         "", "2: name is longer than 64 bytes"},
        {"id = \"a\"; name = \"a\"; type = \"nope\";", "",
         "2: no profile for type 'nope': nope.cfg is not in profiles, " FLUXBRIDGE_SOURCE_PROFILES},
        {"id = \"a\"; name = \"a\"; type = \"../x\";", "",
         "2: type '../x' is not made of letters, digits, - and _"},
        {NAMES, "poll = \"9ms\";", "4: poll must be from 10ms to 1h, not 9ms"},
        {NAMES, "poll = \"61m\";", "4: poll must be from 10ms to 1h, not 61m"},
        {NAMES, "pol = \"1s\";", "4: unknown key 'pol'"},
        {NAMES, "control = 5;", "4: control must be a group: { key = value; ... }"},
        {NAMES, "points = 5;", "4: points must be a list: ( { name = \"...\"; scale = 0.1; } )"},
        {NAMES, "points = ( { scale = 1; } );", "4: missing key 'name'"},
        {NAMES, "points = ( { name = \"so\"; } );", "4: type 'powerpack' has no point 'so'"},
        {NAMES, "points = ( { name = \"soe\"; address = 5; } );", "4: unknown key 'address'"},
        {NAMES, "points = ( { name = \"soe\"; scale = 0; } );", "4: soe: scale must not be 0"},
        {NAMES, "points = ( { name = \"soe\"; scale = 1e999; } );",
         "4: scale must be a finite number, not inf"},
        {NAMES, "points = ( { name = \"status\"; scale = 2; } );",
         "4: status: a bool or an enumeration has no scale"},
        {NAMES, "points = ( { name = \"soe\"; low = 6; high = 5; } );",
         "4: soe: low 6 is above high 5"},
        {NAMES, "points = ( { name = \"soe\"; low = 101; } );",
         "4: soe: low 101 is above high 100"},
        {NAMES, "points = ( { name = \"soe\"; deadband = -1; } );",
         "4: deadband must be from 0 to 1000000000000, not -1"},
        {NAMES, "points = ( { name = \"soe\"; counter = 1; } );",
         "4: counter must be true or false"},
        {NAMES, "points = ( { name = \"soe\"; sentinels = [ ]; } );",
         "4: sentinels must be [ 1 to 4 whole numbers ], such as [ 0xFFFF ]"},
        {NAMES, "longest_silence = \"9ms\";",
         "4: longest_silence must be from 10ms to 24h, not 9ms"},
        {NAMES, "longest_silence = \"25h\";",
         "4: longest_silence must be from 10ms to 24h, not 25h"},
        {NAMES, "points = ( { name = \"soe\"; }, { name = \"soe\"; } );",
         "4: point 'soe' stands here twice"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++)
        assert_bad(battery(rows[i].names, MODBUS, rows[i].more, NULL), rows[i].said);
    assert_good(
        battery("id = \"1234567890123456789012345678901234567890123456789012345678901234\";"
                "name = \"1234567890123456789012345678901234567890123456789012345678901234\";"
                "type = \"powerpack\";",
                MODBUS, "", NULL));
    assert_good(battery(NAMES, MODBUS, "poll = \"10ms\";", NULL));
    assert_good(battery(NAMES, MODBUS, "poll = \"1h\";", NULL));
}

static void faulty_modbus(void **state)
{
    (void)state;
    static const struct {
        const char *modbus, *said;
    } rows[] = {
        {"address = 1;", "modbus needs either host or serial"},
        {"host = \"h\"; serial = \"/dev/x\"; address = 1;",
         "modbus needs either host or serial, not both"},
        {"host = \"\"; address = 1;", "host must not be empty"},
        {"host = \"h\";", "missing key 'address'"},
        {"host = \"h\"; framing = \"rtu\"; address = 0;",
         "address 0 is the broadcast: every device would obey and none would answer"},
        {"host = \"h\"; address = -1;", "address must be from 0 to 255, not -1"},
        {"host = \"h\"; address = 256;", "address must be from 0 to 255, not 256"},
        {"host = \"h\"; framing = \"rtu\"; address = 248;",
         "address must be from 1 to 247, not 248"},
        {"host = \"tcp://1.2.3.4\"; address = 1;",
         "host \"tcp://1.2.3.4\": give a name or an address alone: host = \"192.168.1.100\""},
        {"host = \"1.2.3.4:502\"; address = 1;",
         "host \"1.2.3.4:502\": a port has a key of its own: host = \"192.168.1.100\"; "
         "port = 502"},
        {"host = \"192.168.1.300\"; address = 1;",
         "host \"192.168.1.300\": an IPv4 address is four numbers from 0 to 255"},
        {"host = \"[::1]\"; address = 1;",
         "host \"[::1]\": an IPv6 address stands here without brackets, and a port has a key of "
         "its own"},
        {"host = \"h\"; framing = \"tpc\"; address = 1;",
         "framing must be \"tcp\", \"rtu\" or \"ascii\""},
        {"host = \"h\"; transport = \"ip\"; address = 1;", "transport must be \"tcp\" or \"udp\""},
        {"host = \"h\"; transport = \"udp\"; tls: { }; address = 1;",
         "tls has no meaning together with transport \"udp\""},
        {"host = \"h\"; framing = \"ascii\"; tls: { }; address = 1;",
         "tls has no meaning together with framing \"rtu\" or \"ascii\""},
        {"host = \"h\"; framing = \"rtu\"; loose_transaction_id = true; address = 1;",
         "loose_transaction_id has no meaning together with framing \"rtu\" or \"ascii\""},
        {"host = \"h\"; echo = true; address = 1;",
         "echo has no meaning together with framing \"tcp\""},
        {"host = \"h\"; tls: { cert_file = \"/a\"; }; address = 1;",
         "cert_file and key_file go together"},
        {"host = \"h\"; tls: { ca = \"/a\"; }; address = 1;", "unknown key 'ca'"},
        {"serial = \"/dev/x\"; framing = \"tcp\"; address = 1;",
         "a serial line has framing \"rtu\" or \"ascii\""},
        {"serial = \"/dev/x\"; transport = \"tcp\"; address = 1;",
         "transport has no meaning together with serial"},
        {"serial = \"/dev/x\"; tls: { }; address = 1;", "tls has no meaning together with serial"},
        {"host = \"h\"; address = 1; request_gap = \"11s\";",
         "request_gap must be from 0ms to 10s, not 11s"},
        {"host = \"h\"; address = 1; connect_delay = \"61s\";",
         "connect_delay must be from 0ms to 1m, not 61s"},
        {"serial = \"/dev/x\"; address = 0;",
         "address 0 is the broadcast: every device would obey and none would answer"},
        {"serial = \"/dev/x\"; address = 248;", "address must be from 1 to 247, not 248"},
        {"host = \"h\"; address = 1; port = 0;", "port must be from 1 to 65535, not 0"},
        {"host = \"h\"; address = 1; port = 65536;", "port must be from 1 to 65535, not 65536"},
        {"host = \"h\"; address = 1; timeout = \"9ms\";",
         "timeout must be from 10ms to 1m, not 9ms"},
        {"host = \"h\"; address = 1; timeout = \"61s\";",
         "timeout must be from 10ms to 1m, not 61s"},
        {"host = \"h\"; address = 1; retry_count = 0;", "retry_count must be from 1 to 10, not 0"},
        {"host = \"h\"; address = 1; retry_count = 11;",
         "retry_count must be from 1 to 10, not 11"},
        {"host = \"h\"; address = 1; baud = 9600;", "baud has no meaning together with host"},
        {"host = \"h\"; address = 1; parity = \"none\";",
         "parity has no meaning together with host"},
        {"host = \"h\"; address = 1; data_bits = 8;",
         "data_bits has no meaning together with host"},
        {"host = \"h\"; address = 1; stop_bits = 1;",
         "stop_bits has no meaning together with host"},
        {"serial = \"/dev/x\"; address = 1; port = 502;",
         "port has no meaning together with serial"},
        {"serial = \"/dev/x\"; address = 1; parity = \"mark\";",
         "parity must be \"none\", \"even\" or \"odd\""},
        {"serial = \"/dev/x\"; address = 1; baud = 299;",
         "baud must be from 300 to 921600, not 299"},
        {"serial = \"/dev/x\"; address = 1; baud = 921601;",
         "baud must be from 300 to 921600, not 921601"},
        {"serial = \"/dev/x\"; address = 1; baud = 9601;",
         "baud 9601 is not a rate of serial lines"},
        {"serial = \"/dev/x\"; address = 1; data_bits = 7;",
         "data_bits = 7 is for framing \"ascii\": RTU has always eight"},
        {"serial = \"/dev/x\"; address = 1; data_bits = 9;",
         "data_bits must be from 7 to 8, not 9"},
        {"serial = \"/dev/x\"; address = 1; stop_bits = 0;",
         "stop_bits must be from 1 to 2, not 0"},
        {"serial = \"/dev/x\"; address = 1; stop_bits = 3;",
         "stop_bits must be from 1 to 2, not 3"},
        {"hots = \"h\"; host = \"h\"; address = 1;", "unknown key 'hots'"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char said[256];
        snprintf(said, sizeof said, "3: %s", rows[i].said);
        assert_bad(battery(NAMES, rows[i].modbus, "", NULL), said);
    }
    static const char *const good[] = {
        "host = \"h\"; address = 255; port = 65535; timeout = \"10ms\"; retry_count = 1;",
        "host = \"::1\"; address = 1; port = 1; timeout = \"60s\"; retry_count = 10;",
        "serial = \"/dev/x\"; address = 247; baud = 300; parity = \"even\";",
        "serial = \"/dev/x\"; address = 1; baud = 921600;",
        "serial = \"/dev/x\"; address = 1; framing = \"ascii\"; data_bits = 7; echo = true;",
        "host = \"h\"; framing = \"rtu\"; transport = \"udp\"; address = 1; echo = true;",
        "host = \"fe80::1%eth0\"; address = 1; tls: { cert_file = \"/a\"; key_file = \"/b\"; };",
        "host = \"meter_1.site-2.example.\"; address = 1; loose_transaction_id = true;",
        "host = \"h\"; address = 1; request_gap = \"50ms\"; connect_delay = \"200ms\";",
    };
    for (unsigned i = 0; i < COUNT(good); i++)
        assert_good(battery(NAMES, good[i], "", NULL));
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

/* The lists that change a device's own rows. */
static void a_device_of_its_own(void **state)
{
    (void)state;
    static const char PROFILE[] =
        "word_order = \"cdab\"; points = (\n"
        "{ name = \"a\"; address = 10; type = \"int32\"; access = \"rw\"; max = 5; },\n"
        "{ name = \"b\"; address = 12; type = \"int32\"; word_order = \"abcd\"; },\n"
        "{ name = \"c\"; address = 1; type = \"bool\"; function = 1; access = \"rw\"; },\n"
        "{ name = \"m\"; address = 3; type = \"int16\"; sunspec_model = 1; } );";
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

static void write_limits_fix_scale_and_unit(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p profiles"), 0);
    given_file("profiles/t.cfg", "points = ( { name = \"p\"; address = 0; type = \"int16\";"
                                 " unit = \"kW\"; access = \"rw\"; max = 5; } );");
    assert_bad(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                       "points = ( { name = \"p\"; scale = 2; } );", NULL),
               "4: p has write limits in kW: its scale and unit are fixed");
    assert_bad(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                       "points = ( { name = \"p\"; unit = \"\"; } );", NULL),
               "4: p has write limits in kW: its scale and unit are fixed");
    assert_good(battery("id = \"a\"; name = \"a\"; type = \"t\";", MODBUS,
                        "points = ( { name = \"p\"; high = 5; } );", NULL));
}

static void problems_of_a_profile_are_told_once(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p profiles"), 0);
    given_file("profiles/bad.cfg",
               "\npoints = ( { name = \"P\"; address = 0; type = \"int16\"; } );");
    struct device_list list;
    assert_false(read_devices(
        "devices: { meters = (\n"
        "{ id = \"a\"; name = \"a\"; type = \"bad\"; modbus: { host = \"h\"; address = 1; }; },\n"
        "{ id = \"b\"; name = \"b\"; type = \"bad\"; modbus: { host = \"h\"; address = 2; }; } ); "
        "};\n",
        &list, "profiles/bad.cfg:2: 'P': a point's name is made of a-z, 0-9 and _\n"));
    device_list_free(&list);
}

/* Two meters; the second one's names and link are given. */
static const char *two(const char *names, const char *first, const char *second)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "devices: { meters = (\n"
             "{ id = \"Aa\"; name = \"Grid\"; type = \"acuvim2\"; modbus: { %s }; },\n"
             "{ %s type = \"acuvim2\";\nmodbus: { %s }; } ); };\n",
             first, names, second);
    return text;
}

static void names_and_ids_are_unique(void **state)
{
    (void)state;
    static const char FIRST[] = "host = \"h\"; address = 1;",
                      SECOND[] = "host = \"h\"; address = 2;";
    assert_good(two("id = \"b\"; name = \"Grid2\";", FIRST, SECOND));
    assert_bad(two("id = \"b\"; name = \"gRID\";", FIRST, SECOND),
               "3: name 'gRID' is taken by another device, letter case aside");
    assert_bad(two("id = \"aA\"; name = \"b\";", FIRST, SECOND),
               "3: id 'aA' is taken by device 'Grid'");
}

static void who_shares_a_link(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second, *said;
        unsigned links;
    } rows[] = {
        {"host = \"h\"; address = 1;", "host = \"H\"; port = 502; address = 2;", "", 1},
        {"host = \"h\"; address = 1;", "host = \"h\"; port = 503; address = 1;", "", 2},
        {"host = \"h\"; address = 1;", "host = \"i\"; address = 1;", "", 2},
        {"serial = \"/dev/a\"; address = 1;", "serial = \"/dev/a\"; address = 2;", "", 1},
        {"serial = \"/dev/a\"; address = 1;", "serial = \"/dev/A\"; address = 1;", "", 2},
        {"serial = \"/dev/a\"; address = 1;", "host = \"h\"; address = 1;", "", 2},
        {"host = \"h\"; address = 1;", "host = \"h\"; address = 1;",
         "test.cfg:4: warning: device 'Grid' has the same link and address 1\n", 1},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct device_list list;
        assert_true(read_devices(two("id = \"b\"; name = \"b\";", rows[i].first, rows[i].second),
                                 &list, rows[i].said));
        assert_int_equal(list.n_links, rows[i].links);
        assert_int_equal(list.devices[0].link, 0);
        assert_int_equal(list.devices[1].link, rows[i].links - 1);
        device_list_free(&list);
    }
}

static void a_serial_line_has_one_setting(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } others[] = {
        {"baud", "19200"},        {"parity", "\"even\""},     {"stop_bits", "2"},
        {"framing", "\"ascii\""}, {"request_gap", "\"1ms\""}, {"connect_delay", "\"1ms\""},
        {"echo", "true"}};
    for (unsigned i = 0; i < COUNT(others); i++) {
        char second[128], said[128];
        snprintf(second, sizeof second, "serial = \"/dev/a\"; address = 2; %s = %s;", others[i].key,
                 others[i].value);
        snprintf(said, sizeof said,
                 "4: %s of /dev/a is set otherwise by device 'Grid': it must be the same",
                 others[i].key);
        assert_bad(two("id = \"b\"; name = \"b\";", "serial = \"/dev/a\"; address = 1;", second),
                   said);
    }
}

static void links_are_numbered_in_order(void **state)
{
    (void)state;
    struct device_list list;
    assert_true(read_devices("devices: { meters = (\n"
                             "{ id = \"a\"; name = \"a\"; type = \"acuvim2\"; modbus: { host = "
                             "\"x\"; address = 1; }; },\n"
                             "{ id = \"b\"; name = \"b\"; type = \"acuvim2\"; modbus: { host = "
                             "\"y\"; address = 1; }; },\n"
                             "{ id = \"c\"; name = \"c\"; type = \"acuvim2\"; modbus: { host = "
                             "\"x\"; address = 2; }; },\n"
                             "{ id = \"d\"; name = \"d\"; type = \"acuvim2\"; modbus: { host = "
                             "\"z\"; address = 1; }; },\n"
                             "{ id = \"e\"; name = \"e\"; type = \"acuvim2\"; modbus: { host = "
                             "\"y\"; address = 2; }; }\n"
                             "); };\n",
                             &list, ""));
    static const unsigned links[] = {0, 1, 0, 2, 1};
    assert_int_equal(list.n_links, 3);
    assert_int_equal(list.n_profiles, 1);
    for (unsigned i = 0; i < COUNT(links); i++)
        assert_int_equal(list.devices[i].link, links[i]);
    device_list_free(&list);
}

/* Links of their own have serial lines and batteries under control, whichever
 * device of the link that is; all others share one thread. */
static void who_has_a_poller_of_his_own(void **state)
{
    (void)state;
    static const char control[] = "control: { " CONTROL " };";
    static const struct {
        const char *bess[3], *meters[3]; /* modbus; one that begins with '!' is under control */
        unsigned pollers[6];
        unsigned n;
    } rows[] = {
        {{"host = \"a\"; address = 1;"}, {"host = \"b\"; address = 1;"}, {0, 0}, 1},
        {{"!host = \"a\"; address = 1;"}, {"host = \"b\"; address = 1;"}, {0, 1}, 2},
        {{"!host = \"a\"; address = 1;", "!host = \"b\"; address = 1;"}, {NULL}, {0, 1}, 2},
        /* a meter behind the battery's gateway */
        {{"!host = \"a\"; address = 1;"},
         {"host = \"b\"; address = 1;", "host = \"a\"; address = 2;", "host = \"c\"; address = 1;"},
         {0, 1, 0, 1},
         2},
        /* the second battery of a link is the one under control */
        {{"host = \"a\"; address = 1;", "host = \"b\"; address = 1;",
          "!host = \"a\"; address = 2;"},
         {"host = \"c\"; address = 1;"},
         {0, 1, 0, 1},
         2},
        {{NULL},
         {"serial = \"/dev/a\"; address = 1;", "host = \"b\"; address = 1;",
          "serial = \"/dev/a\"; address = 2;"},
         {0, 1, 0},
         2},
        {{"host = \"a\"; address = 1;"},
         {"serial = \"/dev/a\"; address = 1;", "serial = \"/dev/b\"; address = 1;",
          "host = \"a\"; port = 503; address = 1;"},
         {0, 1, 2, 0},
         3},
    };
    for (unsigned row = 0; row < COUNT(rows); row++) {
        char text[4096] = "devices: { bess = ( ";
        struct device_list list;
        unsigned n = 0;
        for (unsigned i = 0; i < 6; i++) {
            const char *modbus = i < 3 ? rows[row].bess[i] : rows[row].meters[i - 3];
            size_t size = strlen(text);
            if (i == 3)
                size += (size_t)snprintf(text + size, sizeof text - size, " ); meters = ( ");
            if (modbus == NULL)
                continue;
            bool controlled = modbus[0] == '!';
            snprintf(text + size, sizeof text - size,
                     "%s{ id = \"d%u\"; name = \"d%u\"; type = \"powerpack\"; modbus: { %s }; %s }",
                     i % 3 == 0 ? "" : ", ", i, i, modbus + controlled, controlled ? control : "");
            n++;
        }
        strcat(text, " ); };");
        assert_true(read_devices(text, &list, ""));
        assert_int_equal(list.n_devices, n);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(list.devices[i].poller, rows[row].pollers[i]);
        assert_int_equal(list.n_pollers, rows[row].n);
        device_list_free(&list);
    }
}

static void faulty_lists(void **state)
{
    (void)state;
    assert_bad("devices: { };", "1: no devices: bess and meters are both empty");
    assert_bad("devices: { bess = (); meters = (); };",
               "1: no devices: bess and meters are both empty");
    assert_bad("devices = 5;", "1: devices must be a group: { key = value; ... }");
    assert_bad("devices: {\nbess: { id = \"a\"; }; };",
               "2: bess must be a list: ( { ... }, { ... } )\n"
               "test.cfg:1: no devices: bess and meters are both empty");
    assert_bad("devices: { meters = ( 5 ); };",
               "1: this element must be a group: { key = value; ... }");
    assert_bad("devices: {\nmeter = ( ); };",
               "2: unknown key 'meter'\n"
               "test.cfg:1: no devices: bess and meters are both empty");
    assert_bad("devices: { meters = ( { id = \"a\"; name = \"a\"; type = \"acuvim2\";\n"
               "modbus: { host = \"h\"; address = 1; };\ncontrol: { }; } ); };",
               "3: a meter takes no commands: control is for devices in bess");
}

static void one_run_shows_all_problems(void **state)
{
    (void)state;
    assert_bad(
        battery("id = \"a\"; name = \"a b\"; type = \"powerpack\";", "host = \"h\"; address = 256;",
                "poll = \"1\"; points = ( { name = \"so\"; } );",
                "ready_status = [ ]; min_kw = 0; max_kw = 50000; ttl = 5;"),
        "4: poll must be a duration with its unit, such as \"500ms\", \"5s\", \"1m\" or \"2h\"\n"
        "test.cfg:2: name 'a b' is not 1 to 64 of A-Z a-z 0-9 _ -\n"
        "test.cfg:3: address must be from 0 to 255, not 256\n"
        "test.cfg:4: type 'powerpack' has no point 'so'\n"
        "test.cfg:5: ttl must be a duration with its unit, such as \"500ms\", \"5s\", \"1m\" or "
        "\"2h\"\n"
        "test.cfg:5: missing key 'positive_is'\n"
        "test.cfg:5: ready_status must be [ 1 to 16 numbers ], such as [ 1 ]\n"
        "test.cfg:5: max_kw 50000 does not fit the register of target_power");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_site_as_documented),
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key_of_control),
        cmocka_unit_test(the_sign_is_turned_at_the_register),
        cmocka_unit_test(what_may_be_written),
        cmocka_unit_test(scale_and_unit_of_a_device),
        cmocka_unit_test(plausible_values_of_a_device),
        cmocka_unit_test(a_turned_range),
        cmocka_unit_test(faulty_devices),
        cmocka_unit_test(faulty_modbus),
        cmocka_unit_test(the_line_of_a_limit),
        cmocka_unit_test(a_device_of_its_own),
        cmocka_unit_test(faulty_control),
        cmocka_unit_test(faulty_ready_status),
        cmocka_unit_test(types_that_cannot_be_controlled),
        cmocka_unit_test(write_limits_fix_scale_and_unit),
        cmocka_unit_test(problems_of_a_profile_are_told_once),
        cmocka_unit_test(names_and_ids_are_unique),
        cmocka_unit_test(who_shares_a_link),
        cmocka_unit_test(a_serial_line_has_one_setting),
        cmocka_unit_test(links_are_numbered_in_order),
        cmocka_unit_test(who_has_a_poller_of_his_own),
        cmocka_unit_test(faulty_lists),
        cmocka_unit_test(one_run_shows_all_problems),
    };
    return cmocka_run_group_tests_name("device", tests, given_directory, remove_directory);
}
