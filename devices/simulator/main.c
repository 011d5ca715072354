/* fluxbridge-sim: serves the devices of a configuration as simulated ones. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "devices/simulator/server.h"

enum { GOOD = 0, FAILED = 1, MISUSED = 2 };

static const char usage[] =
    "Usage: fluxbridge-sim -c FILE [--listen ADDRESS] [--only NAME]... [--seed N]\n"
    "                      [--speed X]\n"
    "Serve every device of a configuration as a simulated one.\n"
    "\n"
    "  -c, --config FILE   the configuration; only its devices are looked at\n"
    "      --listen ADDRESS  serve all of them at this address of this machine, each\n"
    "                      link at a port of its own, in place of their own hosts,\n"
    "                      ports and serial lines: for fluxbridge run --sim\n"
    "      --only NAME     serve just this device; may be given several times\n"
    "      --seed N        start value of all randomness (default 1)\n"
    "      --speed X       simulated seconds per second (default 1)\n"
    "  -h, --help          show this help\n"
    "  -V, --version       show the version\n"
    "\n"
    "Says \"ready\" on standard output when all devices are being served.\n"
    "Exit codes: 0 good, 1 failed at run time, 2 bad usage or configuration.\n";

struct arguments {
    const char *file;
    const char **only;  /* NULL-terminated */
    const char *listen; /* NULL = each where it is */
    struct server_options options;
    int exit_code; /* -1 = carry on */
};

static const char hint[] = "Try 'fluxbridge-sim --help'.\n";

static int misused(const char *what, const char *argument)
{
    fprintf(stderr, "fluxbridge-sim: %s: %s\n%s", what, argument, hint);
    return MISUSED;
}

static bool parse_number(const char *text, double min, double max, double *number)
{
    char *end;
    double parsed = strtod(text, &end);
    if (end == text || *end || !(parsed >= min && parsed <= max))
        return false;
    *number = parsed;
    return true;
}

/* `arguments->only` has room for all of argv. */
static void parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"listen", required_argument, NULL, 'l'},
        {"only", required_argument, NULL, 'o'},   {"seed", required_argument, NULL, 's'},
        {"speed", required_argument, NULL, 'x'},  {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
    };
    size_t n_only = 0;
    double number;
    int option;
    while (arguments->exit_code < 0 &&
           (option = getopt_long(argc, argv, "c:hV", longs, NULL)) != -1)
        switch (option) {
        case 'c':
            arguments->file = optarg;
            break;
        case 'l':
            arguments->listen = optarg;
            break;
        case 'o':
            arguments->only[n_only++] = optarg;
            break;
        case 's':
            if (parse_number(optarg, 0, 0x1p53, &number) && floor(number) == number)
                arguments->options.seed = (uint64_t)number;
            else
                arguments->exit_code = misused("--seed wants a whole number, not", optarg);
            break;
        case 'x':
            if (!parse_number(optarg, 1e-6, 1e6, &arguments->options.speed))
                arguments->exit_code = misused("--speed wants a number above 0, not", optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            arguments->exit_code = GOOD;
            break;
        case 'V':
            puts("fluxbridge-sim " FLUXBRIDGE_VERSION);
            arguments->exit_code = GOOD;
            break;
        default:
            fputs(hint, stderr); /* getopt has said why */
            arguments->exit_code = MISUSED;
        }
    if (arguments->exit_code >= 0)
        return;
    if (optind < argc)
        arguments->exit_code = misused("what is this", argv[optind]);
    else if (!arguments->file)
        arguments->exit_code = misused("a configuration is needed", "-c FILE");
}

/* Marks the devices that --only names. */
static bool choose(const struct device_list *list, const char *const *only, bool *served)
{
    for (; *only; only++) {
        bool found = false;
        for (unsigned i = 0; i < list->n_devices; i++)
            if (strcmp(list->devices[i].name, *only) == 0)
                found = served[i] = true;
        if (!found) {
            misused("the configuration has no device", *only);
            return false;
        }
    }
    return true;
}

static void announce(const struct device_list *list, const bool *served,
                     const struct server *server)
{
    for (unsigned i = 0; i < list->n_devices; i++) {
        const struct device *device = &list->devices[i];
        const struct device_modbus *modbus = &device->modbus;
        if (served && !served[i])
            continue;
        printf("serving %s %s at ", device->name, device->profile->type);
        if (*modbus->serial)
            fputs(modbus->serial, stdout);
        else
            printf(strchr(modbus->host, ':') ? "[%s]:%u" : "%s:%u", modbus->host,
                   (unsigned)server_port(server, i));
        printf(" unit %u\n", (unsigned)modbus->address);
    }
    puts("ready");
    fflush(stdout);
}

/* Hundreds of devices with several connections each want many descriptors. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int serve(const struct device_list *list, const struct server_options *options)
{
    char error[SERVER_ERROR_MAX] = "";
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    int stop_fd = signalfd(-1, &stops, SFD_CLOEXEC);
    raise_descriptor_limit();

    struct server *server = server_new(list, options, error);
    bool good = false;
    if (server) {
        announce(list, options->served, server);
        good = server_run(server, stop_fd, error);
    }
    if (!good)
        fprintf(stderr, "fluxbridge-sim: %s\n", error);
    server_free(server);
    if (stop_fd >= 0)
        close(stop_fd);
    return good ? GOOD : FAILED;
}

static int read_and_serve(struct arguments *arguments)
{
    struct cfg cfg = {.out = stderr, .file = arguments->file};
    struct device_list list = {0};
    bool *served = NULL;
    int exit_code = MISUSED;
    const struct cfg_setting *root = cfg_open(&cfg, arguments->file);
    if (!root)
        return MISUSED;
    const struct cfg_setting *group = cfg_member(root, "devices");
    if (!group)
        cfg_problem(&cfg, NULL, "no devices");
    else if (device_list_read(&cfg, group, profile_directories(), &list)) {
        for (unsigned i = 0; arguments->listen && i < list.n_devices; i++)
            place_redirect(&list.devices[i].modbus, arguments->listen, 0);
        if (*arguments->only)
            arguments->options.served = served = calloc(list.n_devices + 1u, sizeof *served);
        if (!served || choose(&list, arguments->only, served))
            exit_code = serve(&list, &arguments->options);
    }
    free(served);
    device_list_free(&list);
    cfg_close(root);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {
        .only = calloc((size_t)argc + 1, sizeof *arguments.only),
        .options = {.seed = 1, .speed = 1},
        .exit_code = -1,
    };
    if (!arguments.only)
        return FAILED;
    parse(argc, argv, &arguments);
    if (arguments.exit_code < 0)
        arguments.exit_code = read_and_serve(&arguments);
    free(arguments.only);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("fluxbridge-sim: cannot write the output\n", stderr);
        return FAILED;
    }
    return arguments.exit_code;
}
