#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/reading.h"
#include "bridge/cli/table.h"
#include "bridge/cli/terminal.h"
#include "bridge/wire/sample_json.h"
#include "devices/lines/link_new.h"
#include "devices/registers/codec.h"

enum { EXIT_USAGE = 2 };

/* Marks the points that are named, all when none is. */
static bool choose(const struct device *device, char *const *points, bool *wanted)
{
    for (unsigned i = 0; i < device->n_points; i++)
        wanted[i] = *points == NULL;
    for (; *points != NULL; points++) {
        const int index = device_find_point(device, *points);
        if (index < 0) {
            fprintf(stderr, "fluxbridge read: type '%s' has no point '%s': it has",
                    device->profile->type, *points);
            for (unsigned i = 0; i < device->n_points; i++)
                fprintf(stderr, "%s %s", i > 0 ? "," : "", device->points[i].name);
            fprintf(stderr, "\n");
            return false;
        }
        wanted[index] = true;
    }
    return true;
}

/* ---- for people ---- */

static void print_value(struct table *table, const struct point *point, const struct value *value)
{
    char number[CODEC_TEXT_MAX];
    const char *label = point_label(point, (int64_t)value->raw);
    if (value->state != VALUE_READ) {
        table_cell(table, "%s", fault_word((enum fault)value->fault));
        table_mark(table);
    } else if (point->enumerated && label != NULL) {
        table_cell(table, "%s (%lld)", label, (long long)value->raw);
    } else if (point->enumerated) {
        table_cell(table, "code_%lld", (long long)value->raw);
    } else {
        codec_print(point, value, number);
        table_cell(table, "%s", number);
    }
}

/* Whether registers came at all, be what they hold a value or not. */
static bool has_registers(const struct value *value)
{
    return value->state == VALUE_READ ||
           (value->state == VALUE_FAULT &&
            (value->fault == FAULT_NOT_FINITE || value->fault == FAULT_IMPLAUSIBLE));
}

static void print_registers(struct table *table, const struct reading *reading, unsigned index)
{
    const struct point *point = &reading->device->points[index];
    char text[PLAN_WORDS_MAX * sizeof("FFFF")] = "-";
    size_t used = 0;

    if (has_registers(&reading->values[index]))
        for (unsigned i = 0; i < point_width(point) && used < sizeof(text); i++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%04X", i > 0 ? " " : "",
                                     reading->words[index][i]);
    table_cell(table, "%s", point_table_word(point->table));
    table_cell(table, "%u", point->address);
    table_cell(table, "0x%04X", point->address);
    table_cell(table, "%s", text);
}

static bool print_table(const struct reading *reading, bool raw)
{
    static const char *const headings[] = {"POINT",   "VALUE", "UNIT",     "TABLE",
                                           "ADDRESS", "HEX",   "REGISTERS"};
    const struct device *device = reading->device;
    const char *alignment = raw ? "lrllrll" : "lrl";
    struct table *table = table_new(alignment);

    for (size_t i = 0; i < strlen(alignment); i++)
        table_cell(table, "%s", headings[i]);
    for (unsigned i = 0; i < device->n_points; i++) {
        if (reading->values[i].state == VALUE_ABSENT)
            continue;
        table_cell(table, "%s", device->points[i].name);
        print_value(table, &device->points[i], &reading->values[i]);
        table_cell(table, "%s", device->points[i].unit);
        if (raw)
            print_registers(table, reading, i);
    }
    const bool good = table_print(table, stdout);
    table_free(table);
    return good;
}

/* ---- for machines ---- */

static void print_raw_json(const struct reading *reading)
{
    const struct device *device = reading->device;
    const char *separator = "";

    printf(",\"raw\":{");
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        if (!has_registers(&reading->values[i]))
            continue;
        printf("%s\"%s\":{\"table\":\"%s\",\"address\":%u,\"registers\":[", separator, point->name,
               point_table_word(point->table), point->address);
        for (unsigned k = 0; k < point_width(point); k++)
            printf("%s%u", k > 0 ? "," : "", reading->words[i][k]);
        printf("]}");
        separator = ",";
    }
    printf("}");
}

