#include "devices/simulator/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"

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

static bool area_measure(struct area *area, const struct device *device, enum point_table table)
{
    unsigned first = UINT16_MAX + 1, end = 0;
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        if (point->table != table)
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

static void area_mark(struct area *area, const struct device *device, enum point_table table)
{
    if (area->access == NULL)
        return;
    for (unsigned i = 0; i < area->count; i++)
        area->access[i] = READABLE;
    for (unsigned i = 0; i < device->profile->n_unreadable; i++) {
        const struct profile_range *range = &device->profile->unreadable[i];
        if (range->table == table)
            area_close(area, range->first, range->last);
    }
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        if (point->table == table && point->writable)
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
    for (enum point_table table = POINT_COIL; table <= POINT_INPUT; table++) {
        if (!area_measure(area_of(image, table), device, table)) {
            image_free(image);
            return NULL;
        }
        area_mark(area_of(image, table), device, table);
    }
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
    struct point whole = *field;
    unsigned width = point_width(field);
    whole.type = width == 1 ? POINT_UINT16 : width == 2 ? POINT_UINT32 : POINT_UINT64;
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

void image_put(struct image *image, unsigned index, double number)
{
    const struct point *point = &image->device->points[index];
    struct area *area = area_of(image, point->table);
    uint16_t *words = area->words + (point->address - area->first);
    double step = codec_step(point);
    if (table_is_bits(point->table))
        *words = number != 0;
    else if (point->bits > 0)
        put_bits(point, number, words);
    else
        codec_encode(point,
                     step > 0 ? round((number - point->offset) / step) * step + point->offset
                              : number,
                     words);
}

struct value image_get(const struct image *image, unsigned index)
{
    const struct point *point = &image->device->points[index];
    const struct area *area = area_of(image, point->table);
    return codec_decode(point, area->words + (point->address - area->first));
}
