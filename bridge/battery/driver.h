/* driver: a battery whose type says how it is commanded, and whether the bridge holds it.
 *
 * A sequence asks it for the requests of a setpoint, and tells it what came of them; it
 * keeps what was confirmed going for as long as that may be held, sees when the battery
 * has left it, and lets it go again. Makes its I/O through struct link, one transaction a
 * step; what goes first on the link, and until when a setpoint is held, is its owner's.
 *
 *     idle --> engaging --> held --> lost        lost: nothing before a newer command
 *      ^          |          |
 *      +------ releasing <---+
 *
 * Part of a battery, owned by the thread of its link.
 */
#ifndef BRIDGE_BATTERY_DRIVER_H
#define BRIDGE_BATTERY_DRIVER_H

#include "bridge/battery/script.h"
#include "bridge/model/control_state.h"
#include "bridge/model/outcome.h"
#include "devices/lines/link.h"
#include "devices/registers/scan.h"

struct driver;

/* NULL when out of memory. Of a device whose type says how it is commanded. */
struct driver *driver_new(const struct device *device);
void driver_free(struct driver *driver);

enum control_state driver_state(const struct driver *driver);
const struct device_modbus *driver_modbus(const struct driver *driver);
const struct point *driver_point(const struct driver *driver, unsigned point);

/* ---- a setpoint, or a release ---- */

/* The requests that `kw` takes now: all of engaging, or only the setpoint of a battery that
 * is held. `values` are of the state that was read for it; NULL: a stop, for which nothing
 * is. Returns NULL, or the row that cannot be written so. */
const struct point *driver_begin(struct driver *driver, double kw, const struct value *values,
                                 int64_t now_ns, struct script *script);
/* The same of a release. */
void driver_begin_release(struct driver *driver, struct script *script);

/* One of these requests was answered with this. */
void driver_note(struct driver *driver, const struct script_step *step, int64_t now_ns,
                 enum fault fault);

/* Reads what has to read back, one transaction a step: true when all is read, or cannot be
 * (*fault). Begins anew when it was not under way. */
bool driver_read(struct driver *driver, struct link *link, enum fault *fault);
/* What does not read as it should, in words; false when all does. */
bool driver_explain(const struct driver *driver, char detail[DETAIL_MAX]);
/* The setpoint that was read; false when it was not. */
bool driver_readback(const struct driver *driver, double *kw);

/* How it ended. `stop_waits`: a stop is to follow, and puts in order what is half done. */
struct driver_end {
    const struct outcome *outcome;
    bool wrote;   /* a register was */
    bool took;    /* the value was not refused, whatever came of the rest */
    bool whole;   /* all requests went out, and none was refused */
    bool nothing; /* the only request that counts was refused: all is as before */
    bool stop_waits;
};
void driver_end(struct driver *driver, const struct driver_end *end);
/* The same of a release: `whole` and read back, or else tried again from `retry_ns`. */
void driver_end_release(struct driver *driver, bool released, int64_t retry_ns);

/* ---- from time to time ---- */

/* A poll has read these values. */
void driver_see(struct driver *driver, const struct value *values, int64_t now_ns);

/* Time has gone on: without a sign of life for its timeout it has stopped by itself. */
void driver_see_time(struct driver *driver, int64_t now_ns);

/* Whether the battery has left what it was told, since the last time this was asked: then
 * *lost is to be told. */
bool driver_take_lost(struct driver *driver, struct outcome *lost);

/* Who wanted what it holds. */
enum command_author driver_author(const struct driver *driver);

/* When it is to be released: CLOCK_NEVER = it is not. And whether that was tried. */
int64_t driver_release_ns(const struct driver *driver);
bool driver_tried_release(const struct driver *driver);
/* It is to be released, as an earlier run left it. */
void driver_owe_release(struct driver *driver, int64_t now_ns);

/* What a restart of the bridge must know: whether it is or may be half engaged, and whether
 * it is held at zero. */
bool driver_is_half(const struct driver *driver);
bool driver_is_at_zero(const struct driver *driver);

/* ---- the keepalive ----
 *
 * `end_ns` is until when what is held may be: zero has no such end. */

/* When the next is due; CLOCK_NEVER = there is none. In the middle of one: 0. */
int64_t driver_beat_ns(const struct driver *driver, int64_t end_ns);
/* From when on it may as well be sent before something else is asked; and by when it has to
 * be under way. */
int64_t driver_beat_early_ns(const struct driver *driver, int64_t end_ns);
int64_t driver_beat_by_ns(const struct driver *driver, int64_t end_ns);

/* One transaction of it. Returns whether it was late. */
bool driver_beat(struct driver *driver, struct link *link, int64_t end_ns, int64_t *silence_ns);
/* Whether the last one was not sent or not answered, and none is under way. */
bool driver_beat_failed(const struct driver *driver);
/* Something else is written first: the one under way is not sent. */
void driver_beat_cancel(struct driver *driver);

#endif
