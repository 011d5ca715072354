/* fake_link: devices in an array behind a link, misbehaving as a test says.
 *
 * Registers by unit; a table of rules for what goes wrong and when; a log of
 * everything that was asked, so that a test can count the writes.
 */
#ifndef TESTS_UNIT_FAKE_LINK_H
#define TESTS_UNIT_FAKE_LINK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/lines/link.h"

enum { FAKE_UNITS = 4, FAKE_REGISTERS = 65536, FAKE_CALLS = 20000, FAKE_RULES = 8 };

/* Function codes; opening counts as one. */
enum { FAKE_READ = 3, FAKE_WRITE = 6, FAKE_WRITES = 16, FAKE_OPEN = 0xff };

/* What happens to the calls that match. Of several rules the first counts. */
struct fake_rule {
    unsigned unit;     /* 0 = any */
    unsigned function; /* 0 = any but opening */
    unsigned address;  /* the request covers it; 0 = any */
    unsigned from, to; /* the from-th to to-th match, from 1; 0 = the first, for ever */
    enum fault fault;  /* an exception is answered, the rest happens to the link */
    bool ignores;      /* a write: the register does not take it */
    unsigned takes_at; /* a write: the register takes it at the n-th read of it from now */
    unsigned seen;
};

struct fake_call {
    unsigned unit, function, address, count;
    uint16_t words[4]; /* written */
    enum fault fault;
    int64_t at_ns; /* by clock_ns */
};

struct fake_link {
    struct link link;
    uint16_t registers[FAKE_UNITS][FAKE_REGISTERS];
    struct fake_rule rules[FAKE_RULES];
    unsigned n_rules;
    /* A write not taken yet. */
    struct fake_call late;
    unsigned late_reads;
    struct fake_call calls[FAKE_CALLS];
    unsigned n_calls, n_opened, n_writes;
    bool stale;
    _Atomic int64_t *clock_ns; /* moved on by every call; NULL = none */
    int64_t cost_ns;           /* how long an answer takes */
    /* The next `n_busy` calls leave the link busy; each answer is there busy_ns
     * later, INT64_MAX = never. fake_answers() tells the poller so. */
    unsigned n_busy;
    int64_t busy_ns, answers_ns;
    bool waits; /* a busy read has not asked anything yet */
    int event;  /* eventfd, as long as it is open; -1 = none */
    uint8_t reply[LINK_PDU_MAX];
    size_t reply_size;
    enum fault answer;
    unsigned n_closed;
    /* Before each call is carried out, e.g. to do something between two. */
    void (*before)(struct fake_link *fake, const struct fake_call *call);
    void *context;
};

static inline void fake_take(struct fake_link *fake, const struct fake_call *call)
{
    memcpy(&fake->registers[call->unit][call->address], call->words,
           call->count * sizeof call->words[0]);
}

static inline const struct fake_rule *fake_rule_for(struct fake_link *fake,
                                                    const struct fake_call *call)
{
    for (unsigned i = 0; i < fake->n_rules; i++) {
        struct fake_rule *rule = &fake->rules[i];
        bool function = rule->function == call->function ||
                        (rule->function == 0 && call->function != FAKE_OPEN);
        bool covered = rule->address == 0 || (rule->address >= call->address &&
                                              rule->address < call->address + call->count);
        if ((rule->unit != 0 && rule->unit != call->unit) || !function || !covered)
            continue;
        rule->seen++;
        if (rule->seen >= rule->from && (rule->to == 0 || rule->seen <= rule->to))
            return rule;
    }
    return NULL;
}

/* Logs a call, finds its rule and lets its time pass. */
static inline const struct fake_rule *fake_call(struct fake_link *fake, struct fake_call *call,
                                                int64_t timeout_ns)
{
    if (fake->n_calls == FAKE_CALLS) {
        fprintf(stderr,
                "fake_link: %u calls, this one is %u at %u: what is tested goes on for ever\n",
                fake->n_calls, call->function, call->address);
        abort();
    }
    if (fake->before != NULL)
        fake->before(fake, call);
    const struct fake_rule *rule = fake_rule_for(fake, call);
    call->fault = rule != NULL ? rule->fault : FAULT_NONE;
    if (fake->clock_ns != NULL) {
        call->at_ns = *fake->clock_ns;
        *fake->clock_ns += call->fault == FAULT_TIMEOUT ? timeout_ns : fake->cost_ns;
    }
    fake->calls[fake->n_calls++] = *call;
    return rule;
}

/* Gives the answer, or keeps it for later. */
static inline enum fault fake_finish(struct fake_link *fake, enum fault answer, int64_t timeout_ns)
{
    if (fake->n_busy == 0)
        return answer;
    fake->n_busy--;
    fake->answer = answer;
    fake->answers_ns = fake->busy_ns == INT64_MAX ? INT64_MAX : *fake->clock_ns + fake->busy_ns;
    (void)link_await(&fake->link, fake->event, POLLIN, *fake->clock_ns + timeout_ns);
    fake->link.is_waiting = fake->waits;
    return FAULT_NONE;
}

static inline void fake_close(struct link *link)
{
    struct fake_link *fake = (struct fake_link *)link;
    fake->n_closed++;
    fake->answers_ns = INT64_MAX;
    if (fake->event != -1)
        close(fake->event);
    fake->event = -1;
}

