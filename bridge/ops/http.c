#include "bridge/ops/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/ops/http_library.h"
#include "bridge/ops/metrics.h"
#include "bridge/ops/page.h"
#include "bridge/ops/posts.h"
#include "bridge/ops/streams.h"

/* Those that wait may be half of all; streams and posts have room beside them. */
enum { CONNECTIONS_MAX = 64, WAITING_MAX = 32, TIMEOUT_S = 10 };

#define PROMISE_NS (5 * CLOCK_NS_PER_S) /* for one round */
#define AGAIN_MS   2000                 /* until it is tried again to listen */

struct http {
    struct view view;
    struct http_library library;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    bool runs; /* the thread */
    int wake_fd;
    struct halt halt;
    atomic_bool stopping;
    _Atomic int64_t promise_ns;
    /* From here on of the thread alone. */
    struct streams *streams;
    struct posts *posts;
    uint64_t last_outcome; /* of recent, seen */
    /* Sockets of which no whole request has come since, the oldest first. */
    int waiting[WAITING_MAX];
    unsigned n_waiting;
};

/* ---- who waits ---- */

static void stop_waiting(struct http *http, int fd)
{
    unsigned i = 0;
    while (i < http->n_waiting && http->waiting[i] != fd)
        i++;
    if (i == http->n_waiting)
        return;
    http->n_waiting--;
    memmove(&http->waiting[i], &http->waiting[i + 1], (http->n_waiting - i) * sizeof(int));
}

/* From now on; the one that has waited longest may have to go. The library then
 * finds its connection closed, as if the other side had done that. */
static void wait_anew(struct http *http, int fd)
{
    stop_waiting(http, fd);
    if (http->n_waiting == WAITING_MAX) {
        shutdown(http->waiting[0], SHUT_RDWR);
        stop_waiting(http, http->waiting[0]);
    }
    http->waiting[http->n_waiting++] = fd;
}

static int socket_of(const struct http *http, struct MHD_Connection *connection)
{
    return http->library.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
        ->connect_fd;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *http = context;
    (void)socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        wait_anew(http, socket_of(http, connection));
    else
        stop_waiting(http, socket_of(http, connection));
}

/* ---- what there is ---- */

struct http_page {
    const char *path, *type;
    void (*put)(FILE *out, const struct view *view);
    bool (*is_good)(const struct view *view); /* false = 503; NULL = always good */
    bool of_page;
};

static const struct http_page places[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", metrics_put, NULL, false},
    {"/healthz", "text/plain; charset=utf-8", metrics_put_health, metrics_are_healthy, false},
    {"/", "text/html; charset=utf-8", page_put, NULL, true},
    {"/api/state", "application/json", page_put_state, NULL, true},
    {"/api/info", "application/json", page_put_info, NULL, true},
};
static const char events_path[] = "/api/events";

static enum MHD_Result put_place(const struct http *http, struct MHD_Connection *connection,
                                 const struct http_page *place)
{
    const char *const headers[] = {"Content-Security-Policy", page_policy(), "Referrer-Policy",
                                   "no-referrer", NULL};
    const bool good = place->is_good == NULL || place->is_good(&http->view);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return MHD_NO;
    place->put(out, &http->view);
    (void)fclose(out);
    enum MHD_Result result = http_library_answer(
        &http->library, connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, place->type,
        place->put == page_put ? headers : NULL, text, size);
    free(text);
    return result;
}

static enum MHD_Result not_allowed(const struct http *http, struct MHD_Connection *connection,
                                   const char *allowed)
{
    const char *const headers[] = {MHD_HTTP_HEADER_ALLOW, allowed, NULL};
    return http_library_answer(&http->library, connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                               "text/plain; charset=utf-8", headers, "", 0);
}

