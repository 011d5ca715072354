/* command: a wish to write one point, and the rules it is judged by on arrival.
 *
 * Pure. The subscriber judges a command when it arrives (command_judge), the
 * poller judges it again on the device's state just before the write
 * (control_judge). A value is never clamped: it is written as asked, or not.
 */
#ifndef BRIDGE_BATTERY_COMMAND_H
#define BRIDGE_BATTERY_COMMAND_H

#include "bridge/model/reason.h"
#include "devices/registers/device.h"

enum {
    COMMAND_TEXT_MAX = 64,                 /* characters of an id or a source */
    COMMAND_ID_MAX = 4 * COMMAND_TEXT_MAX, /* bytes, as UTF-8 */
    COMMAND_SOURCE_MAX = 4 * COMMAND_TEXT_MAX,
    COMMAND_PAYLOAD_MAX = 4096,
    DETAIL_MAX = 200
};

/* What a payload says. */
struct command {
    char id[COMMAND_ID_MAX + 1]; /* "" for a bare number */
    double value;                /* in the point's unit; a battery's power: + discharges */
    bool dated;                  /* issued_at and ttl_s are given */
    int64_t issued_at_ms;        /* UTC */
    int64_t ttl_ns;
    char source[COMMAND_SOURCE_MAX + 1];
};

/* What is known at the moment of judging. */
struct command_scene {
    const struct device *device; /* NULL: no such device */
    int point;                   /* -1: no such point */
    bool retained;
    bool too_large;
    bool parsed; /* false: malformed, *command holds nothing */
    bool duplicate;
    bool shutting_down;
    bool audit_unavailable;
    bool crowded;          /* more ids in the last minutes than can be remembered */
    int64_t utc_ms;        /* now */
    int64_t mono_ns;       /* now */
    int64_t last_write_ns; /* monotonic time of the last write to the setpoint; INT64_MIN = never */
};

/* The first check that fails, from `retained` to `off_step`, or REASON_NONE.
 * Then *expires_ns is the monotonic time after which it must not be written.
 * `detail` says in words what a human can act on; "" when nothing to add. */
enum reason command_judge(const struct command *command, const struct command_scene *scene,
                          int64_t *expires_ns, char detail[DETAIL_MAX]);

/* Whether this is the setpoint of a battery at zero: a battery can always be
 * told to stop, so zero is exempt from audit, rate, status, SOE, block and
 * step rules. */
bool command_is_stop(const struct device *device, unsigned point, double value);

/* `rate_limited`, apart because the poller looks again just before the write. */
bool command_too_soon(const struct device *device, unsigned point, double value, int64_t mono_ns,
                      int64_t last_write_ns);

#endif
