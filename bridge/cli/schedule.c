#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/base/clock.h"
#include "bridge/battery/own.h"
#include "bridge/battery/remembered.h"
#include "bridge/battery/schedule.h"
#include "bridge/battery/sequence.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/reading.h"
#include "bridge/store/peek.h"
#include "bridge/store/state.h"
#include "bridge/wire/json_text.h"
#include "bridge/wire/schedule_json.h"
#include "devices/lines/link_new.h"
#include "devices/registers/codec.h"

enum { EXIT_USAGE = 2 };

/* What is known of a battery and its schedule. */
struct inquiry {
    const struct device *device;
    unsigned index;
    char path[CONF_PATH_MAX + 1]; /* of the state file */
    struct schedule schedule;
    struct schedule_now now;
    struct schedule_status status;
    bool wants; /* something is to be written now */
    struct schedule_wish wish;
    struct outcome outcome; /* with wants: what would come of it */
    double held_kw;         /* NAN = not read */
};

/* ---- what is kept ---- */

/* A whole hour without NTP, as the bridge has noted it. */
static bool is_trusted(const struct inquiry *inquiry)
{
    char text[REMEMBERED_BOOT_MAX + 32], boot[REMEMBERED_BOOT_MAX + 1], why[PEEK_WHY_MAX];
    char of[REMEMBERED_BOOT_MAX + 1];
    int64_t since_ns;
    if (clock_is_synchronised())
        return true;
    remembered_boot(boot);
    return peek_text(inquiry->path, "unsynchronised", text, sizeof(text), why) != PEEK_FOUND ||
           sscanf(text, "%36s %" SCNd64, of, &since_ns) != 2 || strcmp(of, boot) != 0 ||
           clock_mono_ns() - since_ns < SCHEDULE_TRUST_NS;
}

/* When the lease of a live setpoint ends. */
static int64_t lease_ns(const struct inquiry *inquiry)
{
    char key[DEVICE_ID_MAX + 16], text[REMEMBERED_TEXT_MAX], why[PEEK_WHY_MAX];
    char boot[REMEMBERED_BOOT_MAX + 1];
    struct remembered kept;
    (void)snprintf(key, sizeof(key), "battery/%s", inquiry->device->id);
    if (peek_text(inquiry->path, key, text, sizeof(text), why) != PEEK_FOUND)
        return SCHEDULE_NEVER;
    remembered_parse(text, &kept);
    remembered_boot(boot);
    if (kept.kind != REMEMBERED_LEASE && kept.kind != REMEMBERED_LEASE_STOPPED)
        return SCHEDULE_NEVER;
    return remembered_end_ns(&kept, boot, clock_mono_ns(), clock_utc_ms(),
                             inquiry->device->control.deadman_timeout_ns);
}

/* False with what is wrong. None is no failure. */
static bool read_schedule(struct inquiry *inquiry, char why[PEEK_WHY_MAX])
{
    char key[DEVICE_ID_MAX + 16], detail[DETAIL_MAX];
    struct command kept = {.timetable = NULL};
    char *text = malloc(STATE_TEXT_MAX + 1);
    enum peek found = PEEK_FAILED;
    schedule_init(&inquiry->schedule);
    (void)snprintf(key, sizeof(key), "schedule/%s", inquiry->device->id);
    if (text != NULL)
        found = peek_text(inquiry->path, key, text, STATE_TEXT_MAX + 1, why);
    const size_t size = found == PEEK_FOUND ? strlen(text) : 0;
    if (found == PEEK_FOUND &&
        (size <= TIMETABLE_HEAD_MAX ||
         schedule_json_parse(text + TIMETABLE_HEAD_MAX, size - TIMETABLE_HEAD_MAX, &kept, detail) !=
             REASON_NONE ||
         !schedule_resume(&inquiry->schedule, text, kept.timetable, &inquiry->now,
                          inquiry->device->control.deadman_timeout_ns))) {
        schedule_json_free(kept.timetable);
        (void)snprintf(why, PEEK_WHY_MAX, "what is kept of it makes no sense");
        found = PEEK_FAILED;
    }
    free(text);
    return found != PEEK_FAILED;
}

