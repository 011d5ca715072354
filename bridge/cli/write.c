#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/cli/cli.h"
#include "bridge/commands/answers.h"
#include "devices/lines/link_new.h"
#include "devices/registers/codec.h"

enum { EXIT_USAGE = 2 };

/* What it takes to answer a command: the audit log, and an outbox that nobody
 * empties in place of the broker. */
struct desk {
    struct health health;
    struct outbox *outbox;
    struct audit *audit;
    struct answers *reply;
};

static bool desk_open(struct desk *desk, const struct conf *conf)
{
    memset(desk, 0, sizeof(*desk));
    desk->outbox = outbox_new(conf->devices.n_devices, 0, 0);
    if (desk->outbox != NULL)
        desk->audit = audit_start(conf->audit_path, desk->outbox);
    if (desk->audit != NULL)
        desk->reply = answers_new(conf, desk->audit, &desk->health);
    return desk->reply != NULL;
}

static void desk_close(struct desk *desk)
{
    answers_free(desk->reply);
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

/* The same two judgements and the same sequence as for a command over MQTT. */
static void carry_out(const struct conf *conf, const struct device *device, int point,
                      const struct command *command, struct desk *desk, bool dry_run,
                      struct report *report)
{
    struct command_scene scene = {
        .device = device,
        .point = point,
        .parsed = true,
        .audit_unavailable = !audit_available(desk->audit),
        .utc_ms = clock_utc_ms(),
        .mono_ns = clock_mono_ns(),
        .last_write_ns = INT64_MIN,
    };
    struct order order = {
        .device = (unsigned)(device - conf->devices.devices),
        .point = (unsigned)point,
        .value = command->value,
    };
    int64_t last_write_ns = INT64_MIN;

    *report = (struct report){.order = order, .outcome = OUTCOME_REFUSED};
    report->reason = command_judge(command, &scene, &order.expires_ns, report->detail);
    report->done_ns = clock_mono_ns();
    if (report->reason != REASON_NONE)
        return;
    struct link *link = link_new(&device->modbus);
    struct control *control = control_new(device);
    if (link != NULL && control != NULL && dry_run) {
        if (control_check(control, link, &order, report))
            report->reason = REASON_NONE;
    } else if (link != NULL && control != NULL) {
        control_run(control, link, &order, &last_write_ns, report);
    } else {
        report->reason = REASON_DEVICE_OFFLINE;
        (void)snprintf(report->detail, sizeof(report->detail), "out of memory");
    }
    control_free(control);
    link_free(link);
}

/* A dry run that met no refusal: says what would have been sent. */
static void tell_dry(const struct device *device, int point, double value)
{
    const struct point *row = &device->points[point];
    uint16_t words[4] = {0};
    (void)codec_encode(row, value, words);
    printf("would write to %s unit %d: %s = %g %s, function %s, address %u, registers",
           device->name, (int)device->modbus.address, row->name, value, row->unit,
           point_width(row) == 1 ? "06" : "16", row->address);
    for (unsigned i = 0; i < point_width(row); i++)
        printf(" 0x%04X", words[i]);
    printf("\n");
}

/* Tells how it ended: to the audit log and on stdout. */
static bool tell(const struct device *device, const char *point, const struct command *command,
                 const struct report *report, int64_t begun_ns, struct desk *desk, bool report_it)
{
    struct wire_trace trace = {.received_ms = clock_utc_ms(), .n_words = report->n_words};
    struct outcome outcome = {
        .has_id = true,
        .has_value = true,
        .value = command->value,
        .kind = report->outcome,
        .reason = report->reason,
        .fault = report->fault,
        .has_readback = report->has_readback,
        .ts_ms = clock_utc_ms(),
        .latency_ms = (double)(report->done_ns - begun_ns) / (double)CLOCK_NS_PER_MS,
    };
    if (report->has_readback)
        outcome.readback =
            codec_decimal(&device->points[device_find_point(device, point)], report->readback);
    memcpy(trace.words, report->words, sizeof(trace.words));
    (void)snprintf(outcome.device, sizeof(outcome.device), "%s", device->name);
    (void)snprintf(outcome.point, sizeof(outcome.point), "%s", point);
    (void)snprintf(outcome.id, sizeof(outcome.id), "%s", command->id);
    (void)snprintf(outcome.source, sizeof(outcome.source), "%s", command->source);
    (void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", report->detail);
    char *text = outcome_json(&outcome);
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    if (report_it)
        answers_send(desk->reply, device->name, &outcome, &trace, &(struct reply_address){0});
    return report->outcome == OUTCOME_CONFIRMED;
}

int cli_write(const struct conf *conf, const char *device_name, const char *point,
              const char *value, bool dry_run)
{
    const int64_t begun_ns = clock_mono_ns();
    const struct device *device = cli_find_device(conf, "write", device_name);
    struct command command = {0};
    struct report report;
    struct desk desk;

    if (device == NULL)
        return EXIT_USAGE;
    if (!parse_number(value, &command.value)) {
        fprintf(stderr, "fluxbridge write: '%s' is not a number\n", value);
        return EXIT_USAGE;
    }
    (void)snprintf(command.id, sizeof(command.id), "write-%d-%lld", (int)getpid(),
                   (long long)clock_utc_ms());
    (void)snprintf(command.source, sizeof(command.source), "fluxbridge-write");
    bool good = desk_open(&desk, conf);
    if (good) {
        const int index = device_find_point(device, point);
        carry_out(conf, device, index, &command, &desk, dry_run, &report);
        if (dry_run && report.reason == REASON_NONE)
            tell_dry(device, index, command.value);
        else
            good = tell(device, point, &command, &report, begun_ns, &desk, !dry_run);
    } else {
        fprintf(stderr, "fluxbridge write: out of memory or threads\n");
    }
    desk_close(&desk);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
