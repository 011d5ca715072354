#include "bridge/cli/check_files.h"

#include <errno.h>
#include <libgen.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bridge/commands/audit_file.h"
#include "bridge/store/spool.h"

enum { SOON_DAYS = 30 };

const struct cfg_setting *check_place(const struct check *check, unsigned device)
{
    /* Batteries come first in the list. */
    const struct cfg_setting *bess = cfg_lookup(check->file, "devices.bess");
    const struct cfg_setting *meters = cfg_lookup(check->file, "devices.meters");
    const unsigned n_bess = bess != NULL ? cfg_length(bess) : 0;
    const struct cfg_setting *group =
        device < n_bess ? cfg_element(bess, device) : cfg_element(meters, device - n_bess);
    return cfg_member(group, "modbus");
}

/* ---- what the bridge writes ---- */

/* A file that will be made, in a directory that must be there. What this user may
 * not look at is the business of the user who runs the bridge. */
static void check_writable(const struct check *check, const char *path, const char *key)
{
    const struct cfg_setting *where = cfg_lookup(check->file, key);
    char directory[CONF_PATH_MAX + 1];
    struct stat status;
    if (*path == '\0')
        return;
    if (stat(path, &status) == 0) {
        if (S_ISDIR(status.st_mode))
            cfg_problem(check->cfg, where, "%s is a directory: a file in it is wanted", path);
        return;
    }
    snprintf(directory, sizeof(directory), "%s", path);
    const char *parent = dirname(directory);
    if (stat(parent, &status) != 0) {
        if (errno != EACCES)
            cfg_problem(check->cfg, where,
                        "%s: %s: make this directory, writable for the user who runs the bridge",
                        parent, strerror(errno));
    } else if (!S_ISDIR(status.st_mode)) {
        cfg_problem(check->cfg, where, "%s is no directory", parent);
    }
}

/* What is there already must be the bridge's own. */
static void check_own(const struct check *check)
{
    const char *spool = check->conf->spool_path, *audit = check->conf->audit_path;
    char state[CONF_PATH_MAX + 1];
    struct stat status;
    state_path(check->conf, state);
    const char *why =
        stat(spool, &status) == 0 && !S_ISDIR(status.st_mode) ? spool_refuses(spool, state) : NULL;
    if (why != NULL)
        cfg_problem(check->cfg, cfg_lookup(check->file, "spool.path"),
                    "%s is no spool of this release: %s: name another path, or move it away", spool,
                    why);
    if ((why = state_refuses(state)) != NULL)
        cfg_problem(check->cfg, cfg_lookup(check->file, "site"),
                    "%s is no state file of this release: %s: move it away", state, why);
    if (*audit != '\0' && audit_file_is_foreign(audit))
        cfg_problem(check->cfg, cfg_lookup(check->file, "audit.path"),
                    "%s is no audit log: name another path, or move it away", audit);
}

/* ---- secrets ---- */

/* What the world may read is no secret. */
static void check_secret(const struct check *check, const char *path,
                         const struct cfg_setting *where)
{
    struct stat status;
    if (*path != '\0' && stat(path, &status) == 0 && (status.st_mode & S_IROTH) != 0)
        cfg_warning(check->cfg, where, "%s can be read by every user of this machine: chmod o-r it",
                    path);
}

/* ---- certificates and keys ---- */

static int no_passphrase(char *buffer, int size, int for_writing, void *context)
{
    (void)buffer, (void)size, (void)for_writing, (void)context;
    return 0;
}

/* Whether the file can be opened at all; that alone is said in the system's words, of the
 * broker's by conf_read(). */
static bool can_open(const struct check *check, const char *path, const struct cfg_setting *where,
                     const char *key)
{
    struct stat status;
    char byte;
    /* It would be waited for. */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
        cfg_problem(check->cfg, where, "%s: %s is no regular file", key, path);
        return false;
    }
    FILE *file = fopen(path, "re");
    bool good = file != NULL && (fread(&byte, 1, 1, file) == 1 || !ferror(file));
    if (!good && path != check->conf->mqtt.ca_file && path != check->conf->mqtt.cert_file &&
        path != check->conf->mqtt.key_file)
        cfg_problem(check->cfg, where, "%s: %s: %s", key, path, strerror(errno));
    if (file != NULL)
        fclose(file);
    return good;
}

/* Each certificate of a file against today. */
static void check_dates(const struct check *check, const char *path,
                        const struct cfg_setting *where, const char *key)
{
    FILE *file = fopen(path, "re");
    X509 *certificate;
    while (file != NULL && (certificate = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
        int days = 0, seconds = 0;
        (void)ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate));
        if (days < 0 || seconds < 0)
            cfg_problem(check->cfg, where, "%s: a certificate has ended %d days ago", key, -days);
        else if (days < SOON_DAYS)
            cfg_warning(check->cfg, where, "%s: a certificate ends in %d days", key, days);
        X509_free(certificate);
    }
    if (file != NULL)
        fclose(file);
    ERR_clear_error();
}

