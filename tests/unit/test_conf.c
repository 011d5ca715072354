/* Every rule of the configuration file, each with the message and line a user
 * gets, and the values that a good one gives. */
#include "bridge/site/conf.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "tests/unit/given.h"

/* A good file, line by line; a case puts its own text in place of one of them. */
#define SITE  "site = \"demo\";\n"
#define MQTT  "mqtt: { url = \"mqtt://localhost\"; };\n"
#define AUDIT "audit: { path = \"/var/lib/audit.jsonl\"; };\n"
#define METER                                                                                      \
    "devices: { meters = ( { id = \"m\"; name = \"Meter\"; type = \"acuvim2\"; "                   \
    "modbus: { host = \"127.0.0.1\"; address = 1; }; } ); };\n"
#define CONTROL "ready_status = [ 1 ]; min_kw = -250; max_kw = 250; positive_is = \"discharge\";"
#define BATTERY(control)                                                                           \
    "devices: { bess = ( { id = \"b\"; name = \"BESS\"; type = \"powerpack\";\n"                   \
    "modbus: { host = \"127.0.0.1\"; address = 1; };\n"                                            \
    "control: { " control " }; } ); };\n"

#define MQTT_WITH(keys) SITE "mqtt: { url = \"mqtt://localhost\"; " keys " };\n" METER
#define WITH(group)     SITE MQTT METER group

/* Reads a text as test.cfg. Returns what was said; free() it, conf_free() conf. */
static char *say(const char *text, bool *good, struct conf *conf)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    *good = conf_read(&given.cfg, "test.cfg", conf);
    fclose(given.cfg.out);
    return given.said;
}

struct rule {
    const char *text;
    const char *said; /* warnings alone keep the file good */
    bool good;
};

static void assert_rules(const struct rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct conf conf;
        bool good;
        char *said = say(rules[i].text, &good, &conf);
        if (strcmp(said, rules[i].said) != 0 || good != rules[i].good)
            fail_msg("%s\nsaid: %s\nnot: %s\ngood: %d", rules[i].text, said, rules[i].said, good);
        free(said);
        conf_free(&conf);
    }
}

#define RULES(rules) assert_rules(rules, sizeof(rules) / sizeof((rules)[0]))

/* A good file says nothing. */
static void read_good(const char *text, struct conf *conf)
{
    bool good;
    char *said = say(text, &good, conf);
    assert_string_equal(said, "");
    assert_true(good);
    free(said);
}

static void test_defaults(void **state)
{
    (void)state;
    struct conf conf;
    read_good(SITE MQTT METER, &conf);
    assert_string_equal(conf.site, "demo");
    assert_string_equal(conf.mqtt.url, "mqtt://localhost");
    assert_int_equal(conf.mqtt.version, 5);
    assert_int_equal(conf.mqtt.keepalive_ns, 15 * CLOCK_NS_PER_S);
    assert_int_equal(conf.mqtt.qos, 1);
    assert_string_equal(conf.mqtt.prefix, "flux");
    assert_string_equal(conf.mqtt.client_id, "fluxbridge-demo");
    assert_string_equal(conf.mqtt.username, "");
    assert_string_equal(conf.mqtt.ca_file, "");
    assert_true(conf.mqtt.device_wills);
    assert_false(conf.ha_enabled);
    assert_string_equal(conf.ha_prefix, "homeassistant");
    assert_string_equal(conf.spool_path, "");
    assert_int_equal(conf.spool_max_size, 256 << 20);
    assert_string_equal(conf.audit_path, "");
    assert_int_equal(conf.log_level, LOG_LEVEL_INFO);
    assert_int_equal(conf.devices.n_devices, 1);
    assert_int_equal(conf.devices.n_links, 1);
    conf_free(&conf);
}

