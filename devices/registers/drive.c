#include "devices/registers/drive.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const char SETPOINT[] = "target_power", SOE[] = "soe";

static const char *const WHEN[] = {"always", "charge", "discharge", "stop", NULL};
static const char *const IDLE[] = {"hold", "release", NULL};
enum { IDLE_HOLD, IDLE_RELEASE };
static const char *const VALUES[] = {
    [DRIVE_NUMBER] = "a number",        [DRIVE_SETPOINT] = "setpoint",
    [DRIVE_MAGNITUDE] = "magnitude",    [DRIVE_BEAT] = "keepalive",
    [DRIVE_TIMEOUT] = "device_timeout", [DRIVE_KEY] = "a key",
};

/* The group as written. */
struct sheet {
    char setpoint[POINT_NAME_MAX + 1], status[POINT_NAME_MAX + 1], blocks[POINT_NAME_MAX + 1];
    int idle;
};

static const struct cfg_field GROUP[] = {
    {"setpoint", CFG_TEXT, FIELD(sheet, setpoint), .size = POINT_NAME_MAX + 1, .min = 1},
    {"status", CFG_TEXT, FIELD(sheet, status), .size = POINT_NAME_MAX + 1, .min = 1},
    {.key = "soe", .kind = CFG_OTHER},
    {"blocks", CFG_TEXT, FIELD(sheet, blocks), .size = POINT_NAME_MAX + 1, .min = 1},
    {.key = "engage", .kind = CFG_OTHER},
    {.key = "set", .kind = CFG_OTHER},
    {.key = "release", .kind = CFG_OTHER},
    {.key = "keepalive", .kind = CFG_OTHER},
    {.key = "device_timeout", .kind = CFG_OTHER},
    {.key = "proof", .kind = CFG_OTHER},
    {"idle", CFG_CHOICE, FIELD(sheet, idle), .choices = IDLE},
    CFG_END,
};

struct entry {
    char point[POINT_NAME_MAX + 1], of[POINT_NAME_MAX + 1];
    double number;
    int when;
};

static const struct cfg_field WRITE[] = {
    {"point", CFG_TEXT, FIELD(entry, point), .size = POINT_NAME_MAX + 1, .required = true},
    {"value", CFG_OTHER, .required = true},
    {"when", CFG_CHOICE, FIELD(entry, when), .choices = WHEN},
    {"of", CFG_TEXT, FIELD(entry, of), .size = POINT_NAME_MAX + 1, .min = 1},
    {"default", CFG_NUMBER, FIELD(entry, number)},
    CFG_END,
};

static const struct cfg_field BLOCK[] = {{.key = "block", .kind = CFG_OTHER}, CFG_END};

static const struct cfg_field RATIO[] = {
    {"point", CFG_TEXT, FIELD(entry, point), .size = POINT_NAME_MAX + 1, .required = true},
    {"of", CFG_TEXT, FIELD(entry, of), .size = POINT_NAME_MAX + 1, .required = true},
    CFG_END,
};

struct beat {
    char point[POINT_NAME_MAX + 1];
    int64_t every_ns;
    bool rewrite;
};

static const struct cfg_field KEEPALIVE[] = {
    {"point", CFG_TEXT, FIELD(beat, point), .size = POINT_NAME_MAX + 1, .min = 1},
    {.key = "values", .kind = CFG_OTHER},
    {"rewrite", CFG_BOOLEAN, FIELD(beat, rewrite)},
    {"every", CFG_DURATION, FIELD(beat, every_ns), .required = true, .min = 0.1, .max = 3600},
    CFG_END,
};

static const struct cfg_field TIMEOUT[] = {
    {"point", CFG_TEXT, FIELD(entry, point), .size = POINT_NAME_MAX + 1, .min = 1},
    {"value", CFG_NUMBER, FIELD(entry, number), .required = true, .min = 1e-3, .max = 1e9},
    CFG_END,
};

/* What is being read. */
struct reader {
    struct cfg *cfg;
    struct point *points;
    unsigned n_points;
    struct drive *drive;
};

