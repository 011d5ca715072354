#include "bridge/mqtt/cause.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PROBE_TIMEOUT_S = 2 };

struct words {
    char *text;
    size_t size;
};

static void say(const struct words *why, const char *what, const char *detail)
{
    snprintf(why->text, why->size, "%s%s%s", what, detail[0] != '\0' ? ": " : "", detail);
}

/* Connects within PROBE_TIMEOUT_S; that is also the timeout of every read and
 * write to come. -1 with errno. */
static int connect_to(const struct addrinfo *address)
{
    const struct timeval timeout = {.tv_sec = PROBE_TIMEOUT_S};
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = error;
    return -1;
}

/* A connected socket, or -1 and why not. */
static int open_tcp(const struct conf_mqtt *conf, const char *address, const struct words *why)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found = NULL;
    char port[16];
    snprintf(port, sizeof(port), "%d", (int)conf->port);
    int error = getaddrinfo(address, port, &hints, &found);
    if (error != 0) {
        say(why, "cannot use the address", gai_strerror(error));
        return -1;
    }
    int fd = connect_to(found);
    if (fd < 0)
        say(why, "cannot connect", strerror(errno));
    freeaddrinfo(found);
    return fd;
}

/* The first thing that OpenSSL has to complain of. */
static void say_ssl(const struct words *why, const char *what)
{
    unsigned long error = ERR_peek_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    say(why, what, reason != NULL ? reason : "connection closed");
}

static int no_passphrase(char *buffer, int size, int for_writing, void *context)
{
    (void)buffer, (void)size, (void)for_writing, (void)context;
    return 0;
}

static bool load_files(const struct conf_mqtt *conf, SSL_CTX *context, const struct words *why)
{
    const char *wrong = NULL;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if ((conf->ca_file[0] != '\0' ? SSL_CTX_load_verify_locations(context, conf->ca_file, NULL)
                                  : SSL_CTX_set_default_verify_paths(context)) != 1)
        wrong = "ca_file";
    else if (conf->cert_file[0] != '\0' &&
             SSL_CTX_use_certificate_chain_file(context, conf->cert_file) != 1)
        wrong = "cert_file";
    else if (conf->key_file[0] != '\0' &&
             SSL_CTX_use_PrivateKey_file(context, conf->key_file, SSL_FILETYPE_PEM) != 1)
        wrong = "key_file";
    if (wrong != NULL)
        say_ssl(why, wrong);
    return wrong == NULL;
}

/* The handshake, and then what the broker thinks of our certificate: with TLS
 * 1.3 its alert comes after the handshake. */
static void shake_hands(const struct conf_mqtt *conf, SSL *ssl, const struct words *why)
{
    char byte;
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(parameters, conf->host) != 1) {
        X509_VERIFY_PARAM_set1_host(parameters, conf->host, 0);
        SSL_set_tlsext_host_name(ssl, conf->host);
    }
    ERR_clear_error();
    if (SSL_connect(ssl) != 1) {
        long verdict = SSL_get_verify_result(ssl);
        if (verdict != X509_V_OK)
            say(why, "certificate verify failed", X509_verify_cert_error_string(verdict));
        else
            say_ssl(why, "TLS handshake failed");
    } else if (SSL_read(ssl, &byte, 1) != 1 && ERR_peek_error() != 0) {
        say_ssl(why, "TLS handshake failed");
    }
}

static void try_tls(const struct conf_mqtt *conf, int fd, const struct words *why)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    if (context == NULL || !load_files(conf, context, why))
        goto done;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    ssl = SSL_new(context);
    if (ssl != NULL && SSL_set_fd(ssl, fd) == 1)
        shake_hands(conf, ssl, why);
done:
    SSL_free(ssl);
    SSL_CTX_free(context);
    ERR_clear_error();
}

void cause_broker(const struct conf_mqtt *conf, const char *address, char *text, size_t size)
{
    const struct words why = {.text = text, .size = size};
    int fd = open_tcp(conf, address, &why);
    if (fd < 0)
        return;
    say(&why, "the broker closed the connection before the login", "");
    if (conf->tls)
        try_tls(conf, fd, &why);
    close(fd);
}
