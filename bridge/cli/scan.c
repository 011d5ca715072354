#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/found_json.h"
#include "bridge/cli/survey.h"
#include "bridge/cli/table.h"
#include "bridge/cli/terminal.h"
#include "bridge/cli/types.h"
#include "devices/lines/link_new.h"

enum { EXIT_USAGE = 2, BAR_WIDTH = 30 };

enum {
    UNIT_MAX = 255,
    UNIT_MAX_SERIAL = 247,
    UNIT_ITSELF = 255
}; /* a TCP device by itself, no gateway */

/* ---- what may be found ---- */

static void free_profiles(struct profile **profiles, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        profile_free(profiles[i]);
    free(profiles);
}

/* Every profile that is installed. One that is broken is told and left out.
 * NULL when out of memory. */
static struct profile **load_profiles(unsigned *n)
{
    const char *const *directories = profile_directories();
    struct cfg cfg = {.out = stderr};
    char **types = types_list(directories);
    size_t room = 0;

    *n = 0;
    while (types != NULL && types[room] != NULL)
        room++;
    struct profile **profiles = types != NULL ? calloc(room + 1, sizeof(struct profile *)) : NULL;
    for (size_t i = 0; profiles != NULL && i < room; i++) {
        profiles[*n] = profile_read(&cfg, NULL, directories, types[i]);
        *n += profiles[*n] != NULL;
    }
    types_free(types);
    return profiles;
}

/* ---- what was found ---- */

static void print_findings(const struct survey_setup *setup, const struct finding *findings,
                           unsigned n)
{
    static const char *const headings[] = {"ADDRESS", "PORT", "UNIT", "TYPE", "POINTS"};
    struct table *table = table_new("lrrll");

    for (size_t i = 0; i < sizeof(headings) / sizeof(*headings); i++)
        table_cell(table, "%s", headings[i]);
    for (unsigned i = 0; i < n; i++) {
        const struct finding *finding = &findings[i];
        const struct recognised *guess = &finding->guess;
        char address[RANGE_TEXT_MAX];
        address_range_print(finding->address, address);
        table_cell(table, "%s", setup->serial != NULL ? setup->serial->serial : address);
        if (setup->serial != NULL)
            table_cell(table, "-");
        else
            table_cell(table, "%u", finding->port);
        if (finding->unit == 0) {
            table_cell(table, "-");
            table_cell(table, "none of the units answers");
            table_cell(table, "%s", "");
        } else {
            table_cell(table, "%u", finding->unit);
            table_cell(table, "%s", guess->profile != NULL ? guess->profile->type : "unknown");
            if (guess->profile != NULL)
                table_cell(table, "%u of %u", guess->good, guess->of);
            else
                table_cell(table, "%s", "");
        }
    }
    (void)table_print(table, stdout);
    table_free(table);
}

static bool is_battery(const struct profile *profile)
{
    for (unsigned i = 0; i < profile->n_points; i++)
        if (strcmp(profile->points[i].name, "target_power") == 0)
            return profile->points[i].writable;
    return false;
}

/* Whether it belongs into a configuration. Many devices answer by any unit:
 * then unit 255 is the same one again. */
static bool is_device(const struct finding *findings, unsigned n, unsigned index)
{
    const struct finding *this = &findings[index];
    if (this->guess.profile == NULL)
        return false;
    for (unsigned i = 0; this->unit == UNIT_ITSELF && i < n; i++)
        if (i != index && findings[i].address == this->address && findings[i].port == this->port &&
            findings[i].guess.profile == this->guess.profile)
            return false;
    return true;
}

