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

enum { QOS_2 = 0x04 }; /* in the first byte of a PUBLISH */

/* What a broker may send to a client that publishes at QoS 0 and 1. */
static const unsigned allowed = 1U << CONNACK | 1U << PUBLISH | 1U << PUBACK | 1U << PUBREL |
                                1U << SUBACK | 1U << UNSUBACK | 1U << PINGRESP | 1U << DISCONNECT;

/* The bridge's session and the Sparkplug node's. */
enum { CONNECTIONS_MAX = 2, LENGTH_BYTES_MAX = 4, LEFT_AT_ONCE = 4096 };

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

static bool pass_type(struct sieve_packet *packet, const struct sieve_owner *owner,
                      unsigned char byte)
{
    const bool is_message = byte >> 4 == PUBLISH;
    *packet = (struct sieve_packet){.next = SIEVE_LENGTH,
                                    .type = byte >> 4,
                                    .is_deaf = packet->is_deaf,
                                    .is_left = packet->is_deaf && is_message};
    if (is_message && !packet->is_left && (byte & QOS_2) == 0)
        owner->begins(owner->context);
    return (allowed >> packet->type & 1) != 0;
}

static bool pass_head(struct sieve_packet *packet, const struct sieve_owner *owner,
                      unsigned char byte)
{
    if (packet->next == SIEVE_TYPE)
        return pass_type(packet, owner, byte);
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

/* How a connection is read. */
struct tap {
    ssize_t (*read)(const struct tap *tap, void *bytes, size_t size);
    int fd, flags;
    SSL *ssl;
    ssize_t (*recv)(int, void *, size_t, int);
    int (*ssl_read)(SSL *, void *, int);
};

static ssize_t read_plain(const struct tap *tap, void *bytes, size_t size)
{
    return tap->recv(tap->fd, bytes, size, tap->flags);
}

static ssize_t read_ssl(const struct tap *tap, void *bytes, size_t size)
{
    return tap->ssl_read(tap->ssl, bytes, (int)size);
}

/* Reads the rest of a message that is left out, as far as it has come; what was read last. */
static ssize_t leave_out(struct connection *connection, const struct tap *tap)
{
    const struct sieve_packet *packet = &connection->packet;
    char bytes[LEFT_AT_ONCE];
    ssize_t n = 1;
    while (packet->is_left && packet->next != SIEVE_TYPE && packet->next != SIEVE_SHUT && n > 0) {
        const size_t most = packet->left < sizeof(bytes) ? packet->left : sizeof(bytes);
        n = pass(connection, bytes, tap->read(tap, bytes, packet->next == SIEVE_REST ? most : 1));
    }
    return n;
}

/* What the library reads: a packet's first byte it asks for alone. Behind a message that is
 * left out it gets the next packet, or what the connection says when there is none. */
static ssize_t read_sifted(struct connection *connection, const struct tap *tap, void *bytes,
                           size_t size)
{
    ssize_t n;
    do {
        if ((n = leave_out(connection, tap)) > 0)
            n = pass(connection, bytes, tap->read(tap, bytes, size));
    } while (n > 0 && connection->packet.is_left && connection->packet.next != SIEVE_TYPE);
    return n;
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

void sieve_deafen(const void *context)
{
    pthread_mutex_lock(&watched.mutex);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (watched.list[i].owner.context == context)
            watched.list[i].packet.is_deaf = true;
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
    mine.fd = fd;
    if (!mine.is_receiver)
        return real(fd, bytes, size, flags);
    const struct tap tap = {.read = read_plain, .fd = fd, .flags = flags, .recv = real};
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(fd);
    const ssize_t n = connection != NULL ? read_sifted(connection, &tap, bytes, size)
                                         : tap.read(&tap, bytes, size);
    pthread_mutex_unlock(&watched.mutex);
    return n;
}

/* The library looks for more in a TLS record only behind a packet that has a body. Of a
 * PINGRESP it does not look at the body: so here it has one, of a byte. */
static int read_tls(struct connection *connection, const struct tap *tap, char *bytes, int size)
{
    const struct sieve_packet *packet = &connection->packet;
    if (connection->owes_byte) {
        connection->owes_byte = false;
        *bytes = 0;
        return 1;
    }
    const bool is_length = packet->next == SIEVE_LENGTH && packet->type == PINGRESP;
    const int n = (int)read_sifted(connection, tap, bytes, (size_t)size);
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
    const struct tap tap = {.read = read_ssl, .ssl = ssl, .ssl_read = real};
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    const int n =
        connection != NULL ? read_tls(connection, &tap, bytes, size) : real(ssl, bytes, size);
    pthread_mutex_unlock(&watched.mutex);
    return n;
}
