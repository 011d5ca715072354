#include "devices/registers/row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

/* A row of `points` as written, before it becomes a struct point. */
struct row {
    char name[POINT_NAME_MAX + 1];
    char unit[POINT_UNIT_MAX + 1];
    char scale_register[POINT_NAME_MAX + 1];
    int64_t address, function, every, registers, write_function, sunspec_model;
    int type, order, access, byte;
    bool enumerated, counter;
    double scale, offset, min, max, low, high;
};

static const char *const ACCESS[] = {"r", "rw", NULL};
enum { ACCESS_R, ACCESS_RW };
static const char *const BYTE[] = {"high", "low", NULL};
enum { BYTE_HIGH, BYTE_LOW };
enum { NOT_GIVEN = -1 };

static const struct cfg_field ROW[] = {
    {"name", CFG_TEXT, FIELD(row, name), .size = POINT_NAME_MAX + 1, .required = true, .min = 1},
    {"address", CFG_INTEGER, FIELD(row, address), .required = true, .min = 0, .max = 65535},
    {"function", CFG_INTEGER, FIELD(row, function), .min = 1, .max = 4},
    {"type", CFG_CHOICE, FIELD(row, type), .required = true, .choices = point_type_words},
    {"word_order", CFG_CHOICE, FIELD(row, order), .choices = point_order_words},
    {"registers", CFG_INTEGER, FIELD(row, registers), .min = 1, .max = POINT_WORDS_MAX},
    {"byte", CFG_CHOICE, FIELD(row, byte), .choices = BYTE},
    {.key = "bits", .kind = CFG_OTHER},
    {"scale", CFG_NUMBER, FIELD(row, scale)},
    {"offset", CFG_NUMBER, FIELD(row, offset)},
    {"scale_register", CFG_TEXT, FIELD(row, scale_register), .size = POINT_NAME_MAX + 1, .min = 1},
    {"unit", CFG_TEXT, FIELD(row, unit), .size = POINT_UNIT_MAX + 1},
    {"access", CFG_CHOICE, FIELD(row, access), .choices = ACCESS},
    {"write_function", CFG_INTEGER, FIELD(row, write_function), .min = 5, .max = 16},
    {"min", CFG_NUMBER, FIELD(row, min)},
    {"max", CFG_NUMBER, FIELD(row, max)},
    {.key = "labels", .kind = CFG_OTHER},
    {"enumerated", CFG_BOOLEAN, FIELD(row, enumerated)},
    {"every", CFG_INTEGER, FIELD(row, every), .min = 1, .max = 255},
    {"low", CFG_NUMBER, FIELD(row, low)},
    {"high", CFG_NUMBER, FIELD(row, high)},
    {"counter", CFG_BOOLEAN, FIELD(row, counter)},
    {.key = "sentinels", .kind = CFG_OTHER},
    {"sunspec_model", CFG_INTEGER, FIELD(row, sunspec_model), .min = 1, .max = 65534},
    CFG_END,
};

static const struct cfg_field LABEL[] = {
    {"value", CFG_INTEGER, FIELD(point_label, value), .required = true},
    {"label", CFG_TEXT, FIELD(point_label, label), .size = POINT_LABEL_MAX + 1, .required = true,
     .min = 1},
    CFG_END,
};

static bool is_integer(const struct point *point)
{
    return !point_is_float(point->type) && point->type != POINT_STRING;
}

static void read_label(struct cfg *cfg, const struct cfg_setting *group, struct point *point,
                       struct point_label *next)
{
    if (!cfg_read(cfg, group, LABEL, next))
        return;
    if (point_label(point, next->value))
        cfg_problem(cfg, group, "value %lld has a label already", (long long)next->value);
    for (unsigned i = 0; i < point->n_labels; i++)
        if (strcmp(point->labels[i].label, next->label) == 0)
            cfg_problem(cfg, group, "label '%s' stands for another value already", next->label);
    if (is_integer(point) && !codec_holds(point, (double)next->value))
        cfg_problem(cfg, group, "%s: no %s holds the label's value %lld", point->name,
                    point_type_word(point->type), (long long)next->value);
    point->n_labels++;
}

