#include "bridge/wire/wire.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/wire/json_text.h"
#include "devices/registers/codec.h"

/* Room in a sample per point, beside its name thrice: label or fault word, number, punctuation. */
enum { SAMPLE_BYTES = 512, SAMPLE_BYTES_PER_POINT = 96 };

/* ---- topics ---- */

bool wire_topic(char topic[WIRE_TOPIC_MAX + 1], const struct conf *conf, const char *node,
                const char *leaf)
{
    int length = snprintf(topic, WIRE_TOPIC_MAX + 1, "%s/%s/%s/%s", conf->mqtt.prefix, conf->site,
                          node, leaf);
    return length >= 0 && length <= WIRE_TOPIC_MAX;
}

bool wire_command_filter(char topic[WIRE_TOPIC_MAX + 1], const struct conf *conf)
{
    return wire_topic(topic, conf, "+", "set/#");
}

unsigned wire_expiry_s(const struct device *device)
{
    return (unsigned)((3 * device_silence_ns(device) + CLOCK_NS_PER_S - 1) / CLOCK_NS_PER_S);
}

bool wire_parse_topic(const struct conf *conf, const char *topic, char device[WIRE_TOPIC_MAX + 1],
                      char point[WIRE_TOPIC_MAX + 1])
{
    char base[WIRE_TOPIC_MAX + 1];
    int length = snprintf(base, sizeof(base), "%s/%s/", conf->mqtt.prefix, conf->site);
    if (length < 0 || strncmp(topic, base, (size_t)length) != 0)
        return false;
    const char *node = topic + length;
    const char *end = strchr(node, '/');
    /* The filter <base>/+/set/# takes in <base>/<device>/set: no point is named. */
    bool bare = end != NULL && strcmp(end, "/set") == 0;
    if (end == NULL || (!bare && strncmp(end, "/set/", 5) != 0))
        return false;
    (void)snprintf(device, WIRE_TOPIC_MAX + 1, "%.*s", (int)(end - node), node);
    (void)snprintf(point, WIRE_TOPIC_MAX + 1, "%s", bare ? "" : end + strlen("/set/"));
    return true;
}

/* What follows `levels`, e.g. flux/demo, in a topic that begins with them: "" or
 * "/…"; else NULL. */
static const char *behind(const char *topic, const char *levels)
{
    size_t length = strlen(levels);
    bool below =
        strncmp(topic, levels, length) == 0 && (topic[length] == '/' || topic[length] == '\0');
    return below ? topic + length : NULL;
}

/* Whether a topic, by what follows <base>, is the bridge's, a device's or a
 * command's. */
static bool is_ours(const struct conf *conf, const char *rest)
{
    if (*rest == '\0' || behind(rest, "/bridge") != NULL)
        return true;
    const char *leaf = strchr(rest + 1, '/');
    bool ours = leaf != NULL && behind(leaf, "/set") != NULL;
    for (unsigned i = 0; i < conf->devices.n_devices && !ours; i++)
        ours = behind(rest + 1, conf->devices.devices[i].name) != NULL;
    return ours;
}

bool wire_may_answer(const struct conf *conf, const char *topic)
{
    char base[WIRE_TOPIC_MAX + 1];
    int length = snprintf(base, sizeof(base), "%s/%s", conf->mqtt.prefix, conf->site);
    if (length < 0 || topic[0] == '$' ||
        (conf->ha_enabled && behind(topic, conf->ha_prefix) != NULL))
        return false;
    const char *rest = behind(topic, base);
    return rest == NULL || !is_ours(conf, rest);
}

/* ---- a sample goes out ---- */

struct text {
    char *at;
    char *end;
    bool full;
};

static void put_bytes(struct text *text, const char *bytes, size_t size)
{
    if ((size_t)(text->end - text->at) < size) {
        text->full = true;
        return;
    }
    memcpy(text->at, bytes, size);
    text->at += size;
}

static void put(struct text *text, const char *word)
{
    put_bytes(text, word, strlen(word));
}

static void put_integer(struct text *text, int64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, number);
    put_bytes(text, digits, (size_t)length);
}

/* Texts of the configuration hold no control characters. */
static void put_escaped(struct text *text, const char *word)
{
    for (size_t length; *word != '\0'; word += length) {
        length = strcspn(word + 1, "\"\\") + 1;
        if (*word == '"' || *word == '\\')
            put(text, "\\");
        put_bytes(text, word, length);
    }
}

