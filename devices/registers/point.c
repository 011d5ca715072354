#include "devices/registers/point.h"

#include <stddef.h>

const char *const point_type_words[] = {
    [POINT_INT16] = "int16",     [POINT_UINT16] = "uint16",   [POINT_INT32] = "int32",
    [POINT_UINT32] = "uint32",   [POINT_INT64] = "int64",     [POINT_UINT64] = "uint64",
    [POINT_FLOAT32] = "float32", [POINT_FLOAT64] = "float64", [POINT_BOOL] = "bool",
    [POINT_BOOL + 1] = NULL,
};

const char *const point_order_words[] = {
    [POINT_ABCD] = "abcd", [POINT_CDAB] = "cdab",   [POINT_BADC] = "badc",
    [POINT_DCBA] = "dcba", [POINT_DCBA + 1] = NULL,
};

unsigned point_width(const struct point *point)
{
    switch (point->type) {
    case POINT_INT32:
    case POINT_UINT32:
    case POINT_FLOAT32:
        return 2;
    case POINT_INT64:
    case POINT_UINT64:
    case POINT_FLOAT64:
        return 4;
    default:
        return 1;
    }
}

const char *point_type_word(enum point_type type)
{
    return type <= POINT_BOOL ? point_type_words[type] : "unknown";
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
