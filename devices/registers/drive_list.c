#include "devices/registers/drive_list.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const char *const WHEN[] = {"always", "charge", "discharge", "stop", NULL};
static const char *const VALUES[] = {
    [DRIVE_NUMBER] = "a number",        [DRIVE_SETPOINT] = "setpoint",
    [DRIVE_MAGNITUDE] = "magnitude",    [DRIVE_BEAT] = "keepalive",
    [DRIVE_TIMEOUT] = "device_timeout", [DRIVE_KEY] = "a key",
};

static const struct cfg_field WRITE[] = {
    {"point", CFG_TEXT, FIELD(drive_entry, point), .size = POINT_NAME_MAX + 1, .required = true},
    {"value", CFG_OTHER, .required = true},
    {"when", CFG_CHOICE, FIELD(drive_entry, when), .choices = WHEN},
    {"of", CFG_TEXT, FIELD(drive_entry, of), .size = POINT_NAME_MAX + 1, .min = 1},
    {"default", CFG_NUMBER, FIELD(drive_entry, number)},
    CFG_END,
};

static const struct cfg_field BLOCK[] = {{.key = "block", .kind = CFG_OTHER}, CFG_END};

const char *drive_value_word(enum drive_value value)
{
    return VALUES[value];
}

const char *drive_when_word(enum drive_when when)
{
    return WHEN[when];
}

/* ---- points ---- */

int drive_look_up(const struct drive_reader *reader, const char *name)
{
    for (unsigned i = 0; i < reader->n_points; i++)
        if (strcmp(reader->points[i].name, name) == 0)
            return (int)i;
    return -1;
}

int drive_find(const struct drive_reader *reader, const struct cfg_setting *where, const char *name)
{
    const int index = drive_look_up(reader, name);
    if (index < 0)
        cfg_problem(reader->cfg, where, "control names '%s', and there is no such row", name);
    return index;
}

int drive_find_written(const struct drive_reader *reader, const struct cfg_setting *where,
                       const char *name)
{
    const int index = drive_find(reader, where, name);
    if (index >= 0 && reader->points[index].made) {
        cfg_problem(reader->cfg, where, "control writes '%s', and there is no such row", name);
        return -1;
    }
    if (index >= 0 && !reader->points[index].writable)
        cfg_problem(reader->cfg, where, "control writes '%s': its row needs access = \"rw\"", name);
    return index;
}

int drive_make_point(struct drive_reader *reader, const struct cfg_setting *where, const char *name,
                     const char *unit)
{
    if (drive_look_up(reader, name) >= 0) {
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

void drive_check_fits(const struct drive_reader *reader, const struct cfg_setting *where, int index,
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

static int find_key(struct drive_reader *reader, const struct cfg_setting *where, const char *name)
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
static void read_value(struct drive_reader *reader, const struct cfg_setting *setting,
                       const struct drive_entry *entry, struct drive_write *write)
{
    const char *text = cfg_text(setting);
    double number;
    if (text == NULL && cfg_number(setting, &number)) {
        write->value = DRIVE_NUMBER;
        write->number = number;
        drive_check_fits(reader, setting, (int)write->point, number);
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
    drive_check_fits(reader, setting, (int)write->point, entry->number);
}

/* What a setpoint is written to is a power, or a percentage of one. */
static void check_power(const struct drive_reader *reader, const struct cfg_setting *where,
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

static void read_write(struct drive_reader *reader, const struct cfg_setting *group,
                       struct drive_list *list, bool joined)
{
    struct drive_entry entry = {.number = NAN};
    if (!cfg_read(reader->cfg, group, WRITE, &entry))
        return;
    const int point = drive_find_written(reader, group, entry.point);
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
        write->of = drive_find(reader, cfg_member(group, "of"), entry.of);
    read_value(reader, cfg_member(group, "value"), &entry, write);
    if (cfg_member(group, "default") != NULL && write->value != DRIVE_KEY)
        cfg_problem(reader->cfg, cfg_member(group, "default"), "a default is for a key's value");
    check_power(reader, group, write);
}

/* The rows of a block lie one behind the other, whichever of them apply. */
static void check_block(const struct drive_reader *reader, const struct cfg_setting *where,
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

static void read_block(struct drive_reader *reader, const struct cfg_setting *group,
                       struct drive_list *list)
{
    const struct cfg_setting *rows = cfg_member(group, "block");
    const unsigned first = list->n;
    struct drive_entry nothing;
    cfg_read(reader->cfg, group, BLOCK, &nothing);
    if (!cfg_is_list(rows) || cfg_length(rows) == 0) {
        cfg_problem(reader->cfg, rows, "block must be a list: ( { point = \"...\"; value = 0; } )");
        return;
    }
    for (const struct cfg_setting *at = cfg_first(rows); at; at = cfg_next(at))
        read_write(reader, at, list, list->n > first);
    check_block(reader, rows, list, first);
}

void drive_read_list(struct drive_reader *reader, const struct cfg_setting *group, const char *key,
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
