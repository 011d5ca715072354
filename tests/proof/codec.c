/* Bounds: rows of every type but text, in every byte order, bit fields and bytes too;
 * any words. Encoding: of any number with a scale of 1, -1 (a setpoint's sign) and no
 * offset.
 *
 * - No words are read or written beyond the row's own, whatever they hold.
 * - What is read is a finite number, or a fault.
 * - A number that fits an integer row is held just as it is.
 */
#include <math.h>
#include <string.h>

#include "devices/registers/codec.h"
#include "tests/proof/prove.h"

#ifndef SCALE
#define SCALE 1
#endif

static void decode(void)
{
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    struct point row = {.table = POINT_HOLDING, .scale = 1};
    row.type = (enum point_type)(nondet_unsigned() % POINT_STRING);
    row.order = (enum point_order)(nondet_unsigned() % 4);
    row.high_byte = nondet_bool();
    row.table = (enum point_table)(POINT_COIL + nondet_unsigned() % 4);
    assume(!row.high_byte || row.type == POINT_INT8 || row.type == POINT_UINT8);
    if (nondet_bool() && row.type == POINT_UINT16) {
        row.bit = (uint8_t)(nondet_word() % 16);
        row.bits = (uint8_t)(nondet_word() % 17);
        assume(row.bit + row.bits <= 16);
    }
    assume(point_width(&row) <= POINT_NUMBER_WORDS_MAX);
    for (unsigned i = 0; i < POINT_NUMBER_WORDS_MAX; i++)
        words[i] = nondet_word();
    /* One more than there are would be out of bounds. */
    const struct value value =
        codec_decode(&row, words + POINT_NUMBER_WORDS_MAX - point_width(&row));
    prove(value.state != VALUE_READ || isfinite(value.number), "what is read is finite");
    reach("words are decoded");
}

static void encode(enum point_type type)
{
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    struct point row = {.table = POINT_HOLDING, .type = type, .scale = SCALE};
    const double number = nondet_double();
    row.order = (enum point_order)(nondet_unsigned() % 4);
    if (codec_encode(&row, number, words + POINT_NUMBER_WORDS_MAX - point_width(&row)) !=
        CODEC_FITS)
        return;
    const struct value value =
        codec_decode(&row, words + POINT_NUMBER_WORDS_MAX - point_width(&row));
    prove(value.state == VALUE_READ && value.number == number, "what fits is held as it is");
    reach("a number fits");
}

int main(void)
{
#ifdef ENCODE
    encode(ENCODE);
#else
    decode();
#endif
    return 0;
}
