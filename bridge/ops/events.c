#include "bridge/ops/events.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/ops/page.h"

/* Some seconds' worth. */
enum { BYTES = 64 << 10, BYTES_PER_DEVICE = 4 << 10 };
#define BEAT_NS (10 * CLOCK_NS_PER_S)

/* Of a device, as last told. */
struct told {
    uint64_t seq;
    bool online;
};

struct events {
    struct view view;
    char *bytes;
    size_t size;
    uint64_t end; /* bytes ever put */
    int64_t beat_ns;
    size_t room;
    char *sample; /* has the room */
    struct told *told;
};

struct events *events_new(const struct view *view)
{
    const unsigned n = view->conf->devices.n_devices;
    struct events *events = calloc(1, sizeof(*events));
    if (events == NULL)
        return NULL;
    events->view = *view;
    /* Also of a device that is added later: a longer one is not published either. */
    events->room = OUTBOX_PAYLOAD_MAX;
    events->size = BYTES + n * (size_t)BYTES_PER_DEVICE + 2 * events->room;
    events->bytes = malloc(events->size); /* touched only when somebody listens */
    events->sample = malloc(events->room);
    events->told = calloc(n, sizeof(*events->told));
    if (events->bytes != NULL && events->sample != NULL && events->told != NULL)
        return events;
    events_free(events);
    return NULL;
}

void events_free(struct events *events)
{
    if (events == NULL)
        return;
    free(events->bytes);
    free(events->sample);
    free(events->told);
    free(events);
}

/* Nothing that is put is longer than all there is room for: see events_new(). */
static void put(struct events *events, const char *text, size_t size)
{
    const size_t at = (size_t)(events->end % events->size);
    const size_t first = size < events->size - at ? size : events->size - at;
    memcpy(events->bytes + at, text, first);
    memcpy(events->bytes, text + first, size - first);
    events->end += size;
}

static void put_text(struct events *events, const char *text)
{
    put(events, text, strlen(text));
}

/* `payload` is a JSON object that is not empty; it gets a member `device`. */
static void put_event(struct events *events, const char *name, const char *device,
                      const char *payload, size_t size)
{
    put_text(events, "event: ");
    put_text(events, name);
    put_text(events, "\ndata: {\"device\":\"");
    put_text(events, device);
    put_text(events, "\",");
    put(events, payload + 1, size - 1);
    put_text(events, "\n\n");
}

void events_put_outcome(struct events *events, const char *payload)
{
    put_text(events, "event: outcome\ndata: ");
    put_text(events, payload);
    put_text(events, "\n\n");
}

static void put_beat(struct events *events)
{
    char *health = page_health(&events->view);
    put_text(events, ":\n\n");
    if (health != NULL)
        put_event(events, "health", "bridge", health, strlen(health));
    free(health);
}

uint64_t events_begin(struct events *events, int64_t now_ns, bool first)
{
    const struct view *view = &events->view;
    for (unsigned i = 0; first && i < view->conf->devices.n_devices; i++)
        events->told[i] = (struct told){.seq = latest_seq(view->latest, i),
                                        .online = outbox_is_online(view->outbox, i)};
    if (first)
        events->beat_ns = now_ns + BEAT_NS;
    return events->end;
}

static void look_at(struct events *events, unsigned device)
{
    const struct view *view = &events->view;
    if (!device_is_there(&view->conf->devices.devices[device]))
        return;
    const char *name = view->conf->devices.devices[device].name;
    struct told *told = &events->told[device];
    const uint64_t seq = latest_seq(view->latest, device);
    const bool online = outbox_is_online(view->outbox, device);
    if (seq != told->seq) {
        const size_t size = page_sample(view, device, events->sample, events->room);
        told->seq = seq;
        if (size > 0)
            put_event(events, "sample", name, events->sample, size);
    }
    if (online != told->online) {
        const char *status = online ? "{\"status\":\"online\"}" : "{\"status\":\"offline\"}";
        told->online = online;
        put_event(events, "status", name, status, strlen(status));
    }
}

bool events_look(struct events *events, int64_t now_ns)
{
    const uint64_t before = events->end;
    for (unsigned i = 0; i < events->view.conf->devices.n_devices; i++)
        look_at(events, i);
    if (now_ns >= events->beat_ns) {
        events->beat_ns = now_ns + BEAT_NS;
        put_beat(events);
    }
    return events->end != before;
}

ssize_t events_read(const struct events *events, uint64_t *place, char *text, size_t size)
{
    const uint64_t left = events->end - *place;
    if (left > events->size)
        return -1;
    const size_t at = (size_t)(*place % events->size);
    size_t n = left < size ? (size_t)left : size;
    const size_t first = n < events->size - at ? n : events->size - at;
    memcpy(text, events->bytes + at, first);
    memcpy(text + first, events->bytes, n - first);
    *place += n;
    return (ssize_t)n;
}
