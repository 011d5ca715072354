/* main: the command line of fluxbridge.
 *
 * A table of commands; each gets its parsed options and returns the exit code:
 * 0 good, 1 failed at run time, 2 bad usage or configuration.
 */
#include <ctype.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/guard.h"
#include "bridge/base/log.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/simulated.h"
#include "bridge/run/supervisor.h"
#include "bridge/site/conf.h"

enum { EXIT_USAGE = 2, MAX_ARGUMENTS = PROFILE_POINTS_MAX + 1 };

enum option_name {
    OPTION_CONFIG,
    OPTION_SIM,
    OPTION_ONLINE,
    OPTION_AGAINST,
    OPTION_JSON,
    OPTION_RAW,
    OPTION_WATCH,
    OPTION_DRY_RUN,
    OPTION_PORTS,
    OPTION_UNITS,
    OPTION_SERIAL,
    OPTION_BAUD,
    OPTION_PARITY,
    OPTION_HELP,
    OPTION_VERSION,
    N_OPTIONS
};

#define TAKES(option) (1U << (option))
#define TAKES_CONFIG  TAKES(OPTION_CONFIG) /* and needs it */
#define TAKES_ALWAYS  (TAKES(OPTION_HELP) | TAKES(OPTION_VERSION))

static const struct {
    const char *name;
    char letter;
    int has_value; /* as in struct option */
    const char *usage;
    const char *help;
} known[N_OPTIONS] = {
    [OPTION_CONFIG] = {"config", 'c', required_argument, "-c, --config FILE", "the configuration"},
    [OPTION_SIM] = {"sim", 's', required_argument, "-s, --sim SIM",
                    "simulated devices: what fluxbridge-sim --listen printed; - is a pipe"},
    [OPTION_ONLINE] = {"online", 'o', no_argument, "-o, --online",
                       "ask broker and devices as well"},
    [OPTION_AGAINST] = {"against", 'a', required_argument, "-a, --against OLD",
                        "also what a reload would do to a bridge that runs with OLD"},
    [OPTION_JSON] = {"json", 'j', no_argument, "-j, --json", "print one JSON object"},
    [OPTION_RAW] = {"raw", 'r', no_argument, "-r, --raw", "also the registers as they came"},
    [OPTION_WATCH] = {"watch", 'w', optional_argument, "-w, --watch [SECONDS]",
                      "read again and again, as often as polled unless SECONDS are given"},
    [OPTION_DRY_RUN] = {"dry-run", 'n', no_argument, "-n, --dry-run",
                        "only say what would be done"},
    [OPTION_PORTS] = {"ports", 'p', required_argument, "-p, --ports PORTS",
                      "such as 502,1502-1504; default 502"},
    [OPTION_UNITS] = {"units", 'u', required_argument, "-u, --units UNITS",
                      "unit ids to try, such as 1-4,255; default 1,255, on a line 1-247"},
    [OPTION_SERIAL] = {"serial", 'S', required_argument, "-S, --serial DEVICE",
                       "a serial line, such as /dev/ttyUSB0"},
    [OPTION_BAUD] = {"baud", 'b', required_argument, "-b, --baud BAUD", "its rate; default 9600"},
    [OPTION_PARITY] = {"parity", 'y', required_argument, "-y, --parity PARITY",
                       "its parity: none, even or odd; default none"},
    [OPTION_HELP] = {"help", 'h', no_argument, "-h, --help", "this text"},
    [OPTION_VERSION] = {"version", 'V', no_argument, "-V, --version", "the version"},
};

struct options {
    const char *values[N_OPTIONS]; /* NULL = not given; "" for one without a value */
    bool only_arguments;           /* behind "--" */
    int n_arguments;
    char *arguments[MAX_ARGUMENTS + 1]; /* what is no option, NULL-terminated */
};

