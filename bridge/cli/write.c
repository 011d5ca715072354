#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "bridge/base/clock.h"
#include "bridge/battery/admit.h"
#include "bridge/battery/battery.h"
#include "bridge/battery/script.h"
#include "bridge/cli/cli.h"
#include "bridge/commands/answers.h"
#include "bridge/wire/json_text.h"
#include "devices/lines/link_new.h"
#include "devices/registers/codec.h"

enum { EXIT_USAGE = 2 };

/* What it takes to answer a command: the audit log, and an outbox that nobody
 * empties in place of the broker. */
struct desk {
    struct health health;
    struct outbox *outbox;
    struct audit *audit;
    struct answers *answers;
};

static bool desk_open(struct desk *desk, const struct conf *conf)
{
    memset(desk, 0, sizeof(*desk));
    desk->outbox = outbox_new(conf->devices.n_devices, 0, 0);
    if (desk->outbox != NULL)
        desk->audit = audit_start(conf->audit_path, desk->outbox, NULL);
    if (desk->audit != NULL)
        desk->answers = answers_new(conf, desk->audit, &desk->health);
    return desk->answers != NULL;
}

static void desk_close(struct desk *desk)
{
    answers_free(desk->answers);
    if (desk->audit != NULL)
        audit_stop(desk->audit);
    outbox_free(desk->outbox);
}

const struct device *cli_find_device(const struct conf *conf, const char *verb, const char *name)
{
    const struct device_list *list = &conf->devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (strcmp(list->devices[i].name, name) == 0)
            return &list->devices[i];
    }
    fprintf(stderr, "fluxbridge %s: there is no device '%s' in the configuration: there are", verb,
            name);
    for (unsigned i = 0; i < list->n_devices; i++)
        fprintf(stderr, "%s %s", i > 0 ? "," : "", list->devices[i].name);
    fprintf(stderr, "\n");
    return NULL;
}

static bool parse_number(const char *text, double *number)
{
    char *end;
    errno = 0;
    *number = strtod(text, &end);
    bool decimal = text[strspn(text, "+-.0123456789eE")] == '\0';
    return decimal && end != text && *end == '\0' && errno == 0 && isfinite(*number);
}

static void keep(void *context, const struct outcome *outcome)
{
    *(struct outcome *)context = *outcome;
}

/* The same door and the same sequence as for a command over MQTT. */
static void carry_out(const struct device *device, struct command *command, bool dry_run,
                      struct outcome *outcome)
{
    char who[64];
    struct link *link = link_new(&device->modbus);
    (void)snprintf(who, sizeof(who), "fluxbridge write, process %d", (int)getpid());
    struct battery *battery = battery_new(&(struct battery_setup){
        .device = device,
        .index = command->device,
        .run = "write",
        .who = who,
        .judge_only = dry_run,
        .tell = keep,
        .context = outcome,
    });
    if (link != NULL && battery != NULL && battery_put(battery, command)) {
        /* What was begun and not finished is undone before the end. */
        while (outcome->done_ns == 0 || !battery_has_settled(battery)) {
            int64_t pause_ns = battery_due_ns(battery) - clock_mono_ns();
            if (pause_ns > 0)
                clock_pause(pause_ns);
            battery_step(battery, link);
        }
    } else {
        (void)snprintf(outcome->detail, sizeof(outcome->detail), "out of memory");
        outcome->reason = REASON_DEVICE_OFFLINE;
        outcome->done_ns = clock_mono_ns();
    }
    battery_free(battery);
    link_free(link);
}

/* What happens when this program has ended, where the type says how a battery is commanded:
 * then nobody keeps it going. */
static void tell_future(const struct device *device, const struct outcome *outcome)
{
    const struct drive *drive = device_drive(device);
    const double timeout_s = device->control.drive.timeout_s;
    if (drive == NULL || (int)outcome->command.point != device->control.setpoint ||
        outcome->kind != OUTCOME_CONFIRMED)
        return;
    if (outcome->command.stop && device->control.drive.idle_release)
        fprintf(stderr, "fluxbridge write: %s is released\n", device->name);
    else if (drive->every_ns > 0)
        fprintf(
            stderr,
            "fluxbridge write: nobody keeps this up from now on: %s goes back to its own by its "
            "device_timeout, %g s\n",
            device->name, timeout_s);
    else
        fprintf(stderr,
                "fluxbridge write: %s holds this until it is told otherwise, and nobody watches "
                "it\n",
                device->name);
}

/* The same of a battery that takes more than one write. */
static void tell_dry_script(const struct device *device, double value)
{
    struct script script;
    const struct point *misfit = script_make(device, SCRIPT_ENGAGE, value, NULL, 0, &script);
    if (misfit != NULL) {
        printf("would write to %s unit %d, once it is known what %s is a part of\n", device->name,
               (int)device->modbus.address, misfit->name);
        return;
    }
    printf("would write to %s unit %d:\n", device->name, (int)device->modbus.address);
    for (unsigned i = 0; i < script.n; i++) {
        const struct script_step *step = &script.steps[i];
        printf("  %s = %g, function %02d, address %u, registers", device->points[step->point].name,
               step->number, step->multiple ? 16 : 6, step->address);
        for (unsigned k = 0; k < step->count; k++)
            printf(" 0x%04X", step->words[k]);
        printf("\n");
    }
}

