#include "bridge/mqtt/sieve.h"

#include <dlfcn.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { PINGRESP = 13 /* the type of a packet */, LEFT_AT_ONCE = 4096, LEFT_READS_MAX = 65536 };

/* Of a descriptor that the library's receiver has read from. */
struct connection {
    int fd;
    ino_t inode;              /* the socket's: the descriptor may have another by now */
    struct sieve_owner owner; /* without a context: before CONNACK, and when it has ended */
    struct sieve_packet packet;
    bool owes_byte; /* the body of a PINGRESP */
    struct connection *next;
};

/* Who calls recv() has no place to hand one over. */
static struct {
    pthread_mutex_t mutex;
    struct connection *list;
    size_t size_max;
    bool is_old; /* a broker has answered so */
} watched = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    enum { UNKNOWN, RECEIVER, OTHER } role;
    int fd; /* read from last */
} mine;

/* ---- connections ------------------------------------------------------- */

/* Under the lock. That of the socket which the descriptor has now. NULL: out of memory. */
static struct connection *find(int fd)
{
    struct stat status = {.st_ino = 0}; /* no socket has this */
    struct connection *connection = watched.list;
    (void)fstat(fd, &status);
    while (connection != NULL && connection->fd != fd)
        connection = connection->next;
    if (connection == NULL && (connection = calloc(1, sizeof(*connection))) != NULL) {
        connection->next = watched.list;
        watched.list = connection;
    }
    if (connection != NULL && (connection->fd != fd || connection->inode != status.st_ino))
        *connection = (struct connection){.fd = fd,
                                          .inode = status.st_ino,
                                          .packet.size_max = watched.size_max,
                                          .next = connection->next};
    return connection;
}

static bool is_shut(const struct connection *connection)
{
    return connection == NULL || connection->packet.next == SIEVE_SHUT;
}

/* What the library is to have of what has been read: all, or the end of the connection. */
static ssize_t pass(struct connection *connection, const void *bytes, ssize_t size)
{
    const struct sieve_owner *owner = connection->owner.context != NULL ? &connection->owner : NULL;
    if (size <= 0 || sieve_pass(&connection->packet, owner, bytes, (size_t)size))
        return size;
    if (owner != NULL)
        owner->wrong(owner->context, &connection->packet);
    else if (connection->packet.wrong == sieve_old_answer)
        watched.is_old = true;
    return 0;
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

/* Whether this packet is a message that is left out, and has not come to its end. */
static bool is_leaving_out(const struct sieve_packet *packet)
{
    return packet->is_left && (packet->next != SIEVE_TYPE || packet->skipped > 0);
}

/* What the library reads: a packet's first byte it asks for alone. Behind messages that are
 * left out it gets the next packet, or what the connection says when there is none. A broker
 * that sends on without a pause has hung up, for the library is locked meanwhile. */
static ssize_t read_sifted(struct connection *connection, const struct tap *tap, void *bytes,
                           size_t size)
{
    struct sieve_packet *packet = &connection->packet;
    char left[LEFT_AT_ONCE];
    for (unsigned i = 0; i < LEFT_READS_MAX; i++) {
        const bool leaves = is_leaving_out(packet);
        const size_t most = packet->skipped < sizeof(left) ? packet->skipped : sizeof(left);
        const ssize_t n =
            leaves ? tap->read(tap, left, most > 0 ? most : 1) : tap->read(tap, bytes, size);
        const ssize_t passed = pass(connection, leaves ? left : bytes, n);
        if (passed <= 0 || (!leaves && !is_leaving_out(packet)))
            return passed;
    }
    packet->next = SIEVE_SHUT;
    return 0;
}

void sieve_expect(size_t size_max)
{
    pthread_mutex_lock(&watched.mutex);
    watched.size_max = size_max;
    watched.is_old = false;
    pthread_mutex_unlock(&watched.mutex);
}

bool sieve_is_old(void)
{
    pthread_mutex_lock(&watched.mutex);
    const bool is_old = watched.is_old;
    pthread_mutex_unlock(&watched.mutex);
    return is_old;
}

void sieve_watch(const struct sieve_owner *owner)
{
    mine.role = RECEIVER;
    sieve_forget(owner->context);
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    if (connection != NULL)
        connection->owner = *owner;
    pthread_mutex_unlock(&watched.mutex);
}

void sieve_deafen(const void *context)
{
    pthread_mutex_lock(&watched.mutex);
    for (struct connection *c = watched.list; c != NULL; c = c->next)
        if (c->owner.context == context)
            c->packet.is_deaf = true;
    pthread_mutex_unlock(&watched.mutex);
}

void sieve_forget(const void *context)
{
    pthread_mutex_lock(&watched.mutex);
    for (struct connection *c = watched.list; c != NULL; c = c->next) {
        if (c->owner.context == context) {
            c->owner.context = NULL;
            c->packet.next = SIEVE_SHUT;
        }
    }
    pthread_mutex_unlock(&watched.mutex);
}

/* The library gives its threads names. */
static bool is_receiver(void)
{
    char name[16] = "";
    if (mine.role == UNKNOWN) {
        (void)pthread_getname_np(pthread_self(), name, sizeof(name));
        mine.role = strcmp(name, "MQTTAsync_rcv") == 0 ? RECEIVER : OTHER;
    }
    return mine.role == RECEIVER;
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
    if (!is_receiver())
        return real(fd, bytes, size, flags);
    const struct tap tap = {.read = read_plain, .fd = fd, .flags = flags, .recv = real};
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(fd);
    const ssize_t n = is_shut(connection) ? 0 : read_sifted(connection, &tap, bytes, size);
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
    if (!is_receiver())
        return real(ssl, bytes, size);
    const struct tap tap = {.read = read_ssl, .ssl = ssl, .ssl_read = real};
    pthread_mutex_lock(&watched.mutex);
    struct connection *connection = find(mine.fd);
    const int n = is_shut(connection) ? 0 : read_tls(connection, &tap, bytes, size);
    pthread_mutex_unlock(&watched.mutex);
    return n;
}
