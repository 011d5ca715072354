#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/cli/cli.h"
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

/* A number, or nothing for NAN. */
static void print_optional(double number, char text[CODEC_TEXT_MAX])
{
    text[0] = '\0';
    if (!isnan(number))
        codec_print_number(number, text);
}

static void describe(const struct point *point, struct table *table)
{
    char low[CODEC_TEXT_MAX], high[CODEC_TEXT_MAX];
    char bits[CODEC_TEXT_MAX] = "";
    if (point->bits > 0)
        snprintf(bits, sizeof(bits), point->bits == 1 ? "[%d]" : "[%d..%d]", point->bit,
                 point->bit + point->bits - 1);
    table_cell(table, "%s", point->name);
    table_cell(table, "%u", point->address);
    table_cell(table, "0x%04X", point->address);
    table_cell(table, "%s", point_table_word(point->table));
    table_cell(table, "%s%s", point_type_word(point->type), bits);
    table_cell(table, "%s", point->unit[0] != '\0' ? point->unit : "-");
    codec_print_number(point->scale, low);
    print_optional(point->offset == 0 ? NAN : point->offset, high);
    table_cell(table, "%s%s%s", low, point->offset > 0 ? "+" : "", high);
    table_cell(table, "%s", point->writable ? "rw" : "r");
    print_optional(point->min, low);
    print_optional(point->max, high);
    table_cell(table, "%s%s%s", low, low[0] != '\0' || high[0] != '\0' ? ".." : "-", high);
}

int cli_points(const char *type)
{
    static const char *const headings[] = {"NAME", "ADDRESS", "HEX",    "TABLE", "TYPE",
                                           "UNIT", "SCALE",   "ACCESS", "LIMITS"};
    const char *const *directories = profile_directories();
    struct cfg cfg = {.out = stderr};
    struct profile *profile =
        find_type(type, directories) ? profile_read(&cfg, NULL, directories, type) : NULL;
    if (profile == NULL)
        return EXIT_USAGE;

    struct table *table = table_new("lllllllll");
    for (size_t i = 0; i < sizeof(headings) / sizeof(*headings); i++)
        table_cell(table, "%s", headings[i]);
    for (unsigned i = 0; i < profile->n_points; i++)
        describe(&profile->points[i], table);
    const bool good = table_print(table, stdout);
    table_free(table);
    profile_free(profile);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