static void test_every_key(void **state)
{
    (void)state;
    struct conf conf;
    given_file("password", "secret word\r\nnot this\n");
    given_file("ca.pem", "");
    given_file("cert.pem", "");
    given_file("key.pem", "");
    read_good("site = \"A_b-9\";\n"
              "mqtt: { url = \"mqtts://broker\"; version = 4; keepalive = \"1m\"; qos = 0;\n"
              "prefix = \"plant 1/flux\"; client_id = \"my.bridge:1\"; device_wills = false;\n"
              "username = \"me\"; password_file = \"password\";\n"
              "tls: { ca_file = \"ca.pem\"; cert_file = \"cert.pem\"; key_file = \"key.pem\"; };\n"
              "};\n"
              "home_assistant: { enabled = false; prefix = \"ha\"; };\n"
              "log: { level = \"debug\"; };\n" AUDIT METER,
              &conf);
    assert_string_equal(conf.site, "A_b-9");
    assert_int_equal(conf.mqtt.version, 4);
    assert_int_equal(conf.mqtt.keepalive_ns, 60 * CLOCK_NS_PER_S);
    assert_int_equal(conf.mqtt.qos, 0);
    assert_string_equal(conf.mqtt.prefix, "plant 1/flux");
    assert_string_equal(conf.mqtt.client_id, "my.bridge:1");
    assert_false(conf.mqtt.device_wills);
    assert_string_equal(conf.mqtt.username, "me");
    assert_string_equal(conf.mqtt.ca_file, "ca.pem");
    assert_string_equal(conf.mqtt.cert_file, "cert.pem");
    assert_string_equal(conf.mqtt.key_file, "key.pem");
    assert_string_equal(conf.ha_prefix, "ha");
    assert_string_equal(conf.audit_path, "/var/lib/audit.jsonl");
    assert_int_equal(conf.log_level, LOG_LEVEL_DEBUG);
    conf_free(&conf);
}

/* libconfig 1.5 gives no float for `min_kw = -250;`: limits written as integers
 * must not vanish. */
static void test_integer_limits(void **state)
{
    (void)state;
    struct conf conf;
    read_good(SITE MQTT AUDIT BATTERY(CONTROL "soe_min = 20; soe_max = 80; kw_per_block = 50;"
                                              "max_step_kw = 25;"),
              &conf);
    const struct device_control *control = &conf.devices.devices[0].control;
    assert_true(conf.devices.devices[0].controllable);
    assert_float_equal(control->min_kw, -250, 0);
    assert_float_equal(control->max_kw, 250, 0);
    assert_float_equal(control->soe_min, 20, 0);
    assert_float_equal(control->soe_max, 80, 0);
    assert_float_equal(control->kw_per_block, 50, 0);
    assert_float_equal(control->max_step_kw, 25, 0);
    conf_free(&conf);

    read_good(SITE "mqtt: { url = \"mqtt://localhost\"; qos = 0.0; version = 4.0; };\n" METER,
              &conf);
    assert_int_equal(conf.mqtt.qos, 0);
    assert_int_equal(conf.mqtt.version, 4);
    conf_free(&conf);
}

static void test_good_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host;
        int port;
        bool tls;
    } urls[] = {
        {"mqtt://localhost", "localhost", 1883, false},
        {"mqtts://localhost", "localhost", 8883, true},
        {"mqtt://broker-1.example_site.org:1", "broker-1.example_site.org", 1, false},
        {"mqtts://10.0.0.7:65535", "10.0.0.7", 65535, true},
        {"mqtt://[::1]", "::1", 1883, false},
        {"mqtts://[fd00::a:1]:8884", "fd00::a:1", 8884, true},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct conf conf;
        char text[1024];
        snprintf(text, sizeof text, SITE "mqtt: { url = \"%s\"; };\n" METER, urls[i].url);
        read_good(text, &conf);
        assert_string_equal(conf.mqtt.host, urls[i].host);
        assert_int_equal(conf.mqtt.port, urls[i].port);
        assert_int_equal(conf.mqtt.tls, urls[i].tls);
        conf_free(&conf);
    }
}

