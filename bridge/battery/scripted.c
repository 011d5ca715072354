#include "bridge/battery/scripted.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/battery/written.h"

static const char *list_word(enum script_list list)
{
    return list == SCRIPT_ENGAGE ? "engage" : list == SCRIPT_RELEASE ? "release" : "set";
}

static void end(struct scripted *scripted, enum outcome_kind kind)
{
    scripted->outcome->kind = kind;
    scripted->state = SCRIPTED_ENDED;
}

const struct point *scripted_begin(struct scripted *scripted, enum scripted_kind kind,
                                   const struct value *values, struct outcome *outcome)
{
    struct driver *driver = scripted->driver;
    const struct point *misfit = NULL;
    scripted->kind = kind;
    scripted->outcome = outcome;
    scripted->at = 0;
    scripted->state = SCRIPTED_WRITES;
    scripted->wrote = scripted->counted = scripted->carried = scripted->took = false;
    scripted->missed = scripted->spoiled = false;
    scripted->refused = FAULT_NONE;
    scripted->until_ns = scripted->pause_ns = 0;
    if (kind == SCRIPTED_RELEASE)
        driver_begin_release(driver, &scripted->script);
    else
        misfit = driver_begin(driver, outcome->command.value, values, clock_mono_ns(),
                              &scripted->script);
    if (scripted->script.n == 0)
        scripted->state = SCRIPTED_READS;
    return misfit;
}

bool scripted_carries(const struct scripted *scripted)
{
    return scripted->state == SCRIPTED_WRITES && scripted->script.steps[scripted->at].carries;
}

/* Which request went wrong, for people. */
static void explain(const struct scripted *scripted, unsigned at, enum fault fault)
{
    const struct script_step *step = &scripted->script.steps[at];
    (void)snprintf(scripted->outcome->detail, DETAIL_MAX, "%s, step %u of %u, %s = %g: %s",
                   list_word(scripted->script.list), at + 1, scripted->script.n,
                   driver_point(scripted->driver, step->point)->name, step->number,
                   fault_word(fault));
}

static void begin_reading(struct scripted *scripted)
{
    scripted->state = SCRIPTED_READS;
    scripted->until_ns = clock_mono_ns() + WRITTEN_READ_BACK_NS;
    scripted->pause_ns = 0;
}

/* Whether the device plainly says no. Of all else the registers tell. */
static bool is_refused(enum fault fault)
{
    return fault != FAULT_NONE && !fault_is_silence(fault) && fault != FAULT_ACKNOWLEDGE;
}

/* What comes after a request that went wrong. */
static void go_on_after(struct scripted *scripted, unsigned at, enum fault fault)
{
    const bool refused = is_refused(fault);
    if (!scripted->missed || (refused && scripted->refused == FAULT_NONE))
        explain(scripted, at, fault);
    scripted->missed = true;
    scripted->spoiled = scripted->spoiled || scripted->script.steps[at].carries ||
                        (refused && scripted->script.steps[at].prepares);
    if (refused && scripted->refused == FAULT_NONE)
        scripted->refused = fault;
    if (scripted->kind == SCRIPTED_SETPOINT && (refused || !scripted->carried)) {
        scripted->outcome->fault = fault;
        end(scripted, OUTCOME_FAILED); /* of the value nothing is written, or it is refused */
    } else if (scripted->kind == SCRIPTED_SETPOINT) {
        begin_reading(scripted);
    } else if (scripted->kind == SCRIPTED_STOP && scripted->spoiled) {
        /* Neither is a battery taken over that would do what stands there from before, nor
         * one kept going. */
        scripted->at = scripted->script.n;
    } else if (scripted->kind == SCRIPTED_STOP && !refused) {
        /* Nobody answers: only what counts is tried still, and once. */
        while (scripted->at < scripted->script.n && !scripted->script.steps[scripted->at].carries)
            scripted->at++;
    }
}

/* Whether what follows a request must not come before it is done: exception 05 says only
 * that it will be. */
static bool must_settle(const struct scripted *scripted, const struct script_step *step,
                        enum fault fault)
{
    const bool matters = scripted->kind == SCRIPTED_SETPOINT
                             ? !step->beats
                             : scripted->kind == SCRIPTED_STOP && step->carries;
    return fault == FAULT_ACKNOWLEDGE && matters && scripted->at < scripted->script.n;
}

/* One look whether the last request is done. One that is not in time is as one of which
 * nothing is heard. */
static void settle(struct scripted *scripted, struct link *link, enum fault *fault)
{
    const struct device_modbus *modbus = driver_modbus(scripted->driver);
    const struct script_step *step = &scripted->script.steps[scripted->at - 1];
    uint16_t now[SCRIPT_WORDS_MAX] = {0};
    *fault = link_open(link, modbus->timeout_ns);
    if (*fault == FAULT_NONE)
        *fault = link_read(link, (uint8_t)modbus->address, step->table, step->address, step->count,
                           now, modbus->timeout_ns);
    const bool done =
        *fault == FAULT_NONE && memcmp(now, step->words, step->count * sizeof(now[0])) == 0;
    scripted->pause_ns = clock_mono_ns();
    const int64_t until_ns = scripted->until_ns;
    const bool over = scripted->pause_ns >= until_ns;
    scripted->pause_ns += WRITTEN_PAUSE_NS;
    if (done || over)
        scripted->state = SCRIPTED_WRITES;
    if (!done && over)
        go_on_after(scripted, scripted->at - 1, FAULT_ACKNOWLEDGE);
    if (scripted->state == SCRIPTED_WRITES && scripted->at >= scripted->script.n)
        begin_reading(scripted);
    if (scripted->state == SCRIPTED_READS)
        scripted->until_ns = until_ns; /* it had its time: one look at all of it */
}

