#include "bridge/base/clock.h"
#include "bridge/battery/driver_inside.h"

void driver_count_beat(struct driver *driver, int64_t now_ns, enum fault fault)
{
    driver->beat++;
    driver->due_ns = now_ns + driver->drive->every_ns / (fault == FAULT_NONE ? 1 : 2);
    if (fault != FAULT_NONE)
        return;
    driver->beat_ns = now_ns;
    driver->expected_ns = driver->due_ns;
    driver->late_told = false;
}

/* While another setpoint is written to a battery that is held, a point's turn goes on. */
static bool is_kept(const struct driver *driver)
{
    return driver->state == CONTROL_HELD ||
           (driver->writing && !driver->engages && driver->held.known && !driver->drive->rewrite);
}

static bool beats(const struct driver *driver, int64_t end_ns)
{
    return is_kept(driver) && driver->drive->every_ns > 0 && driver->release_ns == CLOCK_NEVER &&
           (driver->held.kw == 0.0 || clock_mono_ns() < end_ns);
}

int64_t driver_beat_ns(const struct driver *driver, int64_t end_ns)
{
    if (!beats(driver, end_ns))
        return CLOCK_NEVER;
    return driver->beating != BEAT_NONE ? 0 : driver->due_ns;
}

bool driver_beat_failed(const struct driver *driver)
{
    return driver->beating == BEAT_NONE && driver->due_ns != driver->expected_ns;
}

int64_t driver_beat_early_ns(const struct driver *driver, int64_t end_ns)
{
    if (!beats(driver, end_ns))
        return CLOCK_NEVER;
    if (driver_beat_failed(driver))
        return driver->due_ns; /* a device that is ill is not asked again at once */
    return driver->beating != BEAT_NONE ? 0 : driver->due_ns - driver->drive->every_ns / 2;
}

int64_t driver_beat_by_ns(const struct driver *driver, int64_t end_ns)
{
    /* With something left for what is between the end of one wait and the next request. */
    return beats(driver, end_ns) ? driver->due_ns + driver->drive->every_ns * 2 / 5 : CLOCK_NEVER;
}

void driver_beat_cancel(struct driver *driver)
{
    driver->beating = BEAT_NONE;
    driver->scanning = false;
}

/* The time of one beat is over, or it cannot be sent. */
static void end_beat(struct driver *driver)
{
    driver->beating = BEAT_NONE;
}

static bool note_late(struct driver *driver, int64_t now_ns)
{
    const bool late =
        !driver->late_told && now_ns > driver->expected_ns + driver->drive->every_ns / 2;
    driver->late_told = driver->late_told || late;
    return late;
}

/* Nobody may have put another setpoint there meanwhile: it would be written over. */
static void look_first(struct driver *driver, struct link *link)
{
    enum fault fault;
    if (!driver_read(driver, link, &fault))
        return;
    driver_look_at(driver, driver->values, clock_mono_ns());
    if (driver->state != CONTROL_HELD)
        return;
    if (script_is_read(&driver->held.proofs, driver->values) &&
        script_make(driver->device, SCRIPT_BEAT, driver->held.kw, driver->values, driver->beat,
                    &driver->script) == NULL) {
        driver->beating = BEAT_WRITES;
        driver->step = 0;
        return;
    }
    driver->due_ns = clock_mono_ns() + driver->drive->every_ns / 2;
    end_beat(driver);
}

static void write_beat(struct driver *driver, struct link *link)
{
    const struct device_modbus *modbus = &driver->device->modbus;
    const struct script_step *step = &driver->script.steps[driver->step];
    const int64_t sent_ns = clock_mono_ns();
    int64_t timeout_ns = driver->drive->every_ns;
    if (timeout_ns > modbus->timeout_ns)
        timeout_ns = modbus->timeout_ns;
    const enum fault fault = (step->multiple ? link_write_many : link_write)(
        link, (uint8_t)modbus->address, step->table, step->address, step->count, step->words,
        timeout_ns);
    driver->step++;
    if (fault == FAULT_NONE && driver->step < driver->script.n)
        return;
    driver_count_beat(driver, sent_ns, fault);
    end_beat(driver);
}

bool driver_beat(struct driver *driver, struct link *link, int64_t end_ns, int64_t *silence_ns)
{
    const int64_t begun_ns = clock_mono_ns();
    bool late = false;
    *silence_ns = 0;
    driver_see_time(driver, begun_ns);
    if (!beats(driver, end_ns)) {
        driver_beat_cancel(driver);
        return false;
    }
    int64_t timeout_ns = driver->device->modbus.timeout_ns;
    if (timeout_ns > driver->drive->every_ns)
        timeout_ns = driver->drive->every_ns;
    /* To open may take a while: no more in that step. */
    if (!link_is_sound(link)) {
        if (link_open(link, timeout_ns) != FAULT_NONE) {
            *silence_ns = clock_mono_ns() - begun_ns;
            late = note_late(driver, clock_mono_ns());
            driver->due_ns = clock_mono_ns() + driver->drive->every_ns / 2;
            driver_beat_cancel(driver);
        }
        return late;
    }
    if (driver->beating == BEAT_NONE && driver->drive->rewrite) {
        driver->beating = BEAT_LOOKS;
        driver->scanning = false;
    } else if (driver->beating == BEAT_NONE) {
        driver->beating = BEAT_WRITES;
        driver->step = 0;
        (void)script_make(driver->device, SCRIPT_BEAT, driver->held.kw, NULL, driver->beat,
                          &driver->script);
    }
    if (driver->beating == BEAT_LOOKS) {
        look_first(driver, link);
        return false;
    }
    late = note_late(driver, clock_mono_ns());
    write_beat(driver, link);
    if (driver->due_ns != driver->expected_ns)
        *silence_ns = clock_mono_ns() - begun_ns;
    return late;
}
