#include "bridge/store/layouts.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/cfg.h"

enum { VERSION = 1, IS_TEXT = 1 };

/* The points of a layout; those of many devices are the same. */
struct layout_table {
    unsigned n_points;
    struct point *points;
    struct point_label *labels; /* of all points */
    size_t size;                /* of their packed form, by which they are compared */
    unsigned char packed[];
};

struct layouts {
    pthread_mutex_t mutex;
    unsigned n, n_tables;
    struct layout **all;
    struct layout_table **tables;
};

static void table_free(struct layout_table *table)
{
    free(table->points);
    free(table->labels);
    free(table);
}

struct layouts *layouts_new(void)
{
    struct layouts *layouts = calloc(1, sizeof(*layouts));
    if (layouts != NULL)
        pthread_mutex_init(&layouts->mutex, NULL);
    return layouts;
}

void layouts_free(struct layouts *layouts)
{
    if (layouts == NULL)
        return;
    for (unsigned i = 0; i < layouts->n; i++)
        free(layouts->all[i]);
    for (unsigned i = 0; i < layouts->n_tables; i++) {
        table_free(layouts->tables[i]);
    }
    free(layouts->all);
    free(layouts->tables);
    pthread_mutex_destroy(&layouts->mutex);
    free(layouts);
}

/* ---- packing ---- */

struct out {
    unsigned char *at, *end;
    bool full;
};

static void put_bytes(struct out *out, const void *bytes, size_t size)
{
    out->full = out->full || (size_t)(out->end - out->at) < size;
    if (out->full)
        return;
    memcpy(out->at, bytes, size);
    out->at += size;
}

static void put(struct out *out, uint64_t number, unsigned size)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < size; i++, number >>= 8)
        bytes[i] = (unsigned char)number;
    put_bytes(out, bytes, size);
}

static void put_double(struct out *out, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    put(out, bits, 8);
}

static void put_text(struct out *out, const char *text)
{
    put(out, strlen(text), 1);
    put_bytes(out, text, strlen(text));
}

static void put_point(struct out *out, const struct point *point)
{
    put_text(out, point->name);
    put_text(out, point->unit);
    put(out, point->table, 1);
    put(out, point->type, 1);
    put(out, point->bits, 1);
    put(out, point->enumerated, 1);
    put_double(out, point->scale);
    put_double(out, point->offset);
    put(out, point->n_labels, 2);
    for (unsigned i = 0; i < point->n_labels; i++) {
        put(out, (uint64_t)point->labels[i].value, 8);
        put_text(out, point->labels[i].label);
    }
}

size_t layouts_pack(const struct layout *layout, unsigned char *bytes, size_t size)
{
    struct out out = {.at = bytes, .end = bytes + size};
    put(&out, VERSION, 1);
    put(&out, layout->is_text ? IS_TEXT : 0, 1);
    put_text(&out, layout->device);
    put(&out, layout->n_points, 2);
    for (unsigned i = 0; i < layout->n_points; i++)
        put_point(&out, &layout->points[i]);
    return out.full ? 0 : (size_t)(out.at - bytes);
}

/* ---- taking apart ---- */

struct in {
    const unsigned char *at, *end;
    bool bad;
};

static uint64_t take(struct in *in, unsigned size)
{
    uint64_t number = 0;
    in->bad = in->bad || (size_t)(in->end - in->at) < size;
    if (in->bad)
        return 0;
    for (unsigned i = size; i-- > 0;)
        number = number << 8 | in->at[i];
    in->at += size;
    return number;
}

static double take_double(struct in *in)
{
    const uint64_t bits = take(in, 8);
    double number;
    memcpy(&number, &bits, sizeof(number));
    in->bad = in->bad || !isfinite(number);
    return number;
}

/* A number that has to be below `end`. */
static unsigned take_below(struct in *in, unsigned size, unsigned end)
{
    const uint64_t number = take(in, size);
    in->bad = in->bad || number >= end;
    return in->bad ? 0 : (unsigned)number;
}

/* No control characters: it is printed between quotes as it is. */
static void take_text(struct in *in, char *text, unsigned most)
{
    const unsigned size = take_below(in, 1, most + 1);
    in->bad = in->bad || (size_t)(in->end - in->at) < size;
    for (unsigned i = 0; i < size && !in->bad; i++) {
        in->bad = in->at[i] < ' ' || in->at[i] == 0x7f;
        text[i] = (char)in->at[i];
    }
    text[in->bad ? 0 : size] = '\0';
    in->at += in->bad ? 0 : size;
}

