#include "bridge/battery/intent.h"

#include <stddef.h>

void intent_init(struct intent *intent)
{
    *intent = (struct intent){.setpoint = INTENT_NONE};
}

bool intent_has_room(const struct intent *intent)
{
    return intent->stops.n < INTENT_STOPS_MAX;
}

uint16_t intent_withdraw(struct intent *intent)
{
    uint16_t token = intent->setpoint;
    intent->setpoint = INTENT_NONE;
    return token;
}

uint16_t intent_put_stop(struct intent *intent, uint16_t token)
{
    if (intent->work != INTENT_NOTHING && intent->work != INTENT_STOP && !intent->written)
        intent->overtaken = true;
    intent->stops.tokens[intent->stops.n++] = token;
    return intent_withdraw(intent);
}

uint16_t intent_put_setpoint(struct intent *intent, uint16_t token)
{
    uint16_t replaced = intent->setpoint;
    intent->setpoint = token;
    return replaced;
}

/* The oldest gives way: it has had its answer. */
static void owe_one(struct intent *intent, uint16_t token)
{
    struct intent_stops *owed = &intent->owed;
    if (owed->n == INTENT_STOPS_MAX) {
        for (unsigned i = 1; i < owed->n; i++)
            owed->tokens[i - 1] = owed->tokens[i];
        owed->n--;
    }
    owed->tokens[owed->n++] = token;
}

void intent_owe(struct intent *intent, uint16_t token, int64_t retry_ns)
{
    if (token != INTENT_NONE)
        owe_one(intent, token);
    intent->is_owed = true;
    intent->retry_ns = retry_ns;
}

static bool has(const struct intent_stops *stops, uint16_t token)
{
    for (unsigned i = 0; i < stops->n; i++) {
        if (stops->tokens[i] == token)
            return true;
    }
    return false;
}

bool intent_holds(const struct intent *intent, uint16_t token)
{
    return intent->setpoint == token || has(&intent->stops, token) ||
           has(&intent->current, token) || has(&intent->owed, token);
}

static void add_newest(struct intent_stops *all, const struct intent_stops *stops)
{
    for (unsigned i = stops->n; i > 0 && all->n < INTENT_STOPS_MAX; i--)
        all->tokens[all->n++] = stops->tokens[i - 1];
}

void intent_open_stops(const struct intent *intent, struct intent_stops *stops)
{
    stops->n = 0;
    add_newest(stops, &intent->stops);
    if (intent->work == INTENT_STOP)
        add_newest(stops, &intent->current);
    add_newest(stops, &intent->owed);
}

uint16_t intent_open_stop(const struct intent *intent)
{
    struct intent_stops stops;
    intent_open_stops(intent, &stops);
    return stops.n > 0 ? stops.tokens[0] : INTENT_NONE;
}

bool intent_stop_is_due(const struct intent *intent, int64_t now_ns)
{
    return intent->stops.n > 0 || (intent->is_owed && now_ns >= intent->retry_ns);
}

static void begin(struct intent *intent, enum intent_work work)
{
    intent->work = work;
    intent->overtaken = intent->written = false;
}

enum intent_work intent_begin(struct intent *intent, int64_t now_ns)
{
    if (intent_stop_is_due(intent, now_ns)) {
        intent->current = intent->stops;
        intent->stops.n = 0;
        begin(intent, INTENT_STOP);
    } else if (intent->setpoint != INTENT_NONE) {
        intent->current = (struct intent_stops){.n = 1, .tokens = {intent_withdraw(intent)}};
        begin(intent, INTENT_SETPOINT);
    }
    return intent->work;
}

bool intent_begin_own(struct intent *intent, int64_t now_ns)
{
    if (intent->work != INTENT_NOTHING || intent_stop_is_due(intent, now_ns))
        return false;
    intent->current.n = 0;
    begin(intent, INTENT_OWN);
    return true;
}

bool intent_put_back(struct intent *intent)
{
    if (intent->work != INTENT_SETPOINT || intent->written || intent->setpoint != INTENT_NONE)
        return false;
    intent->setpoint = intent->current.tokens[0];
    intent->work = INTENT_NOTHING;
    intent->current.n = 0;
    return true;
}

/* What was owed is owed no more. */
static void settle(struct intent *intent, struct intent_stops *settled)
{
    *settled = intent->owed;
    intent->owed.n = 0;
    intent->is_owed = false;
}

bool intent_write(struct intent *intent, bool is_zero, struct intent_stops *settled)
{
    settled->n = 0;
    /* The bridge's own zero may repeat a stop; nothing else of its own follows one. */
    if (intent->overtaken || (intent->work == INTENT_OWN && !is_zero && intent->is_owed))
        return false;
    intent->written = true;
    if (!is_zero)
        settle(intent, settled);
    return true;
}

void intent_end(struct intent *intent, bool is_zero, bool confirmed, int64_t retry_ns,
                struct intent_stops *settled)
{
    settled->n = 0;
    if (is_zero && confirmed) {
        settle(intent, settled);
    } else if (intent->work == INTENT_STOP) {
        for (unsigned i = 0; i < intent->current.n; i++)
            owe_one(intent, intent->current.tokens[i]);
        intent->is_owed = true;
        intent->retry_ns = retry_ns;
    }
    intent->work = INTENT_NOTHING;
    intent->current.n = 0;
}

void intent_postpone(struct intent *intent, struct intent_stops *stops)
{
    *stops = intent->stops;
    intent->stops.n = 0;
    for (unsigned i = 0; i < stops->n; i++)
        owe_one(intent, stops->tokens[i]);
}
