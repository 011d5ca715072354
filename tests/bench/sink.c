/* sink: the MQTT side of the benchmark: measures what arrives, sends commands.
 *
 *     sink BROKER_PORT DEVICES
 *
 * Subscribes to flux/bench/+/state, flux/bench/+/result and the data of a
 * Sparkplug node at QoS 0 and prints {} when the broker has agreed. Devices are called d0, d1, …. A
 * minimal MQTT 3.1.1 client on a plain socket, so that what it adds to a latency is one receive.
 *
 * Orders on stdin, each answered with one line:
 *
 *     await             answers when every device was heard of at least once
 *     mark              a new window of measurement begins
 *     report            what arrived in this window
 *     command DEVICE COUNT INTERVAL_US OUTCOMES
 *     stop DEVICE COUNT INTERVAL_US OUTCOMES      the same, but each is a zero
 *                       sends COUNT setpoints, INTERVAL_US apart on average, and
 *                       answers when all their outcomes are in (OUTCOMES = 1) or
 *                       when all are sent (0)
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/bench.h"

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, SUBSCRIBE = 0x82, SUBACK = 0x90 };
enum { QOS_1 = 0x02, BUFFER = 1 << 20 };

static const char BASE[] = "flux/bench/", DDATA[] = "spBv1.0/flux/DDATA/bench/";

struct device {
    int64_t first_us; /* when first heard of; 0 = never */
    int64_t seq;      /* of its last sample */
};

struct sink {
    int fd;
    size_t got;
    unsigned char *buffer;
    unsigned n_devices, n_heard;
    struct device *devices;
    int64_t first_us, last_us; /* when the first and the last of them were first heard of */
    bool awaiting;

    int64_t samples, gaps;                 /* in this window */
    int64_t sample_bytes, sparkplug_bytes; /* of whole packets, in it */
    struct bench_series latencies;

    char target[64]; /* device that is sent commands */
    bool stops;      /* what it is sent is zero */
    unsigned n_commands, n_sent, n_outcomes, n_confirmed;
    unsigned series; /* makes ids unique over several orders */
    bool wants_outcomes;
    int64_t interval_us, next_us;
    uint32_t random;
    int64_t *sent_us, *outcome_us; /* one per command */
};

/* ---- packets out ---- */

static void send_all(struct sink *sink, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(sink->fd, bytes, size, MSG_NOSIGNAL);
        if (n == -1)
            bench_die("send to the broker");
        bytes += n;
        size -= (size_t)n;
    }
}

/* Fixed header and body; a body is shorter than 16384 bytes here. */
static void send_packet(struct sink *sink, unsigned type, const unsigned char *body, size_t size)
{
    unsigned char packet[1024];
    packet[0] = (unsigned char)type;
    packet[1] = (unsigned char)(size % 128 | 128);
    packet[2] = (unsigned char)(size / 128);
    memcpy(packet + 3, body, size);
    send_all(sink, packet, size + 3);
}

static size_t put_text(unsigned char *at, const char *text)
{
    size_t size = strlen(text);
    at[0] = (unsigned char)(size >> 8);
    at[1] = (unsigned char)size;
    memcpy(at + 2, text, size);
    return size + 2;
}

static void send_connect(struct sink *sink)
{
    unsigned char body[64] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean session */, 0, 0};
    send_packet(sink, CONNECT, body, 10 + put_text(body + 10, "bench-sink"));
}

static void send_subscribe(struct sink *sink)
{
    static const char *const topics[][2] = {{BASE, "+/state"}, {BASE, "+/result"}, {DDATA, "+"}};
    unsigned char body[256] = {0, 1};
    size_t size = 2;
    for (size_t i = 0; i < sizeof(topics) / sizeof(*topics); i++) {
        char filter[64];
        snprintf(filter, sizeof(filter), "%s%s", topics[i][0], topics[i][1]);
        size += put_text(body + size, filter);
        body[size++] = 0; /* QoS */
    }
    send_packet(sink, SUBSCRIBE, body, size);
}

/* ---- commands ---- */

static void finish_commands(struct sink *sink)
{
    printf("{\"confirmed\":%u,\"sent_us\":[", sink->n_confirmed);
    for (unsigned i = 0; i < sink->n_commands; i++)
        printf("%s%" PRId64, i > 0 ? "," : "", sink->sent_us[i]);
    printf("],\"outcome_us\":[");
    for (unsigned i = 0; i < sink->n_commands; i++)
        printf("%s%" PRId64, i > 0 ? "," : "", sink->outcome_us[i]);
    puts("]}");
    fflush(stdout);
    sink->n_commands = 0;
}

/* Setpoints go through -200 … 200 kW without zero, so that one that gets lost
 * is noticed; pauses are from half to one and a half of the interval, so that
 * they keep no step with polling. */
