#include "devices/lines/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct tls {
    struct link *link;
    const struct device_modbus *modbus;
    const char *name;
    BIO_METHOD *method;
    SSL_CTX *context; /* as long as it is connected */
    SSL *ssl;
    int64_t deadline_ns;
};

/* ---- the socket as OpenSSL sees it: its own would raise SIGPIPE ---- */

static int socket_result(BIO *bio, ssize_t n)
{
    BIO_clear_retry_flags(bio);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)n;
}

static int socket_read(BIO *bio, char *bytes, int size)
{
    return socket_result(bio, recv((int)(intptr_t)BIO_get_data(bio), bytes, (size_t)size, 0));
}

static int socket_write(BIO *bio, const char *bytes, int size)
{
    ssize_t n = send((int)(intptr_t)BIO_get_data(bio), bytes, (size_t)size, MSG_NOSIGNAL);
    int result = socket_result(bio, n);
    if (BIO_should_retry(bio)) {
        BIO_clear_retry_flags(bio);
        BIO_set_retry_write(bio);
    }
    return result;
}

static long socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* ---- the handshake ---- */

/* Why OpenSSL failed, in words. */
static const char *why(const struct tls *tls)
{
    long verdict = tls->ssl != NULL ? SSL_get_verify_result(tls->ssl) : X509_V_OK;
    if (verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : errno != 0 ? strerror(errno) : "closed by the device";
}

static enum fault fail_file(struct tls *tls, const char *path)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return link_fail(tls->link, FAULT_CONNECTION, "%s: %s: %s", tls->name, path,
                     reason != NULL ? reason : "cannot be used");
}

/* A key that wants a passphrase is refused: nobody is there to type it. */
static int no_passphrase(char *buffer, int size, int for_writing, void *context)
{
    (void)buffer, (void)size, (void)for_writing, (void)context;
    return 0;
}

/* What can be waited for, such as a pipe, would hold up all devices of this thread. */
static bool is_regular(const char *path)
{
    struct stat status;
    return stat(path, &status) != 0 || S_ISREG(status.st_mode);
}

static enum fault load_files(struct tls *tls)
{
    const struct device_modbus *modbus = tls->modbus;
    const char *ca = modbus->ca_file, *cert = modbus->cert_file, *key = modbus->key_file;
    const char *const paths[] = {ca, cert, key};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i][0] != '\0' && !is_regular(paths[i]))
            return link_fail(tls->link, FAULT_CONNECTION, "%s: %s: it is no regular file",
                             tls->name, paths[i]);
    int loaded = ca[0] != '\0' ? SSL_CTX_load_verify_locations(tls->context, ca, NULL)
                               : SSL_CTX_set_default_verify_paths(tls->context);
    if (loaded != 1)
        return fail_file(tls, ca[0] != '\0' ? ca : "the system's authorities");
    if (cert[0] != '\0' && SSL_CTX_use_certificate_chain_file(tls->context, cert) != 1)
        return fail_file(tls, cert);
    if (key[0] != '\0' && SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) != 1)
        return fail_file(tls, key);
    return FAULT_NONE;
}

/* The certificate must be for the host, by its name or its address. */
static bool expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *expected = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(expected, host) == 1)
        return true;
    ERR_clear_error();
    return X509_VERIFY_PARAM_set1_host(expected, host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, host) == 1;
}

enum fault tls_begin(struct tls *tls, int fd, int64_t deadline_ns)
{
    BIO *bio = NULL;
    ERR_clear_error();
    tls->deadline_ns = deadline_ns;
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL || SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1)
        return link_fail(tls->link, FAULT_CONNECTION, "%s: TLS: %s", tls->name, why(tls));
    SSL_CTX_set_default_passwd_cb(tls->context, no_passphrase);
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    enum fault fault = load_files(tls);
    if (fault != FAULT_NONE)
        return fault;
    tls->ssl = SSL_new(tls->context);
    if (tls->ssl != NULL)
        bio = BIO_new(tls->method);
    if (bio == NULL || !expect_host(tls->ssl, tls->modbus->host)) {
        BIO_free(bio);
        return link_fail(tls->link, FAULT_CONNECTION, "%s: TLS: %s", tls->name, why(tls));
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_connect_state(tls->ssl);
    link_await(tls->link, fd, POLLOUT, deadline_ns);
    return tls_go_on(tls);
}

enum fault tls_go_on(struct tls *tls)
{
    struct link *link = tls->link;
    bool cut = link_now_ns() >= link->until_ns;
    link->is_busy = false;
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1)
        return FAULT_NONE;
    int error = SSL_get_error(tls->ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        return link_fail(link, FAULT_CONNECTION, "%s: TLS: %s", tls->name, why(tls));
    if (cut)
        return link_fail(link, FAULT_TIMEOUT, "%s: TLS: no handshake in time", tls->name);
    return link_await(link, link->fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT,
                      tls->deadline_ns);
}

/* ---- connected ---- */

static ssize_t result_of(struct tls *tls, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    default:
        if (errno == 0 || errno == EAGAIN)
            errno = ECONNRESET; /* the end without a good-bye, or what is no TLS */
        return -1;
    }
}

ssize_t tls_send(struct tls *tls, const uint8_t *bytes, size_t n)
{
    ERR_clear_error();
    errno = 0;
    return result_of(tls, SSL_write(tls->ssl, bytes, (int)n));
}

ssize_t tls_receive(struct tls *tls, uint8_t *bytes, size_t n)
{
    ERR_clear_error();
    errno = 0;
    return result_of(tls, SSL_read(tls->ssl, bytes, (int)n));
}

void tls_close(struct tls *tls, bool reset)
{
    if (tls->ssl != NULL && !reset && SSL_is_init_finished(tls->ssl))
        SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->context);
    tls->ssl = NULL;
    tls->context = NULL;
    ERR_clear_error();
}

/* ---- all of it ---- */

struct tls *tls_new(struct link *link, const struct device_modbus *modbus, const char *name)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return NULL;
    *tls = (struct tls){.link = link, .modbus = modbus, .name = name};
    tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket");
    if (tls->method == NULL) {
        free(tls);
        return NULL;
    }
    BIO_meth_set_read(tls->method, socket_read);
    BIO_meth_set_write(tls->method, socket_write);
    BIO_meth_set_ctrl(tls->method, socket_control);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    BIO_meth_free(tls->method);
    free(tls);
}