bool row_read_labels(struct cfg *cfg, const struct cfg_setting *list, unsigned spare,
                     struct point *point)
{
    unsigned before = cfg->problems;
    if (list && !cfg_is_list(list))
        cfg_problem(cfg, list, "%s must be a list: ( { value = 0; label = \"off\"; } )",
                    cfg_name(list));
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    if (point->n_labels + n > POINT_LABELS_MAX) {
        cfg_problem(cfg, list, "more than %d labels", POINT_LABELS_MAX);
        n = 0;
    }
    struct point_label *labels = calloc(point->n_labels + n + spare + 1, sizeof *labels);
    if (!labels) {
        cfg_no_memory(cfg, list);
        return false;
    }
    for (unsigned i = 0; i < point->n_labels; i++)
        labels[i] = point->labels[i];
    point->labels = labels;
    const struct cfg_setting *group = n > 0 ? cfg_first(list) : NULL;
    for (; group; group = cfg_next(group))
        read_label(cfg, group, point, &labels[point->n_labels]);
    return cfg->problems == before;
}

static bool read_sentinel(struct cfg *cfg, const struct cfg_setting *element,
                          const struct point *point, uint64_t *content)
{
    unsigned bits = point_bits(point);
    bool negative;
    if (!cfg_content(element, content, &negative)) {
        cfg_problem(cfg, element, "a sentinel must be a whole number of at most 64 bits");
        return false;
    }
    uint64_t top = negative ? ~*content >> (bits - 1) : bits < 64 ? *content >> bits : 0;
    if (top != 0)
        cfg_problem(cfg, element, "%s: the sentinel is wider than %s%s", point->name,
                    point_type_word(point->type), point->bits ? " with these bits" : "");
    return top == 0;
}

bool row_read_sentinels(struct cfg *cfg, const struct cfg_setting *group, struct point *point)
{
    const struct cfg_setting *list = cfg_member(group, "sentinels");
    if (!list)
        return true;
    unsigned n = cfg_is_row(list) ? cfg_length(list) : 0;
    bool good = n >= 1 && n <= POINT_SENTINELS_MAX;
    if (!good)
        cfg_problem(cfg, list, "sentinels must be [ 1 to %d whole numbers ], such as [ 0xFFFF ]",
                    POINT_SENTINELS_MAX);
    if (point->type == POINT_STRING) {
        cfg_problem(cfg, list, "%s: a text has no sentinels", point->name);
        good = false;
    }
    for (unsigned i = 0; i < n && good; i++)
        good = read_sentinel(cfg, cfg_element(list, i), point, &point->sentinels[i]);
    point->n_sentinels = good ? n : 0;
    return good;
}

/* bits = [first, count]: an element of a register, counted from its lowest bit. */
static void read_bits(struct cfg *cfg, const struct cfg_setting *bits, struct point *point)
{
    int64_t first, count, width = 16 * point_width(point);
    if (!cfg_is_row(bits) || cfg_length(bits) != 2 || !cfg_integer(cfg_element(bits, 0), &first) ||
        !cfg_integer(cfg_element(bits, 1), &count)) {
        cfg_problem(cfg, bits, "bits must be [first, count]");
    } else if (!point_has_registers(point) || !point_is_binary(point)) {
        cfg_problem(cfg, bits, "bits are taken from integer registers only");
    } else if (first < 0 || count < 1 || first > width - count) {
        cfg_problem(cfg, bits, "bits must lie within 0..%lld", (long long)width - 1);
    } else if (point->type == POINT_BOOL && count != 1) {
        cfg_problem(cfg, bits, "a bool is one bit: [%lld, 1]", (long long)first);
    } else {
        point->bit = (uint8_t)first;
        point->bits = (uint8_t)count;
    }
}

static void check_writable(struct cfg *cfg, const struct cfg_setting *group,
                           const struct point *point)
{
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    bool limited = !isnan(point->min) || !isnan(point->max);
    if (!point->writable) {
        if (limited)
            cfg_problem(cfg, group, "%s has write limits but is read-only", point->name);
        return;
    }
    if (point->table == POINT_DISCRETE || point->table == POINT_INPUT)
        cfg_problem(cfg, group, "%s: function %d reads a table that cannot be written", point->name,
                    (int)point->table);
    if (point->bits)
        cfg_problem(cfg, group,
                    "%s: a bit field cannot be written: its register may change in between",
                    point->name);
    else if (!codec_is_writable(point))
        cfg_problem(cfg, group, "%s: %s cannot be written", point->name,
                    point_type_word(point->type));
    else if ((!isnan(point->min) && codec_encode(point, point->min, words) == CODEC_OUT_OF_RANGE) ||
             (!isnan(point->max) && codec_encode(point, point->max, words) == CODEC_OUT_OF_RANGE))
        cfg_problem(cfg, group, "%s: a write limit does not fit %s with this scale", point->name,
                    point_type_word(point->type));
    if (point->model)
        cfg_problem(cfg, group, "%s: what is found by sunspec_model is only read", point->name);
    if (point->min > point->max)
        cfg_problem(cfg, group, "%s: min %g is above max %g", point->name, point->min, point->max);
}

