/* main: the command line of fluxbridge.
 *
 * A table of commands; each gets its parsed options and returns the exit code:
 * 0 good, 1 failed at run time, 2 bad usage or configuration.
 */
#include <ctype.h>
#include <getopt.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/conf.h"
#include "bridge/supervisor.h"
#include "bridge/tool.h"
#include "devices/codec.h"
#include "devices/profile.h"

enum { EXIT_USAGE = 2, MAX_ARGUMENTS = 8 };

struct options {
    const char *config; /* -c; NULL for commands that take none */
    bool dry_run;
    int n_arguments;
    char *arguments[MAX_ARGUMENTS + 1]; /* what is no option, NULL-terminated */
};

struct verb {
    const char *name;
    const char *usage;   /* what follows the name */
    const char *summary; /* one line for fluxbridge --help */
    const char *help;    /* the text of its own --help */
    bool config;         /* takes -c FILE, and needs it */
    bool dry_run;        /* takes --dry-run */
    int min_arguments, max_arguments;
    int (*run)(const struct options *options);
};

/* ---- run, write, check ---- */

static int run_run(const struct options *options)
{
    struct conf conf;
    struct cfg cfg = {.out = stderr};
    int code = EXIT_USAGE;
    if (conf_read(&cfg, options->config, &conf))
        code = supervisor_run(&conf, options->config);
    conf_free(&conf);
    return code;
}

static int run_write(const struct options *options)
{
    struct conf conf;
    struct cfg cfg = {.out = stderr};
    char *const *arguments = options->arguments;
    int code = EXIT_USAGE;
    if (conf_read(&cfg, options->config, &conf))
        code = tool_write(&conf, arguments[0], arguments[1], arguments[2], options->dry_run);
    conf_free(&conf);
    return code;
}

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

static int run_check(const struct options *options)
{
    struct conf conf;
    struct cfg cfg = {.out = stdout};
    bool good = conf_read(&cfg, options->config, &conf);
    if (good)
        printf("%s: good: %u device%s on %u link%s\n", options->config, conf.devices.n_devices,
               plural(conf.devices.n_devices), conf.devices.n_links, plural(conf.devices.n_links));
    conf_free(&conf);
    return good ? EXIT_SUCCESS : EXIT_USAGE;
}

/* ---- points ---- */

enum { N_COLUMNS = 9, CELL_MAX = 96 };

struct row {
    char cells[N_COLUMNS][CELL_MAX];
};

static const struct row headings = {
    {"NAME", "ADDRESS", "HEX", "TABLE", "TYPE", "UNIT", "SCALE", "ACCESS", "LIMITS"}};

/* A number, or nothing for NAN. */
static void print_optional(double number, char text[CODEC_TEXT_MAX])
{
    text[0] = '\0';
    if (!isnan(number))
        codec_print_number(number, text);
}

static void describe(const struct point *point, struct row *row)
{
    char low[CODEC_TEXT_MAX], high[CODEC_TEXT_MAX];
    char bits[CODEC_TEXT_MAX] = "";
    if (point->bits > 0)
        snprintf(bits, sizeof bits, point->bits == 1 ? "[%d]" : "[%d..%d]", point->bit,
                 point->bit + point->bits - 1);
    snprintf(row->cells[0], CELL_MAX, "%s", point->name);
    snprintf(row->cells[1], CELL_MAX, "%u", point->address);
    snprintf(row->cells[2], CELL_MAX, "0x%04X", point->address);
    snprintf(row->cells[3], CELL_MAX, "%s", point_table_word(point->table));
    snprintf(row->cells[4], CELL_MAX, "%s%s", point_type_word(point->type), bits);
    snprintf(row->cells[5], CELL_MAX, "%s", point->unit[0] ? point->unit : "-");
    codec_print_number(point->scale, low);
    print_optional(point->offset == 0 ? NAN : point->offset, high);
    snprintf(row->cells[6], CELL_MAX, "%s%s%s", low, point->offset > 0 ? "+" : "", high);
    snprintf(row->cells[7], CELL_MAX, "%s", point->writable ? "rw" : "r");
    print_optional(point->min, low);
    print_optional(point->max, high);
    snprintf(row->cells[8], CELL_MAX, "%s%s%s", low, low[0] || high[0] ? ".." : "-", high);
}

