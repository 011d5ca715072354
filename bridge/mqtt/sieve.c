#include "bridge/mqtt/sieve.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

/* Packet types (MQTT 5.0, section 2.1.2). */
enum {
    CONNACK = 2,
    PUBLISH = 3,
    PUBACK = 4,
    PUBREL = 6,
    SUBACK = 9,
    UNSUBACK = 11,
    PINGRESP = 13,
    DISCONNECT = 14
};

/* What a broker may send to a client that publishes at QoS 0 and 1. */
static const unsigned allowed = 1U << CONNACK | 1U << PUBLISH | 1U << PUBACK | 1U << PUBREL |
                                1U << SUBACK | 1U << UNSUBACK | 1U << PINGRESP | 1U << DISCONNECT;

/* The bridge's session and the Sparkplug node's. */
enum { CONNECTIONS_MAX = 2, LENGTH_BYTES_MAX = 4 };

struct connection {
    struct sieve_owner owner; /* without a context: there is none */
    int fd;
    struct sieve_packet packet;
    bool owes_byte; /* the body of a PINGRESP */
};

/* Who calls recv() has no place to hand one over. */
static struct {
    pthread_mutex_t mutex;
    struct connection list[CONNECTIONS_MAX];
} watched = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    bool is_receiver;
    int fd; /* read from last */
} mine;

/* ---- packets ----------------------------------------------------------- */

static bool pass_head(struct sieve_packet *packet, const struct sieve_owner *owner,
                      unsigned char byte)
{
    if (packet->next == SIEVE_TYPE) {
        *packet = (struct sieve_packet){.next = SIEVE_LENGTH, .type = byte >> 4};
        return (allowed >> packet->type & 1) != 0;
    }
    if (packet->next == SIEVE_LENGTH) {
        packet->left |= (size_t)(byte & 0x7f) << 7 * packet->n++;
        if ((byte & 0x80) != 0)
            return packet->n < LENGTH_BYTES_MAX;
        packet->n = 0;
        packet->next =
            packet->type == SUBACK || packet->type == UNSUBACK ? SIEVE_IDENTIFIER : SIEVE_REST;
        return true;
    }
    packet->identifier = packet->identifier << 8 | byte;
    packet->left--;
    if (++packet->n < 2)
        return true;
    packet->next = SIEVE_REST;
    return !owner->has_sent(owner->context, packet->identifier);
}

bool sieve_pass(struct sieve_packet *packet, const struct sieve_owner *owner, const void *bytes,
                size_t size)
{
    const unsigned char *byte = bytes;
    bool good = packet->next != SIEVE_SHUT;
    while (good && size > 0) {
        size_t n = 1;
        if (packet->next != SIEVE_REST) {
            good = pass_head(packet, owner, *byte);
        } else {
            n = packet->left < size ? packet->left : size;
            packet->left -= n;
        }
        byte += n;
        size -= n;
        if (packet->left == 0 && packet->next >= SIEVE_IDENTIFIER)
            packet->next = SIEVE_TYPE;
    }
    if (!good)
        packet->next = SIEVE_SHUT;
    return good;
}

/* ---- connections ------------------------------------------------------- */

/* Under the lock. NULL: nobody watches this one. */
static struct connection *find(int fd)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (watched.list[i].owner.context != NULL && watched.list[i].fd == fd)
            return &watched.list[i];
    return NULL;
}

/* What has been read, or that nothing can be. */
static ssize_t pass(struct connection *connection, const void *bytes, ssize_t size)
{
    const bool was_shut = connection->packet.next == SIEVE_SHUT;
    if (size <= 0 && !was_shut)
        return size;
    if (!was_shut && sieve_pass(&connection->packet, &connection->owner, bytes, (size_t)size))
        return size;
    if (!was_shut)
        connection->owner.wrong(connection->owner.context, connection->packet.type);
    errno = ECONNRESET;
    return -1;
}

void sieve_watch(const struct sieve_owner *owner)
{
    mine.is_receiver = true;
    sieve_forget(owner->context);
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    for (unsigned i = 0; connection == NULL && i < CONNECTIONS_MAX; i++)
        if (watched.list[i].owner.context == NULL)
            connection = &watched.list[i];
    if (connection != NULL)
        *connection = (struct connection){.owner = *owner, .fd = mine.fd};
    pthread_mutex_unlock(&watched.mutex);
}

void sieve_forget(const void *context)
{
    pthread_mutex_lock(&watched.mutex);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (watched.list[i].owner.context == context)
            watched.list[i].owner.context = NULL;
    pthread_mutex_unlock(&watched.mutex);
}

/* ---- in place of the libraries' ---------------------------------------- */

/* ISO C knows no cast from one to the other. */
static void find_real(void *real, const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(real, &symbol, sizeof(symbol));
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    static ssize_t (*_Atomic known)(int, void *, size_t, int);
    ssize_t (*real)(int, void *, size_t, int) = atomic_load(&known);
    if (real == NULL) {
        find_real(&real, "recv");
        atomic_store(&known, real);
    }
    const ssize_t n = real(fd, bytes, size, flags);
    mine.fd = fd;
    if (!mine.is_receiver)
        return n;
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    const ssize_t passed = connection != NULL ? pass(connection, bytes, n) : n;
    pthread_mutex_unlock(&watched.mutex);
    return passed;
}

/* The library looks for more in a TLS record only behind a packet that has a body. Of a
 * PINGRESP it does not look at the body: so here it has one, of a byte. */
static int read_tls(struct connection *connection, SSL *ssl, char *bytes, int size,
                    int (*real)(SSL *, void *, int))
{
    const struct sieve_packet *packet = &connection->packet;
    if (connection->owes_byte) {
        connection->owes_byte = false;
        *bytes = 0;
        return 1;
    }
    const bool is_length = packet->next == SIEVE_LENGTH && packet->type == PINGRESP;
    const int n = (int)pass(connection, bytes, real(ssl, bytes, size));
    if (is_length && n == 1 && *bytes == 0) {
        connection->owes_byte = true;
        *bytes = 1;
    }
    return n;
}

int SSL_read(SSL *ssl, void *bytes, int size)
{
    static int (*_Atomic known)(SSL *, void *, int);
    int (*real)(SSL *, void *, int) = atomic_load(&known);
    if (real == NULL) {
        find_real(&real, "SSL_read");
        atomic_store(&known, real);
    }
    mine.fd = SSL_get_fd(ssl);
    if (!mine.is_receiver)
        return real(ssl, bytes, size);
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    const int n =
        connection != NULL ? read_tls(connection, ssl, bytes, size, real) : real(ssl, bytes, size);
    pthread_mutex_unlock(&watched.mutex);
    return n;
}