static void test_bad_urls(void **state)
{
    (void)state;
    static const char scheme[] = "must begin with mqtt:// or mqtts://";
    static const char user[] =
        "must hold no user name: there are username and password_file for it";
    static const char path[] = "must end after host and port: MQTT knows no path";
    static const char port[] = "must end with a port from 1 to 65535";
    static const char v4[] = "has no IPv4 address of four numbers from 0 to 255";
    static const char v6[] = "has no IPv6 address in its brackets";
    static const char *const urls[][2] = {
        {"localhost", scheme},
        {"tcp://localhost", scheme},
        {"mqtt:localhost", scheme},
        {"MQTT://localhost", scheme},
        {"mqtt://", "names no host"},
        {"mqtt://:1883", "names no host"},
        {"mqtts://[]", "names no host"},
        {"mqtt://me@localhost", user},
        {"mqtt://me:secret@localhost", user},
        {"mqtt://localhost/", path},
        {"mqtt://localhost:1883/x", path},
        {"mqtt://localhost?x", path},
        {"mqtt://localhost#x", path},
        {"mqtt://localhost:", port},
        {"mqtt://localhost:0", port},
        {"mqtt://localhost:65536", port},
        {"mqtt://localhost:99999999999999999999", port},
        {"mqtt://localhost:-1", port},
        {"mqtt://localhost:18 83", port},
        {"mqtt://[::1]1883", port},
        {"mqtt://10.0.0", v4},
        {"mqtt://10.0.0.256", v4},
        {"mqtt://[10.0.0.1]", v6},
        {"mqtt://[localhost]", v6},
        {"mqtt://[::1", "has no closing bracket"},
        {"mqtt://fd00::1", "must have an IPv6 address in brackets, such as mqtt://[fd00::1]:1883"},
        {"mqtt://lo cal", "must name a host of letters, digits, dots and dashes"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char text[1024], said[256];
        snprintf(text, sizeof text, SITE "mqtt: {\n url = \"%s\"; };\n" METER, urls[i][0]);
        snprintf(said, sizeof said, "test.cfg:3: url %s\n", urls[i][1]);
        RULES(((struct rule[]){{text, said, false}}));
    }
}

static void test_root(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {"",
         "test.cfg:1: missing key 'site'\n"
         "test.cfg:1: missing key 'mqtt'\n"
         "test.cfg:1: missing key 'devices'\n",
         false},
        {WITH("sites = 1;\n"), "test.cfg:4: unknown key 'sites': is 'site' meant?\n", false},
        {"site = \"\";\n" MQTT METER, "test.cfg:1: site must not be empty\n", false},
        {"site = \"a/b\";\n" MQTT METER,
         "test.cfg:1: site must be 1 to 64 letters, digits, _ or -, not 'a/b'\n", false},
        {"site = 7;\n" MQTT METER, "test.cfg:1: site must be a text in quotes\n", false},
        {SITE "mqtt = 1;\n" METER, "test.cfg:2: mqtt must be a group: { key = value; ... }\n",
         false},
        {SITE SITE MQTT METER,
         "test.cfg:2: 'site' stands here twice: it is in test.cfg:1 already\n", false},
        {SITE "mqtt: {\n url = ; };\n", "test.cfg:3: ; stands where a value should\n", false},
    };
    RULES(rules);
}

static void test_mqtt(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {SITE "mqtt: { };\n" METER, "test.cfg:2: missing key 'url'\n", false},
        {MQTT_WITH("\n host = \"x\";"), "test.cfg:3: unknown key 'host'\n", false},
        {MQTT_WITH("version = 3;"), "test.cfg:2: version must be from 4 to 5, not 3\n", false},
        {MQTT_WITH("version = 6;"), "test.cfg:2: version must be from 4 to 5, not 6\n", false},
        {MQTT_WITH("qos = 2;"), "test.cfg:2: qos must be from 0 to 1, not 2\n", false},
        {MQTT_WITH("qos = -1;"), "test.cfg:2: qos must be from 0 to 1, not -1\n", false},
        {MQTT_WITH("device_wills = 1;"), "test.cfg:2: device_wills must be true or false\n", false},
        {MQTT_WITH("keepalive = \"1s\";"), "", true},
        {MQTT_WITH("keepalive = \"65535s\";"), "", true},
        {MQTT_WITH("keepalive = \"0s\";"),
         "test.cfg:2: keepalive must be from 1s to 65535s, not 0ms\n", false},
        {MQTT_WITH("keepalive = \"65536s\";"),
         "test.cfg:2: keepalive must be from 1s to 65535s, not 65536s\n", false},
        {MQTT_WITH("keepalive = \"1500ms\";"), "test.cfg:2: keepalive must be whole seconds\n",
         false},
        {MQTT_WITH("keepalive = 15;"),
         "test.cfg:2: keepalive must be a duration with its unit, such as \"500ms\", \"5s\", "
         "\"1m\" or \"2h\"\n",
         false},
    };
    RULES(rules);
}

