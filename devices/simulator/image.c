#include "devices/simulator/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"
#include "devices/registers/sunspec.h"

enum { SUNSPEC_AT = 40000 }; /* the chain of models, where there is one */
enum { READABLE = 1, WRITABLE = 2 };
enum { TABLES = 4, WRITE_BITS_MAX = 1968, COIL_ON = 0xff00 };

/* One table from its first to its last point; bits are words of 0 or 1. */
struct area {
    unsigned first, count;
    uint16_t *words;
    uint8_t *access;
};

struct image {
    const struct device *device;
    struct point *points;      /* the device's, each where it is */
    struct sunspec models;     /* and those that they are of */
    unsigned chain_end;        /* behind the last of them */
    struct area areas[TABLES]; /* [table - 1] */
};

static struct area *area_of(const struct image *image, enum point_table table)
{
    return (struct area *)&image->areas[table - POINT_COIL];
}

static bool table_is_bits(enum point_table table)
{
    return table == POINT_COIL || table == POINT_DISCRETE;
}

static uint16_t *word_of(const struct area *area, unsigned address)
{
    return area->words + (address - area->first);
}

/* Closes first..last, as far as the area has them. */
static void area_close(struct area *area, unsigned first, unsigned last)
{
    for (unsigned i = 0; i < area->count; i++)
        if (area->first + i >= first && area->first + i <= last)
            area->access[i] = 0;
}

static bool area_allows(const struct area *area, unsigned first, unsigned count, uint8_t access)
{
    if (first < area->first || first + count > area->first + area->count)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!(area->access[first - area->first + i] & access))
            return false;
    return true;
}

/* Where a model's ID register is; 0 for none, whose rows say where they are. */
static unsigned model_address(const struct image *image, uint16_t id)
{
    const struct sunspec_model *model = sunspec_find(&image->models, id);
    return model ? model->address : 0;
}

/* Puts the models one behind the other, each as long as its rows need. */
static bool place_models(struct image *image)
{
    const struct device *device = image->device;
    image->chain_end = SUNSPEC_AT + SUNSPEC_ASKED;
    for (unsigned i = 0; i < device->n_points; i++)
        if (device->points[i].model != 0)
            sunspec_want(&image->models, device->points[i].model);
    for (unsigned i = 0; i < image->models.n_wanted; i++) {
        struct sunspec_model *model = &image->models.wanted[i];
        unsigned end = SUNSPEC_ASKED;
        for (unsigned k = 0; k < device->n_points; k++) {
            const struct point *point = &device->points[k];
            if (point->model == model->id && point->address + point_width(point) > end)
                end = point->address + point_width(point);
        }
        model->found = true;
        model->address = (uint16_t)image->chain_end;
        model->length = (uint16_t)(end - SUNSPEC_ASKED);
        image->chain_end += end;
        if (image->chain_end + SUNSPEC_ASKED > UINT16_MAX + 1U)
            return false;
    }
    image->chain_end += SUNSPEC_ASKED;
    for (unsigned i = 0; i < device->n_points; i++)
        image->points[i].address += (uint16_t)model_address(image, device->points[i].model);
    return true;
}

/* "SunS", ID and length of each model, and the mark behind the last. */
static void write_chain(struct image *image)
{
    struct area *area = area_of(image, POINT_HOLDING);
    if (image->models.n_wanted == 0)
        return;
    *word_of(area, SUNSPEC_AT) = 0x5375;
    *word_of(area, SUNSPEC_AT + 1) = 0x6e53;
    for (unsigned i = 0; i < image->models.n_wanted; i++) {
        const struct sunspec_model *model = &image->models.wanted[i];
        *word_of(area, model->address) = model->id;
        *word_of(area, model->address + 1U) = model->length;
    }
    *word_of(area, image->chain_end - SUNSPEC_ASKED) = UINT16_MAX;
}

static bool area_measure(struct image *image, enum point_table table)
{
    struct area *area = area_of(image, table);
    unsigned first = UINT16_MAX + 1, end = 0;
    if (table == POINT_HOLDING && image->models.n_wanted > 0) {
        first = SUNSPEC_AT;
        end = image->chain_end;
    }
    for (unsigned i = 0; i < image->device->n_points; i++) {
        const struct point *point = &image->points[i];
        if (point->table != table || point->made)
            continue;
        if (point->address < first)
            first = point->address;
        if (point->address + point_width(point) > end)
            end = point->address + point_width(point);
    }
    if (end == 0)
        return true;
    area->first = first;
    area->count = end - first;
    area->words = calloc(area->count, sizeof *area->words);
    area->access = calloc(area->count, sizeof *area->access);
    return area->words && area->access;
}

static void area_mark(struct image *image, enum point_table table)
{
    const struct device *device = image->device;
    struct area *area = area_of(image, table);
    if (area->access == NULL)
        return;
    for (unsigned i = 0; i < area->count; i++)
        area->access[i] = READABLE;
    for (unsigned i = 0; i < device->profile->n_unreadable; i++) {
        const struct profile_range *range = &device->profile->unreadable[i];
        const unsigned from = model_address(image, range->model);
        if (range->table == table)
            area_close(area, from + range->first, from + range->last);
    }
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &image->points[i];
        if (point->table == table && point->writable && !point->made)
            for (unsigned j = 0; j < point_width(point); j++)
                area->access[point->address - area->first + j] |= WRITABLE;
    }
}

