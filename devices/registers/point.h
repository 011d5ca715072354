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

#include "devices/lines/endpoint.h"

enum {
    POINT_NAME_MAX = 64,
    POINT_UNIT_MAX = 16,
    POINT_LABEL_MAX = 32,
    POINT_LABELS_MAX = 256,
    POINT_SENTINELS_MAX = 4,
    POINT_WORDS_MAX = 32,                 /* registers of one point: the longest text */
    POINT_NUMBER_WORDS_MAX = 4,           /* of one that is a number */
    POINT_TEXT_MAX = 2 * POINT_WORDS_MAX, /* bytes */
    POINT_EXPONENT_MAX = 10               /* of a scale register: SunSpec's sunssf is -10..10 */
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
    POINT_INT8, /* one byte of a register */
    POINT_UINT8,
    POINT_UINT24, /* the lower three bytes of two registers */
    POINT_INT48,
    POINT_UINT48,
    POINT_BCD16, /* four decimal digits a register */
    POINT_BCD32,
    POINT_M10K32, /* base 10,000: each register -9999..9999, the high one first */
    POINT_M10K48,
    POINT_M10K64,
    POINT_4Q_FP_PF, /* a power factor and its quadrant in one float32, as Schneider codes it */
    POINT_STRING,   /* two characters a register, as many registers as the row says */
    POINT_TYPES
};

/* Order of the bytes A (most significant) B C D of a 32-bit number on the wire.
 * For any other width the same rule: words reversed, bytes in each word swapped,
 * both; so BADC swaps the bytes of a single register, and CDAB does nothing to it. */
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
    bool own_order;      /* the row's own order, which a device's does not replace */
    uint8_t registers;   /* POINT_STRING: how many */
    bool high_byte;      /* POINT_INT8, POINT_UINT8: which half of the register */
    uint8_t bit;         /* lowest bit of a bit field in an integer register */
    uint8_t bits;        /* width of the bit field; 0 = the whole register */
    uint8_t every;       /* poll class: read at every n-th scan; 1 = each */
    bool write_multiple; /* written by function 16 (15), be it one register (coil) only */
    uint16_t model;      /* SunSpec: address counts from this model's ID register; 0 = none */
    uint16_t scale_row;  /* the row whose value n gives 10^n to this one's scale: its index + 1 */
    bool writable;
    bool made;       /* of other points, by the type's control group: it has no registers */
    bool commanded;  /* a device's own: its configuration lets commands write it */
    bool enumerated; /* published as its label, and as <name>_code */
    double scale;    /* value = raw * scale * 10^n + offset, in `unit` */
    double offset;
    double min, max;  /* write limits in `unit`; NAN = none given */
    double low, high; /* plausible range in `unit`; NAN = none given */
    bool counter;     /* never falls, but for a reset */
    double deadband;  /* least change worth publishing, in `unit`; 0 = any */
    unsigned n_sentinels;
    uint64_t sentinels[POINT_SENTINELS_MAX]; /* register contents that mean "no value" */
    unsigned n_labels;
    const struct point_label *labels; /* the profile's, or a device's own */
};

/* A decoded value, or why there is none. `raw` is the register content as the
 * point's type sees it (sign-extended for signed types, the bit pattern for
 * floats, a hash of a text), kept so that 64-bit integers are published exactly. */
struct value {
    enum { VALUE_ABSENT, VALUE_READ, VALUE_FAULT } state; /* ABSENT: not due in this scan */
    int fault;                                            /* enum fault, with VALUE_FAULT */
    int exponent;  /* n of the scale register that was read along; 0 */
    double number; /* 0 for a text */
    uint64_t raw;
    char text[POINT_TEXT_MAX + 1]; /* POINT_STRING alone: printable UTF-8; else undefined */
};

/* Registers (or bits, for coils and discrete inputs) a point occupies. */
unsigned point_width(const struct point *point);

/* Coils and discrete inputs are bits, the other two tables registers. */
bool point_has_registers(const struct point *point);

/* The function code that writes it: 5, 6, 15 or 16. */
unsigned point_write_function(const struct point *point);

/* What of it is on the line: a type of two's complement, or of floating point; and how
 * many bits of its registers are the number (the bit field's, if it is one). */
bool point_is_signed(enum point_type type);
bool point_is_float(enum point_type type);

/* Whether its registers are bits that count, so that a bit field can be cut out. */
bool point_is_binary(const struct point *point);
unsigned point_bits(const struct point *point);

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