/* Characters of a UTF-8 text. */
static int width(const char *text)
{
    int characters = 0;
    for (; *text; text++)
        characters += ((unsigned char)*text & 0xc0) != 0x80;
    return characters;
}

static void print_table(const struct row *rows, unsigned n_rows)
{
    int widths[N_COLUMNS] = {0};
    for (unsigned i = 0; i < n_rows; i++)
        for (unsigned column = 0; column < N_COLUMNS; column++)
            if (width(rows[i].cells[column]) > widths[column])
                widths[column] = width(rows[i].cells[column]);
    for (unsigned i = 0; i < n_rows; i++) {
        for (unsigned column = 0; column < N_COLUMNS - 1; column++) {
            const char *cell = rows[i].cells[column];
            printf("%s%*s", cell, widths[column] + 2 - width(cell), "");
        }
        printf("%s\n", rows[i].cells[N_COLUMNS - 1]);
    }
}

/* Whether there is a profile of `type`. If not, says which there are. */
static bool find_type(const char *type, const char *const *directories)
{
    glob_t files = {0};
    char pattern[CONF_PATH_MAX + 1];
    for (; *directories; directories++) {
        snprintf(pattern, sizeof pattern, "%s/*.cfg", *directories);
        glob(pattern, GLOB_APPEND, NULL, &files);
    }
    bool found = false;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char *name = strrchr(files.gl_pathv[i], '/') + 1;
        *strrchr(name, '.') = '\0';
        found = found || strcmp(name, type) == 0;
    }
    if (!found) {
        fprintf(stderr, "fluxbridge points: there is no type '%s': the types are", type);
        for (size_t i = 0; i < files.gl_pathc; i++)
            fprintf(stderr, "%s %s", i ? "," : "", strrchr(files.gl_pathv[i], '/') + 1);
        fprintf(stderr, "%s\n", files.gl_pathc ? "" : " none");
    }
    globfree(&files);
    return found;
}

