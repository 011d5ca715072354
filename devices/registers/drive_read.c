#include <math.h>
#include <string.h>

#include "devices/registers/drive_list.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const char SETPOINT[] = "target_power", SOE[] = "soe";

static const char *const IDLE[] = {"hold", "release", NULL};
enum { IDLE_HOLD, IDLE_RELEASE };

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

static const struct cfg_field RATIO[] = {
    {"point", CFG_TEXT, FIELD(drive_entry, point), .size = POINT_NAME_MAX + 1, .required = true},
    {"of", CFG_TEXT, FIELD(drive_entry, of), .size = POINT_NAME_MAX + 1, .required = true},
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
    {"point", CFG_TEXT, FIELD(drive_entry, point), .size = POINT_NAME_MAX + 1, .min = 1},
    {"value", CFG_NUMBER, FIELD(drive_entry, number), .required = true, .min = 1e-3, .max = 1e9},
    CFG_END,
};

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
static void read_setpoint(struct drive_reader *reader, const struct cfg_setting *group,
                          const char *name)
{
    const struct cfg_setting *key = cfg_member(group, "setpoint");
    struct drive *drive = reader->drive;
    const bool lists = cfg_member(group, "set") != NULL;
    const int row = drive_look_up(reader, name);
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
        drive->setpoint = drive_make_point(reader, key ? key : group, SETPOINT, "kW");
    if (drive->setpoint >= 0)
        reader->points[drive->setpoint].writable = true;
}

/* soe = "soe", or { point = "energy"; of = "capacity"; }. */
static void read_soe(struct drive_reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *key = cfg_member(group, "soe");
    struct drive *drive = reader->drive;
    struct drive_entry ratio = {.number = NAN};
    if (key == NULL || cfg_text(key) != NULL) {
        drive->soe = key ? drive_find(reader, key, cfg_text(key)) : drive_look_up(reader, SOE);
        return;
    }
    if (!cfg_is_group(key)) {
        cfg_problem(reader->cfg, key,
                    "soe is a point, or { point = \"...\"; of = \"...\"; } in percent of another");
        return;
    }
    if (!cfg_read(reader->cfg, key, RATIO, &ratio))
        return;
    drive->energy = drive_find(reader, key, ratio.point);
    drive->full = drive_find(reader, key, ratio.of);
    if (drive->energy >= 0 && drive->full >= 0)
        drive->soe = drive_make_point(reader, key, SOE, "%");
}

static void read_keepalive(struct drive_reader *reader, const struct cfg_setting *group)
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
    drive->beat = drive_find_written(reader, key, beat.point);
    for (unsigned i = 0; i < n; i++) {
        const struct cfg_setting *element = cfg_element(values, i);
        if (!cfg_number(element, &drive->beats[drive->n_beats]))
            cfg_problem(reader->cfg, element, "values must be numbers: [ 0xAA55, 0x55AA ]");
        else
            drive_check_fits(reader, element, drive->beat, drive->beats[drive->n_beats++]);
    }
}

static void read_timeout(struct drive_reader *reader, const struct cfg_setting *group)
{
    const struct cfg_setting *key = cfg_member(group, "device_timeout");
    struct drive *drive = reader->drive;
    struct drive_entry timeout = {.number = NAN};
    if (key == NULL || !cfg_read(reader->cfg, key, TIMEOUT, &timeout))
        return;
    drive->timeout_s = timeout.number;
    if (timeout.point[0] == '\0')
        return;
    drive->timeout = drive_find_written(reader, key, timeout.point);
    drive_check_fits(reader, key, drive->timeout, timeout.number);
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

static void read_proof(struct drive_reader *reader, const struct cfg_setting *group)
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
        const int point = name != NULL ? drive_find(reader, at, name) : -1;
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
static void check_lists(const struct drive_reader *reader, const struct cfg_setting *group)
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
                        drive_when_word((enum drive_when)when));
    }
    for (unsigned i = 0; i < drive->release.n; i++) {
        const struct drive_write *write = &drive->release.writes[i];
        if (write->value != DRIVE_NUMBER && write->value != DRIVE_KEY)
            cfg_problem(reader->cfg, cfg_member(group, "release"),
                        "release writes %s: it takes numbers and keys alone",
                        drive_value_word(write->value));
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
    struct drive_reader reader = {cfg, points, *n_points, drive};
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
        drive->status = drive_find(&reader, cfg_member(group, "status"), sheet.status);
    drive->blocks = sheet.blocks[0] != '\0'
                        ? drive_find(&reader, cfg_member(group, "blocks"), sheet.blocks)
                        : drive_look_up(&reader, "available_blocks");
    read_keepalive(&reader, group);
    read_timeout(&reader, group);
    drive_read_list(&reader, group, "engage", &drive->engage);
    drive_read_list(&reader, group, "set", &drive->set);
    drive_read_list(&reader, group, "release", &drive->release);
    read_proof(&reader, group);
    check_lists(&reader, group);
    *n_points = reader.n_points;
}
