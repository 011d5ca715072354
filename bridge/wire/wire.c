#include "bridge/wire/wire.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
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

/* ---- a command comes in ---- */

enum { SEEN_ID = 1, SEEN_VALUE = 2, SEEN_ISSUED_AT = 4, SEEN_TTL = 8 };

static bool complain(char detail[DETAIL_MAX], const char *what)
{
    (void)snprintf(detail, DETAIL_MAX, "%s", what);
    return false;
}

/* A text of 1 to COMMAND_TEXT_MAX printable characters: of any script, but no
 * control characters (U+0000 to 1F, 7F to 9F). jansson has made sure that it
 * is UTF-8. */
static bool parse_text(const json_t *value, char text[4 * COMMAND_TEXT_MAX + 1])
{
    const char *from = json_string_value(value);
    size_t size = json_string_length(value);
    unsigned characters = 0;
    if (from == NULL)
        return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)from[i];
        if (byte < 0x20 || byte == 0x7f || (byte == 0xc2 && (unsigned char)from[i + 1] < 0xa0))
            return false;
        characters += (byte & 0xc0) != 0x80;
    }
    if (characters == 0 || characters > COMMAND_TEXT_MAX)
        return false;
    memcpy(text, from, size + 1);
    return true;
}

/* Whole milliseconds since 1970, however they are written: JSON has one kind of
 * numbers, and some senders print all of them with a point. */
static bool parse_time(const json_t *value, int64_t *ms)
{
    const double most_ms = 9e12; /* the year 2255 */
    const double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0.0 && number <= most_ms) || trunc(number) != number)
        return false;
    *ms = (int64_t)number;
    return true;
}

/* Reads one known field of a command object; false with a detail. */
static bool parse_field(const char *key, const json_t *value, struct command *command,
                        unsigned *seen, char detail[DETAIL_MAX])
{
    const double most_ttl_s = 365.0 * 86400.0;

    if (strcmp(key, "id") == 0) {
        *seen |= SEEN_ID;
        return parse_text(value, command->id) ||
               complain(detail, "id is not a text of 1 to 64 printable characters");
    }
    if (strcmp(key, "value") == 0) {
        *seen |= SEEN_VALUE;
        command->value = json_number_value(value);
        return json_is_number(value) || complain(detail, "value is not a number");
    }
    if (strcmp(key, "issued_at") == 0) {
        *seen |= SEEN_ISSUED_AT;
        return parse_time(value, &command->issued_at_ms) ||
               complain(detail, "issued_at is not a time in whole milliseconds since 1970 UTC");
    }
    if (strcmp(key, "ttl_s") == 0) {
        double ttl_s = json_number_value(value);
        *seen |= SEEN_TTL;
        if (!json_is_number(value) || !(ttl_s > 0.0 && ttl_s <= most_ttl_s))
            return complain(detail, "ttl_s is not a number of seconds above 0");
        command->ttl_ns = (int64_t)(ttl_s * (double)CLOCK_NS_PER_S);
        return true;
    }
    if (strcmp(key, "source") == 0)
        return parse_text(value, command->source) ||
               complain(detail, "source is not a text of 1 to 64 printable characters");
    (void)snprintf(detail, DETAIL_MAX, "unknown field \"%s\"", key);
    return false;
}

static bool parse_object(json_t *root, struct command *command, char detail[DETAIL_MAX])
{
    unsigned seen = 0;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!parse_field(key, value, command, &seen, detail))
            return false;
    }
    if (!(seen & SEEN_ID))
        return complain(detail, "id is missing");
    if (!(seen & SEEN_VALUE))
        return complain(detail, "value is missing");
    command->dated = (seen & SEEN_ISSUED_AT) && (seen & SEEN_TTL);
    if (!command->dated && (seen & (SEEN_ISSUED_AT | SEEN_TTL)))
        return complain(detail, "issued_at and ttl_s go together");
    return true;
}

