#include "devices/registers/device.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "devices/registers/codec.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const char *const ON_EXIT[] = {"hold", "fallback", NULL};
static const char *const POSITIVE_IS[] = {"discharge", "charge", NULL};
enum { POSITIVE_IS_DISCHARGE, POSITIVE_IS_CHARGE };

static const struct cfg_field LISTS[] = {
    {.key = "bess", .kind = CFG_OTHER},
    {.key = "meters", .kind = CFG_OTHER},
    CFG_END,
};

/* The texts and numbers of a device's own group. */
struct head {
    char id[DEVICE_ID_MAX + 1], name[DEVICE_NAME_MAX + 1], type[POINT_NAME_MAX + 1];
    int64_t poll_ns, longest_silence_ns;
};

static const struct cfg_field HEAD[] = {
    {"id", CFG_TEXT, FIELD(head, id), .size = DEVICE_ID_MAX + 1, .required = true, .min = 1},
    {"name", CFG_TEXT, FIELD(head, name), .size = DEVICE_NAME_MAX + 1, .required = true, .min = 1},
    {"type", CFG_TEXT, FIELD(head, type), .size = POINT_NAME_MAX + 1, .required = true, .min = 1},
    {"poll", CFG_DURATION, FIELD(head, poll_ns), .min = 0.01, .max = 3600},
    {"longest_silence", CFG_DURATION, FIELD(head, longest_silence_ns), .min = 0.01, .max = 86400},
    {.key = "modbus", .kind = CFG_OTHER, .required = true},
    {.key = "control", .kind = CFG_OTHER},
    {.key = "points", .kind = CFG_OTHER},
    {.key = "writable", .kind = CFG_OTHER},
    CFG_END,
};

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

/* The control group as written: with positive_is, which only turns a sign. */
struct sheet {
    struct device_control control;
    int positive_is;
};

static const struct cfg_field CONTROL[] = {
    {.key = "ready_status", .kind = CFG_OTHER, .required = true},
    {"min_kw", CFG_NUMBER, FIELD(sheet, control.min_kw), .required = true, .min = -1e6, .max = 1e6},
    {"max_kw", CFG_NUMBER, FIELD(sheet, control.max_kw), .required = true, .min = -1e6, .max = 1e6},
    {"positive_is", CFG_CHOICE, FIELD(sheet, positive_is), .required = true,
     .choices = POSITIVE_IS},
    {"soe_min", CFG_NUMBER, FIELD(sheet, control.soe_min), .min = 0, .max = 100},
    {"soe_max", CFG_NUMBER, FIELD(sheet, control.soe_max), .min = 0, .max = 100},
    {"ttl", CFG_DURATION, FIELD(sheet, control.ttl_ns), .min = 0.1, .max = 86400},
    {"max_clock_skew", CFG_DURATION, FIELD(sheet, control.max_clock_skew_ns), .min = 0,
     .max = 3600},
    {"allow_bare", CFG_BOOLEAN, FIELD(sheet, control.allow_bare)},
    {"on_exit", CFG_CHOICE, FIELD(sheet, control.on_exit), .choices = ON_EXIT},
    {"kw_per_block", CFG_NUMBER, FIELD(sheet, control.kw_per_block), .min = 1e-3, .max = 1e6},
    {"max_step_kw", CFG_NUMBER, FIELD(sheet, control.max_step_kw), .min = 1e-3, .max = 1e6},
    {"min_interval", CFG_DURATION, FIELD(sheet, control.min_interval_ns), .min = 0, .max = 86400},
    {"command_source", CFG_INTEGER, FIELD(sheet, control.command_source), .min = 0, .max = 65535},
    {.key = "status_labels", .kind = CFG_OTHER},
    {.key = "deadman", .kind = CFG_OTHER},
    CFG_END,
};

static const struct cfg_field DEADMAN[] = {
    {"timeout", CFG_DURATION, FIELD(device_control, deadman_timeout_ns), .required = true,
     .min = 0.1, .max = 86400},
    {"value", CFG_NUMBER, FIELD(device_control, deadman_value)},
    CFG_END,
};

/* Where a key stands, or else its group. */
static const struct cfg_setting *key_or_group(const struct cfg_setting *group, const char *key)
{
    const struct cfg_setting *setting = cfg_member(group, key);
    return setting ? setting : group;
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
    bool limited = !isnan(point->min) || !isnan(point->max);
    if (limited && (!isnan(override.scale) || cfg_member(group, "unit")))
        cfg_problem(cfg, group, "%s has write limits in %s: its scale and unit are fixed",
                    point->name, point->unit);
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
    if (point->low > point->high)
        cfg_problem(cfg, group, "%s: low %g is above high %g", point->name, point->low,
                    point->high);
    if (cfg_member(group, "counter"))
        point->counter = override.counter;
    profile_read_sentinels(cfg, group, point);
    point->deadband = override.deadband;
}

