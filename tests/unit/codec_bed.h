/* codec_bed: a row to be read or written. */
#ifndef TESTS_UNIT_CODEC_BED_H
#define TESTS_UNIT_CODEC_BED_H

#include "devices/registers/codec.h"
#include "given.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static inline struct point a_point(enum point_type type)
{
    return (struct point){
        .name = "p", .table = POINT_HOLDING, .type = type, .scale = 1, .every = 1};
}

#endif
