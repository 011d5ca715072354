#include "bridge/mqtt/cause.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bridge/mqtt/broker_tls.h"

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

/* The handshake, and then what the broker thinks of our certificate: with TLS
 * 1.3 its alert comes after the handshake. */
static void shake_hands(SSL *ssl, const struct words *why)
{
    static const char failed[] = "TLS handshake failed";
    char byte;
    ERR_clear_error();
    if (SSL_connect(ssl) != 1) {
        long verdict = SSL_get_verify_result(ssl);
        if (verdict != X509_V_OK)
            say(why, "certificate verify failed", X509_verify_cert_error_string(verdict));
        else
            broker_tls_words(failed, why->text, why->size);
    } else if (SSL_read(ssl, &byte, 1) != 1 && ERR_peek_error() != 0) {
        broker_tls_words(failed, why->text, why->size);
    }
}

static void try_tls(const struct conf_mqtt *conf, int fd, const struct words *why)
{
    struct broker_tls tls = {.context = NULL};
    SSL_CTX *context = broker_tls_get(&tls, conf, why->text, why->size);
    SSL *ssl = context != NULL ? SSL_new(context) : NULL;
    struct in6_addr numeric;
    if (ssl != NULL && inet_pton(AF_INET, conf->host, &numeric) != 1 &&
        inet_pton(AF_INET6, conf->host, &numeric) != 1)
        SSL_set_tlsext_host_name(ssl, conf->host);
    if (ssl != NULL && SSL_set_fd(ssl, fd) == 1)
        shake_hands(ssl, why);
    SSL_free(ssl);
    broker_tls_free(&tls);
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
