#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/driver_inside.h"

/* ---- what is read ---- */

static void mark(const struct device *device, bool *wanted)
{
    const struct drive *drive = &device->profile->drive;
    const struct drive_list *lists[] = {&drive->engage, &drive->set, &drive->release};
    for (unsigned k = 0; k < sizeof(lists) / sizeof(*lists); k++) {
        for (unsigned i = 0; i < lists[k]->n; i++) {
            const struct drive_write *write = &lists[k]->writes[i];
            /* Of what engage writes only what the proof names is looked at. */
            if (k > 0 && write->value != DRIVE_BEAT)
                wanted[write->point] = true;
            if (write->of >= 0)
                wanted[write->of] = true;
        }
    }
    for (unsigned i = 0; i < drive->n_proofs; i++)
        wanted[drive->proofs[i]] = true;
    if (drive->timeout >= 0)
        wanted[drive->timeout] = true;
    wanted[drive->setpoint] = true;
}

struct driver *driver_new(const struct device *device)
{
    bool wanted[PROFILE_POINTS_MAX] = {false};
    struct driver *driver = calloc(1, sizeof(*driver));
    if (driver == NULL)
        return NULL;
    driver->device = device;
    driver->drive = &device->profile->drive;
    driver->state = CONTROL_IDLE;
    driver->release_ns = CLOCK_NEVER;
    mark(device, wanted);
    driver->plan = plan_new(device, wanted);
    driver->values = calloc(device->n_points, sizeof(*driver->values));
    if (driver->plan == NULL || driver->values == NULL) {
        driver_free(driver);
        return NULL;
    }
    return driver;
}

void driver_free(struct driver *driver)
{
    if (driver == NULL)
        return;
    plan_free(driver->plan);
    free(driver->values);
    free(driver);
}

enum control_state driver_state(const struct driver *driver)
{
    return driver->state;
}

const struct device_modbus *driver_modbus(const struct driver *driver)
{
    return &driver->device->modbus;
}

const struct point *driver_point(const struct driver *driver, unsigned point)
{
    return &driver->device->points[point];
}

/* What was read before is not what is there now. */
static void forget_values(struct driver *driver)
{
    driver->scanning = false;
    for (unsigned i = 0; i < driver->device->n_points; i++)
        driver->values[i].state = VALUE_ABSENT;
}

bool driver_read(struct driver *driver, struct link *link, enum fault *fault)
{
    *fault = link_open(link, driver->device->modbus.timeout_ns);
    if (*fault != FAULT_NONE) {
        forget_values(driver);
        return true;
    }
    if (!driver->scanning)
        scan_begin(&driver->scan, driver->plan, driver->device, 0, driver->values);
    driver->scanning = true;
    const unsigned silent = driver->scan.silent;
    const enum scan_step step = scan_step(&driver->scan, link, fault);
    if (step == SCAN_MORE && driver->scan.silent != silent)
        *fault = driver->scan.silence;
    driver->scanning = step == SCAN_MORE;
    return step != SCAN_MORE;
}

/* What a proof says, and what stands there. */
static void describe(const struct device *device, const struct script_proof *proof,
                     const struct value *value, char detail[DETAIL_MAX])
{
    const struct point *point = &device->points[proof->point];
    if (value->state == VALUE_FAULT)
        (void)snprintf(detail, DETAIL_MAX, "%s could not be read: %s", point->name,
                       fault_word((enum fault)value->fault));
    else if (value->state != VALUE_READ)
        (void)snprintf(detail, DETAIL_MAX, "%s could not be read", point->name);
    else
        (void)snprintf(detail, DETAIL_MAX, "%s reads %g, not %g", point->name, value->number,
                       proof->power ? proof->kw * drive_per_kw(point) : proof->number);
}

bool driver_explain(const struct driver *driver, char detail[DETAIL_MAX])
{
    const struct script_proof *proof =
        script_disagrees(driver->device, &driver->wanted.proofs, driver->values);
    if (proof != NULL)
        describe(driver->device, proof, &driver->values[proof->point], detail);
    return proof != NULL;
}

bool driver_readback(const struct driver *driver, double *kw)
{
    const struct value held = drive_held(driver->drive, driver->device->points, driver->values);
    if (held.state == VALUE_READ)
        *kw = held.number;
    return held.state == VALUE_READ;
}

/* ---- lost ---- */

