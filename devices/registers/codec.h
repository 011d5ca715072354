/* codec: registers to values and back.
 *
 * Pure functions. libmodbus's float helpers are not used: in Debian 12
 * modbus_set_float_abcd emits BADC and modbus_get_float reads CDAB.
 */
#ifndef DEVICES_REGISTERS_CODEC_H
#define DEVICES_REGISTERS_CODEC_H

#include <stddef.h>

#include "devices/lines/fault.h"
#include "devices/registers/point.h"

/* Decodes a point from `words`, point_width() registers as read (host order of
 * each 16-bit word), or one element 0/1 for a coil or discrete input. The
 * result is VALUE_READ, or VALUE_FAULT with FAULT_NOT_FINITE, or FAULT_IMPLAUSIBLE
 * when the registers of a decimal type hold no digits, or those of a quadrant's power
 * factor no number from -2 to 2. */
struct value codec_decode(const struct point *point, const uint16_t *words);
void codec_decode_into(const struct point *point, const uint16_t *words, struct value *value);

/* Gives a value that was read its scale register's power of ten. Without a readable
 * one of -10..10 the value is a fault: the scale's own, or FAULT_IMPLAUSIBLE. */
void codec_rescale(const struct point *point, const struct value *scale, struct value *value);

/* The number that a row's registers stand for, which hold `raw` (point.h) and whose scale
 * register says 10^exponent; 0 where it has none. Not of a text. */
double codec_number(const struct point *point, uint64_t raw, int exponent);

/* Whether the row's registers can hold this whole number as their content, scale and
 * offset aside. */
bool codec_holds(const struct point *point, double whole);

/* Whether a row of this kind can be written at all: not what shares its registers with
 * something else (a bit field, a byte, 24 bits), as another master may write that in
 * between; not a text; not what a scale register moves; not a power factor with its
 * quadrant, which the number alone does not tell. */
bool codec_is_writable(const struct point *point);

enum codec_fit {
    CODEC_FITS,
    CODEC_OUT_OF_RANGE, /* the register's type cannot hold it */
    CODEC_OFF_STEP,     /* finer than the register can hold */
};

/* Encodes `number` (in the point's unit) into point_width() registers. `words`
 * is untouched unless the result is CODEC_FITS. What is not codec_is_writable() never
 * fits. */
enum codec_fit codec_encode(const struct point *point, double number, uint16_t *words);

/* The smallest step of the point in its unit: |scale| for integers and bits,
 * 0 for floats. */
double codec_step(const struct point *point);

enum { CODEC_NUMBER_MAX = 32, CODEC_TEXT_MAX = 2 * POINT_TEXT_MAX + 4 };

/* Writes a VALUE_READ value as a JSON number (or true/false for POINT_BOOL):
 * integers exactly, everything else in the fewest digits that name the
 * register's value; a text in quotes. Not the label of an enumeration. Returns the length. */
size_t codec_print(const struct point *point, const struct value *value, char text[CODEC_TEXT_MAX]);

/* The same for a bare number in the point's unit, e.g. a limit or a read-back. */
size_t codec_print_number(double number, char text[CODEC_TEXT_MAX]);

/* What a register held as codec_print() names it, so that it equals the number
 * that was written: 0.1, and not the float32 next to it, 0.100000001490116. */
double codec_decimal(const struct point *point, double number);

#endif