/* No character of a name needs an escape. */
static void put_key(struct text *text, const char *name, const char *suffix)
{
    put(text, "\"");
    put(text, name);
    put(text, suffix);
    put(text, "\":");
}

static void put_label(struct text *text, const struct point *point, int64_t raw)
{
    const char *label = point_label(point, raw);
    put(text, "\"");
    if (label != NULL) {
        put_escaped(text, label);
    } else {
        put(text, "code_");
        put_integer(text, raw);
    }
    put(text, "\"");
}

/* The members of `data` for one point; an enumeration has two. */
static void put_point(struct text *text, const struct point *point, const struct value *value)
{
    const bool read = value->state == VALUE_READ;
    char number[CODEC_TEXT_MAX];
    size_t size = read ? codec_print(point, value, number) : 0;

    put_key(text, point->name, "");
    if (!read)
        put(text, "null");
    else if (point->enumerated)
        put_label(text, point, (int64_t)value->raw);
    else
        put_bytes(text, number, size);
    if (!point->enumerated)
        return;
    put(text, ",");
    put_key(text, point->name, "_code");
    if (read)
        put_integer(text, (int64_t)value->raw);
    else
        put(text, "null");
}

/* To the mWh. */
static void put_kwh(struct text *text, const char *separator, const char *name, double kwh)
{
    char number[CODEC_TEXT_MAX];
    size_t size = codec_print_number(round(kwh * 1e6) / 1e6, number);
    put(text, separator);
    put_key(text, name, "");
    put_bytes(text, number, size);
}

static const char *quality(const struct wire_sample *sample)
{
    unsigned read = 0;
    unsigned failed = 0;
    for (unsigned i = 0; i < sample->device->n_points; i++) {
        read += sample->values[i].state == VALUE_READ;
        failed += sample->values[i].state == VALUE_FAULT;
    }
    return failed == 0 ? "good" : read > 0 ? "partial" : "bad";
}

static void put_errors(struct text *text, const struct wire_sample *sample)
{
    const char *separator = ",\"errors\":{";
    const char *end = "";
    for (unsigned i = 0; i < sample->device->n_points; i++) {
        const struct value *value = &sample->values[i];
        if (value->state != VALUE_FAULT)
            continue;
        put(text, separator);
        put_key(text, sample->device->points[i].name, "");
        put(text, "\"");
        put(text, fault_word((enum fault)value->fault));
        put(text, "\"");
        separator = ",";
        end = "}";
    }
    put(text, end);
}

size_t wire_sample(const struct wire_sample *sample, char *text, size_t size)
{
    struct text out = {.at = text, .end = text + size};
    const char *separator = "";

    put(&out, "{\"ts\":");
    put_integer(&out, sample->ts_ms);
    put(&out, ",\"run\":\"");
    put(&out, sample->run);
    put(&out, "\",\"seq\":");
    put_integer(&out, (int64_t)sample->seq);
    put(&out, ",\"quality\":\"");
    put(&out, quality(sample));
    put(&out, "\",\"data\":{");
    for (unsigned i = 0; i < sample->device->n_points; i++) {
        if (sample->values[i].state == VALUE_ABSENT)
            continue;
        put(&out, separator);
        put_point(&out, &sample->device->points[i], &sample->values[i]);
        separator = ",";
    }
    if (sample->energy != NULL) {
        put_kwh(&out, separator, ENERGY_CHARGED, sample->energy->charged);
        put_kwh(&out, ",", ENERGY_DISCHARGED, sample->energy->discharged);
    }
    put(&out, "}");
    put_errors(&out, sample);
    put(&out, "}");
    return out.full ? 0 : (size_t)(out.at - text);
}

size_t wire_sample_room(const struct device *device)
{
    size_t room = SAMPLE_BYTES;
    for (unsigned i = 0; i < device->n_points; i++)
        room += SAMPLE_BYTES_PER_POINT + 3 * strlen(device->points[i].name);
    return room;
}

/* ---- everything else goes out ---- */