static void test_topics_and_ids(void **state)
{
    (void)state;
    static const char wild[] = "test.cfg:2: prefix must hold no wildcard + or #\n";
    static const char level[] = "test.cfg:2: prefix must hold no empty level\n";
    static const char id[] =
        "test.cfg:2: client_id must be 1 to 190 printable ASCII characters, no spaces\n";
    static const struct rule rules[] = {
        {MQTT_WITH("prefix = \"a/b/c\";"), "", true},
        {MQTT_WITH("prefix = \"a/$b\";"), "", true},
        {MQTT_WITH("prefix = \"\";"), "test.cfg:2: prefix must not be empty\n", false},
        {MQTT_WITH("prefix = \"a/+\";"), wild, false},
        {MQTT_WITH("prefix = \"a#\";"), wild, false},
        {MQTT_WITH("prefix = \"/a\";"), level, false},
        {MQTT_WITH("prefix = \"a/\";"), level, false},
        {MQTT_WITH("prefix = \"/\";"), level, false},
        {MQTT_WITH("prefix = \"a//b\";"), level, false},
        {MQTT_WITH("prefix = \"$SYS\";"),
         "test.cfg:2: prefix must not begin with $: these topics are the broker's own\n", false},
        {MQTT_WITH("client_id = \"\";"), "test.cfg:2: client_id must not be empty\n", false},
        {MQTT_WITH("client_id = \"a b\";"), id, false},
        {MQTT_WITH("client_id = \"\xc3\xa4\";"), id, false},
        {WITH("home_assistant: { prefix = \"ha/#\"; };\n"),
         "test.cfg:4: prefix must hold no wildcard + or #\n", false},
    };
    RULES(rules);

    char text[1024];
    snprintf(text, sizeof text, MQTT_WITH("client_id = \"%0*d\";"), 190, 0);
    RULES(((struct rule[]){{text, "", true}}));
    snprintf(text, sizeof text, MQTT_WITH("client_id = \"%0*d\";"), 191, 0);
    RULES(((struct rule[]){{text, id, false}}));
}

