#include "bridge/mqtt/broker_tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void broker_tls_words(const char *what, char *why, size_t size)
{
    const unsigned long error = ERR_peek_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    snprintf(why, size, "%s: %s", what, reason != NULL ? reason : "connection closed");
}

/* Or OpenSSL asks on the terminal for that of an encrypted key. */
static int no_passphrase(char *buffer, int size, int for_writing, void *context)
{
    (void)buffer, (void)size, (void)for_writing, (void)context;
    return 0;
}

/* What is wrong with the files, NULL when nothing is. */
static const char *load_files(const struct conf_mqtt *conf, SSL_CTX *context)
{
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if ((conf->ca_file[0] != '\0' ? SSL_CTX_load_verify_locations(context, conf->ca_file, NULL)
                                  : SSL_CTX_set_default_verify_paths(context)) != 1)
        return "ca_file";
    if (conf->cert_file[0] != '\0' &&
        SSL_CTX_use_certificate_chain_file(context, conf->cert_file) != 1)
        return "cert_file";
    if (conf->key_file[0] != '\0' &&
        SSL_CTX_use_PrivateKey_file(context, conf->key_file, SSL_FILETYPE_PEM) != 1)
        return "key_file";
    return NULL;
}

static SSL_CTX *make(const struct conf_mqtt *conf, char *why, size_t size)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    const char *wrong = context == NULL ? "TLS" : load_files(conf, context);
    if (wrong != NULL) {
        broker_tls_words(wrong, why, size);
        SSL_CTX_free(context);
        ERR_clear_error();
        return NULL;
    }
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);
    if (X509_VERIFY_PARAM_set1_ip_asc(parameters, conf->host) != 1)
        X509_VERIFY_PARAM_set1_host(parameters, conf->host, 0);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); /* there may be hundreds of sessions */
    ERR_clear_error();
    return context;
}

static void look(const struct conf_mqtt *conf, struct broker_tls_stamp stamps[BROKER_TLS_FILES])
{
    const char *const paths[BROKER_TLS_FILES] = {
        conf->ca_file[0] != '\0' ? conf->ca_file : X509_get_default_cert_file(), conf->cert_file,
        conf->key_file};
    memset(stamps, 0, BROKER_TLS_FILES * sizeof(*stamps)); /* they are compared as bytes */
    for (int i = 0; i < BROKER_TLS_FILES; i++) {
        struct stat file;
        if (stat(paths[i], &file) != 0)
            continue;
        stamps[i].device = file.st_dev;
        stamps[i].inode = file.st_ino;
        stamps[i].changed = file.st_mtim;
    }
}

SSL_CTX *broker_tls_get(struct broker_tls *tls, const struct conf_mqtt *conf, char *why,
                        size_t size)
{
    struct broker_tls_stamp stamps[BROKER_TLS_FILES];
    look(conf, stamps);
    if (tls->context != NULL && memcmp(stamps, tls->stamps, sizeof(stamps)) == 0)
        return tls->context;
    SSL_CTX *context = make(conf, why, size);
    if (context == NULL)
        return NULL;
    broker_tls_free(tls); /* sessions that have it keep it */
    tls->context = context;
    memcpy(tls->stamps, stamps, sizeof(stamps));
    return context;
}

void broker_tls_free(struct broker_tls *tls)
{
    SSL_CTX_free(tls->context);
    tls->context = NULL;
}
