#include "devices/registers/place.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FIELD(member)        .offset = offsetof(struct device_modbus, member)
#define TEXT(member, length) CFG_TEXT, FIELD(member), .size = (length) + 1, .min = 1

enum { PORT = 502, PORT_TLS = 802, LABEL_MAX = 63 };
enum { UNSET = -1 }; /* a choice whose default follows from the other keys */

static const char *const PARITY[] = {"none", "even", "odd", NULL};
static const char *const FRAMING[] = {"tcp", "rtu", "ascii", NULL};
static const char *const TRANSPORT[] = {"tcp", "udp", NULL};

static const struct cfg_field MODBUS[] = {
    {"host", TEXT(host, DEVICE_HOST_MAX)},
    {"port", CFG_INTEGER, FIELD(port), .min = 1, .max = 65535},
    {"serial", TEXT(serial, DEVICE_HOST_MAX)},
    {"framing", CFG_CHOICE, FIELD(framing), .choices = FRAMING},
    {"transport", CFG_CHOICE, FIELD(transport), .choices = TRANSPORT},
    {.key = "tls", .kind = CFG_OTHER},
    {"baud", CFG_INTEGER, FIELD(baud), .min = 300, .max = 921600},
    {"parity", CFG_CHOICE, FIELD(parity), .choices = PARITY},
    {"data_bits", CFG_INTEGER, FIELD(data_bits), .min = 7, .max = 8},
    {"stop_bits", CFG_INTEGER, FIELD(stop_bits), .min = 1, .max = 2},
    {"address", CFG_INTEGER, FIELD(address), .required = true},
    {"timeout", CFG_DURATION, FIELD(timeout_ns), .min = 0.01, .max = 60},
    {"retry_count", CFG_INTEGER, FIELD(retry_count), .min = 1, .max = 10},
    {"word_order", CFG_CHOICE, FIELD(word_order), .choices = point_order_words},
    {"address_shift", CFG_INTEGER, FIELD(address_shift), .min = -65535, .max = 65535},
    {"request_gap", CFG_DURATION, FIELD(request_gap_ns), .min = 0, .max = 10},
    {"connect_delay", CFG_DURATION, FIELD(connect_delay_ns), .min = 0, .max = 60},
    {"device_timeout", CFG_DURATION, FIELD(device_timeout_ns), .min = 0.1, .max = 86400},
    {"loose_transaction_id", CFG_BOOLEAN, FIELD(loose_transaction_id)},
    {"echo", CFG_BOOLEAN, FIELD(echo)},
    CFG_END,
};

static const struct cfg_field FILES[] = {
    {"ca_file", TEXT(ca_file, DEVICE_PATH_MAX)},
    {"cert_file", TEXT(cert_file, DEVICE_PATH_MAX)},
    {"key_file", TEXT(key_file, DEVICE_PATH_MAX)},
    CFG_END,
};

/* The rates that termios knows. */
static const int64_t BAUDS[] = {300,   600,   1200,   2400,   4800,   9600,  19200,
                                38400, 57600, 115200, 230400, 460800, 921600};

/* ---- hosts ---- */

static bool is_address(int family, const char *text)
{
    struct in6_addr address;
    return inet_pton(family, text, &address) == 1;
}

/* RFC 1123, section 2.1; and the underscore, which some have in their names. */
static bool is_name(const char *host)
{
    size_t length = 0;
    for (const char *at = host; *at; at++) {
        bool edge = length == 0 || at[1] == '.' || at[1] == '\0';
        if (*at == '.' ? length == 0
                       : !(isalnum((unsigned char)*at) || *at == '_' || (*at == '-' && !edge)))
            return false;
        length = *at == '.' ? 0 : length + 1;
        if (length > LABEL_MAX)
            return false;
    }
    return true;
}

static const char NO_DEVICE[] = "this is no address of a device";

/* All, nobody, and groups. */
static const char *ipv4_problem(const char *text)
{
    struct in_addr address;
    (void)inet_pton(AF_INET, text, &address);
    uint32_t number = ntohl(address.s_addr);
    return number == INADDR_ANY || number == INADDR_BROADCAST || IN_MULTICAST(number) ? NO_DEVICE
                                                                                      : NULL;
}

