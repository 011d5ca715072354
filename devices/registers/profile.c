#include "devices/registers/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registers/codec.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

/* A row of `points` as written, before it becomes a struct point. */
struct row {
    char name[POINT_NAME_MAX + 1];
    char unit[POINT_UNIT_MAX + 1];
    int64_t address, function, every;
    int type, order, access;
    bool enumerated, counter;
    double scale, offset, min, max, low, high;
};

/* The whole file's defaults for its rows, and the struct profile's numbers. */
struct head {
    char manufacturer[64];
    char model[64];
    int order;
    int64_t function, max_registers, max_gap;
};

static const char *const ACCESS[] = {"r", "rw", NULL};
enum { ACCESS_R, ACCESS_RW };

static const struct cfg_field HEAD[] = {
    {"manufacturer", CFG_TEXT, FIELD(head, manufacturer), .size = 64},
    {"model", CFG_TEXT, FIELD(head, model), .size = 64},
    {"word_order", CFG_CHOICE, FIELD(head, order), .choices = point_order_words},
    {"function", CFG_INTEGER, FIELD(head, function), .min = 1, .max = 4},
    {"max_registers", CFG_INTEGER, FIELD(head, max_registers), .min = 1, .max = 125},
    {"max_gap", CFG_INTEGER, FIELD(head, max_gap), .min = 0, .max = 125},
    {.key = "unreadable", .kind = CFG_OTHER},
    {"points", CFG_OTHER, .required = true},
    CFG_END,
};

static const struct cfg_field ROW[] = {
    {"name", CFG_TEXT, FIELD(row, name), .size = POINT_NAME_MAX + 1, .required = true, .min = 1},
    {"address", CFG_INTEGER, FIELD(row, address), .required = true, .min = 0, .max = 65535},
    {"function", CFG_INTEGER, FIELD(row, function), .min = 1, .max = 4},
    {"type", CFG_CHOICE, FIELD(row, type), .required = true, .choices = point_type_words},
    {"word_order", CFG_CHOICE, FIELD(row, order), .choices = point_order_words},
    {.key = "bits", .kind = CFG_OTHER},
    {"scale", CFG_NUMBER, FIELD(row, scale)},
    {"offset", CFG_NUMBER, FIELD(row, offset)},
    {"unit", CFG_TEXT, FIELD(row, unit), .size = POINT_UNIT_MAX + 1},
    {"access", CFG_CHOICE, FIELD(row, access), .choices = ACCESS},
    {"min", CFG_NUMBER, FIELD(row, min)},
    {"max", CFG_NUMBER, FIELD(row, max)},
    {.key = "labels", .kind = CFG_OTHER},
    {"enumerated", CFG_BOOLEAN, FIELD(row, enumerated)},
    {"every", CFG_INTEGER, FIELD(row, every), .min = 1, .max = 255},
    {"low", CFG_NUMBER, FIELD(row, low)},
    {"high", CFG_NUMBER, FIELD(row, high)},
    {"counter", CFG_BOOLEAN, FIELD(row, counter)},
    {.key = "sentinels", .kind = CFG_OTHER},
    CFG_END,
};

static const struct cfg_field LABEL[] = {
    {"value", CFG_INTEGER, FIELD(point_label, value), .required = true},
    {"label", CFG_TEXT, FIELD(point_label, label), .size = POINT_LABEL_MAX + 1, .required = true,
     .min = 1},
    CFG_END,
};

struct range {
    int64_t function, first, last;
};
static const struct cfg_field RANGE[] = {
    {"function", CFG_INTEGER, FIELD(range, function), .min = 1, .max = 4},
    {"first", CFG_INTEGER, FIELD(range, first), .required = true, .min = 0, .max = 65535},
    {"last", CFG_INTEGER, FIELD(range, last), .required = true, .min = 0, .max = 65535},
    CFG_END,
};

static bool has_registers(const struct point *point)
{
    return point->table == POINT_HOLDING || point->table == POINT_INPUT;
}

