/* battery_acts: what a test of a battery does, and what it asks of it.
 *
 * One battery, `bed`, a test at a time. What comes in the middle of a call of the link
 * comes by at_call().
 */
#ifndef TESTS_UNIT_BATTERY_ACTS_H
#define TESTS_UNIT_BATTERY_ACTS_H

#include "tests/unit/battery_bed.h"

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

#define DEADMAN "deadman: { timeout = \"60s\"; value = -20.0; };"

static struct bed bed;

/* What comes while a call of the link is under way, once. */
static struct {
    unsigned function, address, skip; /* address 0 = any; how many such calls go by before */
    void (*act)(void);
} hook;

static inline void before_call(struct fake_link *fake, const struct fake_call *call)
{
    (void)fake;
    bool wanted = hook.act != NULL && call->function == hook.function &&
                  (hook.address == 0 || call->address == hook.address);
    if (!wanted || hook.skip-- > 0)
        return;
    bed.between = hook.act;
    hook.act = NULL;
}

static inline void at_call(unsigned function, unsigned address, unsigned skip, void (*act)(void))
{
    hook.function = function;
    hook.address = address;
    hook.skip = skip;
    hook.act = act;
    bed.fake->before = before_call;
}

static inline void put_stop(void)
{
    bed_put(&bed, "stop", 0);
}

static inline void break_with(struct fake_rule rule)
{
    fake_rule_add(bed.fake, rule);
}

/* The register does not take what is written to it. */
static inline void take_nothing(void)
{
    break_with((struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .ignores = true});
}

static inline void be_silent(void)
{
    break_with((struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT, .ignores = true});
}

/* Nothing but zero was asked to be written since the call of this number. */
static inline void assert_only_zero_since(unsigned call)
{
    for (unsigned i = call; i < bed.fake->n_calls; i++) {
        const struct fake_call *at = &bed.fake->calls[i];
        if (at->function == FAKE_WRITE && at->address == TARGET)
            assert_int_equal(at->words[0], 0);
    }
}

static inline unsigned writes(void)
{
    return fake_count(bed.fake, FAKE_WRITE, TARGET);
}

static inline const struct outcome *last_of(const char *source)
{
    const struct outcome *found = NULL;
    for (unsigned i = 0; i < bed.n_outcomes; i++) {
        if (strcmp(bed.outcomes[i].command.source, source) == 0)
            found = &bed.outcomes[i];
    }
    return found;
}

static inline void put_source(const char *id, double value)
{
    struct command command = bed_command(&bed, id, 50, 60 * S);
    command.point = (unsigned)bed.device->control.source;
    command.value = value;
    assert_true(battery_put(bed.battery, &command));
}

#endif