struct image *image_new(const struct device *device)
{
    struct image *image = calloc(1, sizeof *image);
    if (!image)
        return NULL;
    image->device = device;
    image->points = calloc(device->n_points, sizeof *image->points);
    bool good = image->points != NULL;
    for (unsigned i = 0; good && i < device->n_points; i++)
        image->points[i] = device->points[i];
    good = good && place_models(image);
    for (enum point_table table = POINT_COIL; good && table <= POINT_INPUT; table++) {
        good = area_measure(image, table);
        if (good)
            area_mark(image, table);
    }
    if (!good) {
        image_free(image);
        return NULL;
    }
    write_chain(image);
    return image;
}

void image_free(struct image *image)
{
    if (!image)
        return;
    for (unsigned i = 0; i < TABLES; i++) {
        free(image->areas[i].words);
        free(image->areas[i].access);
    }
    free(image->points);
    free(image);
}

static unsigned get16(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

static void put16(uint8_t *bytes, unsigned word)
{
    bytes[0] = (uint8_t)(word >> 8);
    bytes[1] = (uint8_t)word;
}

/* Functions 01-04; the function code is the table. */
static enum fault answer_read(const struct image *image, const uint8_t *request, size_t size,
                              uint8_t *reply, size_t *reply_size)
{
    enum point_table table = (enum point_table)request[0];
    bool bits = table_is_bits(table);
    if (size != 5)
        return FAULT_ILLEGAL_VALUE;
    unsigned first = get16(request + 1), count = get16(request + 3);
    if (count == 0 || count > (bits ? (unsigned)LINK_READ_BITS_MAX : (unsigned)LINK_READ_MAX))
        return FAULT_ILLEGAL_VALUE;
    const struct area *area = area_of(image, table);
    if (!area_allows(area, first, count, READABLE))
        return FAULT_ILLEGAL_ADDRESS;

    unsigned bytes = bits ? (count + 7) / 8 : 2 * count;
    memset(reply, 0, 2 + bytes);
    reply[0] = request[0];
    reply[1] = (uint8_t)bytes;
    for (unsigned i = 0; i < count; i++) {
        unsigned word = area->words[first - area->first + i];
        if (bits)
            reply[2 + i / 8] |= (uint8_t)(word << i % 8);
        else
            put16(reply + 2 + 2 * i, word);
    }
    *reply_size = 2 + bytes;
    return FAULT_NONE;
}

/* Functions 05 and 06; the reply is the request. */
static enum fault answer_write_one(struct image *image, enum point_table table,
                                   const uint8_t *request, size_t size, uint8_t *reply,
                                   size_t *reply_size)
{
    if (size != 5)
        return FAULT_ILLEGAL_VALUE;
    unsigned address = get16(request + 1), word = get16(request + 3);
    if (table == POINT_COIL && word != 0 && word != COIL_ON)
        return FAULT_ILLEGAL_VALUE;
    struct area *area = area_of(image, table);
    if (!area_allows(area, address, 1, WRITABLE))
        return FAULT_ILLEGAL_ADDRESS;
    area->words[address - area->first] =
        (uint16_t)(table == POINT_COIL ? (unsigned)(word == COIL_ON) : word);
    memcpy(reply, request, size);
    *reply_size = size;
    return FAULT_NONE;
}

/* Functions 15 and 16; the reply is the request's head. */
static enum fault answer_write_many(struct image *image, enum point_table table,
                                    const uint8_t *request, size_t size, uint8_t *reply,
                                    size_t *reply_size)
{
    bool bits = table_is_bits(table);
    if (size < 6)
        return FAULT_ILLEGAL_VALUE;
    unsigned first = get16(request + 1), count = get16(request + 3);
    unsigned bytes = bits ? (count + 7) / 8 : 2 * count;
    if (count == 0 || count > (bits ? (unsigned)WRITE_BITS_MAX : (unsigned)LINK_WRITE_MAX) ||
        request[5] != bytes || size != 6 + bytes)
        return FAULT_ILLEGAL_VALUE;
    struct area *area = area_of(image, table);
    if (!area_allows(area, first, count, WRITABLE))
        return FAULT_ILLEGAL_ADDRESS;
    for (unsigned i = 0; i < count; i++) {
        unsigned word =
            bits ? (unsigned)request[6 + i / 8] >> i % 8 & 1 : get16(request + 6 + 2 * i);
        area->words[first - area->first + i] = (uint16_t)word;
    }
    memcpy(reply, request, 5);
    *reply_size = 5;
    return FAULT_NONE;
}

size_t image_answer(struct image *image, const uint8_t *request, size_t size,
                    uint8_t reply[LINK_PDU_MAX], bool *written)
{
    size_t reply_size = 0;
    bool write = true;
    enum fault fault;
    switch (request[0]) {
    case 0x01:
    case 0x02:
    case 0x03:
    case 0x04:
        fault = answer_read(image, request, size, reply, &reply_size);
        write = false;
        break;
    case 0x05:
        fault = answer_write_one(image, POINT_COIL, request, size, reply, &reply_size);
        break;
    case 0x06:
        fault = answer_write_one(image, POINT_HOLDING, request, size, reply, &reply_size);
        break;
    case 0x0f:
        fault = answer_write_many(image, POINT_COIL, request, size, reply, &reply_size);
        break;
    case 0x10:
        fault = answer_write_many(image, POINT_HOLDING, request, size, reply, &reply_size);
        break;
    default:
        fault = FAULT_ILLEGAL_FUNCTION;
    }
    *written = write && fault == FAULT_NONE;
    return fault == FAULT_NONE ? reply_size : image_refuse(request, fault, reply);
}

size_t image_refuse(const uint8_t *request, enum fault exception, uint8_t reply[LINK_PDU_MAX])
{
    reply[0] = request[0] | 0x80;
    reply[1] = (uint8_t)exception;
    return 2;
}

/* The integer register around a bit field, as a point of its own. */
static struct point whole_register(const struct point *field)
{
    static const enum point_type types[] = {POINT_UINT16, POINT_UINT32, POINT_UINT48, POINT_UINT64};
    struct point whole = *field;
    whole.type = types[point_width(field) - 1];
    whole.bits = 0;
    whole.bit = 0;
    whole.scale = 1;
    whole.offset = 0;
    return whole;
}

static void put_bits(const struct point *field, double number, uint16_t *words)
{
    struct point whole = whole_register(field);
    uint64_t most = (UINT64_C(2) << (field->bits - 1)) - 1;
    double bits = round((number - field->offset) / field->scale);
    if (!(bits >= 0 && bits <= (double)most))
        return;
    uint64_t raw = codec_decode(&whole, words).raw & ~(most << field->bit);
    codec_encode(&whole, (double)(raw | (uint64_t)bits << field->bit), words);
}

/* Who made it, where that is asked; else what it is. */
static void put_text(const struct image *image, const struct point *point, uint16_t *words)
{
    const struct profile *profile = image->device->profile;
    const bool swapped = point->order == POINT_BADC || point->order == POINT_DCBA;
    const unsigned width = point_width(point);
    char text[POINT_TEXT_MAX + 1] = {0};
    strncpy(text, strcmp(point->name, "manufacturer") == 0 ? profile->manufacturer : profile->model,
            (size_t)2 * width);
    for (unsigned i = 0; i < width; i++) {
        const unsigned first = (unsigned char)text[2 * i], second = (unsigned char)text[2 * i + 1];
        words[i] = (uint16_t)(swapped ? second << 8 | first : first << 8 | second);
    }
}

/* What a scale register holds: enough digits of whatever it scales, and room for a
 * few megawatts in 16 bits. Not a scale register: false. */
static bool exponent_of(const struct image *image, unsigned index, int *exponent)
{
    static const struct {
        const char *unit;
        int exponent;
    } usual[] = {{"V", -1}, {"A", -1}, {"Hz", -2}, {"%", -2}, {"", -2},
                 {"W", 2},  {"VA", 2}, {"var", 2}, {NULL, 0}};
    for (unsigned i = 0; i < image->device->n_points; i++) {
        if (image->points[i].scale_row != index + 1)
            continue;
        unsigned k = 0;
        while (usual[k].unit != NULL && strcmp(usual[k].unit, image->points[i].unit) != 0)
            k++;
        *exponent = usual[k].exponent;
        return true;
    }
    return false;
}

static void put_number(const struct point *point, double number, uint16_t *words)
{
    const double step = codec_step(point);
    codec_encode(point,
                 step > 0 ? round((number - point->offset) / step) * step + point->offset : number,
                 words);
}

void image_put(struct image *image, unsigned index, double number)
{
    struct point point = image->points[index];
    if (point.made)
        return;
    struct area *area = area_of(image, point.table);
    uint16_t *words = word_of(area, point.address);
    int exponent = 0;
    if (exponent_of(image, index, &exponent))
        number = exponent;
    if (point.scale_row > 0 && exponent_of(image, point.scale_row - 1U, &exponent))
        point.scale *= pow(10, exponent);
    point.scale_row = 0;
    if (point.type == POINT_INT8 || point.type == POINT_UINT8) {
        point.bit = point.high_byte ? 8 : 0;
        point.bits = 8;
    } else if (point.type == POINT_UINT24) {
        point.bits = 24;
    }
    if (point.type == POINT_4Q_FP_PF)
        point.type = POINT_FLOAT32; /* of the quadrants that are not folded */
    if (table_is_bits(point.table))
        *words = number != 0;
    else if (point.type == POINT_STRING)
        put_text(image, &point, words);
    else if (point.bits > 0)
        put_bits(&point, number, words);
    else
        put_number(&point, number, words);
}

struct value image_get(const struct image *image, unsigned index)
{
    const struct point *point = &image->points[index];
    const struct area *area = area_of(image, point->table);
    if (point->made)
        return (struct value){.state = VALUE_ABSENT};
    return codec_decode(point, word_of(area, point->address));
}