static bool is_point_name(const char *name)
{
    return name[0] != '\0' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

/* Its labels go to the next places of the list, or nowhere when that is NULL. */
static void take_labels(struct in *in, struct point *point, struct point_label **labels)
{
    struct point_label unused = {.value = 0}, *label = *labels;
    point->n_labels = take_below(in, 2, POINT_LABELS_MAX + 1);
    point->labels = label;
    for (unsigned i = 0; i < point->n_labels && !in->bad; i++) {
        struct point_label *at = label != NULL ? label++ : &unused;
        at->value = (int64_t)take(in, 8);
        take_text(in, at->label, POINT_LABEL_MAX);
    }
    *labels = label;
}

static void take_point(struct in *in, struct point *point, struct point_label **labels)
{
    take_text(in, point->name, POINT_NAME_MAX);
    take_text(in, point->unit, POINT_UNIT_MAX);
    point->table = (enum point_table)take_below(in, 1, POINT_INPUT + 1);
    point->type = (enum point_type)take_below(in, 1, POINT_TYPES);
    point->bits = (uint8_t)take_below(in, 1, 65);
    point->enumerated = take_below(in, 1, 2) == 1;
    point->scale = take_double(in);
    point->offset = take_double(in);
    in->bad =
        in->bad || !is_point_name(point->name) || point->table < POINT_COIL || point->scale == 0;
    take_labels(in, point, labels);
}

/* How many labels the points have; false when they are none. */
static bool count_labels(const unsigned char *packed, size_t size, unsigned n_points, size_t *n)
{
    struct in in = {.at = packed, .end = packed + size};
    struct point_label *nowhere = NULL;
    struct point point;
    *n = 0;
    for (unsigned i = 0; i < n_points && !in.bad; i++) {
        take_point(&in, &point, &nowhere);
        *n += point.n_labels;
    }
    return !in.bad && in.at == in.end;
}

static struct layout_table *table_new(const unsigned char *packed, size_t size, unsigned n_points)
{
    size_t n_labels;
    if (!count_labels(packed, size, n_points, &n_labels))
        return NULL;
    struct layout_table *table = calloc(1, sizeof(*table) + size);
    if (table == NULL)
        return NULL;
    table->points = calloc(n_points + 1, sizeof(*table->points));
    table->labels = calloc(n_labels + 1, sizeof(*table->labels));
    if (table->points == NULL || table->labels == NULL) {
        table_free(table);
        return NULL;
    }
    table->n_points = n_points;
    table->size = size;
    memcpy(table->packed, packed, size);
    struct in in = {.at = packed, .end = packed + size};
    struct point_label *labels = table->labels;
    for (unsigned i = 0; i < n_points; i++)
        take_point(&in, &table->points[i], &labels);
    return table;
}

/* ---- keeping ---- */

/* A list of `n` pointers with room for one more: it doubles at each power of two.
 * NULL when out of memory; the list is as it was then. */
static void *grow(void *list, unsigned n)
{
    if (n != 0 && (n & (n - 1)) != 0)
        return list;
    return realloc(list, (n == 0 ? 1 : 2 * (size_t)n) * sizeof(void *));
}

static const struct layout_table *keep_table(struct layouts *layouts, const unsigned char *packed,
                                             size_t size, unsigned n_points)
{
    for (unsigned i = 0; i < layouts->n_tables; i++) {
        const struct layout_table *table = layouts->tables[i];
        if (table->n_points == n_points && table->size == size &&
            memcmp(table->packed, packed, size) == 0)
            return table;
    }
    struct layout_table **tables = grow(layouts->tables, layouts->n_tables);
    if (tables == NULL)
        return NULL;
    layouts->tables = tables;
    struct layout_table *table = table_new(packed, size, n_points);
    if (table != NULL)
        layouts->tables[layouts->n_tables++] = table;
    return table;
}

/* `layout` has the points of a kept table. */
static const struct layout *keep(struct layouts *layouts, const struct layout *layout)
{
    for (unsigned i = 0; i < layouts->n; i++) {
        const struct layout *kept = layouts->all[i];
        if (kept->points == layout->points && kept->is_text == layout->is_text &&
            strcmp(kept->device, layout->device) == 0)
            return kept;
    }
    struct layout **all = layouts->n < LAYOUTS_MAX ? grow(layouts->all, layouts->n) : NULL;
    if (all == NULL)
        return NULL;
    layouts->all = all;
    struct layout *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    *copy = *layout;
    layouts->all[layouts->n++] = copy;
    copy->number = layouts->n;
    return copy;
}

const struct layout *layouts_unpack(struct layouts *layouts, const unsigned char *bytes,
                                    size_t size)
{
    struct in in = {.at = bytes, .end = bytes + size};
    struct layout layout = {.is_text = false};
    const struct layout *kept = NULL;
    in.bad = take(&in, 1) != VERSION;
    layout.is_text = take_below(&in, 1, IS_TEXT + 1) == IS_TEXT;
    take_text(&in, layout.device, DEVICE_NAME_MAX);
    layout.n_points = take_below(&in, 2, PROFILE_POINTS_MAX + 1);
    if (in.bad || !cfg_is_name(layout.device) || (layout.is_text && layout.n_points > 0))
        return NULL;
    pthread_mutex_lock(&layouts->mutex);
    const struct layout_table *table =
        keep_table(layouts, in.at, (size_t)(in.end - in.at), layout.n_points);
    if (table != NULL) {
        layout.points = table->points;
        kept = keep(layouts, &layout);
    }
    pthread_mutex_unlock(&layouts->mutex);
    return kept;
}

const struct layout *layouts_keep(struct layouts *layouts, const struct layout *layout)
{
    unsigned char *bytes = malloc(LAYOUTS_PACKED_MAX);
    const size_t size = bytes != NULL ? layouts_pack(layout, bytes, LAYOUTS_PACKED_MAX) : 0;
    const struct layout *kept = size > 0 ? layouts_unpack(layouts, bytes, size) : NULL;
    free(bytes);
    return kept;
}
