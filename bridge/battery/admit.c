#include "bridge/battery/admit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "devices/registers/codec.h"

bool admit_is_too_soon(const struct device *device, const struct command *command, int64_t mono_ns,
                       int64_t last_write_ns)
{
    const int64_t interval_ns = device->control.min_interval_ns;
    /* A command that waited its turn may be older than the last write. */
    return interval_ns > 0 && (int)command->point == device->control.setpoint && !command->stop &&
           (!command_is_own(command) || command->author == AUTHOR_SCHEDULE) &&
           last_write_ns != INT64_MIN && mono_ns - last_write_ns < interval_ns;
}

/* Limits of a point: the site's for the setpoint, else the type's own. */
static void limits(const struct device *device, unsigned point, double *min, double *max)
{
    bool setpoint = (int)point == device->control.setpoint;
    *min = setpoint ? device->control.min_kw : device->points[point].min;
    *max = setpoint ? device->control.max_kw : device->points[point].max;
}

static enum reason judge_value(const struct device *device, unsigned point, double value,
                               char detail[DETAIL_MAX])
{
    const struct point *row = &device->points[point];
    char asked[CODEC_TEXT_MAX];
    char bound[CODEC_TEXT_MAX];
    double min;
    double max;
    uint16_t words[4];

    codec_print_number(value, asked);
    limits(device, point, &min, &max);
    if (value < min || value > max) {
        codec_print_number(value < min ? min : max, bound);
        (void)snprintf(detail, DETAIL_MAX, "%s %s is %s %s %s", asked, row->unit,
                       value < min ? "below the minimum of" : "above the maximum of", bound,
                       row->unit);
        return REASON_OUT_OF_RANGE;
    }
    const bool driven = device_drive(device) != NULL && (int)point == device->control.setpoint;
    switch (driven ? drive_fits(device_drive(device), device->points, value)
                   : codec_encode(row, value, words)) {
    case CODEC_FITS:
        return REASON_NONE;
    case CODEC_OUT_OF_RANGE:
        (void)snprintf(detail, DETAIL_MAX, "%s %s does not fit the register's type %s", asked,
                       row->unit, point_type_word(row->type));
        return REASON_OUT_OF_RANGE;
    case CODEC_OFF_STEP:
        break;
    }
    if (driven && row->made) {
        (void)snprintf(detail, DETAIL_MAX, "%s %s is finer than the registers can hold", asked,
                       row->unit);
        return REASON_OFF_STEP;
    }
    codec_print_number(codec_step(row), bound);
    (void)snprintf(detail, DETAIL_MAX, "%s is finer than the register's step of %s %s", asked,
                   bound, row->unit);
    return REASON_OFF_STEP;
}

/* As milliseconds that is a day in March 1973, as seconds one of the year 5138. */
#define SECONDS_BELOW INT64_C(100000000000)

/* Age of the command against its life; on success its monotonic end. */
static enum reason judge_age(const struct command *command, const struct admit_scene *scene,
                             int64_t *end_ns, char detail[DETAIL_MAX])
{
    const struct device_control *control = &scene->device->control;
    if (command->author == AUTHOR_SCHEDULE) {
        *end_ns = scene->mono_ns + command->ttl_ns;
        return REASON_NONE;
    }
    if (command_is_own(command)) {
        *end_ns = CLOCK_NEVER;
        return REASON_NONE;
    }
    if (!command->dated) {
        *end_ns = scene->mono_ns + control->ttl_ns;
        return REASON_NONE;
    }
    /* Both are milliseconds of UTC since 1970 and below 2^53: no overflow. */
    int64_t age_ms = scene->utc_ms - command->issued_at_ms;
    if (-age_ms > control->max_clock_skew_ns / CLOCK_NS_PER_MS) {
        (void)snprintf(detail, DETAIL_MAX, "issued %" PRId64 " ms ahead of this clock", -age_ms);
        return REASON_FUTURE_DATED;
    }
    int64_t left_ms = command->ttl_ns / CLOCK_NS_PER_MS - age_ms;
    if (left_ms <= 0 && command->issued_at_ms < SECONDS_BELOW) {
        (void)snprintf(detail, DETAIL_MAX,
                       "issued_at %" PRId64 " looks like seconds: milliseconds are wanted",
                       command->issued_at_ms);
        return REASON_EXPIRED;
    }
    if (left_ms <= 0) {
        (void)snprintf(detail, DETAIL_MAX, "issued %" PRId64 " ms ago, lived %" PRId64 " ms",
                       age_ms, command->ttl_ns / CLOCK_NS_PER_MS);
        return REASON_EXPIRED;
    }
    *end_ns = scene->mono_ns + left_ms * CLOCK_NS_PER_MS;
    return REASON_NONE;
}

