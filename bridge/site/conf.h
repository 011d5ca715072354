/* conf: the whole configuration, validated before a thread starts.
 *
 * Read from one libconfig file (with @include); every problem is printed as
 * `FILE:LINE: message` in one run. Shared read-only: what a reload changes in it, it
 * changes while every thread that reads it is halted (bridge/run/reload.h).
 */
#ifndef BRIDGE_SITE_CONF_H
#define BRIDGE_SITE_CONF_H

#include "devices/registers/device_list.h"

enum { CONF_PATH_MAX = 1023, CONF_TEXT_MAX = 255, CONF_NAME_MAX = 64 };

struct conf_mqtt {
    char url[CONF_TEXT_MAX + 1];  /* mqtt://host[:1883] or mqtts://host[:8883], required */
    char host[CONF_TEXT_MAX + 1]; /* taken apart from url; IPv6 without brackets */
    int64_t port;
    bool tls;                       /* mqtts:// */
    int64_t version;                /* 5, or 4 for MQTT 3.1.1 */
    int64_t keepalive_ns;           /* 15 s, whole seconds */
    int64_t qos;                    /* of samples: 0 or 1 */
    char prefix[CONF_TEXT_MAX + 1]; /* "flux"; topic levels without wildcards */
    /* Default fluxbridge-<site>; device sessions append -<device>, and the
     * whole fits CONF_TEXT_MAX. */
    char client_id[CONF_TEXT_MAX + 1];
    char username[CONF_TEXT_MAX + 1]; /* "" = none */
    char password_file[CONF_PATH_MAX + 1];
    char ca_file[CONF_PATH_MAX + 1];
    char cert_file[CONF_PATH_MAX + 1];
    char key_file[CONF_PATH_MAX + 1];
    bool device_wills; /* true */
    /* The first try after a loss comes at a random time within this: 5 s. */
    int64_t reconnect_spread_ns;
};

/* Sparkplug B: one edge node (topics.md). */
struct conf_sparkplug {
    bool enabled;
    char group[CONF_NAME_MAX + 1];        /* "flux" */
    char node[CONF_NAME_MAX + 1];         /* "" = the site */
    char primary_host[CONF_NAME_MAX + 1]; /* "" = births wait for nobody */
};

/* What stands in the file, group by group. */
enum conf_group {
    CONF_SITE,
    CONF_MQTT,
    CONF_HOME_ASSISTANT,
    CONF_SPARKPLUG,
    CONF_SPOOL,
    CONF_AUDIT,
    CONF_LOG,
    CONF_HTTP,
    CONF_DEVICES,
    CONF_GROUPS
};

struct conf {
    uint64_t hashes[CONF_GROUPS]; /* cfg_hash() of each */
    char sha256[CFG_SHA256_MAX + 1];
    char site[CONF_NAME_MAX + 1];
    struct conf_mqtt mqtt;
    bool ha_enabled; /* false unless the group is given */
    char ha_prefix[CONF_TEXT_MAX + 1];
    struct conf_sparkplug sparkplug;
    char spool_path[CONF_PATH_MAX + 1]; /* "" = memory only */
    int64_t spool_max_size;
    char audit_path[CONF_PATH_MAX + 1];   /* "" = no audit log */
    char http_listen[CONF_TEXT_MAX + 1];  /* "127.0.0.1:9464"; "" = no http */
    char http_address[CONF_TEXT_MAX + 1]; /* taken apart from it, IPv6 without brackets */
    uint16_t http_port;
    bool http_page;                          /* true */
    char http_token_file[CONF_PATH_MAX + 1]; /* "" = nothing can be set over HTTP */
    int log_level;                           /* enum log_level */
    /* The devices were replaced by simulated ones (run --sim): never take over the
     * file's own devices then. conf_read() leaves it false. */
    bool simulated;
    struct device_list devices;
};

/* Reads and validates `path`, which becomes cfg->file. Returns false after any
 * problem; conf_free() in either case. With cfg->waits a certificate, key or password
 * file that is missing is none: it may come later. Without, it counts in cfg->outside too,
 * and where nothing else is wrong `conf` is whole. */
bool conf_read(struct cfg *cfg, const char *path, struct conf *conf);
void conf_free(struct conf *conf);

/* Whether it names a file of a password, a key or a token. */
bool conf_has_secrets(const struct conf *conf);

/* Whether an IP address as a number is one of the own machine: 127.0.0.0/8, ::1. */
bool conf_is_loopback(const char *address);

/* Reads the first line of a password file. Returns NULL, or what is wrong. Wipe it
 * when it has been used: a password is kept nowhere. */
const char *conf_load_password(const char *path, char password[CONF_TEXT_MAX + 1]);

#endif
