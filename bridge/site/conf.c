#include "bridge/site/conf.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)
#define TEXT(structure, member)                                                                    \
    CFG_TEXT, FIELD(structure, member), .size = sizeof((struct structure *)NULL)->member, .min = 1

static const struct cfg_field ROOT[] = {
    [CONF_SITE] = {"site", TEXT(conf, site), .required = true},
    [CONF_MQTT] = {.key = "mqtt", .kind = CFG_OTHER, .required = true},
    [CONF_HOME_ASSISTANT] = {.key = "home_assistant", .kind = CFG_OTHER},
    [CONF_SPARKPLUG] = {.key = "sparkplug", .kind = CFG_OTHER},
    [CONF_SPOOL] = {.key = "spool", .kind = CFG_OTHER},
    [CONF_AUDIT] = {.key = "audit", .kind = CFG_OTHER},
    [CONF_LOG] = {.key = "log", .kind = CFG_OTHER},
    [CONF_HTTP] = {.key = "http", .kind = CFG_OTHER},
    [CONF_DEVICES] = {.key = "devices", .kind = CFG_OTHER, .required = true},
    [CONF_GROUPS] = CFG_END,
};

static const struct cfg_field MQTT[] = {
    {"url", TEXT(conf_mqtt, url), .required = true},
    {"version", CFG_INTEGER, FIELD(conf_mqtt, version), .min = 4, .max = 5},
    /* Two bytes on the wire, and 0 would turn it off. */
    {"keepalive", CFG_DURATION, FIELD(conf_mqtt, keepalive_ns), .min = 1, .max = 65535},
    {"qos", CFG_INTEGER, FIELD(conf_mqtt, qos), .min = 0, .max = 1},
    {"prefix", TEXT(conf_mqtt, prefix)},
    {"client_id", TEXT(conf_mqtt, client_id)},
    {"username", TEXT(conf_mqtt, username)},
    {"password_file", TEXT(conf_mqtt, password_file)},
    {"device_wills", CFG_BOOLEAN, FIELD(conf_mqtt, device_wills)},
    {"reconnect_spread", CFG_DURATION, FIELD(conf_mqtt, reconnect_spread_ns), .min = 0,
     .max = 3600},
    {.key = "tls", .kind = CFG_OTHER},
    CFG_END,
};

static const struct cfg_field TLS[] = {
    {"ca_file", TEXT(conf_mqtt, ca_file)},
    {"cert_file", TEXT(conf_mqtt, cert_file)},
    {"key_file", TEXT(conf_mqtt, key_file)},
    CFG_END,
};

static const struct cfg_field HOME_ASSISTANT[] = {
    {"enabled", CFG_BOOLEAN, FIELD(conf, ha_enabled)},
    {"prefix", TEXT(conf, ha_prefix)},
    CFG_END,
};

static const struct cfg_field SPARKPLUG[] = {
    {"enabled", CFG_BOOLEAN, FIELD(conf_sparkplug, enabled)},
    {"group", TEXT(conf_sparkplug, group)},
    {"node", TEXT(conf_sparkplug, node)},
    {"primary_host", TEXT(conf_sparkplug, primary_host)},
    CFG_END,
};

static const struct cfg_field SPOOL[] = {
    {"path", TEXT(conf, spool_path), .required = true},
    {"max_size", CFG_SIZE, FIELD(conf, spool_max_size), .min = 0x1p16, .max = 0x1p50},
    CFG_END,
};

static const struct cfg_field AUDIT[] = {
    {"path", TEXT(conf, audit_path), .required = true},
    CFG_END,
};

static const struct cfg_field HTTP[] = {
    {"listen", TEXT(conf, http_listen), .required = true},
    {"page", CFG_BOOLEAN, FIELD(conf, http_page)},
    {"token_file", TEXT(conf, http_token_file)},
    CFG_END,
};

static const struct cfg_field LOG[] = {
    {"level", CFG_CHOICE, FIELD(conf, log_level), .choices = log_level_words},
    CFG_END,
};

/* The setting of a text key when cfg_read() has taken it over, else NULL: what
 * is absent or already reported is not judged any further. */
