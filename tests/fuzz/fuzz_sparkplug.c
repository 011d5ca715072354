/* A Sparkplug command from anybody: it is none, or its metrics have finite numbers. And what
 * somebody says on a host's STATE topic. The other way round, the same bytes as a recipe for
 * metrics of our own: what is said of each is what a reader finds. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/wire/sparkplug.h"

enum { WISHES = 8, TEXT_MAX = 23 };

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_others(const uint8_t *data, size_t size)
{
    struct sparkplug_wish wishes[WISHES];
    unsigned n = 0;
    bool online = false;
    int64_t ts_ms = 0;
    (void)sparkplug_decode_state(data, size, &online, &ts_ms);
    if (!sparkplug_decode(data, size, wishes, WISHES, &n))
        return;
    for (unsigned i = 0; i < n && i < WISHES; i++) {
        check(isfinite(wishes[i].number) && strlen(wishes[i].name) <= SPARKPLUG_NAME_MAX);
        check(!wishes[i].has_ts || wishes[i].ts_ms >= 0);
    }
}

/* ---- our own ---- */

struct recipe {
    const uint8_t *data;
    size_t size;
};

/* The next bytes, and zeros behind the last. */
static void take(struct recipe *recipe, void *bytes, size_t size)
{
    const size_t n = size < recipe->size ? size : recipe->size;
    memset(bytes, 0, size);
    memcpy(bytes, recipe->data, n);
    recipe->data += n;
    recipe->size -= n;
}

static uint8_t take_byte(struct recipe *recipe)
{
    uint8_t byte;
    take(recipe, &byte, 1);
    return byte;
}

static void take_text(struct recipe *recipe, char text[TEXT_MAX + 1])
{
    const size_t size = take_byte(recipe) % (TEXT_MAX + 1);
    take(recipe, text, size);
    text[size] = '\0';
}

struct made {
    struct sparkplug_metric metric;
    struct sparkplug_value value;
    char name[TEXT_MAX + 1], text[TEXT_MAX + 1], unit[TEXT_MAX + 1];
};

static void make(struct recipe *recipe, struct made *made)
{
    static const enum sparkplug_type types[] = {SPARKPLUG_INT32, SPARKPLUG_INT64, SPARKPLUG_DOUBLE,
                                                SPARKPLUG_BOOLEAN, SPARKPLUG_STRING};
    static const enum sparkplug_quality qualities[] = {SPARKPLUG_NO_QUALITY, SPARKPLUG_BAD,
                                                       SPARKPLUG_GOOD, SPARKPLUG_STALE};
    const uint8_t flags = take_byte(recipe);
    uint64_t ts_ms;
    *made = (struct made){.value.is_null = flags & 1};
    take(recipe, &ts_ms, sizeof(ts_ms));
    made->metric = (struct sparkplug_metric){
        .ts_ms = (int64_t)(ts_ms >> 1),
        .type = types[take_byte(recipe) % (sizeof(types) / sizeof(*types))],
        .historical = flags & 4,
        .value = &made->value,
        .quality = qualities[flags >> 4 & 3],
    };
    take(recipe, &made->metric.alias, sizeof(made->metric.alias));
    take(recipe, &made->value.integer, sizeof(made->value.integer));
    take(recipe, &made->value.number, sizeof(made->value.number));
    take_text(recipe, made->text);
    made->value.text = made->text;
    if (flags & 2) {
        take_text(recipe, made->name);
        made->metric.name = made->name;
    }
    if (flags & 8) {
        take_text(recipe, made->unit);
        made->metric.unit = made->unit;
    }
}

static void check_wish(const struct made *made, const struct sparkplug_wish *wish)
{
    const struct sparkplug_value *value = &made->value;
    check(strcmp(wish->name, made->name) == 0 && wish->alias == made->metric.alias);
    check(wish->has_ts && wish->ts_ms == made->metric.ts_ms);
    if (value->is_null)
        check(wish->kind == SPARKPLUG_NOTHING);
    else if (made->metric.type == SPARKPLUG_STRING)
        check(wish->kind == SPARKPLUG_WORDS);
    else if (made->metric.type == SPARKPLUG_BOOLEAN)
        check(wish->kind == SPARKPLUG_FLAG && wish->number == (value->integer != 0));
    else if (made->metric.type != SPARKPLUG_DOUBLE)
        check(wish->kind == SPARKPLUG_NUMBER && wish->number == (double)value->integer);
    else if (isfinite(value->number))
        check(wish->kind == SPARKPLUG_NUMBER && wish->number == value->number);
    else
        check(wish->kind == SPARKPLUG_NOTHING);
}

static void check_own(const uint8_t *data, size_t size)
{
    struct recipe recipe = {data, size};
    struct made made[WISHES];
    struct sparkplug_metric metrics[WISHES];
    struct sparkplug_wish wishes[WISHES];
    const unsigned n = take_byte(&recipe) % (WISHES + 1);
    const int seq = (int)take_byte(&recipe) - 1;
    unsigned n_read = 0;
    for (unsigned i = 0; i < n; i++) {
        make(&recipe, &made[i]);
        metrics[i] = made[i].metric;
    }
    size_t length = 0;
    void *bytes = sparkplug_encode(1763791200123, seq, metrics, n, &length);
    check(bytes != NULL && sparkplug_decode(bytes, length, wishes, WISHES, &n_read) && n_read == n);
    for (unsigned i = 0; i < n; i++)
        check_wish(&made[i], &wishes[i]);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_others(data, size);
    check_own(data, size);
    return 0;
}