struct verb {
    const char *name;
    const char *usage;   /* what follows the name */
    const char *summary; /* one line for fluxbridge --help */
    const char *help;    /* the text of its own --help */
    unsigned options;    /* TAKES() of each that it knows */
    int min_arguments, max_arguments;
    bool may_lead; /* without -c the configuration is the first argument */
    int (*run)(const struct options *options);
};

/* ---- the commands ---- */

/* The configuration that a command works on. False with the exit code: what only an editor
 * can mend is told from what may be better the next time. conf_free() in any case. */
static bool open_conf(const char *verb, const struct options *options, struct conf *conf, int *code)
{
    struct cfg cfg = {.out = stderr, .waits = true};
    const char *sim = options->values[OPTION_SIM];
    const bool good = conf_read(&cfg, options->values[OPTION_CONFIG], conf);
    *code = cfg.lacks ? EXIT_FAILURE : EXIT_USAGE;
    if (!good)
        return false;
    conf->simulated = sim != NULL;
    return sim == NULL || simulated_take_over(verb, sim, &conf->devices);
}

static int run_run(const struct options *options)
{
    struct conf conf;
    sigset_t hangup;
    /* logrotate knows of no start: what it sends meanwhile is served when that is over. */
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, NULL);
    int code;
    if (open_conf("run", options, &conf, &code)) {
        if (conf_has_secrets(&conf))
            guard_secrets();
        code = supervisor_run(&conf, options->values[OPTION_CONFIG]);
    }
    conf_free(&conf);
    return code;
}

static int run_check(const struct options *options)
{
    return cli_check(options->values[OPTION_CONFIG], options->values[OPTION_AGAINST],
                     options->values[OPTION_ONLINE] != NULL, options->values[OPTION_JSON] != NULL);
}

static bool parse_seconds(const char *text, int64_t *period_ns)
{
    char *end;
    const double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0.01 && seconds <= 86400))
        return false;
    *period_ns = (int64_t)(seconds * (double)CLOCK_NS_PER_S);
    return true;
}

static int run_read(const struct options *options)
{
    const char *seconds = options->values[OPTION_WATCH];
    struct cli_read_options how = {
        .json = options->values[OPTION_JSON] != NULL,
        .raw = options->values[OPTION_RAW] != NULL,
        .watch = seconds != NULL,
    };
    struct conf conf;
    int code;
    if (how.watch && *seconds != '\0' && !parse_seconds(seconds, &how.period_ns)) {
        fprintf(stderr, "fluxbridge read: --watch takes 0.01 to 86400 seconds, not '%s'\n",
                seconds);
        return EXIT_USAGE;
    }
    if (open_conf("read", options, &conf, &code))
        code = cli_read(&conf, options->arguments[0], options->arguments + 1, &how);
    conf_free(&conf);
    return code;
}

static int run_write(const struct options *options)
{
    struct conf conf;
    char *const *arguments = options->arguments;
    sigset_t ends;
    int code;
    if (open_conf("write", options, &conf, &code)) {
        /* What may have been written is told, and on record, whoever is impatient, or no longer
         * listens, and however large a file may be. */
        sigemptyset(&ends);
        sigaddset(&ends, SIGINT);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGHUP);
        sigaddset(&ends, SIGPIPE);
        sigaddset(&ends, SIGXFSZ);
        sigprocmask(SIG_BLOCK, &ends, NULL);
        log_set_level(LOG_LEVEL_WARNING); /* the outcome is printed */
        code = cli_write(&conf, arguments[0], arguments[1], arguments[2],
                         options->values[OPTION_DRY_RUN] != NULL,
                         options->values[OPTION_JSON] != NULL);
    }
    conf_free(&conf);
    return code;
}

static int run_forget(const struct options *options)
{
    struct conf conf;
    int code;
    if (open_conf("forget", options, &conf, &code))
        code = cli_forget(&conf, options->arguments[0], options->values[OPTION_DRY_RUN] != NULL,
                          options->values[OPTION_JSON] != NULL);
    conf_free(&conf);
    return code;
}

