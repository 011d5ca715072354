/* battery_bed: a battery over a fake link and a fake clock, in place of its poller. */
#ifndef TESTS_UNIT_BATTERY_BED_H
#define TESTS_UNIT_BATTERY_BED_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "bridge/battery/admit.h"
#include "bridge/battery/battery.h"
#include "devices/lines/claim.h"
#include "devices/registers/codec.h"
#include "tests/unit/fake_clock.h"
#include "tests/unit/fake_link.h"
#include "tests/unit/site.h"

enum { BED_OUTCOMES = 400 };

struct bed {
    struct conf conf;
    struct device *device;
    struct fake_link *fake;
    struct state *state;
    struct health health;
    struct battery *battery;
    bool shares_line;
    struct outcome outcomes[BED_OUTCOMES];
    unsigned n_outcomes, steps;
    /* What comes while a step is under way, and is there when it is done. */
    void (*between)(void);
};

static inline void bed_tell(void *context, const struct outcome *outcome)
{
    struct bed *bed = context;
    if (bed->n_outcomes == BED_OUTCOMES)
        abort();
    bed->outcomes[bed->n_outcomes++] = *outcome;
}

/* A run of the bridge, over what the state store kept of the one before. */
static inline void bed_start(struct bed *bed)
{
    bed->battery = battery_new(&(struct battery_setup){
        .device = bed->device,
        .run = "5f3a9c1e",
        .who = "the test",
        .state = bed->state,
        .health = &bed->health,
        .shares_line = bed->shares_line,
        .tell = bed_tell,
        .context = bed,
    });
    assert_non_null(bed->battery);
}

/* `devices` is the inside of that group: one battery. */
static inline void bed_begin_site(struct bed *bed, const char *devices)
{
    memset(bed, 0, sizeof *bed);
    fake_clock_reset();
    site_read(&bed->conf, devices);
    assert_true(health_init(&bed->health, 1));
    bed->device = &bed->conf.devices.devices[0];
    bed->fake = fake_link_new();
    bed->fake->context = bed;
    bed->fake->clock_ns = &fake_now_ns;
    bed->fake->cost_ns = CLOCK_NS_PER_MS;
    bed->state = state_open("", NULL);
    assert_non_null(bed->state);
    bed_start(bed);
}

static inline void bed_begin(struct bed *bed, const char *control)
{
    char devices[1024];
    snprintf(devices, sizeof devices, SITE_ONE(SITE_DISCHARGE "%s"), control);
    bed_begin_site(bed, devices);
    uint16_t *registers = bed->fake->registers[1];
    registers[STATUS] = 1;
    registers[SOE] = 54;
    registers[BLOCKS] = 10;
}

static inline void bed_kill(struct bed *bed)
{
    battery_free(bed->battery);
    link_close(&bed->fake->link);
}

static inline void bed_end(struct bed *bed)
{
    bed_kill(bed);
    state_close(bed->state);
    conf_free(&bed->conf);
    health_free(&bed->health);
    free(bed->fake);
}

/* A command that has just arrived and lives for `ttl_ns`. */
static inline struct command bed_command(const struct bed *bed, const char *id, double value,
                                         int64_t ttl_ns)
{
    struct command command = {
        .has_value = true,
        .value = value,
        .dated = true,
        .issued_at_ms = clock_utc_ms(),
        .ttl_ns = ttl_ns,
        .mono_ns = fake_now_ns,
        .utc_ms = clock_utc_ms(),
    };
    char detail[DETAIL_MAX];
    snprintf(command.id, sizeof command.id, "%s", id);
    const struct admit_scene scene = {
        .device = bed->device,
        .point = bed->device->control.setpoint,
        .utc_ms = command.utc_ms,
        .mono_ns = command.mono_ns,
        .last_write_ns = INT64_MIN,
    };
    assert_int_equal(admit(&command, &scene, detail), REASON_NONE);
    return command;
}

static inline void bed_put(struct bed *bed, const char *id, double value)
{
    const struct command command = bed_command(bed, id, value, 60 * CLOCK_NS_PER_S);
    assert_true(battery_put(bed->battery, &command));
}

static inline void bed_step(struct bed *bed)
{
    battery_step(bed->battery, &bed->fake->link);
    void (*between)(void) = bed->between;
    bed->between = NULL;
    if (between != NULL)
        between();
}

/* Does what is due, as its poller would, until then. */
static inline void bed_run_until(struct bed *bed, int64_t until_ns)
{
    for (int64_t due_ns; (due_ns = battery_due_ns(bed->battery)) <= until_ns;) {
        if (due_ns > fake_now_ns)
            fake_now_ns = due_ns;
        if (bed->steps++ == 1000000)
            fail_msg("it spins");
        bed_step(bed);
    }
    if (fake_now_ns < until_ns)
        fake_now_ns = until_ns;
}

static inline void bed_run(struct bed *bed, int64_t duration_ns)
{
    bed_run_until(bed, fake_now_ns + duration_ns);
}

/* A poll that reads it all. */
static inline void bed_poll(struct bed *bed)
{
    struct value values[PROFILE_POINTS_MAX] = {{.state = VALUE_ABSENT}};
    const int64_t taken_ns = fake_now_ns;
    assert_int_equal(link_open(&bed->fake->link, CLOCK_NS_PER_S), FAULT_NONE);
    for (unsigned i = 0; i < bed->device->n_points; i++)
        values[i] = codec_decode(&bed->device->points[i],
                                 &bed->fake->registers[1][bed->device->points[i].address]);
    drive_make(&bed->device->profile->drive, bed->device->points, values);
    battery_see(bed->battery, &bed->fake->link, values, taken_ns);
}

static inline int bed_held(const struct bed *bed)
{
    return (int16_t)bed->fake->registers[1][TARGET];
}

/* The i-th outcome of an id, from 0; NULL when there are fewer. */
static inline const struct outcome *bed_outcome(const struct bed *bed, const char *id,
                                                unsigned index)
{
    for (unsigned i = 0; i < bed->n_outcomes; i++) {
        if (strcmp(bed->outcomes[i].command.id, id) == 0 && index-- == 0)
            return &bed->outcomes[i];
    }
    return NULL;
}

/* A command's only outcome but for its corrections. */
static inline void bed_assert(const struct bed *bed, const char *id, enum outcome_kind kind)
{
    const struct outcome *first = bed_outcome(bed, id, 0);
    if (first == NULL)
        fail_msg("no outcome of %s", id);
    if (first->kind != kind)
        fail_msg("%s: %s %s \"%s\", not %s", id, outcome_word(first->kind),
                 reason_word(first->reason), first->detail, outcome_word(kind));
    assert_false(first->correction);
    for (unsigned i = 1; bed_outcome(bed, id, i) != NULL; i++)
        assert_true(bed_outcome(bed, id, i)->correction);
}

static inline void bed_assert_refused(const struct bed *bed, const char *id, enum reason reason)
{
    bed_assert(bed, id, OUTCOME_REFUSED);
    assert_string_equal(reason_word(bed_outcome(bed, id, 0)->reason), reason_word(reason));
}

static inline void bed_assert_corrected(const struct bed *bed, const char *id,
                                        enum outcome_kind kind)
{
    const struct outcome *correction = bed_outcome(bed, id, 1);
    if (correction == NULL)
        fail_msg("%s was not corrected", id);
    assert_string_equal(outcome_word(correction->kind), outcome_word(kind));
    assert_true(correction->correction);
    assert_null(bed_outcome(bed, id, 2));
}

#endif