/* The order and the addresses of this very device. */
static void move_points(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
{
    const struct device_modbus *modbus = &device->modbus;
    const struct cfg_setting *shift = cfg_lookup(group, "modbus.address_shift");
    for (unsigned i = 0; i < device->n_points; i++) {
        struct point *point = &device->points[i];
        int64_t address = point->address + (point->model ? 0 : modbus->address_shift);
        if (modbus->word_order >= 0 && !point->own_order)
            point->order = (enum point_order)modbus->word_order;
        if (address < 0 || address + point_width(point) > 65536) {
            cfg_problem(cfg, shift, "address_shift %lld moves %s out of 0..65535",
                        (long long)modbus->address_shift, point->name);
            return;
        }
        point->address = (uint16_t)address;
    }
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
        else
            device->points[index].commanded = true;
    }
}

/* The profile's rows, or the device's own copy where its configuration changes
 * something in them: a site of hundreds of meters has them once. */
static void read_points(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
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
        cfg_problem(cfg, group, "out of memory");
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

/* Labels of the site, and "ready" for what is ready and has none. */
static void read_statuses(struct cfg *cfg, const struct cfg_setting *group,
                          struct device_control *control, struct point *status)
{
    const struct cfg_setting *labels = cfg_member(group, "status_labels");
    const struct point_label *shared = status->labels;
    profile_read_labels(cfg, labels, DEVICE_STATUSES_MAX, status);
    status->enumerated = true;
    if (status->labels == shared)
        return; /* out of memory */

    const struct cfg_setting *ready = cfg_member(group, "ready_status");
    if (!ready)
        return;
    unsigned n = cfg_is_row(ready) ? cfg_length(ready) : 0;
    if (n < 1 || n > DEVICE_STATUSES_MAX) {
        cfg_problem(cfg, ready, "ready_status must be [ 1 to %d numbers ], such as [ 1 ]",
                    DEVICE_STATUSES_MAX);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        int64_t value;
        uint16_t words[POINT_NUMBER_WORDS_MAX];
        if (!cfg_integer(cfg_element(ready, i), &value) ||
            codec_encode(status, (double)value, words) != CODEC_FITS) {
            cfg_problem(cfg, ready, "ready_status must hold whole numbers that fit %s",
                        point_type_word(status->type));
            return;
        }
        for (unsigned k = 0; k < control->n_ready; k++)
            if (control->ready_status[k] == value)
                cfg_problem(cfg, ready, "ready_status names %lld twice", (long long)value);
        control->ready_status[control->n_ready++] = value;
        if (point_label(status, value))
            continue;
        ((struct point_label *)status->labels)[status->n_labels++] =
            (struct point_label){.value = value, .label = "ready"};
    }
}

static bool is_integer(const struct point *point)
{
    return codec_step(point) == 1 && point->offset == 0 && point->type != POINT_BOOL;
}

static int find_point(struct cfg *cfg, const struct cfg_setting *group, const struct device *device,
                      const char *name, bool writable)
{
    int index = device_find_point(device, name);
    if (index < 0)
        cfg_problem(cfg, group, "control needs a point '%s', and type '%s' has none", name,
                    device->profile->type);
    else if (writable && !device->points[index].writable)
        cfg_problem(cfg, group, "control needs to write '%s', and type '%s' only reads it", name,
                    device->profile->type);
    return index;
}

static const struct cfg_setting *deadman_value(const struct cfg_setting *group)
{
    return key_or_group(cfg_member(group, "deadman"), "value");
}

/* The setpoint's row speaks in kW, + discharging, within the site's limits. */
static void turn_setpoint(struct cfg *cfg, const struct cfg_setting *group,
                          const struct sheet *sheet, struct point *point)
{
    double low = sheet->control.min_kw, high = sheet->control.max_kw;
    if (sheet->positive_is == POSITIVE_IS_CHARGE) {
        double min = point->min, lowest = point->low;
        point->scale = -point->scale;
        point->offset = -point->offset;
        point->min = -point->max;
        point->max = -min;
        point->low = -point->high;
        point->high = -lowest;
    }
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    if (strcmp(point->unit, "kW") != 0)
        cfg_problem(cfg, group, "control speaks kW, and %s is in '%s'", point->name, point->unit);
    const struct cfg_setting *min = key_or_group(group, "min_kw");
    const struct cfg_setting *max = key_or_group(group, "max_kw");
    if (codec_encode(point, low, words) == CODEC_OUT_OF_RANGE)
        cfg_problem(cfg, min, "min_kw %g does not fit the register of %s", low, point->name);
    if (codec_encode(point, high, words) == CODEC_OUT_OF_RANGE)
        cfg_problem(cfg, max, "max_kw %g does not fit the register of %s", high, point->name);
    if (low < point->min)
        cfg_problem(cfg, min, "min_kw %g is below the type's own limit %g", low, point->min);
    if (high > point->max)
        cfg_problem(cfg, max, "max_kw %g is above the type's own limit %g", high, point->max);
    if (sheet->control.deadman_timeout_ns != 0 &&
        codec_encode(point, sheet->control.deadman_value, words) == CODEC_OFF_STEP)
        cfg_problem(cfg, deadman_value(group),
                    "deadman value %g is finer than the register of %s can hold",
                    sheet->control.deadman_value, point->name);
    point->min = low;
    point->max = high;
}

static void check_control(struct cfg *cfg, const struct cfg_setting *group,
                          const struct device_control *control)
{
    if (control->min_kw > 0 || control->max_kw < 0 || control->min_kw >= control->max_kw)
        cfg_problem(cfg, key_or_group(group, control->min_kw > 0 ? "min_kw" : "max_kw"),
                    "min_kw and max_kw must span zero, not %g to %g", control->min_kw,
                    control->max_kw);
    if (control->soe_min >= control->soe_max) {
        bool given = cfg_member(group, "soe_min");
        cfg_problem(cfg, key_or_group(group, given ? "soe_min" : "soe_max"),
                    "soe_min %g must be below soe_max %g", control->soe_min, control->soe_max);
    }
    if (control->deadman_timeout_ns != 0 &&
        (control->deadman_value < control->min_kw || control->deadman_value > control->max_kw))
        cfg_problem(cfg, deadman_value(group),
                    "deadman value %g is not within min_kw %g and max_kw %g",
                    control->deadman_value, control->min_kw, control->max_kw);
}

/* Finds the rows that the control sequence uses and fits them to the site. */
static void bind_control(struct cfg *cfg, const struct cfg_setting *group, struct device *device,
                         const struct sheet *sheet)
{
    struct device_control *control = &device->control;
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    control->status = find_point(cfg, group, device, "status", false);
    control->soe = find_point(cfg, group, device, "soe", false);
    control->setpoint = find_point(cfg, group, device, "target_power", true);
    control->blocks = isnan(control->kw_per_block)
                          ? device_find_point(device, "available_blocks")
                          : find_point(cfg, group, device, "available_blocks", false);
    control->source = control->command_source < 0
                          ? device_find_point(device, "command_source")
                          : find_point(cfg, group, device, "command_source", true);

    if (control->status >= 0 && !is_integer(&device->points[control->status]))
        cfg_problem(cfg, group, "control needs 'status' to be an integer");
    else if (control->status >= 0)
        read_statuses(cfg, group, control, &device->points[control->status]);
    if (control->soe >= 0 && strcmp(device->points[control->soe].unit, "%") != 0)
        cfg_problem(cfg, group, "control needs 'soe' in %%, not in '%s'",
                    device->points[control->soe].unit);
    if (control->setpoint >= 0)
        turn_setpoint(cfg, group, sheet, &device->points[control->setpoint]);
    if (control->command_source >= 0 && control->source >= 0 &&
        codec_encode(&device->points[control->source], (double)control->command_source, words) !=
            CODEC_FITS)
        cfg_problem(cfg, key_or_group(group, "command_source"),
                    "command_source %lld does not fit its register",
                    (long long)control->command_source);
}

static void read_control(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
{
    struct sheet sheet = {.control = device->control};
    bool good = cfg_read(cfg, group, CONTROL, &sheet);
    const struct cfg_setting *deadman = cfg_member(group, "deadman");
    if (deadman)
        good = cfg_read(cfg, deadman, DEADMAN, &sheet.control) && good;
    if (good)
        check_control(cfg, group, &sheet.control);
    if (!cfg_is_group(group))
        return;
    device->controllable = true;
    device->control = sheet.control;
    bind_control(cfg, group, device, &sheet);
}

/* The profile of a type, read once. A type that could not be read is kept as
 * an empty one, so that its problems are told once. */
static const struct profile *find_profile(struct cfg *cfg, const struct cfg_setting *where,
                                          const char *const *directories, const char *type,
                                          struct device_list *list)
{
    for (unsigned i = 0; i < list->n_profiles; i++)
        if (strcmp(list->profiles[i]->type, type) == 0)
            return list->profiles[i];

    struct profile **more =
        realloc(list->profiles, (list->n_profiles + 1) * sizeof(struct profile *));
    if (more)
        list->profiles = more;
    struct profile *profile = more ? profile_read(cfg, where, directories, type) : NULL;
    if (!profile)
        profile = calloc(1, sizeof *profile);
    if (!more || !profile) {
        cfg_problem(cfg, where, "out of memory");
        free(profile);
        return NULL;
    }
    strcpy(profile->type, type);
    list->profiles[list->n_profiles++] = profile;
    return profile;
}

/* The last device's name and id against the rules and the devices before it. */
static void check_names(struct cfg *cfg, const struct cfg_setting *group,
                        const struct device_list *list)
{
    const struct device *last = &list->devices[list->n_devices - 1];
    const struct cfg_setting *name = cfg_member(group, "name");
    const struct cfg_setting *id = cfg_member(group, "id");
    if (last->name[0] && !cfg_is_name(last->name))
        cfg_problem(cfg, name, "name '%s' is not 1 to 64 of A-Z a-z 0-9 _ -", last->name);
    if (strcasecmp(last->name, "bridge") == 0)
        cfg_problem(cfg, name,
                    "a device cannot be called 'bridge': that topic is the bridge's own");
    for (const struct device *other = list->devices; other < last; other++) {
        if (last->name[0] && strcasecmp(other->name, last->name) == 0)
            cfg_problem(cfg, name, "name '%s' is taken by another device, letter case aside",
                        last->name);
        if (last->id[0] && strcasecmp(other->id, last->id) == 0)
            cfg_problem(cfg, id, "id '%s' is taken by device '%s'", last->id, other->name);
    }
}

/* Numbers the last device's link, and compares it with its neighbours there. */
static void join_link(struct cfg *cfg, const struct cfg_setting *where, struct device_list *list)
{
    struct device *last = &list->devices[list->n_devices - 1];
    bool joined = false;
    for (struct device *other = list->devices; other < last; other++) {
        const struct device_modbus *a = &other->modbus, *b = &last->modbus;
        if (!place_is_same_link(a, b))
            continue;
        const char *key = joined ? NULL : place_difference(a, b);
        if (key != NULL)
            cfg_problem(cfg, where, "%s of %s is set otherwise by device '%s': it must be the same",
                        key, b->serial[0] != '\0' ? b->serial : b->host, other->name);
        if (a->address == b->address)
            cfg_warning(cfg, where, "device '%s' has the same link and address %lld", other->name,
                        (long long)b->address);
        last->link = other->link;
        joined = true;
    }
    if (!joined)
        last->link = list->n_links++;
}

/* A link that has to be waited for on the spot, because it is a serial line or a
 * command must find nothing in its way, has a thread of its own. */
static bool is_apart(const struct device_list *list, unsigned link)
{
    for (unsigned i = 0; i < list->n_devices; i++) {
        const struct device *device = &list->devices[i];
        if (device->link == link && (device->modbus.serial[0] || device_takes_commands(device)))
            return true;
    }
    return false;
}

/* The first device of the link of this one. */
static const struct device *first_of_link(const struct device_list *list, unsigned index)
{
    const struct device *first = list->devices;
    while (first->link != list->devices[index].link)
        first++;
    return first;
}

bool device_is_first(const struct device_list *list, unsigned index)
{
    return first_of_link(list, index) == &list->devices[index];
}

/* One thread serves all links that have none of their own. */
static void assign_pollers(struct device_list *list)
{
    unsigned shared = UINT_MAX;
    for (unsigned i = 0; i < list->n_devices; i++) {
        struct device *device = &list->devices[i];
        if (!device_is_first(list, i)) {
            device->poller = first_of_link(list, i)->poller;
        } else if (is_apart(list, device->link)) {
            device->poller = list->n_pollers++;
        } else {
            if (shared == UINT_MAX)
                shared = list->n_pollers++;
            device->poller = shared;
        }
    }
}

/* What holds without a control group too, for the commands that `writable` allows:
 * their life, and that no point is the setpoint. */
static const struct device_control no_control = {
    .soe_min = 10,
    .soe_max = 90,
    .ttl_ns = 10000000000,
    .max_clock_skew_ns = 2000000000,
    .kw_per_block = NAN,
    .max_step_kw = NAN,
    .command_source = -1,
    .on_exit = DEVICE_HOLD,
    .status = -1,
    .soe = -1,
    .setpoint = -1,
    .blocks = -1,
    .source = -1,
};

/* Goes on after a problem, so that one run shows them all. */
static void read_device(struct cfg *cfg, const struct cfg_setting *group, bool battery,
                        const char *const *directories, struct device_list *list)
{
    struct head head = {.poll_ns = 1000000000};
    struct device *device = &list->devices[list->n_devices++];
    cfg_read(cfg, group, HEAD, &head);
    if (!cfg_is_group(group))
        return;
    device->battery = battery;
    device->control = no_control;
    device->poll_ns = head.poll_ns;
    device->longest_silence_ns = head.longest_silence_ns;
    strcpy(device->id, head.id);
    strcpy(device->name, head.name);
    check_names(cfg, group, list);

    const struct cfg_setting *modbus = cfg_member(group, "modbus");
    if (modbus && place_read(cfg, modbus, &device->modbus))
        join_link(cfg, modbus, list);

    const struct cfg_setting *control = cfg_member(group, "control");
    if (control && !battery)
        cfg_problem(cfg, control, "a meter takes no commands: control is for devices in bess");

    if (head.type[0])
        device->profile =
            find_profile(cfg, cfg_member(group, "type"), directories, head.type, list);
    if (!device->profile || device->profile->n_points == 0)
        return;
    read_points(cfg, group, device);
    if (control && battery && device->points)
        read_control(cfg, control, device);
    for (unsigned i = 0; i < device->n_points && modbus && device->modbus.address == 0; i++)
        if (device->points && device_may_write(device, i)) {
            cfg_problem(cfg, cfg_member(modbus, "address"),
                        "address 0 may be the broadcast: nothing is ever written to it");
            break;
        }
}

/* Elements of one of the two lists; 0 when it is absent. */
static unsigned count(struct cfg *cfg, const struct cfg_setting *list)
{
    if (!list || cfg_is_list(list))
        return list ? cfg_length(list) : 0;
    cfg_problem(cfg, list, "%s must be a list: ( { ... }, { ... } )", cfg_name(list));
    return 0;
}

bool device_list_read(struct cfg *cfg, const struct cfg_setting *group,
                      const char *const *directories, struct device_list *list)
{
    unsigned before = cfg->problems;
    *list = (struct device_list){0};
    if (!cfg_read(cfg, group, LISTS, list) && !cfg_is_group(group))
        return false;
    const struct cfg_setting *bess = cfg_member(group, "bess");
    const struct cfg_setting *meters = cfg_member(group, "meters");
    unsigned n_bess = count(cfg, bess), n_meters = count(cfg, meters);
    if (n_bess + n_meters == 0) {
        cfg_problem(cfg, group, "no devices: bess and meters are both empty");
        return false;
    }
    list->devices = calloc(n_bess + n_meters, sizeof *list->devices);
    if (!list->devices) {
        cfg_problem(cfg, group, "out of memory");
        return false;
    }
    for (unsigned i = 0; i < n_bess; i++)
        read_device(cfg, cfg_element(bess, i), true, directories, list);
    for (unsigned i = 0; i < n_meters; i++)
        read_device(cfg, cfg_element(meters, i), false, directories, list);
    assign_pollers(list);
    return cfg->problems == before;
}

void device_list_free(struct device_list *list)
{
    for (unsigned i = 0; i < list->n_devices; i++) {
        struct device *device = &list->devices[i];
        if (!device->points || device->points == device->profile->points)
            continue;
        for (unsigned k = 0; k < device->n_points; k++)
            if (device->points[k].labels != device->profile->points[k].labels)
                free((void *)device->points[k].labels);
        free(device->points);
    }
    for (unsigned i = 0; i < list->n_profiles; i++)
        profile_free(list->profiles[i]);
    free(list->devices);
    free(list->profiles);
    *list = (struct device_list){0};
}

int64_t device_silence_ns(const struct device *device)
{
    return device->longest_silence_ns > device->poll_ns ? device->longest_silence_ns
                                                        : device->poll_ns;
}

int device_find_point(const struct device *device, const char *name)
{
    for (unsigned i = 0; i < device->n_points; i++)
        if (strcmp(device->points[i].name, name) == 0)
            return (int)i;
    return -1;
}

bool device_may_write(const struct device *device, unsigned point)
{
    return point < device->n_points && device->points[point].writable &&
           (device->controllable || device->points[point].commanded);
}

bool device_takes_commands(const struct device *device)
{
    for (unsigned i = 0; i < device->n_points; i++)
        if (device_may_write(device, i))
            return true;
    return false;
}