/* ---- values ---- */

double drive_round(double number)
{
    char text[CODEC_NUMBER_MAX];
    if (!isfinite(number))
        return number;
    (void)snprintf(text, sizeof text, "%.12g", number);
    return strtod(text, NULL);
}

double drive_per_kw(const struct point *point)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"kW", 1}, {"W", 1e3}, {"MW", 1e-3}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(point->unit, units[i].unit) == 0)
            return units[i].factor;
    return 0;
}

double drive_per_s(const struct point *point)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"s", 1}, {"ms", 1e3}, {"min", 1.0 / 60}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(point->unit, units[i].unit) == 0)
            return units[i].factor;
    return 0;
}

enum drive_when drive_when_of(double kw)
{
    return kw > 0 ? DRIVE_DISCHARGE : kw < 0 ? DRIVE_CHARGE : DRIVE_STOP;
}

bool drive_applies(const struct drive_write *write, enum drive_when when)
{
    return write->when == DRIVE_ALWAYS || write->when == when;
}

/* A key in kW is written in its point's unit of power. */
static double key_factor(const char *key, const struct point *point)
{
    const size_t length = strlen(key);
    const bool kw = length > 3 && strcmp(key + length - 3, "_kw") == 0;
    return kw && drive_per_kw(point) != 0 ? drive_per_kw(point) : 1;
}

bool drive_number(const struct drive *drive, const struct drive_site *site,
                  const struct point *points, const struct value *values,
                  const struct drive_write *write, double kw, unsigned beat, double *number)
{
    const struct point *point = &points[write->point];
    double per_kw = drive_per_kw(point);
    switch (write->value) {
    case DRIVE_SETPOINT:
    case DRIVE_MAGNITUDE:
        if (write->of >= 0 && kw != 0) {
            const struct value *whole = values != NULL ? &values[write->of] : NULL;
            if (whole == NULL || whole->state != VALUE_READ || !(whole->number > 0))
                return false;
            per_kw = 100 * drive_per_kw(&points[write->of]) / whole->number;
        }
        *number = drive_round((write->value == DRIVE_MAGNITUDE ? fabs(kw) : kw) * per_kw);
        return true;
    case DRIVE_BEAT:
        *number = drive->beats[beat % drive->n_beats];
        return true;
    case DRIVE_TIMEOUT:
        *number = drive_round(site->timeout_s * drive_per_s(point));
        return true;
    case DRIVE_KEY:
        *number = drive_round(site->keys[write->key] * key_factor(drive->keys[write->key], point));
        return true;
    default:
        *number = write->number;
        return true;
    }
}

enum codec_fit drive_fits(const struct drive *drive, const struct point *points, double kw)
{
    const struct drive_list *lists[] = {&drive->engage, &drive->set};
    enum codec_fit fit = CODEC_FITS;
    for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++) {
        for (unsigned i = 0; i < lists[k]->n && fit == CODEC_FITS; i++) {
            const struct drive_write *write = &lists[k]->writes[i];
            uint16_t words[POINT_NUMBER_WORDS_MAX];
            double number;
            if ((write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE) &&
                drive_applies(write, drive_when_of(kw)) &&
                drive_number(drive, NULL, points, NULL, write, kw, 0, &number))
                fit = codec_encode(&points[write->point], number, words);
        }
    }
    return fit;
}

bool drive_writes(const struct drive *drive, unsigned point)
{
    const struct drive_list *lists[] = {&drive->engage, &drive->set, &drive->release};
    for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++)
        for (unsigned i = 0; i < lists[k]->n; i++)
            if (lists[k]->writes[i].point == point)
                return true;
    return drive->given && ((int)point == drive->beat || (int)point == drive->timeout);
}

bool drive_has_key(const struct drive *drive, const char *key)
{
    for (unsigned i = 0; i < drive->n_keys; i++)
        if (strcmp(drive->keys[i], key) == 0)
            return true;
    return false;
}

