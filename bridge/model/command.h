/* command: a wish to write one point, whoever has it.
 *
 * Plain data. A dispatcher over MQTT, `fluxbridge write`, the deadman and
 * on_exit all fill in the same structure, with themselves as its author, and
 * pass the same door (bridge/battery/admit.h). What comes of it is a struct
 * outcome (bridge/model/outcome.h). A value is never clamped: it is written as
 * asked, or not.
 */
#ifndef BRIDGE_MODEL_COMMAND_H
#define BRIDGE_MODEL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/model/reason.h"

enum {
    COMMAND_TEXT_MAX = 64,                     /* characters of an id or a source */
    COMMAND_TEXT_BYTES = 4 * COMMAND_TEXT_MAX, /* as UTF-8 */
    COMMAND_ID_MAX = COMMAND_TEXT_BYTES,
    COMMAND_SOURCE_MAX = COMMAND_TEXT_BYTES + 16, /* "schedule:" and an id */
    COMMAND_NAME_MAX = 128,                       /* of a device or a point, as somebody wrote it */
    COMMAND_PAYLOAD_MAX = 4096,
    COMMAND_RESPONSE_TOPIC_MAX = 512,
    COMMAND_CORRELATION_MAX = 256,
    COMMAND_PROPERTY_MAX = 128
};

/* Who wants it written. The last three are the bridge itself. */
enum command_author {
    AUTHOR_DISPATCHER, /* over MQTT */
    AUTHOR_TOOL,       /* fluxbridge write */
    AUTHOR_DEADMAN,    /* the lease has run out */
    AUTHOR_EXIT,       /* the bridge ends, on_exit = "fallback" */
    AUTHOR_SCHEDULE    /* an entry of the schedule kept on site, or its default */
};

/* Where else its outcome goes: MQTT 5 Response Topic and Correlation Data, or to who
 * waits for it at the page. */
struct return_address {
    uint64_t ticket;                                     /* of who waits; 0 = nobody */
    char response_topic[COMMAND_RESPONSE_TOPIC_MAX + 1]; /* "" = nowhere else */
    size_t correlation_size;
    unsigned char correlation[COMMAND_CORRELATION_MAX];
};

struct timetable;

struct command {
    enum command_author author;
    /* As it was asked. */
    char device_name[COMMAND_NAME_MAX + 1];
    char point_name[COMMAND_NAME_MAX + 1];
    char id[COMMAND_ID_MAX + 1]; /* "" for a bare number, and when it could not be read */
    bool has_value;
    double value;         /* in the point's unit; a battery's power: + discharges */
    bool dated;           /* issued_at and ttl_s are given */
    int64_t issued_at_ms; /* UTC */
    int64_t ttl_ns;       /* an entry's: until its end */
    char source[COMMAND_SOURCE_MAX + 1];
    /* No value, but a schedule: point_name is "schedule". Whoever ends the command
     * frees the timetable (bridge/wire/schedule_json.h), and no outcome has it. */
    bool offers;
    int64_t revision; /* its; -1 when it could not be read */
    struct timetable *timetable;
    /* How it came. */
    enum reason flaw;        /* its bringer found: RETAINED, TOO_LARGE, MALFORMED, or NONE */
    int64_t mono_ns, utc_ms; /* when it arrived */
    struct return_address address;
    char user_source[COMMAND_PROPERTY_MAX + 1]; /* MQTT user properties, "" = none */
    char user_traceparent[COMMAND_PROPERTY_MAX + 1];
    /* As it was understood, by admit(). */
    bool placed; /* the next two are known */
    unsigned device, point;
    bool stop;          /* a battery's setpoint of zero */
    int64_t expires_ns; /* monotonic: not to be written from then on; CLOCK_NEVER for a stop */
};

/* Whether the bridge itself wants it: nobody waits for each of its attempts. */
static inline bool command_is_own(const struct command *command)
{
    return command->author == AUTHOR_DEADMAN || command->author == AUTHOR_EXIT ||
           command->author == AUTHOR_SCHEDULE;
}

#endif
