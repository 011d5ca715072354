#include "devices/registers/device_points.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/row.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

struct override {
    char name[POINT_NAME_MAX + 1], unit[POINT_UNIT_MAX + 1];
    double scale, low, high, deadband;
    bool counter;
};

static const struct cfg_field OVERRIDE[] = {
    {"name", CFG_TEXT, FIELD(override, name), .size = POINT_NAME_MAX + 1, .required = true},
    {"scale", CFG_NUMBER, FIELD(override, scale)},
    {"unit", CFG_TEXT, FIELD(override, unit), .size = POINT_UNIT_MAX + 1},
    {"low", CFG_NUMBER, FIELD(override, low)},
    {"high", CFG_NUMBER, FIELD(override, high)},
    {"counter", CFG_BOOLEAN, FIELD(override, counter)},
    {.key = "sentinels", .kind = CFG_OTHER},
    {"deadband", CFG_NUMBER, FIELD(override, deadband), .min = 0, .max = 1e12},
    CFG_END,
};

/* Whether it is the scale_register of another row. */
static bool scales_others(const struct device *device, unsigned index)
{
    bool scales = false;
    for (unsigned i = 0; i < device->n_points; i++)
        scales = scales || device->points[i].scale_row == index + 1;
    return scales;
}

static void read_override(struct cfg *cfg, const struct cfg_setting *group, struct device *device,
                          bool *seen)
{
    struct override override = {.scale = NAN, .low = NAN, .high = NAN};
    if (!cfg_read(cfg, group, OVERRIDE, &override))
        return;
    int index = device_find_point(device, override.name);
    if (index < 0) {
        cfg_problem(cfg, group, "type '%s' has no point '%s'", device->profile->type,
                    override.name);
        return;
    }
    struct point *point = &device->points[index];
    if (seen[index])
        cfg_problem(cfg, group, "point '%s' stands here twice", point->name);
    seen[index] = true;
    if (point->made && (!isnan(override.scale) || cfg_member(group, "unit") ||
                        cfg_member(group, "counter") || cfg_member(group, "sentinels")))
        cfg_problem(cfg, group,
                    "%s is made of other points: only low, high and deadband are its own",
                    point->name);
    bool limited = !isnan(point->min) || !isnan(point->max);
    if (limited && (!isnan(override.scale) || cfg_member(group, "unit")))
        cfg_problem(cfg, group, "%s has write limits in '%s': its scale and unit are fixed",
                    point->name, point->unit);
    if (!isnan(override.scale) && scales_others(device, (unsigned)index))
        cfg_problem(cfg, group, "%s moves the scale of other rows, and has none itself",
                    point->name);
    static const char *const numeric[] = {"scale",   "low",      "high", "unit",
                                          "counter", "deadband", NULL};
    for (const char *const *key = numeric; point->type == POINT_STRING && *key; key++)
        if (cfg_member(group, *key))
            cfg_problem(cfg, group, "%s: a text has no %s", point->name, *key);
    if (!isnan(override.scale)) {
        if (override.scale == 0)
            cfg_problem(cfg, group, "%s: scale must not be 0", point->name);
        if (point->type == POINT_BOOL || point->enumerated)
            cfg_problem(cfg, group, "%s: a bool or an enumeration has no scale", point->name);
        point->scale = override.scale;
    }
    if (cfg_member(group, "unit"))
        strcpy(point->unit, override.unit);
    if (cfg_member(group, "low"))
        point->low = override.low;
    if (cfg_member(group, "high"))
        point->high = override.high;
    row_check_meaning(cfg, group, point);
    if (point->low > point->high)
        cfg_problem(cfg, group, "%s: low %g is above high %g", point->name, point->low,
                    point->high);
    if (cfg_member(group, "counter"))
        point->counter = override.counter;
    row_read_sentinels(cfg, group, point);
    point->deadband = override.deadband;
    if (cfg_member(group, "deadband") && device->longest_silence_ns == 0)
        cfg_problem(cfg, cfg_member(group, "deadband"),
                    "%s: deadband has no meaning without longest_silence: every scan is published",
                    point->name);
}