/* Whether all that tells a direction from the others reads so. */
static bool is_direction(const struct drive_list *set, const struct value *values,
                         enum drive_when when)
{
    for (unsigned i = 0; i < set->n; i++) {
        const struct drive_write *write = &set->writes[i];
        if (write->value == DRIVE_NUMBER && drive_applies(write, when) &&
            (values[write->point].state != VALUE_READ ||
             values[write->point].number != write->number))
            return false;
    }
    return true;
}

/* The kW that a direction's own write holds. */
static bool size_of(const struct drive *drive, const struct point *points,
                    const struct value *values, enum drive_when when, double *kw)
{
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        const bool size = write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE;
        if (!size || !drive_applies(write, when))
            continue;
        double per_kw = drive_per_kw(&points[write->point]);
        if (write->of >= 0)
            per_kw = 100 * drive_per_kw(&points[write->of]) / values[write->of].number;
        const double number = values[write->point].number / per_kw;
        const bool negative = write->value == DRIVE_MAGNITUDE && when == DRIVE_CHARGE;
        *kw = drive_round(negative ? -number : number);
        return isfinite(*kw);
    }
    *kw = 0;
    return when == DRIVE_STOP;
}

static struct value known(double number)
{
    struct value value = {.state = VALUE_READ, .number = number == 0 ? 0 : number};
    memcpy(&value.raw, &value.number, sizeof value.raw);
    return value;
}

/* Why what some points have to give is not known; VALUE_READ when it may be. */
static struct value excuse(const struct drive *drive, const struct value *values)
{
    struct value value = {.state = VALUE_READ};
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        const struct value *needed[] = {&values[write->point],
                                        write->of >= 0 ? &values[write->of] : NULL};
        for (unsigned k = 0; k < 2; k++)
            if (write->value <= DRIVE_MAGNITUDE && needed[k] != NULL &&
                needed[k]->state != VALUE_READ)
                value = (struct value){.state = needed[k]->state, .fault = needed[k]->fault};
    }
    return value;
}

struct value drive_held(const struct drive *drive, const struct point *points,
                        const struct value *values)
{
    static const enum drive_when order[] = {DRIVE_DISCHARGE, DRIVE_CHARGE, DRIVE_STOP};
    const struct value unknown = {.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE};
    struct value value = excuse(drive, values);
    double largest = 0;
    if (value.state != VALUE_READ)
        return value;
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        double size = 0;
        if (!size_of(drive, points, values, order[i], &size))
            return unknown;
        if (is_direction(&drive->set, values, order[i]))
            return known(order[i] == DRIVE_STOP ? 0 : size);
        largest = fmax(largest, fabs(size));
    }
    /* No direction that it is ever told; of nothing there is none. */
    return largest == 0 ? known(0) : unknown;
}

void drive_make(const struct drive *drive, const struct point *points, struct value *values)
{
    if (!drive->given)
        return;
    if (points[drive->setpoint].made)
        values[drive->setpoint] = drive_held(drive, points, values);
    if (drive->soe < 0 || !points[drive->soe].made)
        return;
    const struct value *energy = &values[drive->energy], *full = &values[drive->full];
    if (energy->state != VALUE_READ || full->state != VALUE_READ)
        values[drive->soe] = energy->state != VALUE_READ ? *energy : *full;
    else if (!(full->number > 0))
        values[drive->soe] = (struct value){.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE};
    else
        values[drive->soe] = known(drive_round(round(1e4 * energy->number / full->number) / 100));
}

bool drive_needs(const struct drive *drive, unsigned made, unsigned point)
{
    if (!drive->given)
        return false;
    if ((int)made == drive->soe)
        return (int)point == drive->energy || (int)point == drive->full;
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        if ((int)made == drive->setpoint && write->value <= DRIVE_MAGNITUDE &&
            (write->point == point || write->of == (int)point))
            return true;
    }
    return false;
}

const char *drive_value_word(enum drive_value value)
{
    return VALUES[value];
}