/* A random UUID (RFC 9562, section 5.4). */
static void print_uuid(void)
{
    uint8_t bytes[16] = {0};
    (void)!getrandom(bytes, sizeof(bytes), 0);
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static void print_place(const struct survey_setup *setup, const struct finding *finding)
{
    static const char *const parities[] = {"none", "even", "odd"};
    char address[RANGE_TEXT_MAX];
    address_range_print(finding->address, address);
    if (setup->serial != NULL)
        printf("      modbus: { serial = \"%s\"; address = %u; baud = %d; parity = \"%s\"; };\n",
               setup->serial->serial, finding->unit, (int)setup->serial->baud,
               parities[setup->serial->parity]);
    else
        printf("      modbus: { host = \"%s\"; port = %u; address = %u; };\n", address,
               finding->port, finding->unit);
}

/* One of the two lists of `devices`, unless it would be empty. */
static unsigned print_list(const struct survey_setup *setup, const struct finding *findings,
                           unsigned n, bool batteries)
{
    unsigned number = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct finding *finding = &findings[i];
        if (!is_device(findings, n, i) || is_battery(finding->guess.profile) != batteries)
            continue;
        printf(number++ > 0 ? ",\n" : "  %s = (\n", batteries ? "bess" : "meters");
        printf("    {\n      id = \"");
        print_uuid();
        printf("\";\n      name = \"%s-%u\";\n      type = \"%s\";\n",
               batteries ? "Battery" : "Meter", number, finding->guess.profile->type);
        print_place(setup, finding);
        printf("      poll = \"1s\";\n");
        if (batteries)
            printf(
                "      // To let it take setpoints, fill in what is only known on site:\n"
                "      // control: {\n"
                "      //   ready_status = [ ];             // values of `status` that allow one\n"
                "      //   min_kw = ; max_kw = ;           // + discharges, - charges\n"
                "      //   positive_is = \"discharge\";      // or \"charge\": what the register "
                "says\n"
                "      // };\n");
        printf("    }");
    }
    if (number > 0)
        printf("\n  );\n");
    return number;
}

static bool any_device(const struct finding *findings, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (is_device(findings, n, i))
            return true;
    return false;
}

static void print_configuration(const struct survey_setup *setup, const struct finding *findings,
                                unsigned n)
{
    if (!any_device(findings, n))
        return;
    printf("\n// For the configuration; give each device a name of its own.\ndevices: {\n");
    (void)print_list(setup, findings, n, true);
    (void)print_list(setup, findings, n, false);
    printf("};\n");
}

/* ---- looking ---- */

static void print_progress(unsigned done, unsigned size, unsigned found)
{
    char bar[BAR_WIDTH + 1];
    const unsigned filled = (unsigned)((uint64_t)done * BAR_WIDTH / size);
    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR_WIDTH - filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %u of %u, %u found", bar, done, size, found);
}

/* Until all is done, or a signal. False after a signal. */
static bool await(struct survey *survey, int signals)
{
    const bool shown = terminal_can_rewrite(stderr);
    const unsigned size = survey_size(survey);
    struct pollfd fds[] = {{.fd = survey_fd(survey), .events = POLLIN},
                           {.fd = signals, .events = POLLIN}};
    unsigned done = 0, found = 0;

    while (done < size && (fds[1].revents & POLLIN) == 0) {
        if (shown)
            print_progress(done, size, found);
        if (poll(fds, 2, -1) < 0)
            break;
        done = survey_done(survey, &found);
    }
    if (shown)
        fprintf(stderr, "\r\033[K");
    return done == size;
}

static int scan(const struct survey_setup *setup, const char *where, bool json)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, NULL); /* in the threads as well */
    const int signals = signalfd(-1, &mask, SFD_CLOEXEC);
    struct survey *survey = signals >= 0 ? survey_start(setup) : NULL;
    bool whole = false, finished = false;
    unsigned n = 0;

    if (survey != NULL) {
        finished = await(survey, signals);
        survey_stop(survey);
        const struct finding *findings = survey_findings(survey, &n, &whole);
        if (json) {
            whole = found_json_scan(setup, findings, n, whole && finished) && whole;
        } else if (n > 0) {
            print_findings(setup, findings, n);
            print_configuration(setup, findings, n);
        }
        survey_free(survey);
    }
    if (signals >= 0)
        close(signals);
    if (survey == NULL || !whole)
        fprintf(stderr, "fluxbridge scan: out of memory, threads or descriptors\n");
    else if (!finished)
        fprintf(stderr, "fluxbridge scan: ended before all of %s was looked at\n", where);
    else if (n == 0)
        fprintf(stderr,
                setup->serial != NULL
                    ? "fluxbridge scan: nobody on %s answers: another --baud or --parity?\n"
                    : "fluxbridge scan: nobody in %s takes connections\n",
                where);
    return whole && finished && n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The list of an option, or its default. Complains when it is none. */
