/* broker_tls: what OpenSSL has to know for a session with the broker: whom to believe, who
 * we are, and whose certificate is expected.
 *
 * For sessions that are not the MQTT library's own business: those of presence, and the
 * look at why an attempt has failed (cause). Not locked; each owner has one of his own.
 */
#ifndef BRIDGE_MQTT_BROKER_TLS_H
#define BRIDGE_MQTT_BROKER_TLS_H

#include <openssl/ssl.h>
#include <time.h>

#include "bridge/site/conf.h"

enum { BROKER_TLS_FILES = 3 };

/* Begins as zeroes. */
struct broker_tls {
    SSL_CTX *context;
    struct broker_tls_stamp {
        dev_t device;
        ino_t inode;
        struct timespec changed;
    } stamps[BROKER_TLS_FILES]; /* of the files when they were read */
};

/* The context for the configured files, read anew when one of them has changed: sessions
 * share it, and with it the certificates. NULL: `why` has OpenSSL's words. */
SSL_CTX *broker_tls_get(struct broker_tls *tls, const struct conf_mqtt *conf, char *why,
                        size_t size);
void broker_tls_free(struct broker_tls *tls);

/* The first thing that OpenSSL has to complain of, behind `what`. */
void broker_tls_words(const char *what, char *why, size_t size);

#endif