const char *drive_when_word(enum drive_when when)
{
    return WHEN[when];
}

/* ---- points ---- */

static int look_up(const struct reader *reader, const char *name)
{
    for (unsigned i = 0; i < reader->n_points; i++)
        if (strcmp(reader->points[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* A row by its name. -1 and a problem when there is none. */
static int find(const struct reader *reader, const struct cfg_setting *where, const char *name)
{
    const int index = look_up(reader, name);
    if (index < 0)
        cfg_problem(reader->cfg, where, "control names '%s', and there is no such row", name);
    return index;
}

static int find_written(const struct reader *reader, const struct cfg_setting *where,
                        const char *name)
{
    const int index = find(reader, where, name);
    if (index >= 0 && !reader->points[index].writable)
        cfg_problem(reader->cfg, where, "control writes '%s': its row needs access = \"rw\"", name);
    return index;
}

/* Another row, without registers of its own. */
static int make_point(struct reader *reader, const struct cfg_setting *where, const char *name,
                      const char *unit)
{
    if (look_up(reader, name) >= 0) {
        cfg_problem(reader->cfg, where, "'%s' is made of other points, and there is such a row",
                    name);
        return -1;
    }
    struct point *point = &reader->points[reader->n_points];
    *point = (struct point){.table = POINT_HOLDING,
                            .type = POINT_FLOAT64,
                            .made = true,
                            .every = 1,
                            .scale = 1,
                            .min = NAN,
                            .max = NAN,
                            .low = NAN,
                            .high = NAN};
    snprintf(point->name, sizeof point->name, "%s", name);
    snprintf(point->unit, sizeof point->unit, "%s", unit);
    return (int)reader->n_points++;
}

/* A number that stands there for a point: it must fit. */
static void check_fits(const struct reader *reader, const struct cfg_setting *where, int index,
                       double number)
{
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    if (index < 0 || isnan(number))
        return;
    if (reader->points[index].writable &&
        codec_encode(&reader->points[index], number, words) != CODEC_FITS)
        cfg_problem(reader->cfg, where, "%g does not fit the register of %s", number,
                    reader->points[index].name);
}

/* ---- lists of writes ---- */

static int find_key(struct reader *reader, const struct cfg_setting *where, const char *name)
{
    struct drive *drive = reader->drive;
    for (unsigned i = 0; i < drive->n_keys; i++)
        if (strcmp(drive->keys[i], name) == 0)
            return (int)i;
    if (strlen(name) > POINT_NAME_MAX || name[0] == '\0' ||
        name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0') {
        cfg_problem(reader->cfg, where,
                    "'%s': a write's value is a number, \"setpoint\", \"magnitude\", "
                    "\"keepalive\", \"device_timeout\", or the name of a key (a-z, 0-9, _)",
                    name);
        return -1;
    }
    if (drive->n_keys == DRIVE_KEYS_MAX) {
        cfg_problem(reader->cfg, where, "control has more than %d keys", DRIVE_KEYS_MAX);
        return -1;
    }
    snprintf(drive->keys[drive->n_keys], sizeof drive->keys[0], "%s", name);
    return (int)drive->n_keys++;
}

/* value = 2, "setpoint", "ramp_up". */
static void read_value(struct reader *reader, const struct cfg_setting *setting,
                       const struct entry *entry, struct drive_write *write)
{
    const char *text = cfg_text(setting);
    double number;
    if (text == NULL && cfg_number(setting, &number)) {
        write->value = DRIVE_NUMBER;
        write->number = number;
        check_fits(reader, setting, (int)write->point, number);
        return;
    }
    if (text == NULL) {
        cfg_problem(reader->cfg, setting, "value must be a number or a text");
        return;
    }
    for (int i = DRIVE_SETPOINT; i <= DRIVE_TIMEOUT; i++) {
        if (strcmp(text, VALUES[i]) == 0) {
            write->value = (enum drive_value)i;
            return;
        }
    }
    const int key = find_key(reader, setting, text);
    write->value = DRIVE_KEY;
    write->key = key >= 0 ? (unsigned)key : 0;
    write->number = entry->number;
    check_fits(reader, setting, (int)write->point, entry->number);
}

/* What a setpoint is written to is a power, or a percentage of one. */
static void check_power(const struct reader *reader, const struct cfg_setting *where,
                        const struct drive_write *write)
{
    const struct point *point = &reader->points[write->point];
    const bool percent = strcmp(point->unit, "%") == 0;
    if (write->value != DRIVE_SETPOINT && write->value != DRIVE_MAGNITUDE) {
        if (write->of >= 0)
            cfg_problem(reader->cfg, where, "'of' is for \"setpoint\" and \"magnitude\"");
    } else if (percent && write->of < 0) {
        cfg_problem(reader->cfg, where, "%s is in %%: 'of' must name the point it is a part of",
                    point->name);
    } else if (!percent && write->of >= 0) {
        cfg_problem(reader->cfg, where, "%s is in '%s', and 'of' is for points in %%", point->name,
                    point->unit);
    } else if (!percent && drive_per_kw(point) == 0) {
        cfg_problem(reader->cfg, where, "%s is in '%s': a setpoint goes to W, kW, MW or %%",
                    point->name, point->unit);
    } else if (write->of >= 0 && drive_per_kw(&reader->points[write->of]) == 0) {
        cfg_problem(reader->cfg, where, "%s is in '%s', and not in W, kW or MW",
                    reader->points[write->of].name, reader->points[write->of].unit);
    }
}

static void read_write(struct reader *reader, const struct cfg_setting *group,
                       struct drive_list *list, bool joined)
{
    struct entry entry = {.number = NAN};
    if (!cfg_read(reader->cfg, group, WRITE, &entry))
        return;
    const int point = find_written(reader, group, entry.point);
    if (point < 0)
        return;
    if (list->n == DRIVE_WRITES_MAX) {
        cfg_problem(reader->cfg, group, "more than %d writes", DRIVE_WRITES_MAX);
        return;
    }
    struct drive_write *write = &list->writes[list->n++];
    *write = (struct drive_write){.point = (unsigned)point,
                                  .when = (enum drive_when)entry.when,
                                  .number = NAN,
                                  .of = -1,
                                  .joined = joined};
    if (entry.of[0] != '\0')
        write->of = find(reader, cfg_member(group, "of"), entry.of);
    read_value(reader, cfg_member(group, "value"), &entry, write);
    if (cfg_member(group, "default") != NULL && write->value != DRIVE_KEY)
        cfg_problem(reader->cfg, cfg_member(group, "default"), "a default is for a key's value");
    check_power(reader, group, write);
}

/* The rows of a block lie one behind the other, whichever of them apply. */
static void check_block(const struct reader *reader, const struct cfg_setting *where,
                        const struct drive_list *list, unsigned first)
{
    for (int when = DRIVE_CHARGE; when <= DRIVE_STOP; when++) {
        const struct point *last = NULL;
        for (unsigned i = first; i < list->n; i++) {
            const struct point *point = &reader->points[list->writes[i].point];
            if (!drive_applies(&list->writes[i], (enum drive_when)when))
                continue;
            if (point->table != POINT_HOLDING) {
                cfg_problem(reader->cfg, where, "%s is no register: a block is of registers",
                            point->name);
                return;
            }
            if (last != NULL && point->address != last->address + point_width(last)) {
                cfg_problem(reader->cfg, where,
                            "%s does not follow on %s: the rows of a block lie one behind the "
                            "other",
                            point->name, last->name);
                return;
            }
            last = point;
        }
    }
}

static void read_block(struct reader *reader, const struct cfg_setting *group,
                       struct drive_list *list)
{
    const struct cfg_setting *rows = cfg_member(group, "block");
    const unsigned first = list->n;
    struct entry nothing;
    cfg_read(reader->cfg, group, BLOCK, &nothing);
    if (!cfg_is_list(rows) || cfg_length(rows) == 0) {
        cfg_problem(reader->cfg, rows, "block must be a list: ( { point = \"...\"; value = 0; } )");
        return;
    }
    for (const struct cfg_setting *at = cfg_first(rows); at; at = cfg_next(at))
        read_write(reader, at, list, list->n > first);
    check_block(reader, rows, list, first);
}

static void read_list(struct reader *reader, const struct cfg_setting *group, const char *key,
                      struct drive_list *list)
{
    const struct cfg_setting *rows = cfg_member(group, key);
    if (rows == NULL)
        return;
    if (!cfg_is_list(rows)) {
        cfg_problem(reader->cfg, rows, "%s must be a list: ( { point = \"...\"; value = 0; } )",
                    key);
        return;
    }
    for (const struct cfg_setting *at = cfg_first(rows); at; at = cfg_next(at)) {
        if (cfg_member(at, "block") != NULL)
            read_block(reader, at, list);
        else
            read_write(reader, at, list, false);
    }
}

/* ---- roles ---- */

/* The row `target_power` speaks in kW, whatever the registers hold. */
static void take_kw(struct point *point)
{
    const double per_kw = drive_per_kw(point);
    point->scale /= per_kw;
    point->offset /= per_kw;
    point->min /= per_kw;
    point->max /= per_kw;
    point->low /= per_kw;
    point->high /= per_kw;
    strcpy(point->unit, "kW");
}

/* Before the lists are read: a row called target_power is in kW from here on. Without
 * `set`, the setpoint's row is what is written. */
static void read_setpoint(struct reader *reader, const struct cfg_setting *group, const char *name)
{
    const struct cfg_setting *key = cfg_member(group, "setpoint");
    struct drive *drive = reader->drive;
    const bool lists = cfg_member(group, "set") != NULL;
    const int row = look_up(reader, name);
    if (row < 0 && (!lists || strcmp(name, SETPOINT) != 0)) {
        cfg_problem(reader->cfg, key ? key : group,
                    "control needs the setpoint's row '%s', or a list 'set' that says how else it "
                    "is written",
                    name);
        return;
    }
    if (row >= 0 && drive_per_kw(&reader->points[row]) == 0)
        cfg_problem(reader->cfg, key ? key : group, "%s is in '%s': a setpoint is in W, kW or MW",
                    name, reader->points[row].unit);
    else if (row >= 0 && strcmp(name, SETPOINT) == 0)
        take_kw(&reader->points[row]);
    if (row >= 0 && !lists) {
        drive->set.n = 1;
        drive->set.writes[0] = (struct drive_write){
            .point = (unsigned)row, .value = DRIVE_SETPOINT, .number = NAN, .of = -1};
        if (!reader->points[row].writable)
            cfg_problem(reader->cfg, key ? key : group,
                        "control writes '%s': its row needs access = \"rw\"", name);
    }
    if (row >= 0 && strcmp(name, SETPOINT) == 0)
        drive->setpoint = row;
    else
        drive->setpoint = make_point(reader, key ? key : group, SETPOINT, "kW");
    if (drive->setpoint >= 0)
        reader->points[drive->setpoint].writable = true;
}

/* soe = "soe", or { point = "energy"; of = "capacity"; }. */
static void read_soe(struct reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *key = cfg_member(group, "soe");
    struct drive *drive = reader->drive;
    struct entry ratio = {.number = NAN};
    if (key == NULL || cfg_text(key) != NULL) {
        drive->soe = key ? find(reader, key, cfg_text(key)) : look_up(reader, SOE);
        return;
    }
    if (!cfg_is_group(key)) {
        cfg_problem(reader->cfg, key,
                    "soe is a point, or { point = \"...\"; of = \"...\"; } in percent of another");
        return;
    }
    if (!cfg_read(reader->cfg, key, RATIO, &ratio))
        return;
    drive->energy = find(reader, key, ratio.point);
    drive->full = find(reader, key, ratio.of);
    if (drive->energy >= 0 && drive->full >= 0)
        drive->soe = make_point(reader, key, SOE, "%");
}

static void read_keepalive(struct reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *key = cfg_member(group, "keepalive");
    struct drive *drive = reader->drive;
    struct beat beat = {.every_ns = 0};
    if (key == NULL || !cfg_read(reader->cfg, key, KEEPALIVE, &beat))
        return;
    const struct cfg_setting *values = cfg_member(key, "values");
    const unsigned n = cfg_is_row(values) ? cfg_length(values) : 0;
    drive->every_ns = beat.every_ns;
    drive->rewrite = beat.rewrite;
    if (beat.rewrite && (beat.point[0] != '\0' || values != NULL))
        cfg_problem(reader->cfg, key, "a keepalive is either rewrite, or a point and its values");
    if (beat.rewrite)
        return;
    if (beat.point[0] == '\0' || n < 1 || n > DRIVE_BEATS_MAX) {
        cfg_problem(reader->cfg, key,
                    "a keepalive needs rewrite = true, or a point and [ 1 to %d values ]",
                    DRIVE_BEATS_MAX);
        return;
    }
    drive->beat = find_written(reader, key, beat.point);
    for (unsigned i = 0; i < n; i++) {
        const struct cfg_setting *element = cfg_element(values, i);
        if (!cfg_number(element, &drive->beats[drive->n_beats]))
            cfg_problem(reader->cfg, element, "values must be numbers: [ 0xAA55, 0x55AA ]");
        else
            check_fits(reader, element, drive->beat, drive->beats[drive->n_beats++]);
    }
}

static void read_timeout(struct reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *key = cfg_member(group, "device_timeout");
    struct drive *drive = reader->drive;
    struct entry timeout = {.number = NAN};
    if (key == NULL || !cfg_read(reader->cfg, key, TIMEOUT, &timeout))
        return;
    drive->timeout_s = timeout.number;
    if (timeout.point[0] == '\0')
        return;
    drive->timeout = find_written(reader, key, timeout.point);
    check_fits(reader, key, drive->timeout, timeout.number);
    if (drive->timeout < 0)
        return;
    const struct point *point = &reader->points[drive->timeout];
    if (drive_per_s(point) == 0)
        cfg_problem(reader->cfg, key, "%s is in '%s': a device_timeout is in s, ms or min",
                    point->name, point->unit);
    else
        drive->timeout_s = drive_round(timeout.number / drive_per_s(point));
}

/* Whether the lists write this point something that stays. */
static bool is_written(const struct drive *drive, unsigned point)
{
    const struct drive_list *lists[] = {&drive->engage, &drive->set};
    for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++)
        for (unsigned i = 0; i < lists[k]->n; i++)
            if (lists[k]->writes[i].point == point && lists[k]->writes[i].value != DRIVE_BEAT)
                return true;
    return (int)point == drive->timeout;
}

static void read_proof(struct reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *list = cfg_member(group, "proof");
    struct drive *drive = reader->drive;
    if (list == NULL) { /* what engage wrote for good */
        for (unsigned i = 0; i < drive->engage.n && drive->n_proofs < DRIVE_PROOFS_MAX; i++)
            if (drive->engage.writes[i].value == DRIVE_NUMBER)
                drive->proofs[drive->n_proofs++] = drive->engage.writes[i].point;
        return;
    }
    if (!cfg_is_row(list) || cfg_length(list) > DRIVE_PROOFS_MAX) {
        cfg_problem(reader->cfg, list, "proof must name at most %d points: [ \"...\", \"...\" ]",
                    DRIVE_PROOFS_MAX);
        return;
    }
    for (const struct cfg_setting *at = cfg_first(list); at; at = cfg_next(at)) {
        const char *name = cfg_text(at);
        const int point = name != NULL ? find(reader, at, name) : -1;
        if (name == NULL)
            cfg_problem(reader->cfg, at, "proof must name points: [ \"...\", \"...\" ]");
        if (point < 0)
            continue;
        if (!is_written(drive, (unsigned)point) && drive_per_kw(&reader->points[point]) == 0)
            cfg_problem(reader->cfg, at,
                        "%s is neither written by engage or set nor a power: nothing says what "
                        "it has to read",
                        name);
        drive->proofs[drive->n_proofs++] = (unsigned)point;
    }
}

/* ---- the whole ---- */

/* Each kind of setpoint must be told, and nothing but it where nobody asks for one. */
static void check_lists(const struct reader *reader, const struct cfg_setting *group)
{
    const struct drive *drive = reader->drive;
    const struct cfg_setting *set = cfg_member(group, "set");
    for (int when = DRIVE_CHARGE; when <= DRIVE_STOP; when++) {
        bool told = false;
        for (unsigned i = 0; i < drive->set.n; i++) {
            const struct drive_write *write = &drive->set.writes[i];
            const bool sized = write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE;
            told = told || (drive_applies(write, (enum drive_when)when) &&
                            (sized || (when == DRIVE_STOP && write->when == DRIVE_STOP)));
        }
        if (!told)
            cfg_problem(reader->cfg, set ? set : group,
                        "set does not say how a %s is written: it needs \"setpoint\" or "
                        "\"magnitude\"",
                        WHEN[when]);
    }
    for (unsigned i = 0; i < drive->release.n; i++) {
        const struct drive_write *write = &drive->release.writes[i];
        if (write->value != DRIVE_NUMBER && write->value != DRIVE_KEY)
            cfg_problem(reader->cfg, cfg_member(group, "release"),
                        "release writes %s: it takes numbers and keys alone", VALUES[write->value]);
        if (write->when != DRIVE_ALWAYS)
            cfg_problem(reader->cfg, cfg_member(group, "release"),
                        "release has no setpoint, so 'when' has no meaning in it");
    }
    const struct drive_list *lists[] = {&drive->engage, &drive->set};
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < lists[k]->n; i++) {
            const struct drive_write *write = &lists[k]->writes[i];
            if (write->value == DRIVE_BEAT && write->point != (unsigned)drive->beat)
                cfg_problem(reader->cfg, cfg_member(group, k == 0 ? "engage" : "set"),
                            "\"keepalive\" is for the keepalive's own point");
            if (write->value == DRIVE_TIMEOUT && (int)write->point != drive->timeout)
                cfg_problem(reader->cfg, cfg_member(group, k == 0 ? "engage" : "set"),
                            "\"device_timeout\" is for the point of device_timeout");
        }
    }
}

void drive_read(struct cfg *cfg, const struct cfg_setting *group, struct point *points,
                unsigned *n_points, struct drive *drive)
{
    struct reader reader = {cfg, points, *n_points, drive};
    struct sheet sheet = {.setpoint = "target_power", .idle = IDLE_HOLD};
    *drive = (struct drive){.given = true,
                            .setpoint = -1,
                            .status = -1,
                            .soe = -1,
                            .blocks = -1,
                            .energy = -1,
                            .full = -1,
                            .beat = -1,
                            .timeout = -1};
    cfg_read(cfg, group, GROUP, &sheet);
    if (!cfg_is_group(group))
        return;
    drive->idle_release = sheet.idle == IDLE_RELEASE;
    read_setpoint(&reader, group, sheet.setpoint);
    read_soe(&reader, group);
    if (sheet.status[0] != '\0')
        drive->status = find(&reader, cfg_member(group, "status"), sheet.status);
    drive->blocks = sheet.blocks[0] != '\0'
                        ? find(&reader, cfg_member(group, "blocks"), sheet.blocks)
                        : look_up(&reader, "available_blocks");
    read_keepalive(&reader, group);
    read_timeout(&reader, group);
    read_list(&reader, group, "engage", &drive->engage);
    read_list(&reader, group, "set", &drive->set);
    read_list(&reader, group, "release", &drive->release);
    read_proof(&reader, group);
    check_lists(&reader, group);
    *n_points = reader.n_points;
}
