#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bridge/cli/cli.h"
#include "bridge/cli/survey.h"
#include "bridge/cli/table.h"
#include "bridge/cli/types.h"

enum { EXIT_USAGE = 2, BAR_WIDTH = 30 };

enum { UNIT_MAX = 255, UNIT_ITSELF = 255 }; /* a TCP device by itself, no gateway */

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

static void print_findings(const struct finding *findings, unsigned n)
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
        table_cell(table, "%s", address);
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

/* One of the two lists of `devices`, unless it would be empty. */
static unsigned print_list(const struct finding *findings, unsigned n, bool batteries)
{
    unsigned number = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct finding *finding = &findings[i];
        char address[RANGE_TEXT_MAX];
        if (!is_device(findings, n, i) || is_battery(finding->guess.profile) != batteries)
            continue;
        address_range_print(finding->address, address);
        printf(number++ > 0 ? ",\n" : "  %s = (\n", batteries ? "bess" : "meters");
        printf("    {\n      id = \"");
        print_uuid();
        printf("\";\n      name = \"%s-%u\";\n      type = \"%s\";\n"
               "      modbus: { host = \"%s\"; port = %u; address = %u; };\n"
               "      poll = \"1s\";\n",
               batteries ? "Battery" : "Meter", number, finding->guess.profile->type, address,
               finding->port, finding->unit);
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

static void print_configuration(const struct finding *findings, unsigned n)
{
    if (!any_device(findings, n))
        return;
    printf("\n// For the configuration; give each device a name of its own.\ndevices: {\n");
    (void)print_list(findings, n, true);
    (void)print_list(findings, n, false);
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
    const bool shown = isatty(STDERR_FILENO);
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

static int scan(const struct survey_setup *setup, const char *cidr)
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
        if (n > 0) {
            print_findings(findings, n);
            print_configuration(findings, n);
        }
        survey_free(survey);
    }
    if (signals >= 0)
        close(signals);
    if (survey == NULL || !whole)
        fprintf(stderr, "fluxbridge scan: out of memory, threads or descriptors\n");
    else if (!finished)
        fprintf(stderr, "fluxbridge scan: ended before all of %s was looked at\n", cidr);
    else if (n == 0)
        fprintf(stderr, "fluxbridge scan: nobody in %s takes connections\n", cidr);
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

int cli_scan(const char *cidr, const char *ports, const char *units)
{
    struct survey_setup setup = {0};
    const char *wrong = address_range_parse(cidr, &setup.range);

    if (wrong != NULL)
        fprintf(stderr, "fluxbridge scan: '%s' %s\n", cidr, wrong);
    if (wrong != NULL ||
        !parse_list("-p", ports != NULL ? ports : "502", UINT16_MAX, &setup.ports) ||
        !parse_list("-u", units != NULL ? units : "1,255", UNIT_MAX, &setup.units))
        return EXIT_USAGE;
    struct profile **profiles = load_profiles(&setup.n_profiles);
    if (profiles == NULL) {
        fprintf(stderr, "fluxbridge scan: out of memory\n");
        return EXIT_FAILURE;
    }
    setup.profiles = profiles;
    const int code = scan(&setup, cidr);
    free_profiles(profiles, setup.n_profiles);
    return code;
}