/* `zone` NULL = none; the loopback needs none, nor do those that are routed. */
static const char *ipv6_problem(const char *text, const char *zone)
{
    struct in6_addr address;
    (void)inet_pton(AF_INET6, text, &address);
    if (IN6_IS_ADDR_UNSPECIFIED(&address) || IN6_IS_ADDR_MULTICAST(&address))
        return NO_DEVICE;
    bool local = IN6_IS_ADDR_LINKLOCAL(&address);
    if (zone != NULL ? *zone == '\0' : local)
        return "an address of one link needs its interface: fe80::1%eth0";
    return NULL;
}

/* What is wrong with a text as the host of a device, or NULL. */
static const char *host_problem(const char *host)
{
    char address[DEVICE_HOST_MAX + 1] = "";
    const size_t length = strcspn(host, "%"); /* without a zone: fe80::1%eth0 */
    memcpy(address, host, length);
    if (is_address(AF_INET6, address))
        return ipv6_problem(address, host[length] == '%' ? host + length + 1 : NULL);
    if (strstr(host, "://") != NULL)
        return "give a name or an address alone: host = \"192.168.1.100\"";
    if (strpbrk(host, "[]") != NULL)
        return "an IPv6 address stands here without brackets, and a port has a key of its own";
    const char *colon = strchr(host, ':');
    if (colon != NULL && strchr(colon + 1, ':') == NULL)
        return "a port has a key of its own: host = \"192.168.1.100\"; port = 502";
    if (colon != NULL)
        return "this is no IPv6 address";
    if (host[strspn(host, "0123456789.")] == '\0' && !is_address(AF_INET, host))
        return "an IPv4 address is four numbers from 0 to 255";
    if (is_address(AF_INET, host))
        return ipv4_problem(host);
    return is_name(host) ? NULL : "a name consists of letters, digits, hyphens and dots";
}

/* ---- the group ---- */

void place_redirect(struct device_modbus *place, const char *host, uint16_t port)
{
    snprintf(place->host, sizeof place->host, "%s", host);
    place->port = port;
    place->serial[0] = '\0';
    place->framing = DEVICE_TCP;
    place->transport = DEVICE_STREAM;
    place->loose_transaction_id = place->echo = place->tls = false;
}

static void refuse_keys(struct cfg *cfg, const struct cfg_setting *group, const char *const *keys,
                        const char *together)
{
    for (; *keys != NULL; keys++) {
        const struct cfg_setting *setting = cfg_member(group, *keys);
        if (setting != NULL)
            cfg_problem(cfg, setting, "%s has no meaning together with %s", *keys, together);
    }
}

/* Keys that make sense on one kind of line only. */
static void check_keys(struct cfg *cfg, const struct cfg_setting *group,
                       const struct device_modbus *modbus)
{
    static const char
        *const of_hosts[] = {"port", "transport", "tls", "loose_transaction_id", NULL},
               *const of_lines[] = {"baud", "parity", "data_bits", "stop_bits", NULL},
               *const of_tcp[] = {"loose_transaction_id", "tls", NULL},
               *const of_streams[] = {"tls", NULL}, *const of_serial[] = {"echo", NULL};
    if (modbus->host[0] == '\0') {
        refuse_keys(cfg, group, of_hosts, "serial");
        if (modbus->framing == DEVICE_TCP)
            cfg_problem(cfg, cfg_member(group, "framing"),
                        "a serial line has framing \"rtu\" or \"ascii\"");
    } else {
        refuse_keys(cfg, group, of_lines, "host");
        if (modbus->framing != DEVICE_TCP)
            refuse_keys(cfg, group, of_tcp, "framing \"rtu\" or \"ascii\"");
        else
            refuse_keys(cfg, group, of_serial, "framing \"tcp\"");
        if (modbus->transport == DEVICE_DATAGRAM)
            refuse_keys(cfg, group, of_streams, "transport \"udp\"");
    }
    if (modbus->data_bits == 7 && modbus->framing != DEVICE_ASCII)
        cfg_problem(cfg, cfg_member(group, "data_bits"),
                    "data_bits = 7 is for framing \"ascii\": RTU has always eight");
}

bool place_is_baud(int64_t baud)
{
    bool known = false;
    for (size_t i = 0; i < sizeof BAUDS / sizeof BAUDS[0]; i++)
        known = known || BAUDS[i] == baud;
    return known;
}

