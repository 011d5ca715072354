#include "bridge/ops/http.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* Those that wait may be half of all. */
enum { CONNECTIONS_MAX = 64, WAITING_MAX = 32, TIMEOUT_S = 10 };

/* The seven functions of libmicrohttpd that are used. */
struct library {
    void *handle;
    __typeof__(&MHD_start_daemon) start_daemon;
    __typeof__(&MHD_stop_daemon) stop_daemon;
    __typeof__(&MHD_create_response_from_buffer) create_response_from_buffer;
    __typeof__(&MHD_add_response_header) add_response_header;
    __typeof__(&MHD_queue_response) queue_response;
    __typeof__(&MHD_destroy_response) destroy_response;
    __typeof__(&MHD_get_connection_info) get_connection_info;
};

struct http {
    struct http_setup setup;
    struct library library;
    struct MHD_Daemon *daemon;
    int64_t started_ns;
    /* Sockets of which no whole request has come since, the oldest first. Of the
     * library's thread alone. */
    int waiting[WAITING_MAX];
    unsigned n_waiting;
};

/* ---- the text ---- */

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP fluxbridge_%s %s\n# TYPE fluxbridge_%s %s\n", name, help, name, type);
}

static void put_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    put_head(out, name, type, help);
    fprintf(out, "fluxbridge_%s %" PRIu64 "\n", name, value);
}

static const char *name_of(const struct http *http, unsigned device)
{
    return http->setup.conf->devices.devices[device].name;
}

static void put_bridge(FILE *out, const struct http *http)
{
    const struct health *health = http->setup.health;
    const struct outbox_depth depth = outbox_depth(http->setup.outbox);
    put_head(out, "info", "gauge", "What runs.");
    fprintf(out, "fluxbridge_info{version=\"%s\",site=\"%s\",run=\"%s\"} 1\n", FLUXBRIDGE_VERSION,
            http->setup.conf->site, http->setup.run);
    put_one(out, "mqtt_up", "gauge", "Whether the broker is connected.",
            publisher_down_since_ns(http->setup.publisher) == 0);
    put_one(out, "mqtt_reconnects_total", "counter", "Connections after the first.",
            health_get(&health->reconnects));
    put_one(out, "publishes_total", "counter", "Messages acknowledged by the broker.",
            health_get(&health->publishes));
    put_one(out, "samples_total", "counter", "Samples taken.", health_get(&health->samples));
    put_one(out, "samples_bad_total", "counter", "Samples in which nothing was read.",
            health_get(&health->samples_bad));
    put_one(out, "samples_dropped_total", "counter", "Samples given up for want of room.",
            depth.dropped);
    put_one(out, "set_aside_total", "counter", "Messages that the broker does not take.",
            depth.set_aside + health_get(&health->set_aside));
    put_one(out, "missed_ticks_total", "counter", "Scans that fell due while the link was busy.",
            health_get(&health->missed_ticks));
    put_one(out, "spool_depth", "gauge", "Samples that wait for the broker, on disk and in memory.",
            depth.backlog);
    put_one(out, "deadman_firing", "gauge", "Batteries whose fallback is not yet confirmed.",
            health_get(&health->deadman_firing));
    put_one(out, "audit_up", "gauge", "Whether outcomes can be written to the audit log.",
            audit_was_available(http->setup.audit));
    put_one(out, "clock_jumps_total", "counter", "Jumps of UTC.", health_get(&health->clock_jumps));
}

static void put_commands(FILE *out, const struct http *http)
{
    const struct health *health = http->setup.health;
    put_one(out, "commands_total", "counter", "Messages on command topics.",
            health_get(&health->commands));
    put_head(out, "outcomes_total", "counter", "Commands by outcome.");
    for (int i = 0; i < OUTCOME_COUNT; i++)
        fprintf(out, "fluxbridge_outcomes_total{outcome=\"%s\"} %" PRIu64 "\n",
                outcome_word((enum outcome_kind)i), health_get(&health->outcomes[i]));
    put_head(out, "refusals_total", "counter", "Refused commands by reason.");
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++)
        fprintf(out, "fluxbridge_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
                reason_word((enum reason)i), health_get(&health->refusals[i]));
}