static bool is_float(const struct point *point)
{
    return point->type == POINT_FLOAT32 || point->type == POINT_FLOAT64;
}

bool profile_read_labels(struct cfg *cfg, const struct cfg_setting *list, struct point *point)
{
    unsigned before = cfg->problems;
    if (!cfg_is_list(list))
        cfg_problem(cfg, list, "%s must be a list: ( { value = 0; label = \"off\"; } )",
                    cfg_name(list));
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    for (unsigned i = 0; i < n; i++) {
        const struct cfg_setting *group = cfg_element(list, i);
        struct point_label label = {0};
        if (!cfg_read(cfg, group, LABEL, &label))
            continue;
        if (point_label(point, label.value))
            cfg_problem(cfg, group, "value %lld has a label already", (long long)label.value);
        for (unsigned k = 0; k < point->n_labels; k++)
            if (strcmp(point->labels[k].label, label.label) == 0)
                cfg_problem(cfg, group, "label '%s' stands for another value already", label.label);
        if (point->n_labels == POINT_LABELS_MAX) {
            cfg_problem(cfg, group, "more than %d labels", POINT_LABELS_MAX);
            break;
        }
        point->labels[point->n_labels++] = label;
    }
    return cfg->problems == before;
}

bool profile_read_sentinels(struct cfg *cfg, const struct cfg_setting *group, struct point *point)
{
    const struct cfg_setting *list = cfg_member(group, "sentinels");
    if (!list)
        return true;
    unsigned n = cfg_is_row(list) ? cfg_length(list) : 0;
    int64_t content;
    bool good = n >= 1 && n <= POINT_SENTINELS_MAX;
    for (unsigned i = 0; i < n && good; i++) {
        good = cfg_integer(cfg_element(list, i), &content);
        if (good)
            point->sentinels[i] = (uint64_t)content;
    }
    if (!good)
        cfg_problem(cfg, list, "sentinels must be [ 1 to %d whole numbers ], such as [ 0xFFFF ]",
                    POINT_SENTINELS_MAX);
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
    } else if (!has_registers(point) || is_float(point)) {
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
    uint16_t words[4];
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
    else if ((!isnan(point->min) && codec_encode(point, point->min, words) == CODEC_OUT_OF_RANGE) ||
             (!isnan(point->max) && codec_encode(point, point->max, words) == CODEC_OUT_OF_RANGE))
        cfg_problem(cfg, group, "%s: a write limit does not fit %s with this scale", point->name,
                    point_type_word(point->type));
    if (point->min > point->max)
        cfg_problem(cfg, group, "%s: min %g is above max %g", point->name, point->min, point->max);
}

static void check_point(struct cfg *cfg, const struct cfg_setting *group,
                        const struct profile *profile, const struct point *point)
{
    const char *name = point->name;
    unsigned end = point->address + point_width(point);
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
        cfg_problem(cfg, group, "'%s': a point's name is made of a-z, 0-9 and _", name);
    if (end > 65536)
        cfg_problem(cfg, group, "%s runs past address 65535", name);
    if (has_registers(point) && point_width(point) > profile->max_registers)
        cfg_problem(cfg, group, "%s is longer than max_registers", name);
    if (!has_registers(point) && point->type != POINT_BOOL)
        cfg_problem(cfg, group, "%s: function %d reads bits, so its type must be bool", name,
                    (int)point->table);
    if (has_registers(point) && point->type == POINT_BOOL && point->bits == 0)
        cfg_problem(cfg, group, "%s: a bool in a register needs bits = [first, 1]", name);
    if (cfg_member(group, "word_order") && point_width(point) == 1)
        cfg_problem(cfg, group, "%s: word_order is for numbers of 32 and 64 bits", name);
    if (point->scale == 0)
        cfg_problem(cfg, group, "%s: scale must not be 0", name);
    if ((point->type == POINT_BOOL || point->enumerated) &&
        (point->scale != 1 || point->offset != 0))
        cfg_problem(cfg, group, "%s: a bool or an enumeration has no scale and offset", name);
    if (point->low > point->high)
        cfg_problem(cfg, group, "%s: low %g is above high %g", name, point->low, point->high);
    if (point->enumerated && is_float(point))
        cfg_problem(cfg, group, "%s: only integers and bools can be enumerated", name);
    for (unsigned i = 0; i < profile->n_unreadable; i++) {
        const struct profile_range *range = &profile->unreadable[i];
        if (range->table == point->table && point->address <= range->last && end > range->first)
            cfg_problem(cfg, group, "%s lies in the unreadable range %u..%u", name, range->first,
                        range->last);
    }
    check_writable(cfg, group, point);
}