static void test_passwords(void **state)
{
    (void)state;
    char longest[CONF_TEXT_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[CONF_TEXT_MAX + 1] = '\0';
    given_file("too-long", longest);
    longest[CONF_TEXT_MAX] = '\0';
    given_file("longest", longest);
    given_file("empty", "");
    given_file("empty-line", "\r\nsecret\n");
    given_file("good", "secret");
    static const struct rule rules[] = {
        {MQTT_WITH("username = \"me\"; password_file = \"longest\";"), "", true},
        {MQTT_WITH("username = \"me\";"), "", true},
        {MQTT_WITH("username = \"\";"), "test.cfg:2: username must not be empty\n", false},
        {MQTT_WITH("password_file = \"good\";"), "test.cfg:2: password_file needs a username\n",
         false},
        {MQTT_WITH("username = \"me\"; password_file = \"\";"),
         "test.cfg:2: password_file must not be empty\n", false},
        {MQTT_WITH("username = \"me\"; password_file = \"nowhere\";"),
         "test.cfg:2: password_file: nowhere: No such file or directory\n", false},
        {MQTT_WITH("username = \"me\"; password_file = \".\";"),
         "test.cfg:2: password_file: .: Is a directory\n", false},
        {MQTT_WITH("username = \"me\"; password_file = \"empty\";"),
         "test.cfg:2: password_file: empty: its first line is empty\n", false},
        {MQTT_WITH("username = \"me\"; password_file = \"empty-line\";"),
         "test.cfg:2: password_file: empty-line: its first line is empty\n", false},
        {MQTT_WITH("username = \"me\"; password_file = \"too-long\";"),
         "test.cfg:2: password_file: too-long: its first line is too long\n", false},
    };
    RULES(rules);

    char password[CONF_TEXT_MAX + 1] = "old";
    assert_non_null(conf_load_password("empty", password));
    assert_string_equal(password, "old");
    assert_null(conf_load_password("good", password));
    assert_string_equal(password, "secret");
    assert_null(conf_load_password("longest", password));
    assert_string_equal(password, longest);
}

static void test_tls(void **state)
{
    (void)state;
#define MQTTS_WITH(keys) SITE "mqtt: { url = \"mqtts://localhost\"; " keys " };\n" METER
    given_file("pem", "");
    static const struct rule rules[] = {
        {MQTTS_WITH(""), "", true},
        {MQTTS_WITH("tls: { };"), "", true},
        {MQTTS_WITH("tls: { cert_file = \"pem\"; key_file = \"pem\"; };"), "", true},
        {MQTT_WITH("\n tls: { };"), "test.cfg:3: tls needs a url that begins with mqtts://\n",
         false},
        {SITE "mqtt: { url = \"localhost\"; tls: { }; };\n" METER,
         "test.cfg:2: url must begin with mqtt:// or mqtts://\n", false},
        {MQTTS_WITH("tls: {\n insecure = true; };"), "test.cfg:3: unknown key 'insecure'\n", false},
        {MQTTS_WITH("tls: {\n ca_file = \"nowhere\"; };"),
         "test.cfg:3: ca_file: nowhere: No such file or directory\n", false},
        {MQTTS_WITH("tls: { cert_file = \"pem\";\n key_file = \".\"; };"),
         "test.cfg:3: key_file: .: Is a directory\n", false},
        {MQTTS_WITH("tls: {\n cert_file = \"pem\"; };"),
         "test.cfg:2: cert_file and key_file go together\n", false},
        {MQTTS_WITH("tls: {\n key_file = \"pem\"; };"),
         "test.cfg:2: cert_file and key_file go together\n", false},
    };
    RULES(rules);
}

static void test_other_groups(void **state)
{
    (void)state;
    static const char none[] =
        "test.cfg:3: warning: commands are not logged: there is no audit group\n";
    given_file("token", "secret\n");
    given_file("empty", "");
    static const struct rule rules[] = {
        {WITH("home_assistant: { enable = true; };\n"),
         "test.cfg:4: unknown key 'enable': is 'enabled' meant?\n", false},
        {WITH("home_assistant: { enabled = true; };\n"), "", true},
        {WITH("spool: { path = \"s\"; max_size = \"64KiB\"; };\n"), "", true},
        {WITH("spool: { path = \"s\"; max_size = \"63KiB\"; };\n"),
         "test.cfg:4: max_size must be from 64KiB to 1048576GiB, not 63KiB\n", false},
        {WITH("spool: { max_size = \"1MiB\"; };\n"), "test.cfg:4: missing key 'path'\n", false},
        {WITH("audit: { };\n"), "test.cfg:4: missing key 'path'\n", false},
        {WITH("audit: { path = \"\"; };\n"), "test.cfg:4: path must not be empty\n", false},
        {WITH("audit: { path = \"x\"; fsync = true; };\n"), "test.cfg:4: unknown key 'fsync'\n",
         false},
        {WITH("spool: { path = \"x\"; };\n"
              "audit: { path = \"x\"; };\n"),
         "test.cfg:5: audit and spool cannot share one path\n", false},
        {WITH("http: { listen = \"0.0.0.0:9464\"; page = false; };\n"), "", true},
        {WITH("http: { listen = \"[::1]:9464\"; page = true; token_file = \"token\"; };\n"), "",
         true},
        {WITH("http: { listen = \"127.9.9.9:9464\"; token_file = \"token\"; };\n"), "", true},
        {WITH("http: { page = true; };\n"), "test.cfg:4: missing key 'listen'\n", false},
        {WITH("http: { listen = \"localhost:9464\"; };\n"),
         "test.cfg:4: listen must be an address and a port, such as \"127.0.0.1:9464\"\n", false},
        {WITH("http: { listen = \"127.0.0.1:9464\"; token_file = \"no-such\"; };\n"),
         "test.cfg:4: token_file: no-such: No such file or directory\n", false},
        {WITH("http: { listen = \"127.0.0.1:9464\"; token_file = \"empty\"; };\n"),
         "test.cfg:4: token_file: empty: its first line is empty\n", false},
        {WITH("http: { listen = \"127.0.0.1:9464\"; page = false; token_file = \"token\"; };\n"),
         "test.cfg:4: token_file needs page = true\n", false},
        {WITH("http: {\n  listen = \"192.168.1.9:9464\";\n  token_file = \"token\"; };\n"),
         "test.cfg:6: token_file needs a loopback address to listen on, such as 127.0.0.1: a token "
         "would cross the network in the clear\n",
         false},
        {WITH("http: { listen = \"[::]:9464\"; token_file = \"token\"; };\n"),
         "test.cfg:4: token_file needs a loopback address to listen on, such as 127.0.0.1: a token "
         "would cross the network in the clear\n",
         false},
        {WITH("log: { level = \"warning\"; };\n"), "", true},
        {WITH("log: { level = \"loud\"; };\n"),
         "test.cfg:4: level must be \"error\", \"warning\", \"info\" or \"debug\"\n", false},
        {WITH("log: { file = \"x\"; };\n"), "test.cfg:4: unknown key 'file'\n", false},
        {SITE MQTT BATTERY(CONTROL), none, true},
        {SITE MQTT AUDIT BATTERY(CONTROL), "", true},
    };
    RULES(rules);
}

/* One run shows all problems, from every group and the devices too. */
static void test_many_problems(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {"site = \"a b\";\n"
         "mqtt: {\n"
         "  url = \"http://x\";\n"
         "  qos = 3;\n"
         "  prefix = \"#\";\n"
         "};\n"
         "log: { level = 1; };\n"
         "devices: { meters = ( { id = \"m\"; name = \"Meter\"; type = \"acuvim2\";\n"
         "  poll = 1;\n"
         "  modbus: { host = \"127.0.0.1\"; address = 256; }; } ); };\n",
         "test.cfg:1: site must be 1 to 64 letters, digits, _ or -, not 'a b'\n"
         "test.cfg:4: qos must be from 0 to 1, not 3\n"
         "test.cfg:3: url must begin with mqtt:// or mqtts://\n"
         "test.cfg:5: prefix must hold no wildcard + or #\n"
         "test.cfg:7: level must be \"error\", \"warning\", \"info\" or \"debug\"\n"
         "test.cfg:9: poll must be a duration with its unit, such as \"500ms\", \"5s\", \"1m\" or "
         "\"2h\"\n"
         "test.cfg:10: address must be from 0 to 255, not 256\n",
         false},
    };
    RULES(rules);
}