/* What it held it holds no more. */
static void lose(struct driver *driver, const struct value *held)
{
    log_warning("the battery has left what it was told device=%s value_kw=%g why=\"%s\"",
                driver->device->name, driver->held.kw, driver->why);
    driver->lost = (struct outcome){
        .command = driver->held.command,
        .kind = OUTCOME_LOST,
        .correction = true,
        .done_ns = clock_mono_ns(),
    };
    if (held != NULL && held->state == VALUE_READ) {
        driver->lost.has_readback = true;
        driver->lost.readback = drive_round(held->number);
    }
    (void)snprintf(driver->lost.detail, sizeof(driver->lost.detail), "%s", driver->why);
    driver->tells_lost = true;
    driver->state = CONTROL_LOST;
    driver->held.known = false;
    driver->half = false;
    driver->release_ns = CLOCK_NEVER;
    driver_beat_cancel(driver);
}

bool driver_take_lost(struct driver *driver, struct outcome *lost)
{
    const bool tells = driver->tells_lost;
    if (tells)
        *lost = driver->lost;
    driver->tells_lost = false;
    return tells;
}

/* Without a sign of life for its whole timeout the battery has stopped by itself, whatever
 * its registers say; another sign would start it anew. */
static bool has_stopped(const struct driver *driver, int64_t now_ns)
{
    const double timeout_s = driver->device->control.drive.timeout_s;
    return driver->drive->every_ns > 0 && timeout_s > 0 &&
           (double)(now_ns - driver->beat_ns) >= timeout_s * 1e9;
}

void driver_see_time(struct driver *driver, int64_t now_ns)
{
    /* What has begun has looked at that. */
    if (driver->begun || driver->state != CONTROL_HELD || !has_stopped(driver, now_ns))
        return;
    (void)snprintf(driver->why, sizeof(driver->why),
                   "no keepalive has reached it for its device_timeout of %g s: it has stopped",
                   driver->device->control.drive.timeout_s);
    lose(driver, NULL);
}

void driver_look_at(struct driver *driver, const struct value *values, int64_t now_ns)
{
    driver_see_time(driver, now_ns);
    if (driver->state != CONTROL_HELD || !script_is_read(&driver->held.proofs, values))
        return;
    const struct script_proof *proof =
        script_disagrees(driver->device, &driver->held.proofs, values);
    if (proof == NULL)
        return;
    const struct value held = drive_held(driver->drive, driver->device->points, values);
    describe(driver->device, proof, &values[proof->point], driver->why);
    lose(driver, &held);
}

/* ---- a setpoint ---- */

/* Which value the device does not hold yet: one that it holds already would not count. */
static void choose_beat(struct driver *driver, const struct value *values)
{
    const struct drive *drive = driver->drive;
    const struct value *now = drive->beat >= 0 && values != NULL ? &values[drive->beat] : NULL;
    if (now != NULL && now->state == VALUE_READ && drive->n_beats > 1 &&
        now->number == drive->beats[driver->beat % drive->n_beats])
        driver->beat++;
}

const struct point *driver_begin(struct driver *driver, double kw, const struct value *values,
                                 int64_t now_ns, struct script *script)
{
    if (values != NULL)
        driver_look_at(driver, values, now_ns);
    else
        driver_see_time(driver, now_ns);
    driver_beat_cancel(driver);
    forget_values(driver);
    choose_beat(driver, values);
    driver->next_engages = driver->state != CONTROL_HELD;
    driver->writing = false;
    driver->begun = true;
    driver->begun_ns = now_ns;
    driver->next.known = false;
    driver->next.kw = kw;
    script_prove(driver->device, SCRIPT_SET, kw, values, &driver->next.proofs);
    const struct point *misfit =
        script_make(driver->device, driver->next_engages ? SCRIPT_ENGAGE : SCRIPT_SET, kw, values,
                    driver->beat, script);
    if (script_may_be_engaged(driver->device, values))
        script_beat_last(script);
    return misfit;
}

void driver_begin_release(struct driver *driver, struct script *script)
{
    driver_beat_cancel(driver);
    driver->state = CONTROL_RELEASING;
    driver->tried_release = true;
    driver->wanted.known = driver->held.known = false;
    driver->half = true;
    script_prove(driver->device, SCRIPT_RELEASE, 0, NULL, &driver->wanted.proofs);
    (void)script_make(driver->device, SCRIPT_RELEASE, 0, NULL, driver->beat, script);
}

