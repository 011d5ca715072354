#include "devices/registers/device_control.h"

#include <math.h>
#include <string.h>

#include "devices/registers/codec.h"
#include "devices/registers/device_drive.h"
#include "devices/registers/row.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const char *const ON_EXIT[] = {"hold", "fallback", NULL};
static const char *const POSITIVE_IS[] = {"discharge", "charge", NULL};
enum { POSITIVE_IS_DISCHARGE, POSITIVE_IS_CHARGE };
static const char *const IDLE[] = {"hold", "release", NULL};
enum { IDLE_HOLD, IDLE_RELEASE };

/* The control group as written: with positive_is, which only turns a sign. */
struct control_keys {
    struct device_control control;
    int positive_is, idle;
};

static const struct cfg_field CONTROL[] = {
    {.key = "ready_status", .kind = CFG_OTHER, .required = true},
    {"min_kw", CFG_NUMBER, FIELD(control_keys, control.min_kw), .required = true, .min = -1e6,
     .max = 1e6},
    {"max_kw", CFG_NUMBER, FIELD(control_keys, control.max_kw), .required = true, .min = -1e6,
     .max = 1e6},
    {"positive_is", CFG_CHOICE, FIELD(control_keys, positive_is), .required = true,
     .choices = POSITIVE_IS},
    {"soe_min", CFG_NUMBER, FIELD(control_keys, control.soe_min), .min = 0, .max = 100},
    {"soe_max", CFG_NUMBER, FIELD(control_keys, control.soe_max), .min = 0, .max = 100},
    {"ttl", CFG_DURATION, FIELD(control_keys, control.ttl_ns), .min = 0.1, .max = 86400},
    {"max_clock_skew", CFG_DURATION, FIELD(control_keys, control.max_clock_skew_ns), .min = 0,
     .max = 3600},
    {"allow_bare", CFG_BOOLEAN, FIELD(control_keys, control.allow_bare)},
    {"on_exit", CFG_CHOICE, FIELD(control_keys, control.on_exit), .choices = ON_EXIT},
    {"kw_per_block", CFG_NUMBER, FIELD(control_keys, control.kw_per_block), .min = 1e-3,
     .max = 1e6},
    {"max_step_kw", CFG_NUMBER, FIELD(control_keys, control.max_step_kw), .min = 1e-3, .max = 1e6},
    {"min_interval", CFG_DURATION, FIELD(control_keys, control.min_interval_ns), .min = 0,
     .max = 86400},
    {"command_source", CFG_INTEGER, FIELD(control_keys, control.command_source), .min = 0,
     .max = 65535},
    {"idle", CFG_CHOICE, FIELD(control_keys, idle), .choices = IDLE},
    {.key = "status_labels", .kind = CFG_OTHER},
    {.key = "deadman", .kind = CFG_OTHER},
    CFG_END,
};

enum { CONTROL_FIELDS = sizeof CONTROL / sizeof *CONTROL };

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