bool wire_parse_command(const char *payload, size_t size, bool allow_bare, struct command *command,
                        char detail[DETAIL_MAX])
{
    struct command parsed = {0};
    json_error_t error;
    bool good = false;

    /* jansson passes over a NUL that follows a number. */
    if (memchr(payload, '\0', size) != NULL)
        return complain(detail, "not JSON: a NUL byte");
    /* As real, so that 99999999999999999999 is out of range and not malformed. */
    json_t *root = json_loadb(
        payload, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    if (root == NULL) {
        (void)snprintf(detail, DETAIL_MAX, "not JSON: %s", error.text);
    } else if (json_is_object(root)) {
        good = parse_object(root, &parsed, detail);
    } else if (!json_is_number(root)) {
        complain(detail, "not a JSON object with id and value");
    } else if (!allow_bare) {
        complain(detail, "a bare number, and allow_bare is off: send {\"id\":…,\"value\":…}");
    } else {
        parsed.value = json_number_value(root);
        good = true;
    }
    if (good)
        *command = parsed;
    json_decref(root);
    return good;
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

/* A number as the codec prints it (50, not 50.0; 5.3, not 5.2999…). */
static json_t *number(double value)
{
    char text[CODEC_TEXT_MAX];
    size_t size = codec_print_number(value, text);
    return json_loadb(text, size, JSON_DECODE_ANY, NULL);
}

/* Texts from outside that were cut to fit may end in a part of a character:
 * it is left out. What is not UTF-8 at all becomes null instead of a document
 * that cannot be sent. */
static json_t *text_or_null(const char *text)
{
    size_t size = strlen(text);
    json_t *string = json_stringn(text, size);
    for (int cut = 0; string == NULL && cut < 3 && size > 0; cut++)
        string = json_stringn(text, --size);
    return string != NULL ? string : json_null();
}

static char *dump(json_t *root)
{
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    return text;
}

static json_t *outcome_object(const struct outcome *outcome)
{
    json_t *root = json_object();
    json_object_set_new(root, "id", outcome->has_id ? json_string(outcome->id) : json_null());
    json_object_set_new(root, "device", text_or_null(outcome->device));
    json_object_set_new(root, "point", text_or_null(outcome->point));
    json_object_set_new(root, "value", outcome->has_value ? number(outcome->value) : json_null());
    json_object_set_new(root, "outcome", json_string(outcome_word(outcome->kind)));
    if (outcome->kind == OUTCOME_REFUSED)
        json_object_set_new(root, "reason", json_string(reason_word(outcome->reason)));
    if (outcome->kind == OUTCOME_FAILED)
        json_object_set_new(root, "reason", json_string(fault_word(outcome->fault)));
    const char *detail = outcome->detail;
    if (detail[0] == '\0' && outcome->kind == OUTCOME_REFUSED)
        detail = reason_hint(outcome->reason);
    if (detail[0] != '\0')
        json_object_set_new(root, "detail", text_or_null(detail));
    if (outcome->has_readback)
        json_object_set_new(root, "readback", number(outcome->readback));
    json_object_set_new(root, "ts", json_integer(outcome->ts_ms));
    json_object_set_new(root, "latency_ms", json_real(round(outcome->latency_ms * 1e3) / 1e3));
    if (outcome->source[0] != '\0')
        json_object_set_new(root, "source", text_or_null(outcome->source));
    if (outcome->correction)
        json_object_set_new(root, "correction", json_true());
    return root;
}

char *wire_outcome(const struct outcome *outcome)
{
    return dump(outcome_object(outcome));
}

char *wire_audit(const struct outcome *outcome, const struct wire_trace *trace)
{
    json_t *root = outcome_object(outcome);
    json_t *words = json_array();
    for (unsigned i = 0; i < trace->n_words; i++)
        json_array_append_new(words, json_integer(trace->words[i]));
    json_object_set_new(root, "received", json_integer(trace->received_ms));
    if (trace->judged_ms != 0)
        json_object_set_new(root, "judged", json_integer(trace->judged_ms));
    if (trace->written_ms != 0)
        json_object_set_new(root, "written", json_integer(trace->written_ms));
    json_object_set_new(root, "registers", words);
    if (trace->user_source != NULL && trace->user_source[0] != '\0')
        json_object_set_new(root, "user_source", text_or_null(trace->user_source));
    if (trace->user_traceparent != NULL && trace->user_traceparent[0] != '\0')
        json_object_set_new(root, "traceparent", text_or_null(trace->user_traceparent));
    return dump(root);
}

char *wire_repeat(const char *payload)
{
    json_t *root = json_loads(payload, 0, NULL);
    if (root != NULL)
        json_object_set_new(root, "duplicate", json_true());
    return dump(root);
}

bool wire_parse_audit(const char *line, char device[WIRE_NAME_MAX + 1], char id[COMMAND_ID_MAX + 1],
                      int64_t *ts_ms, char **payload)
{
    static const char *const trace[] = {"received",  "judged",      "written",
                                        "registers", "user_source", "traceparent"};
    json_t *root = json_loads(line, 0, NULL);
    const char *of = json_string_value(json_object_get(root, "device"));
    const char *name = json_string_value(json_object_get(root, "id"));
    const json_t *ts = json_object_get(root, "ts");
    bool good = of != NULL && strlen(of) <= WIRE_NAME_MAX && name != NULL &&
                strlen(name) <= COMMAND_ID_MAX && json_is_integer(ts) &&
                json_object_get(root, "duplicate") == NULL;
    if (!good) {
        json_decref(root);
        return false;
    }
    memcpy(device, of, strlen(of) + 1);
    memcpy(id, name, strlen(name) + 1);
    *ts_ms = json_integer_value(ts);
    for (size_t i = 0; i < sizeof(trace) / sizeof(*trace); i++)
        json_object_del(root, trace[i]);
    *payload = dump(root);
    return *payload != NULL;
}

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
    return dump(root);
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
        json_object_set_new(info, "min", number(min));
    if (writable && !isnan(max))
        json_object_set_new(info, "max", number(max));
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
    return dump(root);
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
    json_object_set_new(root, "spool_depth", json_integer((json_int_t)depth->backlog));
    json_object_set_new(root, "reconnects", counter(&health->reconnects));
    json_object_set_new(root, "commands", command_counters(health));
    json_object_set_new(root, "clock_jumps", counter(&health->clock_jumps));
    json_object_set_new(root, "deadman_firing", counter(&health->deadman_firing));
    return dump(root);
}