void driver_note(struct driver *driver, const struct script_step *step, int64_t now_ns,
                 enum fault fault)
{
    if (!driver->writing) {
        driver->wanted = driver->next;
        driver->engages = driver->next_engages;
        driver->release_ns = CLOCK_NEVER; /* what is written now settles that */
    }
    driver->writing = driver->half = true;
    driver->state = CONTROL_ENGAGING;
    if (step->beats || (driver->drive->rewrite && step->carries))
        driver_count_beat(driver, now_ns, fault);
}

static void hold(struct driver *driver, const struct command *command)
{
    const bool zero = driver->wanted.kw == 0.0;
    const bool keeps = driver->drive->every_ns > 0;
    driver->held = driver->wanted;
    driver->held.known = true;
    driver->held.command = *command;
    driver->wanted.known = false;
    driver->half = false;
    driver->state = CONTROL_HELD;
    driver->release_ns = CLOCK_NEVER;
    driver->tried_release = false;
    /* To be taken over was a sign of life, too. */
    if (keeps && driver->engages && driver->beat_ns < driver->begun_ns)
        driver->due_ns = driver->expected_ns = driver->beat_ns = clock_mono_ns();
    if (zero && driver->device->control.drive.idle_release)
        driver->release_ns = 0;
    /* A fallback other than zero has no lease: the battery ends it. */
    if (!zero && keeps && command_is_own(command) && command->author != AUTHOR_SCHEDULE) {
        driver->state = CONTROL_IDLE;
        driver->held.known = false;
    }
}

void driver_owe_release(struct driver *driver, int64_t now_ns)
{
    driver->state = CONTROL_RELEASING;
    driver->half = true;
    driver->held.known = driver->wanted.known = false;
    driver->tried_release = false;
    driver->release_ns = now_ns;
}

void driver_end(struct driver *driver, const struct driver_end *end)
{
    const struct command *command = &end->outcome->command;
    driver->writing = driver->begun = false;
    if (end->outcome->kind == OUTCOME_CONFIRMED) {
        hold(driver, command);
        return;
    }
    if (!end->wrote)
        return;
    if (end->nothing && !driver->engages && driver->held.known) {
        driver->state = CONTROL_HELD; /* what it held before */
        driver->half = false;
        return;
    }
    driver->wanted.known = true;
    driver->wanted.command = *command;
    /* A stop is tried again; and one that waits begins anew. */
    if (command->stop || end->stop_waits || !driver->engages)
        return;
    if (end->whole && end->outcome->kind == OUTCOME_UNKNOWN)
        return; /* only the answers are missing: the next poll tells */
    driver_owe_release(driver, clock_mono_ns());
}

void driver_end_release(struct driver *driver, bool released, int64_t retry_ns)
{
    driver->release_ns = released ? CLOCK_NEVER : retry_ns;
    if (!released)
        return;
    driver->state = CONTROL_IDLE;
    driver->half = false;
}

/* ---- polls ---- */

/* What was written is confirmed by nobody: where does the battery stand? */
static void look_at_doubt(struct driver *driver, const struct value *values)
{
    if (driver->wanted.known && script_is_read(&driver->wanted.proofs, values) &&
        script_disagrees(driver->device, &driver->wanted.proofs, values) == NULL) {
        const struct command command = driver->wanted.command;
        hold(driver, &command);
    } else if (driver->held.known && script_is_read(&driver->held.proofs, values) &&
               script_disagrees(driver->device, &driver->held.proofs, values) == NULL) {
        driver->state = CONTROL_HELD;
        driver->wanted.known = driver->half = false;
    } else if (driver->engages && driver->wanted.known && !driver->wanted.command.stop &&
               script_is_read(&driver->wanted.proofs, values)) {
        driver_owe_release(driver, clock_mono_ns());
    }
}

void driver_see(struct driver *driver, const struct value *values, int64_t now_ns)
{
    driver_look_at(driver, values, now_ns);
    if (driver->state == CONTROL_ENGAGING && !has_stopped(driver, now_ns))
        look_at_doubt(driver, values);
}

enum command_author driver_author(const struct driver *driver)
{
    return driver->held.command.author;
}

int64_t driver_release_ns(const struct driver *driver)
{
    return driver->release_ns;
}

bool driver_tried_release(const struct driver *driver)
{
    return driver->tried_release;
}

bool driver_is_half(const struct driver *driver)
{
    return driver->half || driver->release_ns != CLOCK_NEVER;
}

bool driver_is_at_zero(const struct driver *driver)
{
    return driver->state == CONTROL_HELD && driver->held.kw == 0.0 &&
           driver->release_ns == CLOCK_NEVER;
}
