#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/cli/cli.h"
#include "bridge/cli/found_json.h"
#include "bridge/cli/table.h"
#include "bridge/cli/types.h"
#include "devices/registers/codec.h"

enum { EXIT_USAGE = 2 };

/* Whether there is a profile of `type`. If not, says which there are. */
static bool find_type(const char *type, const char *const *directories)
{
    char **types = types_list(directories);
    if (types == NULL) {
        fprintf(stderr, "fluxbridge points: out of memory\n");
        return false;
    }
    const bool found = types_has(types, type);
    if (!found) {
        fprintf(stderr, "fluxbridge points: there is no type '%s': the types are", type);
        for (size_t i = 0; types[i] != NULL; i++)
            fprintf(stderr, "%s %s", i > 0 ? "," : "", types[i]);
        fprintf(stderr, "%s\n", types[0] != NULL ? "" : " none");
    }
    types_free(types);
    return found;
}

/* What is written up to now, and room for more. */
struct point_line {
    char text[4096];
    size_t used;
};

static void add(struct point_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct point_line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length =
        vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, arguments);
    va_end(arguments);
    line->used += length > 0 ? (size_t)length : 0;
    if (line->used >= sizeof(line->text))
        line->used = sizeof(line->text) - 1;
}

/* A number, unless it is NAN. */
static void add_number(struct point_line *line, const char *before, double number)
{
    char text[CODEC_TEXT_MAX];
    if (isnan(number))
        return;
    codec_print_number(number, text);
    add(line, "%s%s", before, text);
}

static void cell(struct table *table, struct point_line *line)
{
    table_cell(table, "%s", line->used > 0 ? line->text : "-");
    *line = (struct point_line){.used = 0};
}

static void describe_type(const struct point *point, struct point_line *line)
{
    add(line, "%s", point_type_word(point->type));
    if (point->bits > 0)
        add(line, point->bits == 1 ? "[%d]" : "[%d..%d]", point->bit, point->bit + point->bits - 1);
    if (point->type == POINT_STRING)
        add(line, "[%u]", point->registers);
    if (point->type == POINT_INT8 || point->type == POINT_UINT8)
        add(line, point->high_byte ? "[high]" : "[low]");
}

static void describe_scale(const struct profile *profile, const struct point *point,
                           struct point_line *line)
{
    if (point->type == POINT_STRING)
        return;
    add_number(line, "", point->scale);
    if (point->scale_row > 0)
        add(line, "*10^%s", profile->points[point->scale_row - 1].name);
    if (point->offset != 0)
        add_number(line, point->offset > 0 ? "+" : "", point->offset);
}

/* What the row may hold and is still no value. */
static void describe_disbelief(const struct point *point, struct point_line *line)
{
    add_number(line, " <", point->low);
    add_number(line, " >", point->high);
    for (unsigned i = 0; i < point->n_sentinels; i++)
        add(line, " 0x%0*llX", (int)(point_bits(point) + 3) / 4,
            (unsigned long long)(point_bits(point) < 64
                                     ? point->sentinels[i] & ((1ULL << point_bits(point)) - 1)
                                     : point->sentinels[i]));
    if (point->counter)
        add(line, " falling");
}

static void describe_labels(const struct point *point, struct point_line *line)
{
    for (unsigned i = 0; i < point->n_labels; i++)
        add(line, "%s%lld=%s", i > 0 ? " " : "", (long long)point->labels[i].value,
            point->labels[i].label);
    if (point->enumerated && point->n_labels == 0)
        add(line, "code_N");
}

static void describe(const struct profile *profile, const struct point *point, struct table *table)
{
    struct point_line line = {.used = 0};
    table_cell(table, "%s", point->name);
    if (!point->made)
        add(&line, "%u", point->address);
    cell(table, &line);
    if (!point->made)
        add(&line, "0x%04X", point->address);
    cell(table, &line);
    if (point->model > 0)
        table_cell(table, "model %u", point->model);
    else
        table_cell(table, "%s", point->made ? "made" : point_table_word(point->table));
    describe_type(point, &line);
    cell(table, &line);
    if (point_has_registers(point) && !point->made)
        add(&line, "%s", point_order_word(point->order));
    cell(table, &line);
    add(&line, "%s", point->unit);
    cell(table, &line);
    describe_scale(profile, point, &line);
    cell(table, &line);
    table_cell(table, "%s", point->writable ? "rw" : "r");
    add_number(&line, "", point->min);
    if (!isnan(point->min) || !isnan(point->max))
        add(&line, "..");
    add_number(&line, "", point->max);
    cell(table, &line);
    if (point->writable && !point->made)
        add(&line, "%02u", point_write_function(point));
    cell(table, &line);
    table_cell(table, "%u", point->every);
    describe_disbelief(point, &line);
    if (line.used > 0)
        table_cell(table, "%s", line.text + 1);
    else
        table_cell(table, "-");
    line = (struct point_line){.used = 0};
    describe_labels(point, &line);
    cell(table, &line);
}

/* How the rows are read. */
static void describe_reading(const struct profile *profile)
{
    printf("\n%s%s%s: at most %u registers a read, gaps of up to %u are read along", profile->model,
           profile->manufacturer[0] != '\0' ? " by " : "", profile->manufacturer,
           profile->max_registers, profile->max_gap);
    for (unsigned i = 0; i < profile->n_unreadable; i++)
        printf("%s %s %u..%u", i > 0 ? "," : ", but for",
               point_table_word(profile->unreadable[i].table), profile->unreadable[i].first,
               profile->unreadable[i].last);
    printf("\n");
}