static int run_points(const struct options *options)
{
    const char *type = options->arguments[0];
    const char *const *directories = profile_directories();
    if (!find_type(type, directories))
        return EXIT_USAGE;
    struct cfg cfg = {.out = stderr};
    struct profile *profile = profile_read(&cfg, NULL, directories, type);
    if (!profile)
        return EXIT_USAGE;
    struct row *rows = calloc(profile->n_points + 1, sizeof *rows);
    if (rows) {
        rows[0] = headings;
        for (unsigned i = 0; i < profile->n_points; i++)
            describe(&profile->points[i], &rows[i + 1]);
        print_table(rows, profile->n_points + 1);
    }
    free(rows);
    profile_free(profile);
    return rows ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- usage ---- */

static const struct verb verbs[] = {
    {
        .name = "run",
        .usage = "-c FILE",
        .summary = "run the bridge",
        .help = "Polls the devices of the configuration FILE and publishes what they say to the\n"
                "MQTT broker; takes commands from there. Stays in the foreground and logs to\n"
                "stderr. SIGTERM and SIGINT end it cleanly; SIGHUP takes over the log level,\n"
                "reopens the audit log and reads certificates and password again.",
        .config = true,
        .run = run_run,
    },
    {
        .name = "check",
        .usage = "-c FILE",
        .summary = "check a configuration",
        .help = "Prints every problem of the configuration FILE, of the device types it uses and\n"
                "of the files it names as FILE:LINE: message. Warnings are no problems.",
        .config = true,
        .run = run_check,
    },
    {
        .name = "write",
        .usage = "-c FILE DEVICE POINT VALUE",
        .summary = "write one value",
        .help = "Writes VALUE to POINT of DEVICE in the way of a command over MQTT: by the same\n"
                "limits and interlocks, once, read back, and noted in the audit log. Prints the\n"
                "outcome as JSON; 0 means that it is confirmed. Refused while a fluxbridge on\n"
                "this machine runs with the device, except for a battery's setpoint of 0.",
        .config = true,
        .dry_run = true,
        .min_arguments = 3,
        .max_arguments = 3,
        .run = run_write,
    },
    {
        .name = "points",
        .usage = "TYPE",
        .summary = "show the points of a device type",
        .help = "Prints a table of the points of a device type, such as powerpack: the name, the\n"
                "PDU address (register 2000 is the bytes 07 D0 of the frame), where and how it\n"
                "is stored, its unit, scale, access and write limits.",
        .min_arguments = 1,
        .max_arguments = 1,
        .run = run_points,
    },
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(void)
{
    printf("Usage: fluxbridge COMMAND ...\n\n"
           "Battery storage and power meters on Modbus, bridged to MQTT.\n\n"
           "Commands:\n");
    for (unsigned i = 0; i < N_VERBS; i++)
        printf("  %-6s %-26s  %s\n", verbs[i].name, verbs[i].usage, verbs[i].summary);
    printf("\nOptions:\n"
           "  -h, --help     this text, or that of a command\n"
           "  -V, --version  the version\n\n"
           "Exit code: 0 good, 1 failed at run time, 2 bad usage or configuration.\n");
}

static void print_verb_help(const struct verb *verb)
{
    printf("Usage: fluxbridge %s %s\n\n%s\n\nOptions:\n", verb->name, verb->usage, verb->help);
    if (verb->config)
        printf("  -c, --config FILE  the configuration\n");
    if (verb->dry_run)
        printf("  -n, --dry-run      only say what would be written\n");
    printf("  -h, --help         this text\n"
           "  -V, --version      the version\n");
}

static void print_version(void)
{
    printf("fluxbridge %s\n", FLUXBRIDGE_VERSION);
}

/* One line that says what is wrong and where it is told right. */
static int misused(const struct verb *verb, const char *what, const char *argument)
{
    const char *space = verb ? " " : "", *name = verb ? verb->name : "";
    fprintf(stderr, "fluxbridge%s%s: %s%s%s%s: see fluxbridge%s%s --help\n", space, name, what,
            argument ? " '" : "", argument ? argument : "", argument ? "'" : "", space, name);
    return EXIT_USAGE;
}

/* "-50" is a value, not an option. */
static bool is_negative_number(const char *argument)
{
    return argument[0] == '-' &&
           (isdigit((unsigned char)argument[1]) || (argument[1] == '.' && argument[2] != '\0'));
}

/* The next option as by getopt_long(), or 1 for an argument, which is added. */
static int next_option(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {{"config", required_argument, NULL, 'c'},
                                          {"dry-run", no_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {0}};
    int option = 1;
    char *argument = optind < argc ? argv[optind] : NULL;
    if (argument != NULL && is_negative_number(argument)) {
        optind++;
    } else {
        option = getopt_long(argc, argv, "-:c:nhV", known, NULL);
        argument = option == 1 ? optarg : NULL;
        if (option == -1 && optind < argc) { /* behind "--" */
            option = 1;
            argument = argv[optind++];
        }
    }
    if (option == 1 && options->n_arguments < MAX_ARGUMENTS)
        options->arguments[options->n_arguments++] = argument;
    return option;
}

/* Parses a command's own arguments, of which the first is its name, and runs it. */
static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct options options = {0};
    int option;
    opterr = 0; /* one line in our own words */
    while ((option = next_option(argc, argv, &options)) != -1) {
        switch (option) {
        case 1:
            break;
        case 'n':
            if (!verb->dry_run)
                return misused(verb, "it has no --dry-run", NULL);
            options.dry_run = true;
            break;
        case 'c':
            if (!verb->config)
                return misused(verb, "it takes no configuration", NULL);
            options.config = optarg;
            break;
        case 'h':
            print_verb_help(verb);
            return EXIT_SUCCESS;
        case 'V':
            print_version();
            return EXIT_SUCCESS;
        default:
            return misused(verb, option == ':' ? "a value is missing after" : "unknown option",
                           strncmp(argv[optind - 1], "--", 2) == 0
                               ? argv[optind - 1]
                               : (char[]){'-', (char)optopt, '\0'});
        }
    }
    if (verb->config && !options.config)
        return misused(verb, "no configuration given", NULL);
    if (options.n_arguments < verb->min_arguments)
        return misused(verb, "an argument is missing", NULL);
    if (options.n_arguments > verb->max_arguments)
        return misused(verb, "one argument too many:", options.arguments[verb->max_arguments]);
    return verb->run(&options);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2)
        return misused(NULL, "no command given", NULL);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help();
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        print_version();
        return EXIT_SUCCESS;
    }
    for (unsigned i = 0; i < N_VERBS; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return run_verb(&verbs[i], argc - 1, argv + 1);
    return misused(NULL, *name == '-' ? "unknown option" : "unknown command", name);
}

int main(int argc, char **argv)
{
    int code = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "fluxbridge: cannot write the output\n");
        return EXIT_FAILURE;
    }
    return code;
}
