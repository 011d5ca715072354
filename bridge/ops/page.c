#include "bridge/ops/page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#ifdef PAGE_IS_PACKED
#include <zlib.h>
#endif

#include "bridge/base/clock.h"
#include "bridge/ops/page_text.h"
#include "bridge/wire/json_text.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/schedule_json.h"
#include "bridge/wire/status_json.h"

#ifdef PAGE_IS_PACKED
static void put_page(FILE *out)
{
    enum { GZIP = 16 }; /* added to the window: a gzip header is expected */
    unsigned char piece[4096];
    z_stream stream = {.next_in = page_text, .avail_in = (unsigned)page_text_size};
    if (inflateInit2(&stream, GZIP + MAX_WBITS) != Z_OK)
        return;
    for (int code = Z_OK; code == Z_OK;) {
        stream.next_out = piece;
        stream.avail_out = sizeof(piece);
        code = inflate(&stream, Z_NO_FLUSH);
        (void)fwrite(piece, 1, sizeof(piece) - stream.avail_out, out);
    }
    (void)inflateEnd(&stream);
}
#else
static void put_page(FILE *out)
{
    (void)fwrite(page_text, 1, page_text_size, out);
}
#endif

void page_put(FILE *out, const struct view *view)
{
    (void)view;
    put_page(out);
}

const char *page_policy(void)
{
    return page_text_policy;
}

static void put_text(FILE *out, const char *text)
{
    json_t *json = json_text_or_null(text);
    (void)json_dumpf(json, out, JSON_ENCODE_ANY);
    json_decref(json);
}

/* What was malloc'ed, or null; and frees it. */
static void put_and_free(FILE *out, char *text)
{
    (void)fputs(text != NULL ? text : "null", out);
    free(text);
}

char *page_health(const struct view *view)
{
    const struct device_list *list = &view->conf->devices;
    const struct outbox_depth depth = outbox_depth(view->outbox);
    uint64_t *drops = calloc(list->n_devices, sizeof(*drops));
    if (drops == NULL)
        return NULL;
    for (unsigned i = 0; i < list->n_devices; i++)
        drops[i] = outbox_dropped(view->outbox, i);
    char *text = status_json_health(view->conf, view->health, &depth, drops, clock_utc_ms(),
                                    (clock_mono_ns() - view->started_ns) / CLOCK_NS_PER_MS);
    free(drops);
    return text;
}

size_t page_sample_room(const struct conf *conf)
{
    size_t room = 0;
    for (unsigned i = 0; i < conf->devices.n_devices; i++) {
        const struct layout layout = sample_layout(&conf->devices.devices[i]);
        const size_t needed = sample_json_room(&layout);
        if (needed > room)
            room = needed;
    }
    return room;
}

size_t page_sample(const struct view *view, unsigned device, char *text, size_t size)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample sample;
    int64_t taken_ns;
    if (!latest_get(view->latest, device, &sample, values, &taken_ns))
        return 0;
    return sample_json(&sample, text, size);
}

/* How old the values are: a scan that read nothing makes none younger. */
static void put_age(FILE *out, const struct view *view, unsigned device)
{
    const int64_t good_ns =
        atomic_load_explicit(&view->health->devices[device].last_good_ns, memory_order_relaxed);
    if (good_ns == 0)
        (void)fputs("null", out);
    else
        (void)fprintf(out, "%" PRId64, (clock_mono_ns() - good_ns) / CLOCK_NS_PER_MS);
}

static void put_lease(FILE *out, const struct view *view, unsigned device)
{
    const struct lease lease = latest_lease(view->latest, device);
    const int64_t left_ms = (lease.end_ns - clock_mono_ns()) / CLOCK_NS_PER_MS;
    if (!lease.runs) {
        (void)fputs("null", out);
        return;
    }
    json_t *root = json_object();
    json_object_set_new(root, "value",
                        isnan(lease.value) ? json_null() : json_text_number(lease.value));
    json_object_set_new(
        root, "left_s",
        json_text_number(left_ms > 0 ? floor((double)left_ms / 100.0) / 10.0 : 0.0));
    put_and_free(out, json_text_dump(root));
}

/* As on its topic; null where there is none. */
static void put_schedule(FILE *out, const struct view *view, unsigned device)
{
    const struct schedule_status status = latest_schedule(view->latest, device);
    if (status.revision < 0)
        (void)fputs("null", out);
    else
        put_and_free(out, schedule_json_status(&status));
}

static void put_device(FILE *out, const struct view *view, unsigned index, char *text, size_t room)
{
    const struct device *device = &view->conf->devices.devices[index];
    (void)fprintf(out, "{\"name\":\"%s\",\"id\":", device->name);
    put_text(out, device->id);
    (void)fputs(",\"type\":", out);
    put_text(out, device->profile->type);
    (void)fprintf(out, ",\"status\":\"%s\",\"age_ms\":",
                  outbox_is_online(view->outbox, index) ? "online" : "offline");
    put_age(out, view, index);
    (void)fputs(",\"state\":", out);
    const size_t size = page_sample(view, index, text, room);
    (void)(size > 0 ? fwrite(text, 1, size, out) : fwrite("null", 1, 4, out));
    (void)fputs(",\"lease\":", out);
    put_lease(out, view, index);
    const int control = atomic_load(&view->health->devices[index].control);
    if (control == CONTROL_NONE)
        (void)fputs(",\"control\":null,\"schedule\":", out);
    else
        (void)fprintf(out, ",\"control\":\"%s\",\"schedule\":",
                      control_state_word((enum control_state)control));
    put_schedule(out, view, index);
    (void)fputc('}', out);
}

void page_put_state(FILE *out, const struct view *view)
{
    const size_t room = page_sample_room(view->conf);
    char *text = malloc(room + 1);
    (void)fprintf(out, "{\"site\":\"%s\",\"run\":\"%s\",\"ts\":%" PRId64 ",\"health\":",
                  view->conf->site, view->run, clock_utc_ms());
    put_and_free(out, page_health(view));
    (void)fputs(",\"devices\":[", out);
    const struct device_list *list = &view->conf->devices;
    const unsigned first = device_next(list, 0);
    for (unsigned i = first; text != NULL && i < list->n_devices; i = device_next(list, i + 1)) {
        (void)fputs(i > first ? ",\n" : "\n", out);
        put_device(out, view, i, text, room);
    }
    (void)fputs("],\"outcomes\":[", out);
    recent_print(view->recent, out);
    (void)fputs("]}\n", out);
    free(text);
}

void page_put_info(FILE *out, const struct view *view)
{
    (void)fprintf(out,
                  "{\"site\":\"%s\",\"version\":\"%s\",\"run\":\"%s\",\"writable\":%s,"
                  "\"devices\":[",
                  view->conf->site, FLUXBRIDGE_VERSION, view->run,
                  view->conf->http_token_file[0] != '\0' ? "true" : "false");
    const struct device_list *list = &view->conf->devices;
    const unsigned first = device_next(list, 0);
    for (unsigned i = first; i < list->n_devices; i = device_next(list, i + 1)) {
        (void)fputs(i > first ? ",\n" : "\n", out);
        put_and_free(out, status_json_device(&list->devices[i]));
    }
    (void)fputs("]}\n", out);
}
