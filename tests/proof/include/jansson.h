/* jansson.h as command_json.c and json_text.c see it, for a proof: documents made by hand. */
#ifndef TESTS_PROOF_JANSSON_H
#define TESTS_PROOF_JANSSON_H

#include <stddef.h>
#include <string.h>

#include "tests/proof/prove.h"

enum { MEMBERS = 2, TEXT_BYTES = 5 };
enum { JSON_DECODE_ANY = 1, JSON_DECODE_INT_AS_REAL = 2, JSON_REJECT_DUPLICATES = 4 };
enum { JSON_COMPACT = 8 };
#define JSON_REAL_PRECISION(n) (n)

typedef struct json {
    enum { JSON_AN_OBJECT, JSON_A_NUMBER, JSON_A_TEXT } kind;
    double number;
    size_t length;
    char text[TEXT_BYTES];
    unsigned n;
    const char *keys[MEMBERS];
    struct json *values[MEMBERS];
} json_t;

typedef struct {
    char text[2];
} json_error_t;

json_t *json_loadb(const char *payload, size_t size, size_t flags, json_error_t *error);
json_t *json_stringn(const char *text, size_t size);
json_t *json_null(void);
char *json_dumps(const json_t *value, size_t flags);

static inline const char *json_string_value(const json_t *value)
{
    return value != NULL && value->kind == JSON_A_TEXT ? value->text : NULL;
}

static inline size_t json_string_length(const json_t *value)
{
    return value != NULL && value->kind == JSON_A_TEXT ? value->length : 0;
}

static inline bool json_is_number(const json_t *value)
{
    return value != NULL && value->kind == JSON_A_NUMBER;
}

static inline bool json_is_object(const json_t *value)
{
    return value != NULL && value->kind == JSON_AN_OBJECT;
}

static inline double json_number_value(const json_t *value)
{
    return json_is_number(value) ? value->number : 0;
}

static inline json_t *json_object_get(const json_t *object, const char *key)
{
    for (unsigned i = 0; json_is_object(object) && i < object->n; i++) {
        if (strcmp(object->keys[i], key) == 0)
            return object->values[i];
    }
    return NULL;
}

static inline void json_decref(json_t *value)
{
    (void)value;
}

#define json_object_foreach(object, key, value)                                                    \
    for (unsigned json_at = 0;                                                                     \
         json_at < (object)->n &&                                                                  \
         ((key) = (object)->keys[json_at], (value) = (object)->values[json_at], true);             \
         json_at++)

#endif