/* Whether another order would show in this row. */
static bool has_order(const struct point *point, enum point_order order)
{
    bool one = point_width(point) == 1 || point->type == POINT_STRING;
    bool byte = point->type == POINT_INT8 || point->type == POINT_UINT8;
    return point_has_registers(point) && !point->own_order && !byte &&
           !(one && order == POINT_CDAB);
}

/* The order and the addresses of this very device. */
static void move_points(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
{
    const struct device_modbus *modbus = &device->modbus;
    const struct cfg_setting *shift = cfg_lookup(group, "modbus.address_shift");
    const struct cfg_setting *order = cfg_lookup(group, "modbus.word_order");
    unsigned n_ordered = 0, n_shifted = 0;
    for (unsigned i = 0; i < device->n_points; i++) {
        struct point *point = &device->points[i];
        int64_t address = point->address + (point->model ? 0 : modbus->address_shift);
        n_shifted += point->model == 0;
        n_ordered += has_order(point, (enum point_order)modbus->word_order);
        if (modbus->word_order >= 0 && !point->own_order)
            point->order = (enum point_order)modbus->word_order;
        if (address < 0 || address + point_width(point) > 65536) {
            cfg_problem(cfg, shift, "address_shift %lld moves %s out of 0..65535",
                        (long long)modbus->address_shift, point->name);
            return;
        }
        point->address = (uint16_t)address;
    }
    if (n_ordered == 0 && modbus->word_order >= 0)
        cfg_problem(cfg, order, "word_order \"%s\" changes no row of type '%s'",
                    point_order_words[modbus->word_order], device->profile->type);
    if (n_shifted == 0 && modbus->address_shift != 0)
        cfg_problem(cfg, shift, "address_shift changes no row of type '%s': SunSpec's are found",
                    device->profile->type);
}

/* writable = [ "limit", "relay" ]: rows of the type that commands may write here. */
static void read_writable(struct cfg *cfg, const struct cfg_setting *list, struct device *device)
{
    if (!cfg_is_row(list) || cfg_length(list) == 0) {
        cfg_problem(cfg, list, "writable must name points: [ \"...\", \"...\" ]");
        return;
    }
    for (const struct cfg_setting *name = cfg_first(list); name; name = cfg_next(name)) {
        const char *text = cfg_text(name);
        int index = text ? device_find_point(device, text) : -1;
        if (!text)
            cfg_problem(cfg, name, "writable must name points: [ \"...\", \"...\" ]");
        else if (index < 0)
            cfg_problem(cfg, name, "type '%s' has no point '%s'", device->profile->type, text);
        else if (!device->points[index].writable)
            cfg_problem(cfg, name, "type '%s' only reads '%s': its row needs access = \"rw\"",
                        device->profile->type, text);
        else if (device->points[index].commanded)
            cfg_problem(cfg, name, "writable names '%s' twice", text);
        else if (device->points[index].made ||
                 drive_writes(&device->profile->drive, (unsigned)index))
            cfg_problem(cfg, name,
                        "'%s' is written by the type's control group alone: command target_power",
                        text);
        else
            device->points[index].commanded = true;
    }
}

void device_points_read(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
{
    const struct cfg_setting *list = cfg_member(group, "points");
    bool seen[PROFILE_POINTS_MAX] = {false};
    device->n_points = device->profile->n_points;
    const struct cfg_setting *writable = cfg_member(group, "writable");
    bool moved = device->modbus.word_order >= 0 || device->modbus.address_shift != 0;
    if (!list && !writable && !moved && !cfg_member(group, "control")) {
        device->points = device->profile->points;
        return;
    }
    device->points = calloc(device->n_points, sizeof *device->points);
    if (!device->points) {
        device->n_points = 0;
        cfg_no_memory(cfg, group);
        return;
    }
    memcpy(device->points, device->profile->points, device->n_points * sizeof *device->points);
    if (moved)
        move_points(cfg, group, device);
    if (writable)
        read_writable(cfg, writable, device);
    if (!list)
        return;
    if (!cfg_is_list(list)) {
        cfg_problem(cfg, list, "points must be a list: ( { name = \"...\"; scale = 0.1; } )");
        return;
    }
    for (unsigned i = 0; i < cfg_length(list); i++)
        read_override(cfg, cfg_element(list, i), device, seen);
}
