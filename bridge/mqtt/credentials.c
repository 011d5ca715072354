#include "bridge/mqtt/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/mqtt/broker_tls.h"

/* Why a file cannot be used, or NULL. The libraries would wait for whoever writes into a pipe,
 * and all sessions with them. */
static const char *find_wrong(const char *path)
{
    struct stat status;
    if (access(path, R_OK) != 0 || stat(path, &status) != 0)
        return strerror(errno);
    return S_ISREG(status.st_mode) ? NULL : "it is no regular file";
}

bool credentials_load(const struct conf_mqtt *conf, char password[CONF_TEXT_MAX + 1], char *why,
                      size_t size)
{
    const struct {
        const char *key, *path;
    } files[] = {
        {"ca_file", conf->ca_file}, {"cert_file", conf->cert_file}, {"key_file", conf->key_file}};
    const char *wrong;
    password[0] = '\0';
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        wrong = files[i].path[0] != '\0' ? find_wrong(files[i].path) : NULL;
        if (wrong != NULL) {
            snprintf(why, size, "%s: %s file=%s", files[i].key, wrong, files[i].path);
            return false;
        }
    }
    if (conf->password_file[0] == '\0')
        return true;
    wrong = conf_load_password(conf->password_file, password);
    if (wrong != NULL)
        snprintf(why, size, "password_file: %s file=%s", wrong, conf->password_file);
    return wrong == NULL;
}

bool credentials_try(const struct conf_mqtt *conf, char *why, size_t size)
{
    struct broker_tls tls = {.context = NULL};
    char password[CONF_TEXT_MAX + 1];
    const bool good = credentials_load(conf, password, why, size) &&
                      (!conf->tls || broker_tls_get(&tls, conf, why, size) != NULL);
    explicit_bzero(password, sizeof(password));
    broker_tls_free(&tls);
    return good;
}
