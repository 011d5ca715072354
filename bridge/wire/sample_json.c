#include "bridge/wire/sample_json.h"

#include <math.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "devices/registers/codec.h"

/* Room in a sample per point, beside its name thrice: label or fault word, number, punctuation. */
enum { SAMPLE_BYTES = 512, SAMPLE_BYTES_PER_POINT = 96 };

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
    char *const end = digits + sizeof(digits), *at = end;
    uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0)
        *--at = '-';
    put_bytes(text, at, (size_t)(end - at));
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
    const size_t name_size = strlen(name), suffix_size = strlen(suffix);
    if ((size_t)(text->end - text->at) < name_size + suffix_size + 3) {
        text->full = true;
        return;
    }
    *text->at++ = '"';
    memcpy(text->at, name, name_size);
    text->at += name_size;
    memcpy(text->at, suffix, suffix_size);
    text->at += suffix_size;
    *text->at++ = '"';
    *text->at++ = ':';
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

static void put_errors(struct text *text, const struct sample *sample)
{
    const char *separator = ",\"errors\":{";
    const char *end = "";
    for (unsigned i = 0; i < sample->layout->n_points; i++) {
        const struct value *value = &sample->values[i];
        if (value->state != VALUE_FAULT)
            continue;
        put(text, separator);
        put_key(text, sample->layout->points[i].name, "");
        put(text, "\"");
        put(text, fault_word((enum fault)value->fault));
        put(text, "\"");
        separator = ",";
        end = "}";
    }
    put(text, end);
}

size_t sample_json(const struct sample *sample, char *text, size_t size)
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
    put(&out, sample_quality_word(sample->quality));
    put(&out, "\",\"data\":{");
    for (unsigned i = 0; i < sample->layout->n_points; i++) {
        if (sample->values[i].state == VALUE_ABSENT)
            continue;
        put(&out, separator);
        put_point(&out, &sample->layout->points[i], &sample->values[i]);
        separator = ",";
    }
    if (sample->has_energy) {
        put_kwh(&out, separator, SAMPLE_CHARGED, sample->charged_kwh);
        put_kwh(&out, ",", SAMPLE_DISCHARGED, sample->discharged_kwh);
    }
    put(&out, "}");
    put_errors(&out, sample);
    put(&out, "}");
    return out.full ? 0 : (size_t)(out.at - text);
}

size_t sample_json_of_packed(const struct layout *layout, const void *packed, size_t packed_size,
                             char *text, size_t size)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample sample;
    if (layout->is_text && packed_size <= size) {
        memcpy(text, packed, packed_size);
        return packed_size;
    }
    return sample_unpack(layout, packed, packed_size, &sample, values)
               ? sample_json(&sample, text, size)
               : 0;
}

size_t sample_json_room(const struct layout *layout)
{
    size_t room = SAMPLE_BYTES;
    for (unsigned i = 0; i < layout->n_points; i++)
        room += SAMPLE_BYTES_PER_POINT + 3 * strlen(layout->points[i].name) +
                (layout->points[i].type == POINT_STRING ? CODEC_TEXT_MAX : 0);
    return room;
}

unsigned sample_json_expiry_s(const struct device *device)
{
    return (unsigned)((3 * device_silence_ns(device) + CLOCK_NS_PER_S - 1) / CLOCK_NS_PER_S);
}
