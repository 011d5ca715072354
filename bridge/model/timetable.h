/* timetable: a dispatch schedule as somebody has sent it, and where it stands.
 *
 * Plain data. Times are milliseconds of UTC, entries half-open, in their order
 * and without overlap. How it is carried out: bridge/battery/schedule.h.
 */
#ifndef BRIDGE_MODEL_TIMETABLE_H
#define BRIDGE_MODEL_TIMETABLE_H

#include "bridge/model/command.h"

enum {
    TIMETABLE_ENTRIES_MAX = 1000,
    TIMETABLE_PAYLOAD_MAX = 60 * 1024,
    TIMETABLE_HEAD_MAX = 128 /* room before the text, for what its owner keeps with it */
};
#define TIMETABLE_SPAN_MAX_MS (INT64_C(7) * 86400 * 1000)

struct timetable_entry {
    int64_t start_ms, end_ms;
    double value; /* kW, + discharges */
};

struct timetable {
    char id[COMMAND_ID_MAX + 1];
    char source[COMMAND_TEXT_BYTES + 1]; /* "" = not given */
    int64_t revision;
    bool dated;
    int64_t issued_at_ms; /* with dated */
    int64_t valid_until_ms;
    bool releases; /* outside of its entries the battery is let go; else held at zero */
    char *text;    /* TIMETABLE_HEAD_MAX bytes, and the payload as it came */
    unsigned n;    /* none: it cancels the one before */
    struct timetable_entry entries[];
};

/* Where a battery's schedule stands. */
enum schedule_state {
    SCHEDULE_NONE,           /* there never was one */
    SCHEDULE_WAITING,        /* its first entry is still to come */
    SCHEDULE_RUNNING,        /* the current entry is confirmed */
    SCHEDULE_PENDING,        /* the current entry is not: refused, or not yet tried */
    SCHEDULE_LIVE,           /* a live setpoint goes before it */
    SCHEDULE_DEFAULT,        /* between two entries */
    SCHEDULE_UNSYNCHRONISED, /* the clock is not to be trusted: default */
    SCHEDULE_STOPPED,        /* a live stop has ended it */
    SCHEDULE_CANCELLED,
    SCHEDULE_ENDED,
    SCHEDULE_STATES
};

struct schedule_status {
    enum schedule_state state;
    int64_t revision; /* -1 = none */
    char id[COMMAND_ID_MAX + 1];
    char source[COMMAND_TEXT_BYTES + 1];
    bool releases;
    int64_t valid_until_ms;
    bool has_entry; /* one covers now */
    struct timetable_entry entry;
    bool changes; /* there is a next change */
    int64_t next_ms;
    bool next_has_value; /* an entry begins; else it is the default */
    double next_value;
    bool owes_default;              /* what an entry has left behind is not at zero yet */
    char why[COMMAND_TEXT_MAX + 1]; /* the last attempt's reason, "" = all is well */
};

bool schedule_status_same(const struct schedule_status *a, const struct schedule_status *b);

#endif
