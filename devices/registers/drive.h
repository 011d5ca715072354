/* drive: how a battery of a type is commanded.
 *
 * Plain data, and pure functions over it. The group `control` of a profile says which
 * points play a part, and which writes, in order, take a battery over (engage), give it
 * a setpoint (set) and let it go again (release); what keeps it going (keepalive), after
 * how long without that it stops by itself (device_timeout), and what has to read back.
 * devices/README.md describes every key. Who runs it all is bridge/battery/driver.
 *
 * What is in kW here is + when the battery discharges, whatever the registers hold. A
 * type that has no row `target_power`, or whose `soe` is the ratio of two points, gets
 * that row made: it has no registers of its own (point.made).
 *
 * drive.c has the functions; drive_read.c reads the group, by way of drive_list.
 */
#ifndef DEVICES_REGISTERS_DRIVE_H
#define DEVICES_REGISTERS_DRIVE_H

#include "devices/registers/cfg.h"
#include "devices/registers/codec.h"
#include "devices/registers/point.h"

enum {
    DRIVE_WRITES_MAX = 16, /* of a list */
    DRIVE_BEATS_MAX = 8,   /* values of a keepalive, in turn */
    DRIVE_PROOFS_MAX = 8,
    DRIVE_KEYS_MAX = 8, /* keys of a site's configuration that writes take their value from */
    DRIVE_MADE_MAX = 2  /* rows without registers of their own */
};

/* What a write writes. */
enum drive_value {
    DRIVE_NUMBER,
    DRIVE_SETPOINT,  /* + discharges, in the point's unit of power, or percent of `of` */
    DRIVE_MAGNITUDE, /* the same without its sign */
    DRIVE_BEAT,      /* the keepalive's next value */
    DRIVE_TIMEOUT,   /* the device's timeout */
    DRIVE_KEY        /* of the site's configuration */
};

/* Of which setpoints. */
enum drive_when { DRIVE_ALWAYS, DRIVE_CHARGE, DRIVE_DISCHARGE, DRIVE_STOP };

struct drive_write {
    unsigned point;
    enum drive_value value;
    enum drive_when when;
    double number; /* NUMBER; KEY: without the key, NAN = the site must have it */
    unsigned key;  /* KEY: of drive.keys */
    int of;        /* SETPOINT, MAGNITUDE: in percent of this point; -1 */
    bool joined;   /* in one FC 16 with the one before it */
};

struct drive_list {
    unsigned n;
    struct drive_write writes[DRIVE_WRITES_MAX];
};

struct drive {
    bool given; /* the type has the group */
    /* Points; -1 = none. `setpoint` and `soe` may be rows that are made. */
    int setpoint, status, soe, blocks;
    int energy, full; /* with `soe` made: it is energy / full */
    struct drive_list engage, set, release;
    bool rewrite;     /* the keepalive: `set` once more */
    int beat;         /* or the point that it writes; -1 = none */
    unsigned n_beats; /* with these in turn */
    double beats[DRIVE_BEATS_MAX];
    int64_t every_ns; /* 0 = there is no keepalive */
    int timeout;      /* the point of device_timeout; -1 = it is fixed, or there is none */
    double timeout_s; /* after which the battery stops by itself; 0 = never */
    unsigned n_proofs;
    unsigned proofs[DRIVE_PROOFS_MAX];
    bool idle_release; /* after a stop: released, else held */
    unsigned n_keys;
    char keys[DRIVE_KEYS_MAX][POINT_NAME_MAX + 1];
};

/* What a site adds to it. */
struct drive_site {
    bool idle_release;
    double timeout_s;
    double keys[DRIVE_KEYS_MAX];
};

/* Reads the group `control` of a profile with these rows, of which there is room for
 * DRIVE_MADE_MAX more. Problems are reported through `cfg`. */
void drive_read(struct cfg *cfg, const struct cfg_setting *group, struct point *points,
                unsigned *n_points, struct drive *drive);

/* Gives the rows that are made their values, now that the others have theirs; which
 * those are, for who wants a made one. */
void drive_make(const struct drive *drive, const struct point *points, struct value *values);
bool drive_needs(const struct drive *drive, unsigned made, unsigned point);

/* The kW that these values hold as setpoint: VALUE_READ, or why it is not known. */
struct value drive_held(const struct drive *drive, const struct point *points,
                        const struct value *values);

/* Which setpoints these are. */
enum drive_when drive_when_of(double kw);
/* Whether a write is one of these. */
bool drive_applies(const struct drive_write *write, enum drive_when when);

/* How many of the point's unit of power a kW is; 0 when it is none. */
double drive_per_kw(const struct point *point);
/* How many of the point's unit of time a second is; 0 when it is none. */
double drive_per_s(const struct point *point);

/* What a write writes for a setpoint, in its point's unit, with the keepalive's `beat`-th
 * value. False when what it is a percentage of is not among the values (NULL: none are). */
bool drive_number(const struct drive *drive, const struct drive_site *site,
                  const struct point *points, const struct value *values,
                  const struct drive_write *write, double kw, unsigned beat, double *number);

/* Whether the registers can hold a setpoint, as far as that is known without asking the
 * device. */
enum codec_fit drive_fits(const struct drive *drive, const struct point *points, double kw);

/* Whether a row is one that the lists, the keepalive or the timeout write. */
bool drive_writes(const struct drive *drive, unsigned point);

/* Whether a write takes its value from this key. */
bool drive_has_key(const struct drive *drive, const char *key);

/* Words of a value and of a case, for people. */
const char *drive_value_word(enum drive_value value);
const char *drive_when_word(enum drive_when when);

/* Rounds off what arithmetic left behind the 12th digit; and as what a setpoint of `kw` is read
 * from its row. */
double drive_round(double number);
double drive_as_read(const struct point *row, double kw);

#endif
