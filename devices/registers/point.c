#include "devices/registers/point.h"

#include <stddef.h>

/* What is known of each type. */
static const struct {
    uint8_t width, bits; /* registers; bits of them that are the number */
    bool is_signed;
} TYPES[POINT_TYPES] = {
    [POINT_INT16] = {1, 16, true},    [POINT_UINT16] = {1, 16, false},
    [POINT_INT32] = {2, 32, true},    [POINT_UINT32] = {2, 32, false},
    [POINT_INT64] = {4, 64, true},    [POINT_UINT64] = {4, 64, false},
    [POINT_FLOAT32] = {2, 32, false}, [POINT_FLOAT64] = {4, 64, false},
    [POINT_BOOL] = {1, 1, false},     [POINT_INT8] = {1, 8, true},
    [POINT_UINT8] = {1, 8, false},    [POINT_UINT24] = {2, 24, false},
    [POINT_INT48] = {3, 48, true},    [POINT_UINT48] = {3, 48, false},
    [POINT_BCD16] = {1, 16, false},   [POINT_BCD32] = {2, 32, false},
    [POINT_M10K32] = {2, 32, true},   [POINT_M10K48] = {3, 48, true},
    [POINT_M10K64] = {4, 64, true},   [POINT_4Q_FP_PF] = {2, 32, false},
    [POINT_STRING] = {0, 0, false},
};

const char *const point_type_words[] = {
    "int16",   "uint16",
    "int32",   "uint32",
    "int64",   "uint64",
    "float32", "float64",
    "bool",    "int8",
    "uint8",   "uint24",
    "int48",   "uint48",
    "bcd16",   "bcd32",
    "m10k32",  "m10k48",
    "m10k64",  "4q_fp_pf",
    "string",  [POINT_TYPES] = NULL,
};

const char *const point_order_words[] = {
    [POINT_ABCD] = "abcd", [POINT_CDAB] = "cdab",   [POINT_BADC] = "badc",
    [POINT_DCBA] = "dcba", [POINT_DCBA + 1] = NULL,
};

unsigned point_width(const struct point *point)
{
    return point->type == POINT_STRING ? point->registers : TYPES[point->type].width;
}

bool point_has_registers(const struct point *point)
{
    return point->table != POINT_COIL && point->table != POINT_DISCRETE;
}

unsigned point_write_function(const struct point *point)
{
    bool many = point->write_multiple || point_width(point) > 1;
    return point->table == POINT_COIL ? (many ? 15 : 5) : (many ? 16 : 6);
}

bool point_is_signed(enum point_type type)
{
    return TYPES[type].is_signed;
}

bool point_is_float(enum point_type type)
{
    return type == POINT_FLOAT32 || type == POINT_FLOAT64 || type == POINT_4Q_FP_PF;
}

bool point_is_binary(const struct point *point)
{
    return point->type <= POINT_UINT64 || point->type == POINT_BOOL || point->type == POINT_INT48 ||
           point->type == POINT_UINT48;
}

unsigned point_bits(const struct point *point)
{
    return point->bits ? point->bits : TYPES[point->type].bits;
}

const char *point_type_word(enum point_type type)
{
    return type < POINT_TYPES ? point_type_words[type] : "unknown";
}

const char *point_table_word(enum point_table table)
{
    switch (table) {
    case POINT_COIL:
        return "coil";
    case POINT_DISCRETE:
        return "discrete";
    case POINT_HOLDING:
        return "holding";
    case POINT_INPUT:
        return "input";
    }
    return "unknown";
}

const char *point_order_word(enum point_order order)
{
    return order <= POINT_DCBA ? point_order_words[order] : "unknown";
}

const char *point_label(const struct point *point, int64_t raw)
{
    for (unsigned i = 0; i < point->n_labels; i++)
        if (point->labels[i].value == raw)
            return point->labels[i].label;
    return NULL;
}