enum reason admit(struct command *command, const struct admit_scene *scene, char detail[DETAIL_MAX])
{
    if (scene->retained) {
        detail[0] = '\0'; /* whatever else is wrong with it */
        return REASON_RETAINED;
    }
    if (scene->too_large)
        return REASON_TOO_LARGE;
    if (scene->malformed)
        return REASON_MALFORMED;
    if (scene->device == NULL)
        return REASON_UNKNOWN_DEVICE;
    if (scene->point < 0)
        return REASON_UNKNOWN_POINT;
    detail[0] = '\0';
    command->placed = true;
    command->device = scene->index;
    command->point = (unsigned)scene->point;
    if (!device_may_write(scene->device, command->point))
        return REASON_NOT_WRITABLE;
    /* A battery can always be told to stop: zero is exempt from the rules of
     * audit, rate, status, SOE, blocks and step. */
    command->stop = command->value == 0.0 && scene->point == scene->device->control.setpoint;
    if (scene->duplicate)
        return REASON_DUPLICATE;
    int64_t end_ns = 0;
    enum reason reason = judge_age(command, scene, &end_ns, detail);
    if (reason != REASON_NONE)
        return reason;
    if (scene->shutting_down)
        return REASON_SHUTTING_DOWN;
    if (!command->stop && scene->audit_unavailable)
        return REASON_AUDIT_UNAVAILABLE;
    if ((!command->stop && scene->crowded) ||
        admit_is_too_soon(scene->device, command, scene->mono_ns, scene->last_write_ns))
        return REASON_RATE_LIMITED;
    reason = judge_value(scene->device, command->point, command->value, detail);
    if (reason == REASON_NONE) /* a stop's life is judged here and no more */
        command->expires_ns = command->stop ? CLOCK_NEVER : end_ns;
    return reason;
}

/* When it was made, and whether it is over. */
static enum reason judge_dates(const struct timetable *table, const struct admit_scene *scene,
                               char detail[DETAIL_MAX])
{
    const int64_t skew_ms = scene->device->control.max_clock_skew_ns / CLOCK_NS_PER_MS;
    if (table->dated && table->issued_at_ms - scene->utc_ms > skew_ms) {
        (void)snprintf(detail, DETAIL_MAX, "issued %" PRId64 " ms ahead of this clock",
                       table->issued_at_ms - scene->utc_ms);
        return REASON_FUTURE_DATED;
    }
    if (table->valid_until_ms > scene->utc_ms)
        return REASON_NONE;
    if (table->valid_until_ms < SECONDS_BELOW)
        (void)snprintf(detail, DETAIL_MAX,
                       "valid_until %" PRId64 " looks like seconds: milliseconds are wanted",
                       table->valid_until_ms);
    else
        (void)snprintf(detail, DETAIL_MAX, "valid_until was %" PRId64 " ms ago",
                       scene->utc_ms - table->valid_until_ms);
    return REASON_EXPIRED;
}

static enum reason judge_entries(const struct timetable *table, const struct admit_scene *scene,
                                 char detail[DETAIL_MAX])
{
    char why[DETAIL_MAX];
    for (unsigned i = 0; i < table->n; i++) {
        const enum reason reason = judge_value(
            scene->device, (unsigned)scene->device->control.setpoint, table->entries[i].value, why);
        if (reason == REASON_NONE)
            continue;
        (void)snprintf(detail, DETAIL_MAX, "entry %u: %.*s", i, DETAIL_MAX - 24, why);
        return reason;
    }
    return REASON_NONE;
}

enum reason admit_schedule(struct command *command, const struct admit_scene *scene,
                           enum reason parsed, bool trusted, char detail[DETAIL_MAX])
{
    if (scene->retained) {
        detail[0] = '\0';
        return REASON_RETAINED;
    }
    if (scene->too_large) {
        (void)snprintf(detail, DETAIL_MAX, "a schedule has at most %d bytes",
                       TIMETABLE_PAYLOAD_MAX);
        return REASON_TOO_LARGE;
    }
    if (parsed != REASON_NONE)
        return parsed;
    if (scene->device == NULL)
        return REASON_UNKNOWN_DEVICE;
    command->device = scene->index;
    detail[0] = '\0';
    if (!scene->device->controllable) {
        (void)snprintf(detail, DETAIL_MAX, "the device has no control group");
        return REASON_NOT_WRITABLE;
    }
    const enum reason dates = judge_dates(command->timetable, scene, detail);
    if (dates != REASON_NONE)
        return dates;
    if (scene->shutting_down)
        return REASON_SHUTTING_DOWN;
    if (scene->audit_unavailable)
        return REASON_AUDIT_UNAVAILABLE;
    if (!trusted)
        return REASON_CLOCK_UNSYNCHRONISED;
    return judge_entries(command->timetable, scene, detail);
}