/* 6 or 16 for registers, 5 or 15 for coils; more than one register needs 16. */
static void read_write_function(struct cfg *cfg, const struct cfg_setting *group,
                                const struct row *row, struct point *point)
{
    const struct cfg_setting *key = cfg_member(group, "write_function");
    int one = point->table == POINT_COIL ? 5 : 6, many = point->table == POINT_COIL ? 15 : 16;
    if (!key || row->write_function == NOT_GIVEN)
        return;
    if (!point->writable)
        cfg_problem(cfg, key, "%s has a write_function but is read-only", point->name);
    else if (row->write_function != one && row->write_function != many)
        cfg_problem(cfg, key, "%s: write_function must be %d or %d, not %lld", point->name, one,
                    many, (long long)row->write_function);
    else if (row->write_function == one && point_width(point) > 1)
        cfg_problem(cfg, key, "%s: function 6 writes one register, and %s has %u", point->name,
                    point_type_word(point->type), point_width(point));
    point->write_multiple = row->write_function == many;
}

/* Keys that belong to some types only. */
static void check_keys(struct cfg *cfg, const struct cfg_setting *group, const struct point *point)
{
    bool byte = point->type == POINT_INT8 || point->type == POINT_UINT8;
    bool text = point->type == POINT_STRING;
    const struct cfg_setting *order = cfg_member(group, "word_order");
    if (byte && !cfg_member(group, "byte"))
        cfg_problem(cfg, group, "%s: %s needs byte = \"high\" or \"low\"", point->name,
                    point_type_word(point->type));
    if (!byte && cfg_member(group, "byte"))
        cfg_problem(cfg, group, "%s: byte is for int8 and uint8", point->name);
    if (text && !cfg_member(group, "registers"))
        cfg_problem(cfg, group, "%s: a string needs its number of registers", point->name);
    if (!text && cfg_member(group, "registers"))
        cfg_problem(cfg, group, "%s: registers is for strings: the others have their width",
                    point->name);
    if (order && !point_has_registers(point))
        cfg_problem(cfg, order, "%s: a bit has no word_order", point->name);
    else if (order && byte)
        cfg_problem(cfg, order, "%s: byte says which half it is, word_order has nothing to add",
                    point->name);
    else if (order && point->order == POINT_CDAB && (point_width(point) == 1 || text))
        cfg_problem(cfg, order,
                    "%s: \"cdab\" orders words, and this row is %s: \"badc\" swaps bytes",
                    point->name, text ? "a text" : "one register");
    static const char *const numeric[] = {
        "scale", "offset", "low", "high", "unit", "counter", "enumerated", "scale_register", NULL};
    for (const char *const *key = numeric; text && *key; key++)
        if (cfg_member(group, *key))
            cfg_problem(cfg, group, "%s: a text has no %s", point->name, *key);
    row_check_meaning(cfg, group, point);
}

void row_check_meaning(struct cfg *cfg, const struct cfg_setting *group, const struct point *point)
{
    static const char *const of_bool[] = {"low", "high", "unit", "counter", "deadband", NULL},
                             *const of_code[] = {"unit", "counter", "deadband", NULL};
    const char *const *key = point->type == POINT_BOOL ? of_bool : of_code;
    for (; (point->type == POINT_BOOL || point->enumerated) && *key; key++)
        if (cfg_member(group, *key))
            cfg_problem(cfg, cfg_member(group, *key), "%s: %s has no %s", point->name,
                        point->type == POINT_BOOL ? "a bool" : "an enumeration", *key);
    const struct {
        const char *key;
        double value;
    } limits[] = {{"low", point->low}, {"high", point->high}};
    bool whole = is_integer(point) && point->scale != 0 && !point->scale_row;
    for (unsigned i = 0; i < 2 && whole; i++) {
        const struct cfg_setting *limit = cfg_member(group, limits[i].key);
        if (limit && !isnan(limits[i].value) && !cfg_member(group, "scale_register") &&
            !codec_holds(point, trunc((limits[i].value - point->offset) / point->scale)))
            cfg_problem(cfg, limit, "%s: %s %g is more than %s holds with this scale", point->name,
                        limits[i].key, limits[i].value, point_type_word(point->type));
    }
}