static inline enum fault fake_go_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    struct fake_link *fake = (struct fake_link *)link;
    if (*fake->clock_ns < fake->answers_ns && *fake->clock_ns < link->until_ns)
        return link_await(link, fake->event, POLLIN, link->until_ns);
    if (*fake->clock_ns < fake->answers_ns) {
        if (!link->is_open)
            fake_close(link);
        return link_fail(link, FAULT_TIMEOUT, "fake: no answer");
    }
    fake->answers_ns = INT64_MAX;
    memcpy(reply, fake->reply, fake->reply_size);
    *reply_size = fake->reply_size;
    return fake->answer;
}

/* There is something to read, be it the answer or only a part of it. */
static inline void fake_answers(struct fake_link *fake)
{
    eventfd_write(fake->event, 1);
}

static inline enum fault fake_open(struct link *link, int64_t timeout_ns)
{
    struct fake_link *fake = (struct fake_link *)link;
    struct fake_call call = {.function = FAKE_OPEN};
    fake->n_opened++;
    fake->stale = false;
    fake->reply_size = 0;
    fake->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fake->event == -1 || !link_watch(link, fake->event))
        abort();
    (void)fake_call(fake, &call, timeout_ns);
    if (call.fault == FAULT_NONE)
        return fake_finish(fake, FAULT_NONE, timeout_ns);
    fake_close(link);
    return link_fail(link, call.fault, "fake: not opened");
}

static inline size_t fake_answer_read(struct fake_link *fake, const struct fake_call *call,
                                      uint8_t *reply)
{
    bool covers_late = fake->late_reads > 0 && call->unit == fake->late.unit &&
                       call->address <= fake->late.address &&
                       fake->late.address < call->address + call->count;
    if (covers_late && --fake->late_reads == 0)
        fake_take(fake, &fake->late);
    reply[0] = (uint8_t)call->function;
    reply[1] = (uint8_t)(2 * call->count);
    for (unsigned i = 0; i < call->count; i++)
        link_put16(reply + 2 + 2 * (size_t)i, fake->registers[call->unit][call->address + i]);
    return 2 + 2 * (size_t)call->count;
}

static inline void fake_obey_write(struct fake_link *fake, const struct fake_call *call,
                                   const struct fake_rule *rule)
{
    if (rule != NULL && rule->takes_at > 0) {
        fake->late = *call;
        fake->late_reads = rule->takes_at;
    } else if (rule == NULL || !(rule->ignores || fault_is_exception(rule->fault))) {
        fake_take(fake, call);
    }
}

static inline enum fault fake_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                                       size_t request_size, uint8_t *reply, size_t *reply_size,
                                       int64_t timeout_ns)
{
    struct fake_link *fake = (struct fake_link *)link;
    struct fake_call call = {
        .unit = unit,
        .function = request[0],
        .address = link_get16(request + 1),
        .count = request[0] == FAKE_WRITE ? 1 : link_get16(request + 3),
    };
    bool writes = request[0] == FAKE_WRITE || request[0] == FAKE_WRITES;
    if (unit >= FAKE_UNITS || call.address + call.count > FAKE_REGISTERS ||
        (writes && call.count > 4) || request_size < 5)
        abort();
    if (request[0] == FAKE_WRITE)
        call.words[0] = link_get16(request + 3);
    for (unsigned i = 0; request[0] == FAKE_WRITES && i < call.count; i++)
        call.words[i] = link_get16(request + 6 + 2 * (size_t)i);
    fake->n_writes += writes;

    const struct fake_rule *rule = fake_call(fake, &call, timeout_ns);
    if (writes)
        fake_obey_write(fake, &call, rule);
    if (fault_is_exception(call.fault)) {
        reply[0] = request[0] | 0x80;
        reply[1] = (uint8_t)call.fault;
        *reply_size = 2;
    } else if (call.fault != FAULT_NONE) {
        return link_fail(link, call.fault, "fake: nobody there");
    } else if (writes) {
        memcpy(reply, request, *reply_size = 5);
    } else {
        *reply_size = fake_answer_read(fake, &call, reply);
    }
    memcpy(fake->reply, reply, fake->reply_size = *reply_size);
    return fake_finish(fake, FAULT_NONE, timeout_ns);
}

static inline bool fake_is_stale(struct link *link)
{
    return ((struct fake_link *)link)->stale;
}

/* The test's own: freed with free(). */
static inline void fake_free(struct link *link)
{
    (void)link;
}

static inline struct fake_link *fake_link_new(void)
{
    static const struct link_ops ops = {.open = fake_open,
                                        .exchange = fake_exchange,
                                        .is_stale = fake_is_stale,
                                        .close = fake_close,
                                        .free = fake_free,
                                        .go_on = fake_go_on};
    struct fake_link *fake = calloc(1, sizeof *fake);
    if (fake == NULL)
        abort();
    fake->answers_ns = INT64_MAX;
    fake->event = -1;
    link_init(&fake->link, &ops);
    /* Claims are taken by peer: tests that run at the same time do not meet. */
    static unsigned number;
    snprintf(fake->link.peer, sizeof fake->link.peer, "test-%d-%u", (int)getpid(), ++number);
    return fake;
}

static inline void fake_rule_add(struct fake_link *fake, struct fake_rule rule)
{
    if (fake->n_rules == FAKE_RULES)
        abort();
    fake->rules[fake->n_rules++] = rule;
}

/* How many calls of this function were made to this address (0 = any). */
static inline unsigned fake_count(const struct fake_link *fake, unsigned function, unsigned address)
{
    unsigned n = 0;
    for (unsigned i = 0; i < fake->n_calls; i++)
        n += fake->calls[i].function == function &&
             (address == 0 || fake->calls[i].address == address);
    return n;
}

#endif