static void send_command(struct sink *sink)
{
    unsigned char body[512];
    char text[256];
    unsigned i = sink->n_sent++;
    int value = sink->stops ? -1 : (int)(i % 400) - 200;
    snprintf(text, sizeof(text), "%s%s/set/target_power", BASE, sink->target);
    size_t size = put_text(body, text);
    body[size++] = (unsigned char)((i + 1) >> 8 & 0x7f);
    body[size++] = (unsigned char)((i + 1) & 0xff) | 1;
    int length = snprintf(text, sizeof(text), "{\"id\":\"c%u-%u\",\"value\":%d}", sink->series, i,
                          value + (sink->stops || value >= 0));
    memcpy(body + size, text, (size_t)length);
    sink->random = sink->random * 1664525 + 1013904223;
    sink->sent_us[i] = bench_now_us();
    send_packet(sink, PUBLISH | QOS_1, body, size + (size_t)length);
    sink->next_us += sink->interval_us / 2 + (int64_t)(sink->random >> 8) % sink->interval_us;
    if (sink->n_sent == sink->n_commands && !sink->wants_outcomes)
        finish_commands(sink);
}

static void begin_commands(struct sink *sink, const char *line)
{
    int wants_outcomes = 0;
    sink->stops = strncmp(line, "stop ", 5) == 0;
    if (sscanf(line, "%*s %63s %u %" SCNd64 " %d", sink->target, &sink->n_commands,
               &sink->interval_us, &wants_outcomes) != 4) {
        fprintf(stderr, "sink: malformed order: %s\n", line);
        exit(EXIT_FAILURE);
    }
    size_t size = sink->n_commands * sizeof(int64_t);
    sink->sent_us = bench_grow(sink->sent_us, size);
    sink->outcome_us = bench_grow(sink->outcome_us, size);
    memset(sink->outcome_us, 0, size);
    sink->wants_outcomes = wants_outcomes != 0;
    sink->n_sent = sink->n_outcomes = sink->n_confirmed = 0;
    sink->series++;
    sink->next_us = bench_now_us();
}

static void take_outcome(struct sink *sink, const char *payload, int64_t now_us)
{
    const char *id = strstr(payload, "\"id\":\"c");
    unsigned series, i;
    if (id == NULL || sscanf(id, "\"id\":\"c%u-%u\"", &series, &i) != 2 || series != sink->series ||
        i >= sink->n_commands || sink->outcome_us[i] != 0)
        return;
    sink->outcome_us[i] = now_us;
    sink->n_outcomes++;
    sink->n_confirmed += strstr(payload, "\"outcome\":\"confirmed\"") != NULL;
    if (sink->n_outcomes == sink->n_commands && sink->wants_outcomes)
        finish_commands(sink);
}

/* ---- samples ---- */

static bool find_number(const char *payload, const char *key, int64_t *number)
{
    const char *at = strstr(payload, key);
    if (at != NULL)
        *number = strtoll(at + strlen(key), NULL, 10);
    return at != NULL;
}

static void tell_heard(struct sink *sink)
{
    if (!sink->awaiting || sink->n_heard < sink->n_devices)
        return;
    printf("{\"first_us\":%" PRId64 ",\"last_us\":%" PRId64 "}\n", sink->first_us, sink->last_us);
    fflush(stdout);
    sink->awaiting = false;
}

static void take_sample(struct sink *sink, struct device *device, const char *payload,
                        int64_t now_us)
{
    static const char *const keys[BENCH_TIME_REGISTERS] = {"\"t0\":", "\"t1\":", "\"t2\":"};
    int64_t seq = 0, answered_us = 0, word;
    if (device->first_us == 0) {
        device->first_us = sink->last_us = now_us;
        if (sink->n_heard++ == 0)
            sink->first_us = now_us;
        tell_heard(sink);
    }
    find_number(payload, "\"seq\":", &seq);
    if (device->seq != 0 && seq > device->seq + 1)
        sink->gaps += seq - device->seq - 1;
    device->seq = seq;
    sink->samples++;
    for (int i = 0; i < BENCH_TIME_REGISTERS; i++) {
        if (!find_number(payload, keys[i], &word))
            return; /* a battery: it has no clock */
        answered_us = answered_us << 16 | word;
    }
    bench_add(&sink->latencies, now_us - answered_us);
}