static void put_duration(FILE *out, const char *device, const struct health_device *counters)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < HEALTH_CLASSES; i++) {
        sum += health_get(&counters->durations[i]);
        fprintf(out, "fluxbridge_scan_seconds_bucket{device=\"%s\",le=\"%g\"} %" PRIu64 "\n",
                device, health_class_us[i] / 1e6, sum);
    }
    sum += health_get(&counters->durations[HEALTH_CLASSES]);
    fprintf(out,
            "fluxbridge_scan_seconds_bucket{device=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
            "fluxbridge_scan_seconds_sum{device=\"%s\"} %.6f\n"
            "fluxbridge_scan_seconds_count{device=\"%s\"} %" PRIu64 "\n",
            device, sum, device, (double)health_get(&counters->duration_us) / 1e6, device, sum);
}

static void put_devices(FILE *out, const struct http *http)
{
    const struct health_device *devices = http->setup.health->devices;
    const unsigned n = http->setup.conf->devices.n_devices;
    const int64_t now_ns = clock_mono_ns();

    put_head(out, "polls_total", "counter", "Attempts at a scan.");
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "fluxbridge_polls_total{device=\"%s\"} %" PRIu64 "\n", name_of(http, i),
                health_get(&devices[i].polls));
    put_head(out, "device_samples_dropped_total", "counter",
             "Of samples_dropped_total: those of each device.");
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "fluxbridge_device_samples_dropped_total{device=\"%s\"} %" PRIu64 "\n",
                name_of(http, i), outbox_dropped(http->setup.outbox, i));
    put_head(out, "point_errors_total", "counter", "Points without a value, by the word for it.");
    for (unsigned i = 0; i < n; i++) {
        for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
            uint64_t errors = health_get(&devices[i].errors[fault]);
            if (errors > 0)
                fprintf(out,
                        "fluxbridge_point_errors_total{device=\"%s\",error=\"%s\"} %" PRIu64 "\n",
                        name_of(http, i), fault_word((enum fault)fault), errors);
        }
    }
    put_head(out, "scan_seconds", "histogram", "How long a whole scan took.");
    for (unsigned i = 0; i < n; i++)
        put_duration(out, name_of(http, i), &devices[i]);
    put_head(out, "up", "gauge", "Whether the device is online.");
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "fluxbridge_up{device=\"%s\"} %d\n", name_of(http, i),
                outbox_is_online(http->setup.outbox, i));
    put_head(out, "last_good_age_seconds", "gauge",
             "Age of the last sample with a value; before the first, of the bridge.");
    for (unsigned i = 0; i < n; i++) {
        int64_t good_ns = atomic_load_explicit(&devices[i].last_good_ns, memory_order_relaxed);
        fprintf(out, "fluxbridge_last_good_age_seconds{device=\"%s\"} %.3f\n", name_of(http, i),
                (double)(now_ns - (good_ns != 0 ? good_ns : http->started_ns)) /
                    (double)CLOCK_NS_PER_S);
    }
}

static void put_metrics(FILE *out, const struct http *http)
{
    put_bridge(out, http);
    put_commands(out, http);
    put_devices(out, http);
}

static bool is_healthy(const struct http *http)
{
    return !atomic_load(&http->setup.health->stuck);
}

static void put_health(FILE *out, const struct http *http)
{
    fprintf(out, "%s\nmqtt %s\n", is_healthy(http) ? "ok" : "a thread has stopped moving",
            publisher_down_since_ns(http->setup.publisher) == 0 ? "up" : "down");
}

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

/* ---- the server ---- */

struct page {
    const char *path, *type;
    void (*put)(FILE *out, const struct http *http);
    bool (*is_good)(const struct http *http); /* false = 503; NULL = always good */
};