static bool is_code_of(const char *name, const struct point *point)
{
    size_t length = strlen(point->name);
    return point->enumerated && strncmp(name, point->name, length) == 0 &&
           strcmp(name + length, "_code") == 0;
}

/* The last row's name against those before it, as published: an enumerated
 * point takes <name>_code as well. */
static void check_name(struct cfg *cfg, const struct cfg_setting *group,
                       const struct profile *profile)
{
    const struct point *last = &profile->points[profile->n_points - 1];
    for (const struct point *other = profile->points; other < last; other++) {
        if (strcmp(other->name, last->name) == 0)
            cfg_problem(cfg, group, "two points are called '%s'", last->name);
        if (is_code_of(other->name, last) || is_code_of(last->name, other))
            cfg_problem(cfg, group, "'%s' and '%s': an enumerated point is published as _code too",
                        other->name, last->name);
    }
}

static void read_point(struct cfg *cfg, const struct cfg_setting *group, const struct head *head,
                       struct profile *profile)
{
    struct row row = {
        .function = head->function,
        .order = head->order,
        .every = 1,
        .scale = 1,
        .min = NAN,
        .max = NAN,
        .low = NAN,
        .high = NAN,
    };
    if (!cfg_read(cfg, group, ROW, &row))
        return;
    struct point *point = &profile->points[profile->n_points++];
    *point = (struct point){
        .address = (uint16_t)row.address,
        .table = (enum point_table)row.function,
        .type = (enum point_type)row.type,
        .order = (enum point_order)row.order,
        .every = (uint8_t)row.every,
        .writable = row.access == ACCESS_RW,
        .enumerated = row.enumerated,
        .scale = row.scale,
        .offset = row.offset,
        .min = row.min,
        .max = row.max,
        .low = row.low,
        .high = row.high,
        .counter = row.counter,
    };
    strcpy(point->name, row.name);
    strcpy(point->unit, row.unit);

    const struct cfg_setting *bits = cfg_member(group, "bits");
    if (bits)
        read_bits(cfg, bits, point);
    const struct cfg_setting *labels = cfg_member(group, "labels");
    if (labels) {
        profile_read_labels(cfg, labels, point);
        if (cfg_member(group, "enumerated") && !row.enumerated)
            cfg_problem(cfg, labels, "%s has labels but is not enumerated", point->name);
        point->enumerated = true;
    }
    profile_read_sentinels(cfg, group, point);
    check_point(cfg, group, profile, point);
    check_name(cfg, group, profile);
}

static void read_points(struct cfg *cfg, const struct cfg_setting *list, const struct head *head,
                        struct profile *profile)
{
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    if (n < 1 || n > PROFILE_POINTS_MAX) {
        cfg_problem(cfg, list, "points must be a list of 1 to %d groups", PROFILE_POINTS_MAX);
        return;
    }
    profile->points = calloc(n, sizeof *profile->points);
    if (!profile->points) {
        cfg_problem(cfg, list, "out of memory");
        return;
    }
    for (unsigned i = 0; i < n; i++)
        read_point(cfg, cfg_element(list, i), head, profile);
}