static bool parse_list(const char *option, const char *text, uint16_t most,
                       struct address_range_numbers *numbers)
{
    const bool good = address_range_parse_numbers(text, 1, most, numbers);
    if (!good)
        fprintf(stderr,
                "fluxbridge scan: %s '%s': wanted are at most %d numbers from 1 to %u, such as "
                "%s or 1-4\n",
                option, text, RANGE_NUMBERS_MAX, most, most == UNIT_MAX ? "1,255" : "502,1502");
    return good;
}

/* Which line, and how it is set. Complains of what makes no sense, and of a line that
 * cannot be opened. Returns the exit code then, else EXIT_SUCCESS. */
static int parse_serial(const struct cli_scan_options *options, struct device_modbus *line)
{
    static const char *const parities[] = {"none", "even", "odd"};
    const char *baud = options->baud != NULL ? options->baud : "9600";
    const char *parity = options->parity != NULL ? options->parity : parities[0];
    char *end;

    *line = (struct device_modbus){.framing = DEVICE_RTU,
                                   .baud = strtol(baud, &end, 10),
                                   .parity = -1,
                                   .data_bits = 8,
                                   .stop_bits = 1};
    for (int i = 0; i < (int)(sizeof(parities) / sizeof(*parities)); i++)
        if (strcmp(parity, parities[i]) == 0)
            line->parity = i;
    if (*end != '\0' || !place_is_baud(line->baud) || line->parity < 0 ||
        strlen(options->serial) >= sizeof(line->serial)) {
        fprintf(
            stderr,
            "fluxbridge scan: '%s' at '%s', parity '%s': wanted are a serial line, its rate such "
            "as 9600 or 19200, and none, even or odd\n",
            options->serial, baud, parity);
        return EXIT_USAGE;
    }
    strcpy(line->serial, options->serial);
    struct link *link = link_new(line);
    const bool opens = link != NULL && link_open(link, CLOCK_NS_PER_S) == FAULT_NONE;
    if (!opens)
        fprintf(stderr, "fluxbridge scan: %s\n", link != NULL ? link->error : "out of memory");
    link_free(link);
    return opens ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Where to look. Returns the exit code when that cannot be, else EXIT_SUCCESS. */
static int parse_where(const struct cli_scan_options *options, struct survey_setup *setup,
                       struct device_modbus *line)
{
    const bool serial = options->serial != NULL;
    const char *ports = options->ports != NULL ? options->ports : "502";
    const char *units = options->units != NULL ? options->units : serial ? "1-247" : "1,255";

    if (serial == (options->cidr != NULL) || (serial && options->ports != NULL) ||
        (!serial && (options->baud != NULL || options->parity != NULL))) {
        fprintf(stderr, "fluxbridge scan: wanted is either CIDR, with -p, or --serial, with --baud "
                        "and --parity\n");
        return EXIT_USAGE;
    }
    const char *wrong = serial ? NULL : address_range_parse(options->cidr, &setup->range);
    if (wrong != NULL)
        fprintf(stderr, "fluxbridge scan: '%s' %s\n", options->cidr, wrong);
    if (wrong != NULL || !parse_list("-p", ports, UINT16_MAX, &setup->ports) ||
        !parse_list("-u", units, serial ? UNIT_MAX_SERIAL : UNIT_MAX, &setup->units))
        return EXIT_USAGE;
    setup->serial = serial ? line : NULL;
    return serial ? parse_serial(options, line) : EXIT_SUCCESS;
}

int cli_scan(const struct cli_scan_options *options)
{
    struct survey_setup setup = {0};
    struct device_modbus line;
    int code = parse_where(options, &setup, &line);

    if (code == EXIT_FAILURE && options->json)
        (void)found_json_scan(&setup, NULL, 0, false); /* also when there is nothing to look at */
    if (code != EXIT_SUCCESS)
        return code;
    struct profile **profiles = load_profiles(&setup.n_profiles);
    if (profiles == NULL) {
        fprintf(stderr, "fluxbridge scan: out of memory\n");
        return EXIT_FAILURE;
    }
    setup.profiles = profiles;
    code = scan(&setup, options->serial != NULL ? options->serial : options->cidr, options->json);
    free_profiles(profiles, setup.n_profiles);
    return code;
}