/* What is wrong whatever the rest of the row is: told with what is wrong of that, too. */
static void check_row(struct cfg *cfg, const struct cfg_setting *group, const struct row *row)
{
    const char *name = row->name[0] != '\0' ? row->name : "a point";
    if (row->name[strspn(row->name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
        cfg_problem(cfg, group, "'%s': a point's name is made of a-z, 0-9 and _", name);
    if (row->scale == 0)
        cfg_problem(cfg, group, "%s: scale must not be 0", name);
    if (row->low > row->high)
        cfg_problem(cfg, group, "%s: low %g is above high %g", name, row->low, row->high);
}

static void check_point(struct cfg *cfg, const struct cfg_setting *group, const struct point *point)
{
    const char *name = point->name;
    unsigned end = point->address + point_width(point);
    if (end > 65536)
        cfg_problem(cfg, group, "%s runs past address 65535", name);
    if (!point_has_registers(point) && point->type != POINT_BOOL)
        cfg_problem(cfg, group, "%s: function %d reads bits, so its type must be bool", name,
                    (int)point->table);
    if (point_has_registers(point) && point->type == POINT_BOOL && point->bits == 0)
        cfg_problem(cfg, group, "%s: a bool in a register needs bits = [first, 1]", name);
    if (point->model && point->table != POINT_HOLDING)
        cfg_problem(cfg, group, "%s: SunSpec's models are holding registers", name);
    if ((point->type == POINT_BOOL || point->enumerated) &&
        (point->scale != 1 || point->offset != 0))
        cfg_problem(cfg, group, "%s: a bool or an enumeration has no scale and offset", name);
    if (point->enumerated && point_is_float(point->type))
        cfg_problem(cfg, group, "%s: only integers and bools can be enumerated", name);
    check_keys(cfg, group, point);
    check_writable(cfg, group, point);
}

static struct point make_point(const struct row *row, bool own_order)
{
    struct point point = {
        .address = (uint16_t)row->address,
        .table = (enum point_table)row->function,
        .type = (enum point_type)row->type,
        .order = (enum point_order)row->order,
        .own_order = own_order,
        .registers = (uint8_t)row->registers,
        .high_byte = row->byte == BYTE_HIGH,
        .every = (uint8_t)row->every,
        .model = (uint16_t)row->sunspec_model,
        .writable = row->access == ACCESS_RW,
        .enumerated = row->enumerated,
        .scale = row->scale,
        .offset = row->offset,
        .min = row->min,
        .max = row->max,
        .low = row->low,
        .high = row->high,
        .counter = row->counter,
    };
    strcpy(point.name, row->name);
    strcpy(point.unit, row->unit);
    return point;
}

bool row_read(struct cfg *cfg, const struct cfg_setting *group, const struct row_defaults *file,
              struct point *point)
{
    struct row row = {
        .address = NOT_GIVEN,
        .type = NOT_GIVEN,
        .byte = NOT_GIVEN,
        .write_function = NOT_GIVEN,
        .function = file->function,
        .order = file->order,
        .sunspec_model = file->sunspec_model,
        .registers = 1,
        .every = 1,
        .scale = 1,
        .min = NAN,
        .max = NAN,
        .low = NAN,
        .high = NAN,
    };
    cfg_read(cfg, group, ROW, &row);
    check_row(cfg, group, &row);
    if (row.name[0] == '\0' || row.address == NOT_GIVEN || row.type == NOT_GIVEN)
        return false;
    *point = make_point(&row, cfg_member(group, "word_order"));

    const struct cfg_setting *bits = cfg_member(group, "bits");
    if (bits)
        read_bits(cfg, bits, point);
    const struct cfg_setting *labels = cfg_member(group, "labels");
    if (labels) {
        row_read_labels(cfg, labels, 0, point);
        if (cfg_member(group, "enumerated") && !row.enumerated)
            cfg_problem(cfg, labels, "%s has labels but is not enumerated", point->name);
        if (point->type == POINT_STRING)
            cfg_problem(cfg, labels, "%s: a text has no labels", point->name);
        point->enumerated = true;
    }
    row_read_sentinels(cfg, group, point);
    read_write_function(cfg, group, &row, point);
    check_point(cfg, group, point);
    return true;
}