static const struct cfg_setting *conf_taken(const struct cfg_setting *group, const char *key,
                                            const char *value)
{
    const struct cfg_setting *setting = cfg_member(group, key);
    const char *text = setting ? cfg_text(setting) : NULL;
    return text && *text && strcmp(text, value) == 0 ? setting : NULL;
}

/* Reads an optional group. Returns it when it was given. */
static const struct cfg_setting *conf_group(struct cfg *cfg, const struct cfg_setting *parent,
                                            const char *key, const struct cfg_field *fields,
                                            void *into)
{
    const struct cfg_setting *group = cfg_member(parent, key);
    if (!group)
        return NULL;
    cfg_read(cfg, group, fields, into);
    return cfg_is_group(group) ? group : NULL;
}

/* Host and port from what follows the scheme. Returns what is wrong, or NULL. */
static const char *conf_split_authority(const char *authority, struct conf_mqtt *mqtt)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool bracketed = *authority == '[';
    const char *host = bracketed ? authority + 1 : authority;
    size_t size = strcspn(host, bracketed ? "]" : ":");
    const char *rest = host + size;
    if (bracketed && *rest++ != ']')
        return "has no closing bracket";
    memcpy(mqtt->host, host, size); /* the whole url fits, so its part does */
    mqtt->host[size] = '\0';
    if (size == 0)
        return "names no host";
    if (bracketed && inet_pton(AF_INET6, mqtt->host, address) != 1)
        return "has no IPv6 address in its brackets";
    if (!bracketed && strchr(rest + (*rest == ':'), ':'))
        return "must have an IPv6 address in brackets, such as mqtt://[fd00::1]:1883";
    if (!bracketed && strspn(mqtt->host, "0123456789.") == size &&
        inet_pton(AF_INET, mqtt->host, address) != 1)
        return "has no IPv4 address of four numbers from 0 to 255";
    if (!bracketed && strspn(mqtt->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789.-_") != size)
        return "must name a host of letters, digits, dots and dashes";
    if (*rest == '\0')
        return NULL;
    size_t digits = strspn(rest + 1, "0123456789");
    long port = strtol(rest + 1, NULL, 10);
    if (*rest != ':' || digits == 0 || rest[1 + digits] || port < 1 || port > 65535)
        return "must end with a port from 1 to 65535";
    mqtt->port = port;
    return NULL;
}

/* Takes mqtt.url apart. Returns what is wrong with it, or NULL. The URL itself
 * is never repeated in a message: it may hold a password that is not meant to
 * be there. */
static const char *conf_split_url(struct conf_mqtt *mqtt)
{
    static const char plain[] = "mqtt://", tls[] = "mqtts://";
    const char *authority;
    if (strncmp(mqtt->url, plain, strlen(plain)) == 0) {
        authority = mqtt->url + strlen(plain);
        mqtt->port = 1883;
    } else if (strncmp(mqtt->url, tls, strlen(tls)) == 0) {
        authority = mqtt->url + strlen(tls);
        mqtt->port = 8883;
        mqtt->tls = true;
    } else {
        return "must begin with mqtt:// or mqtts://";
    }
    if (strchr(authority, '@'))
        return "must hold no user name: there are username and password_file for it";
    if (strpbrk(authority, "/?#"))
        return "must end after host and port: MQTT knows no path";
    return conf_split_authority(authority, mqtt);
}

/* A topic's beginning: anything but wildcards, `$` in front (the broker's own
 * topics) and empty levels (MQTT 5.0, section 4.7). */
static void conf_check_prefix(struct cfg *cfg, const struct cfg_setting *where, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strpbrk(prefix, "+#"))
        cfg_problem(cfg, where, "prefix must hold no wildcard + or #");
    else if (prefix[0] == '$')
        cfg_problem(cfg, where, "prefix must not begin with $: these topics are the broker's own");
    else if (prefix[0] == '/' || prefix[length - 1] == '/' || strstr(prefix, "//"))
        cfg_problem(cfg, where, "prefix must hold no empty level");
}

/* Device sessions append "-<device>" to it, and the whole still has to be
 * CONF_TEXT_MAX. */
