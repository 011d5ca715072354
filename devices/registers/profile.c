#include "devices/registers/profile.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/registers/row.h"
#include "devices/registers/sunspec.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

/* The whole file's defaults for its rows, and the struct profile's numbers. */
struct profile_keys {
    char manufacturer[64];
    char model[64];
    struct row_defaults rows;
    int64_t max_registers, max_gap;
};

static const struct cfg_field HEAD[] = {
    {"manufacturer", CFG_TEXT, FIELD(profile_keys, manufacturer), .size = 64},
    {"model", CFG_TEXT, FIELD(profile_keys, model), .size = 64},
    {"word_order", CFG_CHOICE, FIELD(profile_keys, rows.order), .choices = point_order_words},
    {"function", CFG_INTEGER, FIELD(profile_keys, rows.function), .min = 1, .max = 4},
    {"max_registers", CFG_INTEGER, FIELD(profile_keys, max_registers), .min = 1, .max = 125},
    {"max_gap", CFG_INTEGER, FIELD(profile_keys, max_gap), .min = 0, .max = 125},
    {"sunspec_model", CFG_INTEGER, FIELD(profile_keys, rows.sunspec_model), .min = 1, .max = 65534},
    {.key = "unreadable", .kind = CFG_OTHER},
    {"points", CFG_OTHER, .required = true},
    {.key = "control", .kind = CFG_OTHER},
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

/* The last row within its profile. */
static void check_row(struct cfg *cfg, const struct cfg_setting *group,
                      const struct profile *profile)
{
    const struct point *point = &profile->points[profile->n_points - 1];
    unsigned end = point->address + point_width(point);
    if (point_has_registers(point) && point_width(point) > profile->max_registers)
        cfg_problem(cfg, group, "%s is longer than max_registers", point->name);
    for (unsigned i = 0; i < profile->n_unreadable; i++) {
        const struct profile_range *range = &profile->unreadable[i];
        if (range->table == point->table && range->model == point->model &&
            point->address <= range->last && end > range->first)
            cfg_problem(cfg, group, "%s lies in the unreadable range %u..%u", point->name,
                        range->first, range->last);
    }
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

/* A row with a mistake is judged as far as it was understood: one run shows them all. */
static void read_point(struct cfg *cfg, const struct cfg_setting *group,
                       const struct profile_keys *head, struct profile *profile)
{
    if (!row_read(cfg, group, &head->rows, &profile->points[profile->n_points]))
        return;
    profile->n_points++;
    check_row(cfg, group, profile);
    check_name(cfg, group, profile);
}

static struct point *find_point(const struct profile *profile, const char *name)
{
    for (unsigned i = 0; name && i < profile->n_points; i++)
        if (strcmp(profile->points[i].name, name) == 0)
            return &profile->points[i];
    return NULL;
}

static unsigned common_divisor(unsigned a, unsigned b)
{
    return b == 0 ? a : common_divisor(b, a % b);
}

/* The row that scales another one, once all are known. It is read whenever that is. */
static void bind_scale(struct cfg *cfg, const struct cfg_setting *group, struct profile *profile)
{
    const struct cfg_setting *key = cfg_member(group, "scale_register");
    struct point *point = find_point(profile, cfg_text(cfg_member(group, "name")));
    if (!key || !point || !cfg_text(key))
        return;
    struct point *scale = find_point(profile, cfg_text(key));
    if (!scale)
        cfg_problem(cfg, key, "%s: scale_register names '%s', and there is no such row",
                    point->name, cfg_text(key));
    else if (scale == point || scale->scale_row || !point_is_binary(scale) || scale->bits ||
             scale->enumerated || scale->type == POINT_BOOL || scale->scale != 1)
        cfg_problem(cfg, key, "%s: '%s' must be an integer without a scale of its own", point->name,
                    scale->name);
    else if (point->type == POINT_BOOL || point->enumerated || point->type == POINT_STRING)
        cfg_problem(cfg, key, "%s: only a number has a scale_register", point->name);
    else if (point->writable)
        cfg_problem(cfg, key, "%s: what a scale_register moves cannot be written", point->name);
    if (!scale)
        return;
    point->scale_row = (uint16_t)(scale - profile->points + 1);
    scale->every = (uint8_t)common_divisor(scale->every, point->every);
}

static void read_points(struct cfg *cfg, const struct cfg_setting *list,
                        const struct profile_keys *head, struct profile *profile)
{
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    if (n < 1 || n > PROFILE_ROWS_MAX) {
        cfg_problem(cfg, list, "points must be a list of 1 to %d groups", PROFILE_ROWS_MAX);
        return;
    }
    profile->points = calloc(n + DRIVE_MADE_MAX, sizeof *profile->points);
    if (!profile->points) {
        cfg_no_memory(cfg, list);
        return;
    }
    for (const struct cfg_setting *group = cfg_first(list); group; group = cfg_next(group))
        read_point(cfg, group, head, profile);
    for (const struct cfg_setting *group = cfg_first(list); group; group = cfg_next(group))
        bind_scale(cfg, group, profile);
    struct sunspec models = {.n_wanted = 0};
    for (unsigned i = 0; i < profile->n_points; i++) {
        if (profile->points[i].model == 0 || sunspec_want(&models, profile->points[i].model))
            continue;
        cfg_problem(cfg, list, "the rows are of more than %d SunSpec models", SUNSPEC_WANTED_MAX);
        break;
    }
}

static void read_ranges(struct cfg *cfg, const struct cfg_setting *list,
                        const struct profile_keys *head, struct profile *profile)
{
    unsigned n = cfg_is_list(list) ? cfg_length(list) : 0;
    if (!cfg_is_list(list) || n > PROFILE_RANGES_MAX) {
        cfg_problem(cfg, list, "unreadable must be a list of at most %d groups",
                    PROFILE_RANGES_MAX);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        const struct cfg_setting *group = cfg_element(list, i);
        struct range range = {.function = head->rows.function};
        if (!cfg_read(cfg, group, RANGE, &range))
            continue;
        if (range.first > range.last)
            cfg_problem(cfg, group, "first is above last");
        profile->unreadable[profile->n_unreadable++] = (struct profile_range){
            .table = (enum point_table)range.function,
            .first = (uint16_t)range.first,
            .last = (uint16_t)range.last,
            .model = (uint16_t)head->rows.sunspec_model,
        };
    }
}

static void read_root(struct cfg *cfg, const struct cfg_setting *root, struct profile *profile)
{
    struct profile_keys head = {
        .rows.function = POINT_HOLDING,
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
    const struct cfg_setting *control = cfg_member(root, "control");
    if (control && profile->points)
        drive_read(cfg, control, profile->points, &profile->n_points, &profile->drive);
}

struct profile *profile_read_file(struct cfg *cfg, const char *path, const char *type)
{
    const char *outer = cfg->file;
    unsigned before = cfg->problems;
    const struct cfg_setting *root = NULL;
    cfg->file = path;

    struct profile *profile = calloc(1, sizeof *profile);
    if (!profile) {
        cfg_no_memory(cfg, NULL);
        goto done;
    }
    snprintf(profile->type, sizeof profile->type, "%s", type);
    root = cfg_open(cfg, path);
    profile->hash = cfg_hash(root);
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
    if (!profile)
        return;
    for (unsigned i = 0; i < profile->n_points; i++)
        free((void *)profile->points[i].labels);
    free(profile->points);
    free(profile);
}

/* Beside the program as it was installed, PREFIX/bin and PREFIX/share, wherever that
 * was; else where the build was told. `self` is the path of the program. */
static const char *installed_directory(char *self)
{
    static const char share[] = "/share/fluxbridge/profiles";
    static char directory[4096];
    char *slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
        slash = strrchr(self, '/');
    }
    if (slash == NULL || strcmp(slash, "/bin") != 0)
        return FLUXBRIDGE_PROFILES;
    *slash = '\0';
    int length = snprintf(directory, sizeof directory, "%s%s", self, share);
    return length < (int)sizeof directory ? directory : FLUXBRIDGE_PROFILES;
}

const char *const *profile_directories(void)
{
    static const char *directories[5];
    char self[4096] = "";
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
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
    directories[n++] = installed_directory(self);
    directories[n] = NULL;
    return directories;
}
