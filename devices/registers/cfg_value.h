/* cfg_value: what is written in a configuration as the number or text that it means.
 *
 * Pure functions; any thread may call them.
 */
#ifndef DEVICES_REGISTERS_CFG_VALUE_H
#define DEVICES_REGISTERS_CFG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

/* A suffix and what it multiplies by; tables go from small to large and end with NULL. */
struct cfg_unit {
    const char *suffix;
    double factor;
};
extern const struct cfg_unit CFG_PLAIN[];
extern const struct cfg_unit CFG_DURATION_UNITS[]; /* of nanoseconds */
extern const struct cfg_unit CFG_SIZE_UNITS[];     /* of bytes */

/* "1.5s" into 1.5e9 by a table of units. False when it is no plain decimal with one of
 * the suffixes. */
bool cfg_value_amount(const char *text, const struct cfg_unit *units, double *amount);

/* The amount in the largest unit that leaves a whole number. Returns `text`. */
const char *cfg_value_print(double amount, const struct cfg_unit *units, char text[32]);

/* A whole number in decimal or, after 0x, hexadecimal digits, with a sign before
 * decimal ones and L or LL behind: the whole of `text`. *fits is false when it needs
 * more than 64 bits, its sign among them. */
bool cfg_value_whole(const char *text, uint64_t *magnitude, bool *negative, bool *fits);

/* Digits with a point or an exponent among them. */
bool cfg_value_is_real(const char *text);

/* UTF-8 without control characters (RFC 3629, sections 3 and 4). */
bool cfg_value_is_text(const char *text);

#endif