static void read_ranges(struct cfg *cfg, const struct cfg_setting *list, const struct head *head,
                        struct profile *profile)
{
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    if (!cfg_is_list(list) || n > PROFILE_RANGES_MAX) {
        cfg_problem(cfg, list, "unreadable must be a list of at most %d groups",
                    PROFILE_RANGES_MAX);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        const struct cfg_setting *group = cfg_element(list, i);
        struct range range = {.function = head->function};
        if (!cfg_read(cfg, group, RANGE, &range))
            continue;
        if (range.first > range.last)
            cfg_problem(cfg, group, "first is above last");
        profile->unreadable[profile->n_unreadable++] = (struct profile_range){
            .table = (enum point_table)range.function,
            .first = (uint16_t)range.first,
            .last = (uint16_t)range.last,
        };
    }
}

static void read_root(struct cfg *cfg, const struct cfg_setting *root, struct profile *profile)
{
    struct head head = {
        .function = POINT_HOLDING,
        .max_registers = 125,
        .max_gap = 60,
    };
    cfg_read(cfg, root, HEAD, &head);
    strcpy(profile->manufacturer, head.manufacturer);
    strcpy(profile->model, head.model);
    profile->max_registers = (unsigned)head.max_registers;
    profile->max_gap = (unsigned)head.max_gap;

    const struct cfg_setting *unreadable = cfg_member(root, "unreadable");
    if (unreadable)
        read_ranges(cfg, unreadable, &head, profile);
    const struct cfg_setting *points = cfg_member(root, "points");
    if (points)
        read_points(cfg, points, &head, profile);
}

struct profile *profile_read_file(struct cfg *cfg, const char *path, const char *type)
{
    const char *outer = cfg->file;
    unsigned before = cfg->problems;
    const struct cfg_setting *root = NULL;
    cfg->file = path;

    struct profile *profile = calloc(1, sizeof *profile);
    if (!profile) {
        cfg_problem(cfg, NULL, "out of memory");
        goto done;
    }
    snprintf(profile->type, sizeof profile->type, "%s", type);
    root = cfg_open(cfg, path);
    if (root)
        read_root(cfg, root, profile);
done:
    cfg_close(root);
    cfg->file = outer;
    if (cfg->problems != before) {
        profile_free(profile);
        profile = NULL;
    }
    return profile;
}

struct profile *profile_read(struct cfg *cfg, const struct cfg_setting *where,
                             const char *const *directories, const char *type)
{
    char path[4096], searched[1024] = "";
    if (!cfg_is_name(type)) {
        cfg_problem(cfg, where, "type '%s' is not made of letters, digits, - and _", type);
        return NULL;
    }
    for (; *directories; directories++) {
        snprintf(path, sizeof path, "%s/%s.cfg", *directories, type);
        if (access(path, F_OK) == 0)
            return profile_read_file(cfg, path, type);
        size_t used = strlen(searched);
        snprintf(searched + used, sizeof searched - used, "%s%s", used ? ", " : "", *directories);
    }
    cfg_problem(cfg, where, "no profile for type '%s': %s.cfg is not in %s", type, type, searched);
    return NULL;
}

void profile_free(struct profile *profile)
{
    if (profile)
        free(profile->points);
    free(profile);
}

const char *const *profile_directories(void)
{
    static const char *directories[5];
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self);
    size_t build = strlen(FLUXBRIDGE_BUILD_DIR);
    bool built_here = length > (ssize_t)build && self[build] == '/' &&
                      memcmp(self, FLUXBRIDGE_BUILD_DIR, build) == 0;

    unsigned n = 0;
    const char *chosen = getenv("FLUXBRIDGE_PROFILES");
    if (chosen && *chosen)
        directories[n++] = chosen;
    directories[n++] = "/etc/fluxbridge/profiles";
    if (built_here)
        directories[n++] = FLUXBRIDGE_SOURCE_PROFILES;
    directories[n++] = FLUXBRIDGE_PROFILES;
    directories[n] = NULL;
    return directories;
}
