/* point: one row of a device type, a measurement or a setting in registers.
 *
 * Plain data. A profile owns the rows of a type; a device owns a copy with its
 * own overrides. Addresses are PDU addresses: register 2000 is the bytes 07 D0
 * of the frame (MODBUS Application Protocol V1.1b3, section 4.4).
 */
#ifndef DEVICES_REGISTERS_POINT_H
#define DEVICES_REGISTERS_POINT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    POINT_NAME_MAX = 64,
    POINT_UNIT_MAX = 16,
    POINT_LABEL_MAX = 32,
    POINT_LABELS_MAX = 16,
    POINT_SENTINELS_MAX = 4
};

/* Where a point lives. The value is the function code that reads it. */
enum point_table {
    POINT_COIL = 1,
    POINT_DISCRETE = 2,
    POINT_HOLDING = 3,
    POINT_INPUT = 4,
};

enum point_type {
    POINT_INT16,
    POINT_UINT16,
    POINT_INT32,
    POINT_UINT32,
    POINT_INT64,
    POINT_UINT64,
    POINT_FLOAT32,
    POINT_FLOAT64,
    POINT_BOOL, /* coils and discrete inputs, and single bits of a register */
};

/* Order of the bytes A (most significant) B C D of a 32-bit number on the wire.
 * For 64 bits the same rule: words reversed, bytes in each word swapped, both. */
enum point_order { POINT_ABCD, POINT_CDAB, POINT_BADC, POINT_DCBA };

struct point_label {
    int64_t value;
    char label[POINT_LABEL_MAX + 1];
};

struct point {
    char name[POINT_NAME_MAX + 1]; /* [a-z0-9_]+, unique within a type */
    char unit[POINT_UNIT_MAX + 1]; /* "" = none */
    uint16_t address;              /* PDU address of the first register or bit */
    enum point_table table;
    enum point_type type;
    enum point_order order;
    uint8_t bit;   /* lowest bit of a bit field in an integer register */
    uint8_t bits;  /* width of the bit field; 0 = the whole register */
    uint8_t every; /* poll class: read at every n-th scan; 1 = each */
    bool writable;
    bool enumerated; /* published as its label, and as <name>_code */
    double scale;    /* value = raw * scale + offset, in `unit` */
    double offset;
    double min, max;  /* write limits in `unit`; NAN = none given */
    double low, high; /* plausible range in `unit`; NAN = none given */
    bool counter;     /* never falls, but for a reset */
    double deadband;  /* least change worth publishing, in `unit`; 0 = any */
    unsigned n_sentinels;
    uint64_t sentinels[POINT_SENTINELS_MAX]; /* register contents that mean "no value" */
    unsigned n_labels;
    struct point_label labels[POINT_LABELS_MAX];
};

/* A decoded value, or why there is none. `raw` is the register content as the
 * point's type sees it (sign-extended for signed types, the bit pattern for
 * floats), kept so that 64-bit integers are published exactly. */
struct value {
    enum { VALUE_ABSENT, VALUE_READ, VALUE_FAULT } state; /* ABSENT: not due in this scan */
    int fault;                                            /* enum fault, with VALUE_FAULT */
    double number;
    uint64_t raw;
};

/* Registers (or bits, for coils and discrete inputs) a point occupies: 1, 2 or 4. */
unsigned point_width(const struct point *point);

/* The words of the configuration and of `fluxbridge points`: "float32",
 * "holding", "abcd". Never NULL. The lists end with NULL and are indexed by
 * the enum. */
extern const char *const point_type_words[];
extern const char *const point_order_words[];
const char *point_type_word(enum point_type type);
const char *point_table_word(enum point_table table);
const char *point_order_word(enum point_order order);

/* The label of an enumerated raw value, or NULL. */
const char *point_label(const struct point *point, int64_t raw);

#endif
