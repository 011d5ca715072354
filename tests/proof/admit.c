/* Bounds: any command with a life of 5 s or of none of its own (10 s), issued up to 32 s
 * before or after its arrival, max_clock_skew 2 s, min_interval 1 s or off; any scene; a
 * battery with a setpoint and a second point; any limits within what a configuration may
 * say. What a number looks like in a detail is left out.
 *
 * - A value passes only within the site's limits, and if its register can hold it.
 * - A stop is refused for no audit log and no rate, and lives for ever.
 * - A command does not outlive its own time; nothing retained, dated ahead, malformed or
 *   known passes.
 */
#include <math.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/battery/admit.h"
#include "devices/registers/codec.h"
#include "tests/proof/prove.h"

/* The words for a human are not what is proved here. */
static size_t print_number(double number, char text[CODEC_TEXT_MAX])
{
    (void)number;
    text[0] = '\0';
    return 0;
}
/* Whether the register can hold it, its own proof says more of (codec.c). */
static enum codec_fit fits;
static enum codec_fit any_fit(double value)
{
    fits = (enum codec_fit)(nondet_unsigned() % 3);
    assume(value != 0 || fits == CODEC_FITS); /* a row has no offset that zero is off */
    return fits;
}
#define codec_print_number(number, text) print_number(number, text)
#define codec_step(row)                  0.0
#define codec_encode(row, value, words)  any_fit(value)
#define drive_fits(drive, points, kw)    any_fit(kw)
#define snprintf(text, size, ...)        ((void)(size), (text)[0] = '\0', 0)
#include "bridge/battery/admit.c"

enum { SETPOINT, OTHER, POINTS };

static struct point rows[POINTS];
static struct profile profile;
static struct device device = {
    .profile = &profile, .points = rows, .n_points = POINTS, .controllable = true};

bool device_may_write(const struct device *of, unsigned point)
{
    return of->points[point].writable;
}

static void any_device(void)
{
    struct device_control *control = &device.control;
    rows[SETPOINT] =
        (struct point){.table = POINT_HOLDING, .type = POINT_INT16, .scale = 1, .writable = true};
    rows[OTHER] = rows[SETPOINT];
    profile.drive.given = nondet_bool();
    rows[SETPOINT].made = nondet_bool();
    rows[OTHER].writable = nondet_bool();
    rows[OTHER].min = nondet_double();
    rows[OTHER].max = nondet_double();
    control->setpoint = SETPOINT;
    control->min_kw = nondet_double();
    control->max_kw = nondet_double();
    assume(control->min_kw <= 0 && control->min_kw >= -1e6);
    assume(control->max_kw >= 0 && control->max_kw <= 1e6);
    control->ttl_ns = 10 * CLOCK_NS_PER_S;
    control->max_clock_skew_ns = 2 * CLOCK_NS_PER_S;
    control->min_interval_ns = nondet_bool() ? CLOCK_NS_PER_S : 0;
}

static struct admit_scene any_scene(void)
{
    struct admit_scene scene = {
        .device = nondet_bool() ? &device : NULL,
        .point = nondet_int(),
        .retained = nondet_bool(),
        .too_large = nondet_bool(),
        .malformed = nondet_bool(),
        .duplicate = nondet_bool(),
        .shutting_down = nondet_bool(),
        .audit_unavailable = nondet_bool(),
        .crowded = nondet_bool(),
        .utc_ms = nondet_time(),
        .mono_ns = nondet_time(),
        .last_write_ns = nondet_time(),
    };
    assume(scene.point >= -1 && scene.point < POINTS);
    assume(scene.utc_ms >= 0 && scene.utc_ms <= INT64_C(9000000000000));
    assume(scene.mono_ns >= 0 && scene.mono_ns <= INT64_MAX / 4);
    assume(scene.last_write_ns == INT64_MIN ||
           (scene.last_write_ns >= 0 && scene.last_write_ns <= INT64_MAX / 4));
    return scene;
}

int main(void)
{
    static struct command command;
    char detail[DETAIL_MAX];
    any_device();
    const struct admit_scene scene = any_scene();
    command.author = (enum command_author)nondet_unsigned();
    command.value = nondet_double();
    command.dated = nondet_bool();
    command.issued_at_ms = scene.utc_ms + (int16_t)nondet_word();
    command.ttl_ns = 5 * CLOCK_NS_PER_S;
    assume(command.author <= AUTHOR_EXIT && !isnan(command.value));
    assume(command.issued_at_ms >= 0 && command.issued_at_ms <= INT64_C(9000000000000));

    const enum reason reason = admit(&command, &scene, detail);
    prove(reason < REASON_NOT_OWNER, "a reason that needs no device");
    const bool stop = command.value == 0 && scene.device != NULL && scene.point == SETPOINT;
    prove(!stop || (reason != REASON_AUDIT_UNAVAILABLE && reason != REASON_RATE_LIMITED &&
                    reason != REASON_OUT_OF_RANGE && reason != REASON_OFF_STEP),
          "a battery can always be told to stop");
    if (reason != REASON_NONE)
        return 0;
    reach("a command passes");
    const struct point *row = &rows[command.point];
    const bool setpoint = command.point == SETPOINT;
    prove(!scene.retained && !scene.too_large && !scene.malformed && !scene.duplicate &&
              !scene.shutting_down && row->writable,
          "nothing that is refused passes");
    prove(command.stop == stop, "a stop is known as one");
    prove(!setpoint ||
              (command.value >= device.control.min_kw && command.value <= device.control.max_kw),
          "a setpoint is within the site's limits");
    prove(setpoint || !(command.value < row->min || command.value > row->max),
          "a value is within its row's limits");
    prove(fits == CODEC_FITS, "its register can hold it");
    const int64_t age_ms = scene.utc_ms - command.issued_at_ms;
    if (command.dated && !command_is_own(&command)) {
        prove(-age_ms <= device.control.max_clock_skew_ns / CLOCK_NS_PER_MS, "not dated ahead");
        prove(age_ms < command.ttl_ns / CLOCK_NS_PER_MS, "its time is not over");
    }
    if (stop || command_is_own(&command))
        prove(command.expires_ns == CLOCK_NEVER, "it lives for ever");
    else if (command.dated)
        prove(command.expires_ns - scene.mono_ns <= command.ttl_ns - age_ms * CLOCK_NS_PER_MS,
              "it does not outlive its own time");
    else
        prove(command.expires_ns - scene.mono_ns == device.control.ttl_ns, "it lives for its ttl");
    if (stop && scene.audit_unavailable)
        reach("a stop passes without an audit log");
    return 0;
}