/* ---- what would happen now ---- */

static void read_setpoint(struct inquiry *inquiry, struct link *link)
{
    const struct device *device = inquiry->device;
    const unsigned setpoint = (unsigned)device->control.setpoint;
    struct reading reading;
    if (reading_init(&reading, device, NULL) && reading_take(&reading, link) == FAULT_NONE) {
        const struct value held =
            device_drive(device) != NULL
                ? drive_held(device_drive(device), device->points, reading.values)
                : reading.values[setpoint];
        if (held.state == VALUE_READ)
            inquiry->held_kw = codec_decimal(&device->points[setpoint], held.number);
    }
    reading_free(&reading);
}

/* The same door and the same rules, up to the write. */
static void judge(struct inquiry *inquiry, struct link *link)
{
    struct driver *driver =
        device_drive(inquiry->device) != NULL ? driver_new(inquiry->device) : NULL;
    struct sequence *sequence = sequence_new(inquiry->device, driver);
    const struct own_entry entry = {
        .id = inquiry->schedule.table->id,
        .run = "dry",
        .value = inquiry->wish.value,
        .ttl_ns = CLOCK_NS_PER_S * 3600,
        .last_write_ns = INT64_MIN,
    };
    const enum reason reason =
        own_entry(inquiry->device, inquiry->index, &entry, inquiry->now.mono_ns,
                  inquiry->now.utc_ms, &inquiry->outcome);
    if (reason == REASON_NONE && !inquiry->outcome.command.stop && sequence != NULL) {
        sequence_begin(sequence, &inquiry->outcome, false, true);
        while (sequence_state(sequence) != SEQUENCE_ENDED)
            sequence_step(sequence, link);
    }
    sequence_free(sequence);
    driver_free(driver);
}

static void look_at_device(struct inquiry *inquiry)
{
    struct link *link = link_new(&inquiry->device->modbus);
    inquiry->held_kw = NAN;
    if (link == NULL)
        return;
    read_setpoint(inquiry, link);
    if (inquiry->wants)
        judge(inquiry, link);
    link_free(link);
    /* What has been carried out already, the battery itself tells. */
    if (inquiry->status.state == SCHEDULE_PENDING &&
        inquiry->held_kw == inquiry->status.entry.value)
        inquiry->status.state = SCHEDULE_RUNNING;
}

static const char *verdict(const struct inquiry *inquiry)
{
    if (!inquiry->wants)
        return "nothing";
    return inquiry->outcome.reason == REASON_NONE ? "write" : "refuse";
}

/* ---- for people ---- */

static void print_time(const char *before, int64_t utc_ms)
{
    const time_t seconds = (time_t)(utc_ms / 1000);
    struct tm utc;
    char text[32] = "?";
    if (gmtime_r(&seconds, &utc) != NULL)
        (void)strftime(text, sizeof(text), "%F %TZ", &utc);
    printf("%s%s", before, text);
}

static void print_now(const struct inquiry *inquiry)
{
    const struct outcome *outcome = &inquiry->outcome;
    char value[CODEC_TEXT_MAX];
    printf("now:      ");
    if (!inquiry->wants) {
        printf("nothing is to be written\n");
        return;
    }
    codec_print_number(inquiry->wish.value, value);
    if (outcome->reason == REASON_NONE && inquiry->status.state == SCHEDULE_RUNNING)
        printf("%s kW is held; written once more it would be taken\n", value);
    else if (outcome->reason == REASON_NONE)
        printf("%s kW would be written\n", value);
    else
        printf("%s kW would be refused: %s%s%s\n", value, reason_word(outcome->reason),
               outcome->detail[0] != '\0' ? ": " : "", outcome->detail);
}

static void print_next(const struct schedule_status *status)
{
    char value[CODEC_TEXT_MAX];
    if (!status->changes)
        return;
    codec_print_number(status->next_has_value ? status->next_value : 0, value);
    printf("next:     %s kW", value);
    print_time(" from ", status->next_ms);
    printf("%s\n", status->next_has_value ? "" : status->releases ? " (release)" : " (default)");
}