/* A dry run that met no refusal: says what would have been sent. */
static void tell_dry(const struct device *device, int point, double value)
{
    const struct point *row = &device->points[point];
    uint16_t words[4] = {0};
    if (device_drive(device) != NULL && point == device->control.setpoint) {
        tell_dry_script(device, value);
        return;
    }
    (void)codec_encode(row, value, words);
    printf("would write to %s unit %d: %s = %g %s, function %02u, address %u, registers",
           device->name, (int)device->modbus.address, row->name, value, row->unit,
           point_write_function(row), row->address);
    for (unsigned i = 0; i < point_width(row); i++)
        printf(" 0x%04X", words[i]);
    printf("\n");
}

static json_t *request_of(const char *point, unsigned function, unsigned address,
                          const uint16_t *words, unsigned n)
{
    json_t *registers = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(registers, json_integer(words[i]));
    return json_pack("{s:s, s:i, s:i, s:o}", "point", point, "function", (int)function, "address",
                     (int)address, "registers", registers);
}

/* For a machine: the requests, or null where the device has to be asked before. */
static bool tell_dry_json(const struct device *device, int point, double value)
{
    const struct point *row = &device->points[point];
    uint16_t words[4] = {0};
    struct script script;
    json_t *requests = json_array();
    if (device_drive(device) == NULL || point != device->control.setpoint) {
        (void)codec_encode(row, value, words);
        json_array_append_new(requests, request_of(row->name, point_write_function(row),
                                                   row->address, words, point_width(row)));
    } else if (script_make(device, SCRIPT_ENGAGE, value, NULL, 0, &script) == NULL) {
        for (unsigned i = 0; i < script.n; i++) {
            const struct script_step *step = &script.steps[i];
            json_array_append_new(requests, request_of(device->points[step->point].name,
                                                       step->multiple ? 16 : 6, step->address,
                                                       step->words, step->count));
        }
    } else {
        json_decref(requests);
        requests = json_null();
    }
    json_t *root =
        json_pack("{s:b, s:s, s:s, s:o, s:o}", "dry_run", 1, "device", device->name, "point",
                  row->name, "value", json_text_number(value), "writes", requests);
    const bool good = root != NULL && json_dumpf(root, stdout, JSON_COMPACT) == 0;
    putchar('\n');
    json_decref(root);
    return good;
}

/* Judges it as it arrives: what can be said without the device. */
static enum reason judge(const struct conf *conf, const struct device *device, int point,
                         struct desk *desk, struct outcome *outcome)
{
    const struct admit_scene scene = {
        .device = device,
        .index = (unsigned)(device - conf->devices.devices),
        .point = point,
        .audit_unavailable = !audit_available(desk->audit),
        .utc_ms = outcome->command.utc_ms,
        .mono_ns = outcome->command.mono_ns,
        .last_write_ns = INT64_MIN,
    };
    return admit(&outcome->command, &scene, outcome->detail);
}

/* Tells how it ended, on stdout. */
static bool tell(const struct outcome *outcome)
{
    char *text = outcome_json(outcome);
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    return outcome->kind == OUTCOME_CONFIRMED;
}

/* Who wants it. */
static struct command command_of(const char *device, const char *point, double value)
{
    struct command command = {
        .author = AUTHOR_TOOL,
        .has_value = true,
        .value = value,
        .mono_ns = clock_mono_ns(),
        .utc_ms = clock_utc_ms(),
    };
    (void)snprintf(command.device_name, sizeof(command.device_name), "%s", device);
    (void)snprintf(command.point_name, sizeof(command.point_name), "%s", point);
    (void)snprintf(command.id, sizeof(command.id), "write-%d-%lld", (int)getpid(),
                   (long long)command.utc_ms);
    (void)snprintf(command.source, sizeof(command.source), "fluxbridge-write");
    return command;
}

int cli_write(const struct conf *conf, const char *device_name, const char *point,
              const char *value, bool dry_run, bool json)
{
    const struct device *device = cli_find_device(conf, "write", device_name);
    struct outcome outcome = {.kind = OUTCOME_REFUSED};
    struct desk desk;
    double number;

    if (device == NULL)
        return EXIT_USAGE;
    if (!parse_number(value, &number)) {
        fprintf(stderr, "fluxbridge write: '%s' is not a number\n", value);
        return EXIT_USAGE;
    }
    outcome.command = command_of(device->name, point, number);
    bool good = desk_open(&desk, conf);
    if (good) {
        const int index = device_find_point(device, point);
        outcome.reason = judge(conf, device, index, &desk, &outcome);
        outcome.done_ns = outcome.reason != REASON_NONE ? clock_mono_ns() : 0;
        if (outcome.reason == REASON_NONE)
            carry_out(device, &outcome.command, dry_run, &outcome);
        if (!dry_run || outcome.kind != OUTCOME_REFUSED || outcome.reason != REASON_NONE)
            good = tell(&outcome);
        else if (json)
            good = tell_dry_json(device, index, number);
        else
            tell_dry(device, index, number);
        tell_future(device, &outcome);
        if (!dry_run)
            answers_send(desk.answers, &outcome);
    } else {
        fprintf(stderr, "fluxbridge write: out of memory or threads\n");
    }
    desk_close(&desk);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
