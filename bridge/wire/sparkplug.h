/* sparkplug: Sparkplug B payloads, out and in.
 *
 * Sparkplug 3.0.0, section 6.4. The bytes are protobuf-c's, by a schema of our own
 * (sparkplug.proto) with the fields that are needed; what a metric is called, when
 * it is sent and with which number are the edge node's (bridge/publish/edge.h).
 *
 * Pure but for memory.
 */
#ifndef BRIDGE_WIRE_SPARKPLUG_H
#define BRIDGE_WIRE_SPARKPLUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Section 6.4.16. No unsigned ones: UInt32's field differs between the
 * specification and Eclipse's own library. */
enum sparkplug_type {
    SPARKPLUG_INT32 = 3,
    SPARKPLUG_INT64 = 4,
    SPARKPLUG_DOUBLE = 10,
    SPARKPLUG_BOOLEAN = 11,
    SPARKPLUG_STRING = 12
};

/* Section 6.4.12. */
enum sparkplug_quality {
    SPARKPLUG_NO_QUALITY = -1, /* the property is left out */
    SPARKPLUG_BAD = 0,
    SPARKPLUG_GOOD = 192,
    SPARKPLUG_STALE = 500
};

enum { SPARKPLUG_TEXT_MAX = 256, SPARKPLUG_NAME_MAX = 160 };

struct sparkplug_value {
    bool is_null;
    int64_t integer;  /* INT64, BOOLEAN */
    double number;    /* DOUBLE */
    const char *text; /* STRING */
};

struct sparkplug_metric {
    const char *name; /* NULL = by its alias alone, as in data: then no datatype either */
    uint64_t alias;   /* 0 = none */
    int64_t ts_ms;
    enum sparkplug_type type;
    bool historical;
    const struct sparkplug_value *value;
    enum sparkplug_quality quality;
    const char *unit; /* property engUnit; NULL or "" = none */
};

/* The bytes, malloc'ed (free with free()); NULL when out of memory. `seq` -1 = none. */
void *sparkplug_encode(int64_t ts_ms, int seq, const struct sparkplug_metric *metrics, unsigned n,
                       size_t *size);

/* One metric of a command. */
struct sparkplug_wish {
    char name[SPARKPLUG_NAME_MAX + 1]; /* "" = by its alias */
    uint64_t alias;
    bool has_ts; /* the metric's own, or else its payload's */
    int64_t ts_ms;
    enum { SPARKPLUG_NOTHING, SPARKPLUG_NUMBER, SPARKPLUG_FLAG, SPARKPLUG_WORDS } kind;
    double number; /* NUMBER; FLAG: 0 or 1 */
};

/* Takes a payload apart. False when the bytes are none. `*n` is how many metrics it
 * has, of which at most `most` are filled in. */
bool sparkplug_decode(const void *bytes, size_t size, struct sparkplug_wish *wishes, unsigned most,
                      unsigned *n);

/* What a host says of itself on its STATE topic (section 6.4.28), which alone is JSON:
 * {"online":true,"timestamp":1763791200000}. False when it is not that. */
bool sparkplug_decode_state(const void *bytes, size_t size, bool *online, int64_t *ts_ms);

#endif