static enum MHD_Result listen_to(struct http *http, struct MHD_Connection *connection,
                                 const char *method)
{
    bool opened;
    if (strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
        return http_library_answer(&http->library, connection, MHD_HTTP_OK, "text/event-stream",
                                   NULL, "", 0);
    enum MHD_Result result = streams_open(http->streams, connection, clock_mono_ns(), &opened);
    if (opened)
        stop_waiting(http, socket_of(http, connection));
    return result;
}

static enum MHD_Result serve_get(struct http *http, struct MHD_Connection *connection,
                                 const char *path, const char *method)
{
    static const char lost[] = "there are /metrics and /healthz, and with page = true / and /api\n";
    const bool page = http->view.conf->http_page;
    const bool get =
        strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (page && posts_is_path(path))
        return not_allowed(http, connection, MHD_HTTP_METHOD_POST);
    if (!get)
        return not_allowed(http, connection, "GET, HEAD");
    if (page && strcmp(path, events_path) == 0)
        return listen_to(http, connection, method);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (strcmp(path, places[i].path) == 0 && (page || !places[i].of_page))
            return put_place(http, connection, &places[i]);
    return http_library_answer(&http->library, connection, MHD_HTTP_NOT_FOUND,
                               "text/plain; charset=utf-8", NULL, lost, sizeof(lost) - 1);
}

/* ---- requests ---- */

/* What is remembered of a request between two calls: a post, or that its head has come. */
static char head_has_come;

static enum MHD_Result serve_post(struct http *http, struct MHD_Connection *connection,
                                  struct post *post, const char *upload, size_t *upload_size)
{
    const int fd = socket_of(http, connection);
    bool sleeps;
    enum MHD_Result result = posts_serve(http->posts, post, upload, upload_size, &sleeps);
    if (sleeps)
        stop_waiting(http, fd);
    else
        wait_anew(http, fd);
    return result;
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **per_request)
{
    struct http *http = context;
    const bool posts = http->view.conf->http_page && posts_is_path(path) &&
                       strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    (void)version;
    if (*per_request == NULL) {
        wait_anew(http, socket_of(http, connection)); /* for its body, and the next request */
        *per_request = posts ? posts_begin(http->posts, connection, path) : NULL;
        if (*per_request == NULL)
            *per_request = &head_has_come;
        return MHD_YES;
    }
    if (*per_request != &head_has_come)
        return serve_post(http, connection, *per_request, upload, upload_size);
    if (*upload_size > 0) { /* the body of what is refused */
        *upload_size = 0;
        return MHD_YES;
    }
    return posts ? posts_refuse(http->posts, connection, path)
                 : serve_get(http, connection, path, method);
}

static void on_end(void *context, struct MHD_Connection *connection, void **per_request,
                   enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    if (*per_request != NULL && *per_request != &head_has_come)
        posts_end(*per_request);
    *per_request = NULL;
}

/* ---- the thread ---- */

static void take_outcomes(struct http *http)
{
    uint64_t ticket = 0;
    char *payload;
    while ((payload = recent_take(http->view.recent, &http->last_outcome, &ticket)) != NULL) {
        streams_tell(http->streams, payload);
        posts_tell(http->posts, ticket, payload);
        free(payload);
    }
}

/* How long there is nothing to do, in ms; -1 = until something comes. */
static int pause_ms(struct http *http, int64_t due_ns)
{
    MHD_UNSIGNED_LONG_LONG library_ms = 0;
    int64_t pause_ns = CLOCK_NEVER;
    if (http->library.get_timeout(http->daemon, &library_ms) == MHD_YES)
        pause_ns = (int64_t)library_ms * CLOCK_NS_PER_MS;
    if (due_ns != CLOCK_NEVER && due_ns - clock_mono_ns() < pause_ns)
        pause_ns = due_ns - clock_mono_ns();
    if (pause_ns == CLOCK_NEVER)
        return -1;
    return pause_ns <= 0 ? 0 : (int)(pause_ns / CLOCK_NS_PER_MS) + 1;
}

static void halt(struct http *http)
{
    eventfd_t woken;
    if (!halt_is_asked(&http->halt))
        return;
    halt_here(&http->halt);
    (void)eventfd_read(http->wake_fd, &woken);
}

union listen_address {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
};

/* 0 where there is none. */
static socklen_t find_address(const char *text, uint16_t port, union listen_address *address)
{
    *address = (union listen_address){.ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
    if (inet_pton(AF_INET6, text, &address->ipv6.sin6_addr) == 1)
        return sizeof(address->ipv6);
    *address = (union listen_address){.ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
    return inet_pton(AF_INET, text, &address->ipv4.sin_addr) == 1 ? sizeof(address->ipv4) : 0;
}

static struct MHD_Daemon *listen_on(struct http *http)
{
    const struct conf *conf = http->view.conf;
    union listen_address address;
    if (find_address(conf->http_address, conf->http_port, &address) == 0)
        return NULL;
    return http->library.start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
            (address.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0),
        0, NULL, NULL, serve, http, MHD_OPTION_SOCK_ADDR, &address.any, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, (void *)http, MHD_OPTION_NOTIFY_COMPLETED,
        on_end, (void *)http, MHD_OPTION_END);
}

static void serve_all(struct http *http)
{
    struct pollfd fds[] = {
        {.fd = http->library.get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
         .events = POLLIN},
        {.fd = recent_fd(http->view.recent), .events = POLLIN},
        {.fd = http->wake_fd, .events = POLLIN},
    };
    int64_t due_ns = CLOCK_NEVER;
    while (!atomic_load(&http->stopping)) {
        atomic_store_explicit(&http->promise_ns, CLOCK_NEVER, memory_order_relaxed);
        (void)poll(fds, sizeof(fds) / sizeof(*fds), pause_ms(http, due_ns));
        halt(http);
        atomic_store_explicit(&http->promise_ns, clock_awake_ns() + PROMISE_NS,
                              memory_order_relaxed);
        take_outcomes(http);
        (void)http->library.run(http->daemon);
        streams_feed(http->streams, clock_mono_ns());
        due_ns = posts_feed(http->posts, clock_mono_ns());
        if (streams_due_ns(http->streams) < due_ns)
            due_ns = streams_due_ns(http->streams);
    }
    /* The library wants nobody asleep when it stops; those that were get an end. */
    take_outcomes(http);
    streams_stop(http->streams);
    posts_stop(http->posts);
    (void)http->library.run(http->daemon);
}

/* Until it listens, or is to end. */
static void wait_for_address(struct http *http)
{
    struct pollfd woken = {.fd = http->wake_fd, .events = POLLIN};
    while (http->daemon == NULL && !atomic_load(&http->stopping)) {
        (void)poll(&woken, 1, AGAIN_MS);
        halt(http);
        if (!atomic_load(&http->stopping) && (http->daemon = listen_on(http)) != NULL)
            log_info("http listens listen=%s", http->view.conf->http_listen);
    }
}

static void *http_thread(void *argument)
{
    struct http *http = argument;
    wait_for_address(http);
    if (http->daemon != NULL)
        serve_all(http);
    return NULL;
}

/* With port 0 whether the address is one of this machine. 0 or what errno says. With the
 * library's options: what has ended a moment ago is in nobody's way. */
static int try_address(const char *text, uint16_t port)
{
    static const int on = 1;
    union listen_address address;
    const socklen_t size = find_address(text, port, &address);
    const int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                      (address.any.sa_family != AF_INET6 ||
                       setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
                      bind(fd, &address.any, size) == 0;
    const int error = good ? 0 : errno;
    if (fd >= 0)
        (void)close(fd);
    return error;
}

bool http_try(const struct conf *conf, bool is_there, char why[HTTP_WHY_MAX])
{
    struct http_library library;
    if (!http_library_load(&library)) {
        (void)snprintf(why, HTTP_WHY_MAX, "http needs libmicrohttpd: %s", http_library_error());
        return false;
    }
    http_library_unload(&library);
    const int error = try_address(conf->http_address, is_there ? 0 : conf->http_port);
    if (error != 0)
        (void)snprintf(why, HTTP_WHY_MAX, "http cannot listen: %s listen=%s", strerror(error),
                       conf->http_listen);
    return error == 0;
}

/* Batteries are not left alone for want of a page: an address may come late, and who has
 * its port may end. What is missing of descriptors or memory ends a start here as anywhere;
 * then the address can be had, or errno says so. (Of what the library leaves there nothing is
 * to be made.) */
static bool may_come(const struct conf *conf)
{
    const int error = try_address(conf->http_address, conf->http_port);
    const bool comes = error != 0 && error != EMFILE && error != ENFILE && error != ENOMEM;
    log_error("http cannot listen%s listen=%s why=\"%s\"", comes ? ", it is tried again" : "",
              conf->http_listen, error != 0 ? strerror(error) : "out of descriptors or memory");
    return comes;
}

static bool start(struct http *http, struct inbox *inbox)
{
    if (!http_library_load(&http->library)) {
        log_error("http needs libmicrohttpd: install the package libmicrohttpd12, on Debian 13 "
                  "libmicrohttpd12t64 why=\"%s\"",
                  http_library_error());
        return false;
    }
    http->streams = streams_new(&http->library, &http->view);
    http->posts = posts_new(&http->library, &http->view, inbox);
    http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->streams == NULL || http->posts == NULL || http->wake_fd < 0) {
        log_error("http: out of memory or descriptors");
        return false;
    }
    http->daemon = listen_on(http);
    if (http->daemon != NULL)
        log_info("http listens listen=%s", http->view.conf->http_listen);
    else if (!may_come(http->view.conf))
        return false;
    http->runs = pthread_create(&http->thread, NULL, http_thread, http) == 0;
    if (!http->runs)
        log_error("cannot start the thread of http");
    return http->runs;
}

struct http *http_start(const struct view *view, struct inbox *inbox)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL)
        return NULL;
    http->view = *view;
    http->promise_ns = CLOCK_NEVER;
    halt_init(&http->halt);
    http->wake_fd = -1;
    if (start(http, inbox))
        return http;
    http_stop(http);
    return NULL;
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    if (http->runs) {
        atomic_store(&http->stopping, true);
        (void)eventfd_write(http->wake_fd, 1);
        (void)pthread_join(http->thread, NULL);
    }
    if (http->daemon != NULL)
        http->library.stop_daemon(http->daemon);
    if (http->wake_fd >= 0)
        (void)close(http->wake_fd);
    streams_free(http->streams);
    posts_free(http->posts);
    http_library_unload(&http->library);
    halt_destroy(&http->halt);
    free(http);
}

struct halt *http_halt(struct http *http)
{
    halt_ask(&http->halt);
    (void)eventfd_write(http->wake_fd, 1);
    return &http->halt;
}

int64_t http_promise_ns(const struct http *http)
{
    return http != NULL ? atomic_load_explicit(&http->promise_ns, memory_order_relaxed)
                        : CLOCK_NEVER;
}