/* ---- how a battery of the type is commanded ---- */

static const char *name_of(const struct profile *profile, int point)
{
    return point >= 0 ? profile->points[point].name : "-";
}

static void describe_write(const struct profile *profile, const struct drive_write *write,
                           struct point_line *line)
{
    const struct drive *drive = &profile->drive;
    add(line, "%s%s = ", write->joined ? "+ " : "", name_of(profile, (int)write->point));
    if (write->value == DRIVE_NUMBER)
        add_number(line, "", write->number);
    else if (write->value == DRIVE_KEY)
        add(line, "%s", drive->keys[write->key]);
    else
        add(line, "%s", drive_value_word(write->value));
    if (write->value == DRIVE_KEY)
        add_number(line, ", else ", write->number);
    if (write->of >= 0)
        add(line, " in percent of %s", name_of(profile, write->of));
    if (write->when != DRIVE_ALWAYS)
        add(line, " (%s)", drive_when_word(write->when));
}

static void print_writes(const struct profile *profile, const char *name,
                         const struct drive_list *list)
{
    for (unsigned i = 0; i < list->n; i++) {
        struct point_line line = {.used = 0};
        describe_write(profile, &list->writes[i], &line);
        printf("  %-15s %s\n", i == 0 ? name : "", line.text);
    }
}

static void print_keepalive(const struct profile *profile)
{
    const struct drive *drive = &profile->drive;
    struct point_line line = {.used = 0};
    if (drive->every_ns == 0) {
        printf("  %-15s none: what it holds it holds on\n", "keepalive");
        return;
    }
    if (drive->rewrite)
        add(&line, "set once more");
    else
        add(&line, "%s =", name_of(profile, drive->beat));
    for (unsigned i = 0; !drive->rewrite && i < drive->n_beats; i++)
        add_number(&line, i > 0 ? ", " : " ", drive->beats[i]);
    printf("  %-15s %s, every %g s\n", "keepalive", line.text, (double)drive->every_ns / 1e9);
}

static void print_control(const struct profile *profile)
{
    const struct drive *drive = &profile->drive;
    printf("\nA battery of this type is commanded so:\n");
    printf("  %-15s %s\n", "setpoint", name_of(profile, drive->setpoint));
    printf("  %-15s %s\n", "status", name_of(profile, drive->status));
    if (drive->soe >= 0 && profile->points[drive->soe].made)
        printf("  %-15s %s in percent of %s\n", "soe", name_of(profile, drive->energy),
               name_of(profile, drive->full));
    else
        printf("  %-15s %s\n", "soe", name_of(profile, drive->soe));
    printf("  %-15s %s\n", "blocks", name_of(profile, drive->blocks));
    print_writes(profile, "engage", &drive->engage);
    print_writes(profile, "set", &drive->set);
    print_writes(profile, "release", &drive->release);
    print_keepalive(profile);
    if (drive->timeout_s > 0)
        printf("  %-15s %s%s%g s\n", "device_timeout",
               drive->timeout >= 0 ? name_of(profile, drive->timeout) : "fixed",
               drive->timeout >= 0 ? " = " : ": ", drive->timeout_s);
    for (unsigned i = 0; i < drive->n_proofs; i++)
        printf("  %-15s %s\n", i == 0 ? "proof" : "", name_of(profile, (int)drive->proofs[i]));
    printf("  %-15s %s\n", "idle", drive->idle_release ? "release" : "hold");
}

/* TYPE may be a file: one that ends like a profile, or has a directory and is there. */
static struct profile *read_type(const char *type)
{
    const char *const *directories = profile_directories();
    struct cfg cfg = {.out = stderr, .file = type};
    const size_t length = strlen(type), ending = strlen(".cfg");
    const bool ends = length > ending && strcmp(type + length - ending, ".cfg") == 0;
    if (ends || (strchr(type, '/') != NULL && access(type, F_OK) == 0)) {
        const char *slash = strrchr(type, '/');
        char name[POINT_NAME_MAX + 1];
        snprintf(name, sizeof(name), "%s", slash != NULL ? slash + 1 : type);
        name[strcspn(name, ".")] = '\0';
        return profile_read_file(&cfg, type, name);
    }
    return find_type(type, directories) ? profile_read(&cfg, NULL, directories, type) : NULL;
}

static bool print_table(const struct profile *profile)
{
    static const char *const headings[] = {"NAME",  "ADDRESS", "HEX",          "TABLE",  "TYPE",
                                           "ORDER", "UNIT",    "SCALE",        "ACCESS", "LIMITS",
                                           "WRITE", "EVERY",   "NOT BELIEVED", "LABELS"};
    struct table *table = table_new("llllllllllllll");
    for (size_t i = 0; i < sizeof(headings) / sizeof(*headings); i++)
        table_cell(table, "%s", headings[i]);
    for (unsigned i = 0; i < profile->n_points; i++)
        describe(profile, &profile->points[i], table);
    const bool good = table_print(table, stdout);
    table_free(table);
    if (good)
        describe_reading(profile);
    if (good && profile->drive.given)
        print_control(profile);
    return good;
}

int cli_points(const char *type, bool json)
{
    struct profile *profile = read_type(type);
    if (profile == NULL)
        return EXIT_USAGE;
    const bool good = json ? found_json_points(profile) : print_table(profile);
    profile_free(profile);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