enum { CONF_CLIENT_ID_MAX = CONF_TEXT_MAX - 1 - DEVICE_NAME_MAX };

static void conf_check_client_id(struct cfg *cfg, const struct cfg_setting *where, const char *id)
{
    size_t length = strlen(id);
    bool printable = true;
    for (size_t i = 0; i < length; i++)
        printable = printable && id[i] > ' ' && id[i] < 0x7f;
    if (length > CONF_CLIENT_ID_MAX || !printable) {
        cfg_problem(cfg, where, "client_id must be 1 to %d printable ASCII characters, no spaces",
                    CONF_CLIENT_ID_MAX);
    }
}

/* Reads at most `size` bytes of a file; -1 with errno. One read() is enough for
 * files as small as these, and tells a directory from a file. */
static ssize_t conf_peek(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return -1;
    ssize_t got = read(file, text, size);
    int error = errno;
    close(file);
    errno = error;
    return got;
}

const char *conf_load_password(const char *path, char password[CONF_TEXT_MAX + 1])
{
    char text[CONF_TEXT_MAX + 3]; /* one byte too many, and "\r\n" */
    ssize_t got = conf_peek(path, text, sizeof text - 1);
    if (got < 0)
        return strerror(errno);
    text[got] = '\0';
    size_t length = strcspn(text, "\n");
    const char *wrong = NULL;
    if (length > 0 && text[length - 1] == '\r')
        length--;
    if (length == 0) {
        wrong = "its first line is empty";
    } else if (length > CONF_TEXT_MAX) {
        wrong = "its first line is too long";
    } else {
        memcpy(password, text, length);
        password[length] = '\0';
    }
    explicit_bzero(text, sizeof text);
    return wrong;
}

/* A file that the environment may still bring: it is not the configuration that is wrong. */
static void conf_missing(struct cfg *cfg, const struct cfg_setting *where, const char *key,
                         const char *path, const char *wrong)
{
    if (cfg->waits) {
        cfg_warning(cfg, where, "%s: %s: %s: it is waited for", key, path, wrong);
    } else {
        cfg_problem(cfg, where, "%s: %s: %s", key, path, wrong);
        cfg->outside++;
    }
}

static void conf_read_tls(struct cfg *cfg, const struct cfg_setting *parent, struct conf_mqtt *mqtt)
{
    const struct cfg_setting *group = conf_group(cfg, parent, "tls", TLS, mqtt);
    if (!group)
        return;
    if (!mqtt->tls && mqtt->host[0])
        cfg_problem(cfg, group, "tls needs a url that begins with mqtts://");
    const struct {
        const char *key, *path;
    } files[] = {
        {"ca_file", mqtt->ca_file}, {"cert_file", mqtt->cert_file}, {"key_file", mqtt->key_file}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const struct cfg_setting *setting = conf_taken(group, files[i].key, files[i].path);
        char byte;
        if (setting && conf_peek(files[i].path, &byte, 1) < 0)
            conf_missing(cfg, setting, files[i].key, files[i].path, strerror(errno));
    }
    if (!cfg_member(group, "cert_file") != !cfg_member(group, "key_file"))
        cfg_problem(cfg, group, "cert_file and key_file go together");
}

static void conf_read_mqtt(struct cfg *cfg, const struct cfg_setting *root, struct conf *conf)
{
    struct conf_mqtt *mqtt = &conf->mqtt;
    const struct cfg_setting *group = conf_group(cfg, root, "mqtt", MQTT, mqtt);
    if (!group)
        return;
    const struct cfg_setting *setting = conf_taken(group, "url", mqtt->url);
    const char *wrong = setting ? conf_split_url(mqtt) : NULL;
    if (wrong)
        cfg_problem(cfg, setting, "url %s", wrong);
    if (mqtt->keepalive_ns % CLOCK_NS_PER_S != 0) {
        cfg_problem(cfg, cfg_member(group, "keepalive"), "keepalive must be whole seconds");
    }
    if ((setting = conf_taken(group, "prefix", mqtt->prefix)))
        conf_check_prefix(cfg, setting, mqtt->prefix);
    if ((setting = conf_taken(group, "client_id", mqtt->client_id)))
        conf_check_client_id(cfg, setting, mqtt->client_id);
    else
        snprintf(mqtt->client_id, sizeof mqtt->client_id, "fluxbridge-%s", conf->site);
    if ((setting = conf_taken(group, "password_file", mqtt->password_file))) {
        char password[CONF_TEXT_MAX + 1];
        wrong = conf_load_password(mqtt->password_file, password);
        explicit_bzero(password, sizeof password);
        if (wrong)
            conf_missing(cfg, setting, "password_file", mqtt->password_file, wrong);
        if (!cfg_member(group, "username"))
            cfg_problem(cfg, setting, "password_file needs a username");
    }
    conf_read_tls(cfg, group, mqtt);
}