/* The sample that the daemon would publish, with the device's name in place of
 * what tells the daemon's runs and samples apart. */
static bool print_json(const struct reading *reading, int64_t ts_ms, bool raw)
{
    const struct device *device = reading->device;
    const struct layout layout = sample_layout(device);
    const struct sample sample = {.layout = &layout,
                                  .ts_ms = ts_ms,
                                  .quality = sample_quality(reading->values, device->n_points),
                                  .values = reading->values};
    const size_t size = sample_json_room(&layout);
    char *text = malloc(size + 1);
    const size_t length = text != NULL ? sample_json(&sample, text, size) : 0;

    if (length > 0) {
        text[length - 1] = '\0'; /* the closing brace */
        printf("{\"ts\":%lld,\"device\":\"%s\",%s", (long long)ts_ms, device->name,
               strstr(text, "\"quality\""));
        if (raw)
            print_raw_json(reading);
        printf("}\n");
    }
    free(text);
    return length > 0;
}

/* ---- once, or again and again ---- */

/* One reading, told. False when no value could be read. */
static bool read_once(struct reading *reading, struct link *link,
                      const struct cli_read_options *options)
{
    const struct device *device = reading->device;
    const int64_t ts_ms = clock_utc_ms();
    const enum fault fault = reading_take(reading, link);
    bool any = false, told = true;

    for (unsigned i = 0; i < device->n_points; i++)
        any = any || reading->values[i].state == VALUE_READ;
    if (fault != FAULT_NONE)
        fprintf(stderr, "fluxbridge read: %s: %s\n", device->name, link->error);
    if (options->json)
        told = print_json(reading, ts_ms, options->raw);
    else if (any || fault == FAULT_NONE)
        told = print_table(reading, options->raw);
    if (!told)
        fprintf(stderr, "fluxbridge read: out of memory\n");
    return any && told;
}

/* Nothing is held that would have to be put away. */
static void end_watch(int signal_number)
{
    (void)signal_number;
    _exit(EXIT_SUCCESS);
}

/* One table over the other on a terminal, one below the other elsewhere. */
static void begin_table(const struct device *device, int64_t period_ns, bool first)
{
    const time_t now = time(NULL);
    struct tm local;
    char clock[sizeof("23:59:59")] = "";

    if (localtime_r(&now, &local) != NULL)
        (void)strftime(clock, sizeof(clock), "%T", &local);
    if (terminal_can_rewrite(stdout))
        printf("\033[H\033[J");
    else if (!first)
        printf("\n");
    printf("%s at %s, every %g s\n", device->name, clock,
           (double)period_ns / (double)CLOCK_NS_PER_S);
}

/* Until SIGINT or SIGTERM, or nobody takes the output any more. */
static bool watch(struct reading *reading, struct link *link,
                  const struct cli_read_options *options)
{
    const struct sigaction action = {.sa_handler = end_watch};
    const int64_t period_ns =
        options->period_ns > 0 ? options->period_ns : reading->device->poll_ns;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ); /* a table appears at once */
    for (bool first = true; !ferror(stdout); first = false) {
        const int64_t next_ns = clock_mono_ns() + period_ns;
        if (!options->json)
            begin_table(reading->device, period_ns, first);
        (void)read_once(reading, link, options);
        fflush(stdout);
        const int64_t left_ns = next_ns - clock_mono_ns();
        if (left_ns > 0)
            clock_pause(left_ns);
    }
    return false;
}

int cli_read(const struct conf *conf, const char *name, char *const *points,
             const struct cli_read_options *options)
{
    const struct device *device = cli_find_device(conf, "read", name);
    bool wanted[PROFILE_POINTS_MAX];
    struct reading reading;
    bool good = false;

    if (device == NULL || !choose(device, points, wanted))
        return EXIT_USAGE;
    struct link *link = link_new(&device->modbus);
    if (!reading_init(&reading, device, wanted) || link == NULL)
        fprintf(stderr, "fluxbridge read: out of memory\n");
    else
        good = options->watch ? watch(&reading, link, options) : read_once(&reading, link, options);
    reading_free(&reading);
    link_free(link);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