static void print_text(const struct inquiry *inquiry)
{
    const struct schedule_status *status = &inquiry->status;
    char value[CODEC_TEXT_MAX];
    if (status->revision < 0) {
        printf("%s has no schedule\n", inquiry->device->name);
        return;
    }
    printf("schedule: %s, revision %" PRId64 "%s%s", status->id, status->revision,
           status->source[0] != '\0' ? ", by " : "", status->source);
    print_time(", valid until ", status->valid_until_ms);
    printf("\nstate:    %s\n", schedule_json_word(status->state));
    if (status->has_entry) {
        codec_print_number(status->entry.value, value);
        printf("in force: %s kW", value);
        print_time(" from ", status->entry.start_ms);
        print_time(" to ", status->entry.end_ms);
        printf("\n");
    }
    print_next(status);
    if (!isnan(inquiry->held_kw)) {
        codec_print_number(inquiry->held_kw, value);
        printf("held:     %s kW\n", value);
    }
    print_now(inquiry);
}

/* ---- for machines ---- */

static bool print_json(const struct inquiry *inquiry)
{
    char *status = schedule_json_status(&inquiry->status);
    json_t *root = status != NULL ? json_loads(status, 0, NULL) : NULL;
    json_t *now = json_object();
    json_object_set_new(now, "would", json_string(verdict(inquiry)));
    json_object_set_new(now, "value",
                        inquiry->wants ? json_text_number(inquiry->wish.value) : json_null());
    if (inquiry->wants && inquiry->outcome.reason != REASON_NONE) {
        json_object_set_new(now, "reason", json_string(reason_word(inquiry->outcome.reason)));
        json_object_set_new(now, "detail", json_text_or_null(inquiry->outcome.detail));
    }
    json_object_set_new(root, "device", json_string(inquiry->device->name));
    json_object_set_new(root, "held",
                        isnan(inquiry->held_kw) ? json_null() : json_text_number(inquiry->held_kw));
    json_object_set_new(root, "now", now);
    char *text = json_text_dump(root);
    const bool good = text != NULL;
    if (good)
        printf("%s\n", text);
    free(text);
    free(status);
    return good;
}

int cli_schedule(const struct conf *conf, const char *device_name, bool json)
{
    struct inquiry inquiry = {.device = cli_find_device(conf, "schedule", device_name)};
    char why[PEEK_WHY_MAX] = "out of memory";
    int64_t due_ns;
    if (inquiry.device == NULL)
        return EXIT_USAGE;
    inquiry.index = (unsigned)(inquiry.device - conf->devices.devices);
    state_path(conf, inquiry.path);
    if (!inquiry.device->controllable || inquiry.path[0] == '\0') {
        fprintf(stderr, "fluxbridge schedule: %s: %s\n", device_name,
                inquiry.path[0] == '\0'
                    ? "nothing is kept: the configuration has neither a spool nor an audit log"
                    : "it takes no schedule: it has no control group");
        return EXIT_FAILURE;
    }
    inquiry.now = (struct schedule_now){
        .utc_ms = clock_utc_ms(), .mono_ns = clock_mono_ns(), .trusted = is_trusted(&inquiry)};
    inquiry.now.lease_ns = lease_ns(&inquiry);
    const bool good = read_schedule(&inquiry, why);
    if (good) {
        inquiry.wants = schedule_wants(&inquiry.schedule, &inquiry.now, &inquiry.wish, &due_ns);
        schedule_describe(&inquiry.schedule, &inquiry.now, &inquiry.status);
        look_at_device(&inquiry);
        if (json && !print_json(&inquiry))
            fprintf(stderr, "fluxbridge schedule: out of memory\n");
        else if (!json)
            print_text(&inquiry);
    } else {
        fprintf(stderr, "fluxbridge schedule: %s: %s\n", device_name, why);
    }
    schedule_json_free(inquiry.schedule.table);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