char *wire_bridge_info(const struct conf *conf, const char *run, int64_t started_ms)
{
    json_t *root = json_object();
    json_t *devices = json_array();
    json_object_set_new(root, "version", json_string(FLUXBRIDGE_VERSION));
    json_object_set_new(root, "site", json_string(conf->site));
    json_object_set_new(root, "run", json_string(run));
    json_object_set_new(root, "started", json_integer(started_ms));
    for (unsigned i = 0; i < conf->devices.n_devices; i++)
        json_array_append_new(devices, json_string(conf->devices.devices[i].name));
    json_object_set_new(root, "devices", devices);
    return json_text_dump(root);
}

static json_t *point_info(const struct device *device, unsigned index)
{
    const struct point *point = &device->points[index];
    const bool writable = device_may_write(device, index);
    const bool setpoint = writable && (int)index == device->control.setpoint;
    const double min = setpoint ? device->control.min_kw : point->min;
    const double max = setpoint ? device->control.max_kw : point->max;
    json_t *info = json_object();

    json_object_set_new(info, "name", json_string(point->name));
    json_object_set_new(info, "unit",
                        point->unit[0] != '\0' ? json_string(point->unit) : json_null());
    json_object_set_new(info, "type", json_string(point_type_word(point->type)));
    json_object_set_new(info, "access", json_string(writable ? "rw" : "r"));
    if (writable && !isnan(min))
        json_object_set_new(info, "min", json_text_number(min));
    if (writable && !isnan(max))
        json_object_set_new(info, "max", json_text_number(max));
    return info;
}

char *wire_device_info(const struct device *device)
{
    json_t *root = json_object();
    json_t *points = json_array();
    json_object_set_new(root, "id", json_string(device->id));
    json_object_set_new(root, "name", json_string(device->name));
    json_object_set_new(root, "type", json_string(device->profile->type));
    json_object_set_new(root, "manufacturer", json_string(device->profile->manufacturer));
    json_object_set_new(root, "model", json_string(device->profile->model));
    for (unsigned i = 0; i < device->n_points; i++)
        json_array_append_new(points, point_info(device, i));
    json_object_set_new(root, "points", points);
    return json_text_dump(root);
}

static json_t *counter(const atomic_uint_fast64_t *value)
{
    return json_integer((json_int_t)health_get(value));
}

static json_t *command_counters(const struct health *health)
{
    json_t *commands = json_object();
    json_t *refused = json_object();
    json_object_set_new(commands, "received", counter(&health->commands));
    for (int i = 0; i < OUTCOME_COUNT; i++)
        json_object_set_new(commands, outcome_word((enum outcome_kind)i),
                            counter(&health->outcomes[i]));
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
        if (health_get(&health->refusals[i]) > 0)
            json_object_set_new(refused, reason_word((enum reason)i),
                                counter(&health->refusals[i]));
    }
    json_object_set_new(commands, "refused_by_reason", refused);
    return commands;
}

/* Those that have lost samples, by their names. */
static json_t *drops_by_device(const struct device_list *list, const uint64_t *drops)
{
    json_t *devices = json_object();
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (drops[i] > 0)
            json_object_set_new(devices, list->devices[i].name, json_integer((json_int_t)drops[i]));
    }
    return devices;
}

char *wire_health(const struct conf *conf, const struct health *health,
                  const struct outbox_depth *depth, const uint64_t *drops, int64_t ts_ms,
                  int64_t uptime_ms)
{
    json_t *root = json_object();
    json_object_set_new(root, "ts", json_integer(ts_ms));
    json_object_set_new(root, "uptime_s", json_integer(uptime_ms / 1000));
    json_object_set_new(root, "samples", counter(&health->samples));
    json_object_set_new(root, "samples_bad", counter(&health->samples_bad));
    json_object_set_new(root, "missed_ticks", counter(&health->missed_ticks));
    json_object_set_new(root, "publishes", counter(&health->publishes));
    json_object_set_new(root, "drops", json_integer((json_int_t)depth->dropped));
    json_object_set_new(root, "drops_by_device", drops_by_device(&conf->devices, drops));
    json_object_set_new(
        root, "set_aside",
        json_integer((json_int_t)(depth->set_aside + health_get(&health->set_aside))));
    json_object_set_new(root, "spool_depth", json_integer((json_int_t)depth->backlog));
    json_object_set_new(root, "reconnects", counter(&health->reconnects));
    json_object_set_new(root, "commands", command_counters(health));
    json_object_set_new(root, "clock_jumps", counter(&health->clock_jumps));
    json_object_set_new(root, "deadman_firing", counter(&health->deadman_firing));
    return json_text_dump(root);
}