static int run_schedule(const struct options *options)
{
    struct conf conf;
    int code;
    if (open_conf("schedule", options, &conf, &code)) {
        log_set_level(LOG_LEVEL_ERROR);
        code = cli_schedule(&conf, options->arguments[0], options->values[OPTION_JSON] != NULL);
    }
    conf_free(&conf);
    return code;
}

static int run_points(const struct options *options)
{
    return cli_points(options->arguments[0], options->values[OPTION_JSON] != NULL);
}

static int run_scan(const struct options *options)
{
    return cli_scan(&(struct cli_scan_options){
        .cidr = options->arguments[0],
        .ports = options->values[OPTION_PORTS],
        .units = options->values[OPTION_UNITS],
        .serial = options->values[OPTION_SERIAL],
        .baud = options->values[OPTION_BAUD],
        .parity = options->values[OPTION_PARITY],
        .json = options->values[OPTION_JSON] != NULL,
    });
}

/* ---- usage ---- */

static const struct verb verbs[] = {
    {
        .name = "run",
        .usage = "-c FILE",
        .summary = "run the bridge",
        .help = "Polls the devices of the configuration FILE and publishes what they say to the\n"
                "MQTT broker; takes commands from there. Stays in the foreground and logs to\n"
                "stderr. SIGTERM and SIGINT end it cleanly; SIGHUP takes over what has changed in\n"
                "FILE, or says why not, reopens the audit log and reads certificates and password\n"
                "again. With --sim it works with simulated devices in place of the real ones.",
        .options = TAKES_CONFIG | TAKES(OPTION_SIM),
        .run = run_run,
    },
    {
        .name = "check",
        .usage = "-c FILE",
        .summary = "check a configuration",
        .help =
            "Prints every problem of the configuration FILE and of the device types it uses\n"
            "(exit code 2), and of the files, directories and serial devices it names (1), as\n"
            "FILE:LINE: message. Warnings are no problems: two devices on one unit id, a secret\n"
            "that all may read, a certificate that ends soon, polls that a serial line is too\n"
            "slow for. With --online also what the broker refuses, a device that does not\n"
            "answer and points that it refuses are problems, and warnings are values that\n"
            "cannot be, polls that the devices are too slow for, and power about 1000 times\n"
            "off voltage x current. With --against it also says what a reload would do to a\n"
            "bridge that runs with OLD: which devices it would end and begin, and what needs a\n"
            "restart.",
        .options = TAKES_CONFIG | TAKES(OPTION_JSON) | TAKES(OPTION_ONLINE) | TAKES(OPTION_AGAINST),
        .run = run_check,
    },
    {
        .name = "read",
        .usage = "-c FILE DEVICE [POINT...]",
        .summary = "read a device once",
        .help =
            "Reads DEVICE, or only the POINTs named, once over Modbus and prints a table of the\n"
            "values. A value that cannot be read shows why, in the words of topics.md. 0 means\n"
            "that at least one value could be read. Only reads; a fluxbridge that runs may go\n"
            "on doing so, except on a serial line.",
        .options = TAKES_CONFIG | TAKES(OPTION_SIM) | TAKES(OPTION_JSON) | TAKES(OPTION_RAW) |
                   TAKES(OPTION_WATCH),
        .min_arguments = 1,
        .max_arguments = MAX_ARGUMENTS,
        .run = run_read,
    },
    {
        .name = "write",
        .usage = "-c FILE DEVICE POINT VALUE",
        .summary = "write one value",
        .help = "Writes VALUE to POINT of DEVICE in the way of a command over MQTT: by the same\n"
                "limits and interlocks, once, read back, and noted in the audit log. Prints the\n"
                "outcome as JSON, with or without --json; 0 means that it is confirmed. Refused\n"
                "while a fluxbridge on this machine runs with the device, except for a battery's\n"
                "setpoint of 0.",
        .options = TAKES_CONFIG | TAKES(OPTION_SIM) | TAKES(OPTION_JSON) | TAKES(OPTION_DRY_RUN),
        .min_arguments = 3,
        .max_arguments = 3,
        .run = run_write,
    },
    {
        .name = "forget",
        .usage = "-c FILE [DEVICE]",
        .summary = "clear what the broker retains",
        .help =
            "Clears what the broker retains of DEVICE: its status, info, state and schedule, and\n"
            "what was announced to Home Assistant. Without DEVICE that of all devices which the\n"
            "configuration FILE does not have or, while no bridge of the site is in session, of\n"
            "the whole site. Refused for what a bridge in session has: a device, or bridge, its\n"
            "own. What the bridge still has it announces again when it starts.",
        .options = TAKES_CONFIG | TAKES(OPTION_DRY_RUN) | TAKES(OPTION_JSON),
        .max_arguments = 1,
        .run = run_forget,
    },
    {
        .name = "schedule",
        .usage = "-c FILE DEVICE",
        .summary = "show a battery's schedule",
        .help =
            "Prints what of the schedule that the bridge has accepted for DEVICE is in force, "
            "what\n"
            "comes next, what the battery holds, and what would be written now, judged by the\n"
            "battery's state as it is read for this. Only reads; a fluxbridge that runs may go on\n"
            "doing so, except on a serial line. -c may be left out.",
        .options = TAKES_CONFIG | TAKES(OPTION_SIM) | TAKES(OPTION_JSON),
        .min_arguments = 1,
        .max_arguments = 1,
        .may_lead = true,
        .run = run_schedule,
    },
    {
        .name = "points",
        .usage = "TYPE",
        .summary = "show the points of a device type",
        .help =
            "Prints a table of the points of a device type, such as powerpack, or of a file of\n"
            "one's own, as they were understood: the name, the PDU address (register 2000 is\n"
            "the bytes 07 D0 of the frame), table, type and byte order, unit, scale, access,\n"
            "write limits and function, poll class, what is not believed, and labels.",
        .options = TAKES(OPTION_JSON),
        .min_arguments = 1,
        .max_arguments = 1,
        .run = run_points,
    },
    {
        .name = "scan",
        .usage = "CIDR | --serial DEVICE",
        .summary = "find Modbus devices",
        .help =
            "Looks at every address of CIDR, such as 192.168.1.0/24 or 192.168.1.7, and at no\n"
            "other, for units that speak Modbus TCP. Guesses of which type each is by what it\n"
            "answers, and prints a table and a block for the configuration. Only reads. Ctrl-C\n"
            "ends it early, with what was found. 0 means that something was found. With --serial\n"
            "it asks the units 1 to 247 of a serial line, at the rate and parity given, and names\n"
            "those that answer.",
        .options = TAKES(OPTION_JSON) | TAKES(OPTION_PORTS) | TAKES(OPTION_UNITS) |
                   TAKES(OPTION_SERIAL) | TAKES(OPTION_BAUD) | TAKES(OPTION_PARITY),
        .min_arguments = 0,
        .max_arguments = 1,
        .run = run_scan,
    },
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(void)
{
    printf("Usage: fluxbridge COMMAND ...\n\n"
           "Battery storage and power meters on Modbus, bridged to MQTT.\n\n"
           "Commands:\n");
    for (unsigned i = 0; i < N_VERBS; i++)
        printf("  %-8s %-26s  %s\n", verbs[i].name, verbs[i].usage, verbs[i].summary);
    printf("\nOptions:\n"
           "  -h, --help     this text, or that of a command\n"
           "  -V, --version  the version\n\n"
           "Exit code: 0 good, 1 failed at run time, 2 bad usage or configuration.\n");
}

static void print_verb_help(const struct verb *verb)
{
    printf("Usage: fluxbridge %s %s\n\n%s\n\nOptions:\n", verb->name, verb->usage, verb->help);
    for (unsigned i = 0; i < N_OPTIONS; i++)
        if ((verb->options | TAKES_ALWAYS) & TAKES(i))
            printf("  %-22s %s\n", known[i].usage, known[i].help);
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

static bool is_number(const char *argument)
{
    return argument != NULL && argument[strspn(argument, "0123456789.")] == '\0' && *argument;
}

/* How getopt_long() is told of the options of a command; zeroed at first. */
struct grammar {
    char letters[2 + 3 * N_OPTIONS + 1];
    struct option longs[N_OPTIONS + 1];
};

static void make_grammar(const struct verb *verb, struct grammar *grammar)
{
    char *letter = grammar->letters;
    struct option *next = grammar->longs;
    *letter++ = '-'; /* arguments and options in any order */
    *letter++ = ':'; /* tell a missing value from an unknown option */
    for (unsigned i = 0; i < N_OPTIONS; i++) {
        if (!((verb->options | TAKES_ALWAYS) & TAKES(i)))
            continue;
        *letter++ = known[i].letter;
        for (int colons = known[i].has_value; colons > 0; colons--)
            *letter++ = ':';
        *next++ = (struct option){known[i].name, known[i].has_value, NULL, known[i].letter};
    }
}

/* The next option as by getopt_long(), or 1 for an argument, which is added. */
static int next_option(int argc, char **argv, const struct grammar *grammar,
                       struct options *options)
{
    int option = 1;
    char *argument = optind < argc ? argv[optind] : NULL;
    /* Not left to getopt_long(), which at the end goes back to what stands behind it. */
    if (argument != NULL && !options->only_arguments && strcmp(argument, "--") == 0) {
        options->only_arguments = true;
        argument = argv[++optind];
        if (argument == NULL)
            return -1;
    }
    if (argument != NULL && (options->only_arguments || is_negative_number(argument))) {
        optind++;
    } else {
        option = getopt_long(argc, argv, grammar->letters, grammar->longs, NULL);
        argument = option == 1 ? optarg : NULL;
    }
    if (option == 1 && options->n_arguments < MAX_ARGUMENTS)
        options->arguments[options->n_arguments++] = argument;
    /* A value that may be left out is also taken from behind a space. */
    if (option == known[OPTION_WATCH].letter && optarg == NULL && is_number(argv[optind]))
        optarg = argv[optind++];
    return option;
}

/* Notes an option that is known. */
static void take_option(int letter, struct options *options)
{
    for (unsigned i = 0; i < N_OPTIONS; i++)
        if (known[i].letter == letter)
            options->values[i] = optarg != NULL ? optarg : "";
}

/* Parses a command's own arguments, of which the first is its name, and runs it. */
static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct options options = {0};
    struct grammar grammar = {0};
    int option;
    opterr = 0; /* one line in our own words */
    make_grammar(verb, &grammar);
    while ((option = next_option(argc, argv, &grammar, &options)) != -1) {
        if (option == '?' || option == ':')
            return misused(verb, option == ':' ? "a value is missing after" : "unknown option",
                           strncmp(argv[optind - 1], "--", 2) == 0
                               ? argv[optind - 1]
                               : (char[]){'-', (char)optopt, '\0'});
        take_option(option, &options);
        if (options.values[OPTION_HELP] != NULL) {
            print_verb_help(verb);
            return EXIT_SUCCESS;
        }
        if (options.values[OPTION_VERSION] != NULL) {
            print_version();
            return EXIT_SUCCESS;
        }
    }
    if (verb->may_lead && options.values[OPTION_CONFIG] == NULL && options.n_arguments > 1) {
        options.values[OPTION_CONFIG] = options.arguments[0];
        memmove(options.arguments, options.arguments + 1,
                (size_t)options.n_arguments-- * sizeof(*options.arguments));
    }
    if ((verb->options & TAKES_CONFIG) && options.values[OPTION_CONFIG] == NULL)
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
    guard_install();
    json_set_alloc_funcs(guard_allocate, free);
    int code = dispatch(argc, argv);
    guard_end();
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "fluxbridge: cannot write the output\n");
        return EXIT_FAILURE;
    }
    return code;
}