static void test_include(void **state)
{
    (void)state;
    struct conf conf;
    bool good;
    given_file("meters.inc", "\n" METER);
    read_good(SITE MQTT "@include \"meters.inc\"\n", &conf);
    assert_int_equal(conf.devices.n_devices, 1);
    conf_free(&conf);

    given_file("broken.inc", "\nlog: { levels = 1; };\n");
    char *said = say(SITE MQTT METER "@include \"broken.inc\"\n", &good, &conf);
    assert_string_equal(said, "broken.inc:2: unknown key 'levels': is 'level' meant?\n");
    free(said);
    conf_free(&conf);
}

static void test_values_of_a_site(void **state)
{
    (void)state;
    struct given given;
    struct conf conf;
    given_file("test.cfg", "@let name = \"north\"\n@let limit = \"1\"\n"
                           "site = \"@name@\";");
    given_cfg(&given);
    (void)conf_read(&given.cfg, "test.cfg", &conf);
    assert_string_equal(conf.site, "north");
    conf_free(&conf);
    assert_said(&given, "test.cfg:2: warning: @limit@ is used nowhere: is another name meant?\n"
                        "test.cfg:1: missing key 'mqtt'\ntest.cfg:1: missing key 'devices'\n");
}

static void test_no_file(void **state)
{
    (void)state;
    struct given given;
    struct conf conf;
    given_cfg(&given);
    assert_false(conf_read(&given.cfg, "nowhere.cfg", &conf));
    assert_said(&given, "nowhere.cfg:1: cannot read nowhere.cfg: No such file or directory\n");
    conf_free(&conf);
}

/* The daemon waits for what may still come; only the check calls it a problem. */
static void test_a_file_that_may_come_later(void **state)
{
    (void)state;
    struct given given;
    struct conf conf;
    given_file("test.cfg", MQTTS_WITH("username = \"me\"; password_file = \"nowhere\";\n"
                                      "tls: { ca_file = \"nowhere\"; };"));
    given_cfg(&given);
    given.cfg.waits = true;
    assert_true(conf_read(&given.cfg, "test.cfg", &conf));
    assert_said(&given, "test.cfg:2: warning: password_file: nowhere: No such file or directory: "
                        "it is waited for\n"
                        "test.cfg:3: warning: ca_file: nowhere: No such file or directory: it is "
                        "waited for\n");
    conf_free(&conf);

    given_cfg(&given);
    assert_false(conf_read(&given.cfg, "test.cfg", &conf));
    assert_int_equal(given.cfg.problems, 2);
    assert_int_equal(given.cfg.outside, 2);
    assert_int_equal(conf.devices.n_devices, 1);
    assert_said(&given, "test.cfg:2: password_file: nowhere: No such file or directory\n"
                        "test.cfg:3: ca_file: nowhere: No such file or directory\n");
    conf_free(&conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_integer_limits), cmocka_unit_test(test_good_urls),
        cmocka_unit_test(test_bad_urls),       cmocka_unit_test(test_root),
        cmocka_unit_test(test_mqtt),           cmocka_unit_test(test_topics_and_ids),
        cmocka_unit_test(test_passwords),      cmocka_unit_test(test_tls),
        cmocka_unit_test(test_other_groups),   cmocka_unit_test(test_many_problems),
        cmocka_unit_test(test_include),        cmocka_unit_test(test_values_of_a_site),
        cmocka_unit_test(test_no_file),        cmocka_unit_test(test_a_file_that_may_come_later),
    };
    return cmocka_run_group_tests(tests, given_directory, remove_directory);
}