/* Labels of the site, and "ready" for what is ready and has none. */
static void read_statuses(struct cfg *cfg, const struct cfg_setting *group,
                          struct device_control *control, struct point *status)
{
    const struct cfg_setting *labels = cfg_member(group, "status_labels");
    const struct point_label *shared = status->labels;
    row_read_labels(cfg, labels, DEVICE_STATUSES_MAX, status);
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

/* A register whose positive values are charge is turned, so that + discharges. */
static void turn_setpoint(struct point *point)
{
    const double min = point->min, lowest = point->low;
    point->scale = -point->scale;
    point->offset = -point->offset;
    point->min = -point->max;
    point->max = -min;
    point->low = -point->high;
    point->high = -lowest;
}

/* Where the type says how it is commanded, it knows the sign, too. */
static void check_sign(struct cfg *cfg, const struct cfg_setting *group,
                       const struct control_keys *sheet, const struct point *point)
{
    const struct cfg_setting *key = cfg_member(group, "positive_is");
    const int own = point->made || point->scale > 0 ? POSITIVE_IS_DISCHARGE : POSITIVE_IS_CHARGE;
    if (key && sheet->positive_is != own)
        cfg_problem(cfg, key,
                    "the type says how it is commanded, and positive is \"%s\" there: leave "
                    "positive_is out",
                    POSITIVE_IS[own]);
}

static enum codec_fit fits(const struct device *device, double kw)
{
    const struct drive *drive = device_drive(device);
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    return drive ? drive_fits(drive, device->points, kw)
                 : codec_encode(&device->points[device->control.setpoint], kw, words);
}

/* The setpoint's row speaks in kW, + discharging, within the site's limits. */
static void limit_setpoint(struct cfg *cfg, const struct cfg_setting *group,
                           const struct control_keys *sheet, const struct device *device,
                           struct point *point)
{
    const double low = sheet->control.min_kw, high = sheet->control.max_kw;
    if (strcmp(point->unit, "kW") != 0)
        cfg_problem(cfg, group, "control speaks kW, and %s is in '%s'", point->name, point->unit);
    const struct cfg_setting *min = key_or_group(group, "min_kw");
    const struct cfg_setting *max = key_or_group(group, "max_kw");
    if (fits(device, low) == CODEC_OUT_OF_RANGE)
        cfg_problem(cfg, min, "min_kw %g does not fit the register of %s", low, point->name);
    if (fits(device, high) == CODEC_OUT_OF_RANGE)
        cfg_problem(cfg, max, "max_kw %g does not fit the register of %s", high, point->name);
    if (fits(device, 0) != CODEC_FITS)
        cfg_problem(cfg, group, "%s cannot hold 0: its battery could not be told to stop",
                    point->name);
    if (low < point->min)
        cfg_problem(cfg, min, "min_kw %g is below the type's own limit %g", low, point->min);
    if (high > point->max)
        cfg_problem(cfg, max, "max_kw %g is above the type's own limit %g", high, point->max);
    if (sheet->control.deadman_timeout_ns != 0 &&
        fits(device, sheet->control.deadman_value) == CODEC_OFF_STEP)
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

static void check_soe(struct cfg *cfg, const struct cfg_setting *group, const struct point *soe)
{
    if (strcmp(soe->unit, "%") != 0)
        cfg_problem(cfg, group, "control needs 'soe' in %%, not in '%s'", soe->unit);
}

/* Finds the rows that the control sequence uses and fits them to the site. */
static void bind_control(struct cfg *cfg, const struct cfg_setting *group, struct device *device,
                         const struct control_keys *sheet)
{
    struct device_control *control = &device->control;
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    if (cfg_member(group, "idle"))
        cfg_problem(cfg, cfg_member(group, "idle"),
                    "type '%s' does not say how it is let go: idle has no meaning",
                    device->profile->type);
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
    if (control->soe >= 0)
        check_soe(cfg, group, &device->points[control->soe]);
    if (control->setpoint >= 0 && sheet->positive_is == POSITIVE_IS_CHARGE)
        turn_setpoint(&device->points[control->setpoint]);
    if (control->setpoint >= 0)
        limit_setpoint(cfg, group, sheet, device, &device->points[control->setpoint]);
    if (control->command_source >= 0 && control->source >= 0 &&
        codec_encode(&device->points[control->source], (double)control->command_source, words) !=
            CODEC_FITS)
        cfg_problem(cfg, key_or_group(group, "command_source"),
                    "command_source %lld does not fit its register",
                    (long long)control->command_source);
}

/* Does so for a type that says how it is commanded. */
static void bind_drive(struct cfg *cfg, const struct cfg_setting *group,
                       const struct cfg_setting *of_device, struct device *device,
                       const struct control_keys *sheet)
{
    const struct drive *drive = &device->profile->drive;
    struct device_control *control = &device->control;
    const struct cfg_setting *ready = cfg_member(group, "ready_status");
    control->status = drive->status;
    control->soe = drive->soe;
    control->setpoint = drive->setpoint;
    control->blocks = drive->blocks;
    control->command_source = -1; /* if at all, a key of the lists */
    control->drive.idle_release =
        sheet->idle < 0 ? drive->idle_release : sheet->idle == IDLE_RELEASE;
    device_drive_read_keys(cfg, group, device);
    device_drive_read_timeout(cfg, of_device, device);
    if (cfg_member(group, "command_source") && !drive_has_key(drive, "command_source"))
        cfg_problem(cfg, cfg_member(group, "command_source"), "type '%s' writes no command_source",
                    device->profile->type);
    if (control->status < 0 && (ready || cfg_member(group, "status_labels")))
        cfg_problem(cfg, ready ? ready : cfg_member(group, "status_labels"),
                    "type '%s' has no status to be ready", device->profile->type);
    if (control->status >= 0 && !is_integer(&device->points[control->status]))
        cfg_problem(cfg, group, "control needs '%s' to be an integer",
                    device->points[control->status].name);
    else if (control->status >= 0)
        read_statuses(cfg, group, control, &device->points[control->status]);
    if (control->soe < 0)
        cfg_problem(cfg, group, "control needs a point 'soe', and type '%s' has none",
                    device->profile->type);
    else
        check_soe(cfg, group, &device->points[control->soe]);
    if (control->blocks < 0 && !isnan(control->kw_per_block))
        cfg_problem(cfg, key_or_group(group, "kw_per_block"),
                    "type '%s' does not say how many blocks there are", device->profile->type);
    if (control->setpoint < 0)
        return;
    check_sign(cfg, group, sheet, &device->points[control->setpoint]);
    if (control->deadman_timeout_ns != 0 && control->deadman_value != 0 && drive->every_ns > 0)
        cfg_warning(cfg, deadman_value(group),
                    "the deadman's %g kW have no lease, so no keepalive: the battery ends them "
                    "itself after %g s",
                    control->deadman_value, control->drive.timeout_s);
    limit_setpoint(cfg, group, sheet, device, &device->points[control->setpoint]);
}

/* The keys of the group, as far as the type has a use for them. */
static void control_fields(const struct drive *drive,
                           struct cfg_field fields[CONTROL_FIELDS + DRIVE_KEYS_MAX])
{
    unsigned n = CONTROL_FIELDS - 1; /* over the end */
    memcpy(fields, CONTROL, sizeof CONTROL);
    for (unsigned i = 0; i < n && drive->given; i++)
        if (strcmp(fields[i].key, "positive_is") == 0 ||
            (strcmp(fields[i].key, "ready_status") == 0 && drive->status < 0))
            fields[i].required = false;
    for (unsigned i = 0; drive->given && i < drive->n_keys; i++) {
        bool known = false;
        for (unsigned k = 0; k < CONTROL_FIELDS - 1; k++)
            known = known || strcmp(CONTROL[k].key, drive->keys[i]) == 0;
        if (!known)
            fields[n++] = (struct cfg_field){
                .key = drive->keys[i],
                .kind = CFG_NUMBER,
                .offset = offsetof(struct control_keys, control.drive.keys) + i * sizeof(double),
            };
    }
    fields[n] = (struct cfg_field)CFG_END;
}

void device_control_read(struct cfg *cfg, const struct cfg_setting *of_device,
                         struct device *device)
{
    const struct cfg_setting *group = cfg_member(of_device, "control");
    const struct drive *drive = &device->profile->drive;
    struct cfg_field fields[CONTROL_FIELDS + DRIVE_KEYS_MAX];
    struct control_keys sheet = {.control = device->control, .idle = -1};
    control_fields(drive, fields);
    bool good = cfg_read(cfg, group, fields, &sheet);
    const struct cfg_setting *deadman = cfg_member(group, "deadman");
    if (deadman)
        good = cfg_read(cfg, deadman, DEADMAN, &sheet.control) && good;
    if (good)
        check_control(cfg, group, &sheet.control);
    if (!cfg_is_group(group))
        return;
    device->controllable = true;
    device->control = sheet.control;
    if (drive->given)
        bind_drive(cfg, group, of_device, device, &sheet);
    else
        bind_control(cfg, group, device, &sheet);
}

const struct device_control device_no_control = {
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