static void take_publish(struct sink *sink, char *body, size_t size, int64_t now_us)
{
    size_t topic_size = (size_t)(unsigned char)body[0] << 8 | (unsigned char)body[1];
    char *topic = body + 2, *payload = topic + topic_size;
    char saved = body[size];
    if (memcmp(topic, DDATA, strlen(DDATA)) == 0) {
        sink->sparkplug_bytes += (int64_t)size;
        return;
    }
    body[size] = '\0'; /* the first byte of the next packet */
    const char *name = topic + strlen(BASE);
    const char *leaf = memchr(name, '/', topic_size - strlen(BASE));
    unsigned index = (unsigned)atoi(name + 1);
    if (leaf[1] == 'r')
        take_outcome(sink, payload, now_us);
    else if (name[0] == 'd' && index < sink->n_devices) {
        sink->sample_bytes += (int64_t)size;
        take_sample(sink, &sink->devices[index], payload, now_us);
    }
    body[size] = saved;
}

/* ---- packets in ---- */

static void take_packet(struct sink *sink, unsigned type, char *body, size_t size, int64_t now_us)
{
    switch (type & 0xf0) {
    case CONNACK:
        if (body[1] != 0) {
            fprintf(stderr, "sink: the broker refuses the login\n");
            exit(EXIT_FAILURE);
        }
        send_subscribe(sink);
        break;
    case SUBACK:
        puts("{}");
        fflush(stdout);
        break;
    case PUBLISH:
        take_publish(sink, body, size, now_us);
        break;
    default: /* PUBACK */
        break;
    }
}

/* The size of the whole packet at `at`, and of its fixed header; 0 = not all there. */
static size_t packet_size(const unsigned char *at, size_t got, size_t *header)
{
    size_t size = 0;
    for (*header = 1; *header < got && *header < 5; (*header)++) {
        size |= (size_t)(at[*header] & 127) << 7 * (*header - 1);
        if (at[*header] < 128) {
            size += ++*header;
            return got >= size ? size : 0;
        }
    }
    return 0;
}

static void receive(struct sink *sink)
{
    ssize_t n = recv(sink->fd, sink->buffer + sink->got, BUFFER - sink->got, 0);
    int64_t now_us = bench_now_us();
    if (n <= 0)
        bench_die("receive from the broker");
    sink->got += (size_t)n;
    size_t at = 0, size, header;
    while ((size = packet_size(sink->buffer + at, sink->got - at, &header)) > 0) {
        take_packet(sink, sink->buffer[at], (char *)sink->buffer + at + header, size - header,
                    now_us);
        at += size;
    }
    sink->got -= at;
    memmove(sink->buffer, sink->buffer + at, sink->got);
}

/* ---- orders ---- */

static void obey(void *context, const char *line)
{
    struct sink *sink = context;
    if (strcmp(line, "await") == 0) {
        sink->awaiting = true;
        tell_heard(sink);
    } else if (strcmp(line, "mark") == 0) {
        sink->samples = sink->gaps = sink->sample_bytes = sink->sparkplug_bytes = 0;
        sink->latencies.n = 0;
        puts("{}");
    } else if (strcmp(line, "report") == 0) {
        printf("{\"samples\":%" PRId64 ",\"gaps\":%" PRId64 ",\"bytes\":%" PRId64
               ",\"sparkplug_bytes\":%" PRId64 ",",
               sink->samples, sink->gaps, sink->sample_bytes, sink->sparkplug_bytes);
        bench_print("latency_us", &sink->latencies);
        puts("}");
    } else {
        begin_commands(sink, line);
    }
}

static void start(struct sink *sink, int port)
{
    const int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    sink->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sink->fd == -1 ||
        connect(sink->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        bench_die("connect to the broker");
    setsockopt(sink->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    sink->buffer = bench_grow(NULL, BUFFER + 1);
    sink->devices = bench_grow(NULL, sink->n_devices * sizeof(*sink->devices));
    memset(sink->devices, 0, sink->n_devices * sizeof(*sink->devices));
    send_connect(sink);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: sink BROKER_PORT DEVICES\n");
        return 2;
    }
    struct sink sink = {.n_devices = (unsigned)atoi(argv[2]), .random = 1};
    start(&sink, atoi(argv[1]));
    for (;;) {
        struct pollfd fds[2] = {{.fd = sink.fd, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        struct timespec pause = {0}, *wait = NULL;
        if (sink.n_sent < sink.n_commands) {
            int64_t left_us = sink.next_us - bench_now_us();
            if (left_us > 0)
                pause = (struct timespec){.tv_sec = left_us / 1000000,
                                          .tv_nsec = left_us % 1000000 * 1000};
            wait = &pause;
        }
        if (ppoll(fds, 2, wait, NULL) == -1 && errno != EINTR)
            bench_die("ppoll");
        if (fds[0].revents)
            receive(&sink);
        if (fds[1].revents)
            bench_read_orders(obey, &sink);
        if (sink.n_sent < sink.n_commands && bench_now_us() >= sink.next_us)
            send_command(&sink);
    }
}