static void write_next(struct scripted *scripted, struct link *link, enum fault *fault)
{
    const struct device_modbus *modbus = driver_modbus(scripted->driver);
    const unsigned at = scripted->at++;
    const struct script_step *step = &scripted->script.steps[at];
    struct outcome *outcome = scripted->outcome;
    const int64_t now_ns = clock_mono_ns();
    if (step->carries && !scripted->carried) {
        outcome->written_ns = now_ns;
        outcome->n_words = step->count < OUTCOME_WORDS_MAX ? step->count : OUTCOME_WORDS_MAX;
        memcpy(outcome->words, step->words, outcome->n_words * sizeof(step->words[0]));
    }
    scripted->wrote = true;
    scripted->carried = scripted->carried || step->carries;
    *fault = (step->multiple ? link_write_many : link_write)(
        link, (uint8_t)modbus->address, step->table, step->address, step->count, step->words,
        modbus->timeout_ns);
    if (scripted->kind != SCRIPTED_RELEASE)
        driver_note(scripted->driver, step, now_ns, *fault);
    if (!is_refused(*fault) && !step->beats)
        scripted->counted = true;
    if (!is_refused(*fault) && step->carries)
        scripted->took = true;
    if (*fault != FAULT_NONE && *fault != FAULT_ACKNOWLEDGE)
        go_on_after(scripted, at, *fault);
    if (must_settle(scripted, step, *fault)) {
        scripted->state = SCRIPTED_SETTLES;
        scripted->until_ns = clock_mono_ns() + WRITTEN_READ_BACK_NS;
        scripted->pause_ns = 0;
    } else if (scripted->state == SCRIPTED_WRITES && scripted->at >= scripted->script.n) {
        begin_reading(scripted);
    }
}

/* What is known when nothing has agreed in time. */
static void end_unsettled(struct scripted *scripted)
{
    struct outcome *outcome = scripted->outcome;
    char why[DETAIL_MAX];
    outcome->has_readback = driver_readback(scripted->driver, &outcome->readback);
    outcome->fault = scripted->refused;
    if (driver_explain(scripted->driver, why) && !scripted->missed)
        (void)snprintf(outcome->detail, DETAIL_MAX, "%s", why);
    if (scripted->refused != FAULT_NONE)
        end(scripted, OUTCOME_FAILED);
    else
        end(scripted, outcome->has_readback ? OUTCOME_MISMATCH : OUTCOME_UNKNOWN);
}

static void read_back(struct scripted *scripted, struct link *link, enum fault *fault)
{
    struct outcome *outcome = scripted->outcome;
    char why[DETAIL_MAX];
    if (!driver_read(scripted->driver, link, fault))
        return;
    if (!driver_explain(scripted->driver, why)) {
        outcome->has_readback = driver_readback(scripted->driver, &outcome->readback);
        outcome->detail[0] = '\0';
        end(scripted, OUTCOME_CONFIRMED);
        return;
    }
    if (clock_mono_ns() >= scripted->until_ns)
        end_unsettled(scripted);
    scripted->pause_ns = clock_mono_ns() + WRITTEN_PAUSE_NS;
}

void scripted_step(struct scripted *scripted, struct link *link, enum fault *fault)
{
    if (scripted->state == SCRIPTED_WRITES)
        write_next(scripted, link, fault);
    else if (scripted->state == SCRIPTED_SETTLES)
        settle(scripted, link, fault);
    else if (scripted->state == SCRIPTED_READS)
        read_back(scripted, link, fault);
}

void scripted_cut(struct scripted *scripted)
{
    if (scripted->state == SCRIPTED_ENDED)
        return;
    if (scripted->carried)
        end_unsettled(scripted);
    else
        end(scripted,
            scripted->kind == SCRIPTED_STOP && !command_is_own(&scripted->outcome->command)
                ? OUTCOME_UNKNOWN
                : OUTCOME_SUPERSEDED);
}

void scripted_give_up(struct scripted *scripted, const struct link *link, enum fault fault)
{
    struct outcome *outcome = scripted->outcome;
    scripted->missed = true;
    outcome->fault = fault;
    if (scripted->kind == SCRIPTED_SETPOINT && !scripted->carried) {
        outcome->reason = REASON_DEVICE_OFFLINE;
        (void)snprintf(outcome->detail, DETAIL_MAX, "%s: %s", fault_word(fault), link->error);
        end(scripted, scripted->wrote ? OUTCOME_FAILED : OUTCOME_REFUSED);
        return;
    }
    (void)snprintf(outcome->detail, DETAIL_MAX, "not reached: %s", link->error);
    end(scripted, OUTCOME_UNKNOWN);
}

struct driver_end scripted_end(const struct scripted *scripted)
{
    return (struct driver_end){
        .outcome = scripted->outcome,
        .wrote = scripted->wrote,
        .took = scripted->took,
        .whole = scripted->at >= scripted->script.n && scripted->refused == FAULT_NONE,
        .nothing = scripted->script.list == SCRIPT_SET && !scripted->counted,
    };
}