static void check_baud(struct cfg *cfg, const struct cfg_setting *group, int64_t baud)
{
    if (!place_is_baud(baud))
        cfg_problem(cfg, cfg_member(group, "baud"), "baud %lld is not a rate of serial lines",
                    (long long)baud);
}

/* MODBUS over Serial Line V1.02, section 2.2; in TCP frames 0 and 255 are the
 * device itself, and not the broadcast (MODBUS Messaging on TCP/IP V1.0b, 4.4.2). */
static void check_address(struct cfg *cfg, const struct cfg_setting *group,
                          const struct device_modbus *modbus)
{
    const struct cfg_setting *address = cfg_member(group, "address");
    bool tcp = modbus->framing == DEVICE_TCP;
    int first = tcp ? 0 : 1, last = tcp ? 255 : 247;
    if (modbus->address == 0 && !tcp)
        cfg_problem(cfg, address,
                    "address 0 is the broadcast: every device would obey and none would answer");
    else if (modbus->address < first || modbus->address > last)
        cfg_problem(cfg, address, "address must be from %d to %d, not %lld", first, last,
                    (long long)modbus->address);
}

static void read_tls(struct cfg *cfg, const struct cfg_setting *group, struct device_modbus *modbus)
{
    const struct cfg_setting *tls = cfg_member(group, "tls");
    if (tls == NULL || !cfg_read(cfg, tls, FILES, modbus))
        return;
    modbus->tls = true;
    if ((modbus->cert_file[0] == '\0') != (modbus->key_file[0] == '\0'))
        cfg_problem(cfg, tls, "cert_file and key_file go together");
}

bool place_read(struct cfg *cfg, const struct cfg_setting *group, struct device_modbus *modbus)
{
    unsigned before = cfg->problems;
    *modbus = (struct device_modbus){
        .framing = UNSET,
        .word_order = UNSET,
        .baud = 9600,
        .parity = DEVICE_PARITY_NONE,
        .data_bits = 8,
        .stop_bits = 1,
        .timeout_ns = 5000000000,
        .retry_count = 3,
    };
    if (!cfg_read(cfg, group, MODBUS, modbus))
        return false;
    bool host = modbus->host[0] != '\0', serial = modbus->serial[0] != '\0';
    if (host == serial) {
        const struct cfg_setting *line = cfg_member(group, "serial");
        cfg_problem(cfg, line != NULL ? line : group, "modbus needs either host or serial%s",
                    host ? ", not both" : "");
        return false;
    }
    const char *problem = host ? host_problem(modbus->host) : NULL;
    if (problem != NULL)
        cfg_problem(cfg, cfg_member(group, "host"), "host \"%s\": %s", modbus->host, problem);
    if (modbus->framing == UNSET)
        modbus->framing = host ? DEVICE_TCP : DEVICE_RTU;
    read_tls(cfg, group, modbus);
    if (modbus->port == 0)
        modbus->port = modbus->tls ? PORT_TLS : PORT;
    check_keys(cfg, group, modbus);
    check_baud(cfg, group, modbus->baud);
    check_address(cfg, group, modbus);
    return cfg->problems == before;
}

/* ---- links ---- */

bool place_is_same_link(const struct device_modbus *a, const struct device_modbus *b)
{
    return strcasecmp(a->host, b->host) == 0 && strcmp(a->serial, b->serial) == 0 &&
           (a->serial[0] != '\0' || (a->port == b->port && a->transport == b->transport));
}

const char *place_difference(const struct device_modbus *a, const struct device_modbus *b)
{
    const struct {
        const char *key;
        bool differs;
    } keys[] = {
        {"framing", a->framing != b->framing},
        {"tls", a->tls != b->tls || strcmp(a->ca_file, b->ca_file) != 0 ||
                    strcmp(a->cert_file, b->cert_file) != 0 ||
                    strcmp(a->key_file, b->key_file) != 0},
        {"baud", a->baud != b->baud},
        {"parity", a->parity != b->parity},
        {"data_bits", a->data_bits != b->data_bits},
        {"stop_bits", a->stop_bits != b->stop_bits},
        {"request_gap", a->request_gap_ns != b->request_gap_ns},
        {"connect_delay", a->connect_delay_ns != b->connect_delay_ns},
        {"loose_transaction_id", a->loose_transaction_id != b->loose_transaction_id},
        {"echo", a->echo != b->echo},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].differs)
            return keys[i].key;
    }
    return NULL;
}