/* Of a group tls. */
static void check_tls(const struct check *check, const struct cfg_setting *group,
                      const char *ca_file, const char *cert_file, const char *key_file)
{
    const struct cfg_setting *ca = cfg_member(group, "ca_file");
    const struct cfg_setting *cert = cfg_member(group, "cert_file");
    const struct cfg_setting *key = cfg_member(group, "key_file");
    SSL_CTX *context = *ca_file != '\0' || *cert_file != '\0' || *key_file != '\0'
                           ? SSL_CTX_new(TLS_client_method())
                           : NULL;
    bool has_cert = false, has_key = false;
    if (context == NULL)
        return;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if (*ca_file != '\0' && can_open(check, ca_file, ca, "ca_file")) {
        if (SSL_CTX_load_verify_locations(context, ca_file, NULL) == 1)
            check_dates(check, ca_file, ca, "ca_file");
        else
            cfg_problem(check->cfg, ca, "ca_file: %s holds no certificates as PEM", ca_file);
    }
    if (*cert_file != '\0' && can_open(check, cert_file, cert, "cert_file")) {
        has_cert = SSL_CTX_use_certificate_chain_file(context, cert_file) == 1;
        if (has_cert)
            check_dates(check, cert_file, cert, "cert_file");
        else
            cfg_problem(check->cfg, cert, "cert_file: %s holds no certificate as PEM", cert_file);
    }
    ERR_clear_error();
    if (*key_file != '\0' && can_open(check, key_file, key, "key_file")) {
        has_key = SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) == 1;
        /* With the certificate in place the key is compared with it there. */
        const unsigned long error = ERR_peek_last_error();
        if (!has_key && has_cert && ERR_GET_LIB(error) == ERR_LIB_X509)
            cfg_problem(check->cfg, key, "key_file: %s is not the key of cert_file", key_file);
        else if (!has_key)
            cfg_problem(check->cfg, key, "key_file: %s holds no key as PEM without a passphrase",
                        key_file);
        check_secret(check, key_file, key);
    }
    SSL_CTX_free(context);
    ERR_clear_error();
}

/* ---- serial lines ---- */

/* Two names of one line, such as udev's below /dev/serial/by-id, would be two links, of
 * which only one gets it. */
static void check_serial_names(const struct check *check, unsigned device,
                               const struct stat *status, const struct cfg_setting *where)
{
    const struct device_list *list = &check->conf->devices;
    const char *path = list->devices[device].modbus.serial;
    bool found = false;
    for (unsigned i = 0; i < device && !found; i++) {
        const struct device *other = &list->devices[i];
        struct stat others;
        found = other->modbus.serial[0] != '\0' && strcmp(other->modbus.serial, path) != 0 &&
                stat(other->modbus.serial, &others) == 0 && S_ISCHR(others.st_mode) &&
                others.st_rdev == status->st_rdev;
        if (found)
            cfg_problem(check->cfg, where,
                        "%s is the line of device '%s', %s: a line has to have one name", path,
                        other->name, other->modbus.serial);
    }
}

static void check_serial(const struct check *check, unsigned device)
{
    const char *path = check->conf->devices.devices[device].modbus.serial;
    const struct cfg_setting *where = cfg_member(check_place(check, device), "serial");
    struct stat status;
    if (*path == '\0')
        return;
    if (stat(path, &status) != 0)
        cfg_problem(check->cfg, where, "%s: %s: is the adapter plugged in?", path, strerror(errno));
    else if (!S_ISCHR(status.st_mode))
        cfg_problem(check->cfg, where, "%s is no serial device", path);
    else
        check_serial_names(check, device, &status, where);
}

void check_files(const struct check *check)
{
    const struct conf *conf = check->conf;
    check_writable(check, conf->spool_path, "spool.path");
    check_writable(check, conf->audit_path, "audit.path");
    check_own(check);
    check_secret(check, conf->mqtt.password_file, cfg_lookup(check->file, "mqtt.password_file"));
    check_secret(check, conf->http_token_file, cfg_lookup(check->file, "http.token_file"));
    check_tls(check, cfg_lookup(check->file, "mqtt.tls"), conf->mqtt.ca_file, conf->mqtt.cert_file,
              conf->mqtt.key_file);
    for (unsigned i = 0; i < conf->devices.n_devices; i++) {
        const struct device_modbus *modbus = &conf->devices.devices[i].modbus;
        if (device_is_first(&conf->devices, i))
            check_serial(check, i);
        if (modbus->tls)
            check_tls(check, cfg_member(check_place(check, i), "tls"), modbus->ca_file,
                      modbus->cert_file, modbus->key_file);
    }
}