static const struct page pages[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", put_metrics, NULL},
    {"/healthz", "text/plain; charset=utf-8", put_health, is_healthy},
};

static enum MHD_Result answer(const struct http *http, struct MHD_Connection *connection,
                              unsigned status, const char *type, const char *text, size_t size)
{
    const struct library *library = &http->library;
    struct MHD_Response *response =
        library->create_response_from_buffer(size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    library->add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result result = library->queue_response(connection, status, response);
    library->destroy_response(response);
    return result;
}

static enum MHD_Result serve(void *context, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **per_request)
{
    static const char lost[] = "there are /metrics and /healthz\n";
    static const char plain[] = "text/plain; charset=utf-8";
    struct http *http = context;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)per_request;
    wait_anew(http, socket_of(http, connection)); /* for the next request */
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer(http, connection, MHD_HTTP_METHOD_NOT_ALLOWED, plain, "", 0);
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        const struct page *page = &pages[i];
        char *text = NULL;
        size_t size = 0;
        if (strcmp(path, page->path) != 0)
            continue;
        FILE *out = open_memstream(&text, &size);
        if (out == NULL)
            return MHD_NO;
        page->put(out, http);
        (void)fclose(out);
        bool good = page->is_good == NULL || page->is_good(http);
        enum MHD_Result result =
            answer(http, connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, page->type,
                   text, size);
        free(text);
        return result;
    }
    return answer(http, connection, MHD_HTTP_NOT_FOUND, plain, lost, sizeof(lost) - 1);
}

static bool load(struct library *library)
{
    const struct {
        const char *name;
        void **function;
    } wanted[] = {
        {"MHD_start_daemon", (void **)&library->start_daemon},
        {"MHD_stop_daemon", (void **)&library->stop_daemon},
        {"MHD_create_response_from_buffer", (void **)&library->create_response_from_buffer},
        {"MHD_add_response_header", (void **)&library->add_response_header},
        {"MHD_queue_response", (void **)&library->queue_response},
        {"MHD_destroy_response", (void **)&library->destroy_response},
        {"MHD_get_connection_info", (void **)&library->get_connection_info},
    };
    library->handle = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library->handle != NULL && i < sizeof(wanted) / sizeof(*wanted); i++) {
        *wanted[i].function = dlsym(library->handle, wanted[i].name);
        if (*wanted[i].function == NULL)
            return false;
    }
    return library->handle != NULL;
}

static struct MHD_Daemon *listen_on(struct http *http)
{
    const struct conf *conf = http->setup.conf;
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(conf->http_port)};
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(conf->http_port)};
    bool is_ipv6 = inet_pton(AF_INET6, conf->http_address, &ipv6.sin6_addr) == 1;
    if (!is_ipv6 && inet_pton(AF_INET, conf->http_address, &ipv4.sin_addr) != 1)
        return NULL;
    return http->library.start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | (is_ipv6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL, serve, http,
        MHD_OPTION_SOCK_ADDR, is_ipv6 ? (void *)&ipv6 : (void *)&ipv4, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, (void *)http, MHD_OPTION_END);
}

struct http *http_start(const struct http_setup *setup)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        log_error("out of memory for http");
        return NULL;
    }
    http->setup = *setup;
    http->started_ns = clock_mono_ns();
    if (!load(&http->library)) {
        log_error("http needs libmicrohttpd: install the package libmicrohttpd12, on Debian 13 "
                  "libmicrohttpd12t64");
        http_stop(http);
        return NULL;
    }
    errno = 0;
    http->daemon = listen_on(http);
    if (http->daemon == NULL) {
        log_error("http cannot listen listen=%s why=\"%s\"", setup->conf->http_listen,
                  strerror(errno));
        http_stop(http);
        return NULL;
    }
    log_info("http listens listen=%s", setup->conf->http_listen);
    return http;
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    if (http->daemon != NULL)
        http->library.stop_daemon(http->daemon);
    if (http->library.handle != NULL)
        dlclose(http->library.handle);
    free(http);
}
