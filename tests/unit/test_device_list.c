#include "devices_bed.h"

#include <math.h>

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
        {NAMES, "poll = \"0.9ms\";", "4: poll must be from 1ms to 1h, not 0.9ms"},
        {NAMES, "poll = \"61m\";", "4: poll must be from 1ms to 1h, not 61m"},
        {NAMES, "pol = \"1s\";", "4: unknown key 'pol': is 'poll' meant?"},
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
    assert_good(battery(NAMES, MODBUS, "poll = \"1ms\";", NULL));
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
        {"host = \"0.0.0.0\"; address = 1;", "host \"0.0.0.0\": this is no address of a device"},
        {"host = \"255.255.255.255\"; address = 1;",
         "host \"255.255.255.255\": this is no address of a device"},
        {"host = \"239.1.2.3\"; address = 1;",
         "host \"239.1.2.3\": this is no address of a device"},
        {"host = \"::\"; address = 1;", "host \"::\": this is no address of a device"},
        {"host = \"ff02::1\"; address = 1;", "host \"ff02::1\": this is no address of a device"},
        {"host = \"fe80::1\"; address = 1;",
         "host \"fe80::1\": an address of one link needs its interface: fe80::1%eth0"},
        {"host = \"::1%\"; address = 1;",
         "host \"::1%\": an address of one link needs its interface: fe80::1%eth0"},
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
        {"hots = \"h\"; host = \"h\"; address = 1;", "unknown key 'hots': is 'host' meant?"},
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

/* However many there are of one name, id and address. */
static void what_clashes_is_said_once_a_device(void **state)
{
    (void)state;
    static const char SAME[] = "id = \"a\"; name = \"A\"; type = \"acuvim2\"; poll = \"1s\";";
    static const char *const clashes[] = {"name 'A' is taken by another device, letter case aside",
                                          "id 'a' is taken by device 'A'",
                                          "warning: device 'A' has the same link and address 1"};
    char text[1024], said[1024];
    struct device_list list;
    size_t n = 0;
    (void)snprintf(text, sizeof text,
                   "devices: { meters = (\n{ %s modbus: { host = \"h\"; address = 1; }; },\n"
                   "{ %s modbus: { host = \"h\"; address = 1; }; },\n"
                   "{ %s modbus: { host = \"h\"; address = 1; }; },\n"
                   "{ %s modbus: { host = \"h\"; address = 1; }; } ); };\n",
                   SAME, SAME, SAME, SAME);
    for (unsigned line = 3; line <= 5; line++)
        for (unsigned i = 0; i < COUNT(clashes); i++)
            n += (size_t)snprintf(said + n, sizeof said - n, "test.cfg:%u: %s\n", line, clashes[i]);
    assert_false(read_devices(text, &list, said));
    device_list_free(&list);
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
               "2: unknown key 'meter': is 'meters' meant?\n"
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
        cmocka_unit_test(faulty_devices),
        cmocka_unit_test(faulty_modbus),
        cmocka_unit_test(problems_of_a_profile_are_told_once),
        cmocka_unit_test(names_and_ids_are_unique),
        cmocka_unit_test(who_shares_a_link),
        cmocka_unit_test(what_clashes_is_said_once_a_device),
        cmocka_unit_test(a_serial_line_has_one_setting),
        cmocka_unit_test(links_are_numbered_in_order),
        cmocka_unit_test(who_has_a_poller_of_his_own),
        cmocka_unit_test(faulty_lists),
        cmocka_unit_test(one_run_shows_all_problems),
    };
    return cmocka_run_group_tests_name("device_list", tests, given_directory, remove_directory);
}