/* ADDRESS:PORT or [ADDRESS]:PORT; a name would leave open where it listens. */
static bool conf_split_listen(struct conf *conf)
{
    struct in6_addr number;
    char *end;
    const char *colon = strrchr(conf->http_listen, ':');
    if (!colon || !isdigit((unsigned char)colon[1]))
        return false;
    long port = strtol(colon + 1, &end, 10);
    size_t length = (size_t)(colon - conf->http_listen);
    const char *address = conf->http_listen;
    bool brackets = length >= 2 && address[0] == '[' && address[length - 1] == ']';
    snprintf(conf->http_address, sizeof conf->http_address, "%.*s",
             (int)(brackets ? length - 2 : length), brackets ? address + 1 : address);
    conf->http_port = (uint16_t)port;
    return *end == '\0' && port >= 1 && port <= 65535 &&
           inet_pton(brackets ? AF_INET6 : AF_INET, conf->http_address, &number) == 1;
}

bool conf_is_loopback(const char *address)
{
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (inet_pton(AF_INET, address, &ipv4) == 1)
        return ntohl(ipv4.s_addr) >> 24 == IN_LOOPBACKNET;
    return inet_pton(AF_INET6, address, &ipv6) == 1 && IN6_IS_ADDR_LOOPBACK(&ipv6);
}

static void conf_read_http(struct cfg *cfg, const struct cfg_setting *root, struct conf *conf)
{
    const struct cfg_setting *group = conf_group(cfg, root, "http", HTTP, conf);
    if (!group)
        return;
    const struct cfg_setting *setting = conf_taken(group, "listen", conf->http_listen);
    const bool listens = setting && conf_split_listen(conf);
    if (setting && !listens)
        cfg_problem(cfg, setting,
                    "listen must be an address and a port, such as \"127.0.0.1:9464\"");
    if (!(setting = conf_taken(group, "token_file", conf->http_token_file)))
        return;
    char token[CONF_TEXT_MAX + 1];
    const char *wrong = conf_load_password(conf->http_token_file, token);
    explicit_bzero(token, sizeof token);
    if (wrong)
        conf_missing(cfg, setting, "token_file", conf->http_token_file, wrong);
    if (listens && !conf_is_loopback(conf->http_address))
        cfg_problem(cfg, setting,
                    "token_file needs a loopback address to listen on, such as 127.0.0.1: "
                    "a token would cross the network in the clear");
    if (!conf->http_page)
        cfg_problem(cfg, setting, "token_file needs page = true");
}

/* Sparkplug 3.0.0, tck-id-topic-structure-namespace-valid-group-id and its like. */
static void conf_check_sparkplug_name(struct cfg *cfg, const struct cfg_setting *group,
                                      const char *key, const char *name)
{
    const struct cfg_setting *setting = conf_taken(group, key, name);
    if (setting && strpbrk(name, "+/#"))
        cfg_problem(cfg, setting, "%s must hold none of + / #, which Sparkplug forbids in names",
                    key);
}

static void conf_read_sparkplug(struct cfg *cfg, const struct cfg_setting *root,
                                struct conf_sparkplug *sparkplug)
{
    const struct cfg_setting *group = conf_group(cfg, root, "sparkplug", SPARKPLUG, sparkplug);
    if (!group)
        return;
    conf_check_sparkplug_name(cfg, group, "group", sparkplug->group);
    conf_check_sparkplug_name(cfg, group, "node", sparkplug->node);
    conf_check_sparkplug_name(cfg, group, "primary_host", sparkplug->primary_host);
    const struct cfg_setting *setting = conf_taken(group, "group", sparkplug->group);
    if (setting && strcmp(sparkplug->group, "STATE") == 0)
        cfg_problem(cfg, setting, "group must not be STATE: hosts tell their state there");
}

/* The groups that are no more than a few keys. */
static void conf_read_rest(struct cfg *cfg, const struct cfg_setting *root, struct conf *conf)
{
    const struct cfg_setting *group, *setting;
    if ((group = conf_group(cfg, root, "home_assistant", HOME_ASSISTANT, conf)) &&
        (setting = conf_taken(group, "prefix", conf->ha_prefix)))
        conf_check_prefix(cfg, setting, conf->ha_prefix);
    conf_read_sparkplug(cfg, root, &conf->sparkplug);
    (void)conf_group(cfg, root, "spool", SPOOL, conf);
    if ((group = conf_group(cfg, root, "audit", AUDIT, conf)) &&
        (setting = conf_taken(group, "path", conf->audit_path)) &&
        strcmp(conf->audit_path, conf->spool_path) == 0)
        cfg_problem(cfg, setting, "audit and spool cannot share one path");
    conf_read_http(cfg, root, conf);
    conf_group(cfg, root, "log", LOG, conf);
}

static void conf_read_devices(struct cfg *cfg, const struct cfg_setting *root, struct conf *conf)
{
    const struct cfg_setting *group = cfg_member(root, "devices");
    if (!group)
        return;
    device_list_read(cfg, group, profile_directories(), &conf->devices);
    for (unsigned i = 0; i < conf->devices.n_devices; i++) {
        if (conf->devices.devices[i].controllable && !cfg_member(root, "audit")) {
            cfg_warning(cfg, group, "commands are not logged: there is no audit group");
            return;
        }
    }
}

static bool conf_read_root(struct cfg *cfg, const struct cfg_setting *root, struct conf *conf)
{
    unsigned before = cfg->problems;
    *conf = (struct conf){
        .mqtt = {.version = 5,
                 .keepalive_ns = 15 * CLOCK_NS_PER_S,
                 .qos = 1,
                 .prefix = "flux",
                 .device_wills = true,
                 .reconnect_spread_ns = 5 * CLOCK_NS_PER_S},
        .ha_prefix = "homeassistant",
        .http_page = true,
        .sparkplug.group = "flux",
        .spool_max_size = INT64_C(256) << 20,
        .log_level = LOG_LEVEL_INFO,
    };
    for (unsigned group = 0; group < CONF_GROUPS; group++)
        conf->hashes[group] = cfg_hash(cfg_member(root, ROOT[group].key));
    cfg_sha256(root, conf->sha256);
    cfg_warn_unused(cfg, root);
    cfg_read(cfg, root, ROOT, conf);
    const struct cfg_setting *site = conf_taken(root, "site", conf->site);
    if (site && !cfg_is_name(conf->site))
        cfg_problem(cfg, site, "site must be 1 to 64 letters, digits, _ or -, not '%s'",
                    conf->site);
    conf_read_mqtt(cfg, root, conf);
    conf_read_rest(cfg, root, conf);
    conf_read_devices(cfg, root, conf);
    return cfg->problems == before;
}

bool conf_read(struct cfg *cfg, const char *path, struct conf *conf)
{
    *conf = (struct conf){0};
    cfg->file = path;
    const struct cfg_setting *root = cfg_open(cfg, path);
    bool good = root && conf_read_root(cfg, root, conf);
    cfg_close(root);
    return good;
}

bool conf_has_secrets(const struct conf *conf)
{
    const struct device_list *list = &conf->devices;
    bool has = conf->mqtt.password_file[0] != '\0' || conf->mqtt.key_file[0] != '\0' ||
               conf->http_token_file[0] != '\0';
    for (unsigned i = 0; i < list->n_devices && !has; i++)
        has = list->devices[i].modbus.key_file[0] != '\0';
    return has;
}

void conf_free(struct conf *conf)
{
    device_list_free(&conf->devices);
}
