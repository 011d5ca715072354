/* sequence_stage: one command, carried out over a fake link. */
#ifndef TESTS_UNIT_SEQUENCE_STAGE_H
#define TESTS_UNIT_SEQUENCE_STAGE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/battery/sequence.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "site.h"

#define ANSWER_NS CLOCK_NS_PER_MS

/* Everything one command needs; `battery` may be changed before stage_run(). */
struct stage {
    struct conf conf;
    struct device *battery;
    struct fake_link *fake;
    struct command command;
    struct outcome outcome;
};

static inline struct stage stage_with(const char *devices)
{
    struct stage stage = {.fake = fake_link_new()};
    fake_clock_reset();
    site_read(&stage.conf, devices);
    stage.battery = &stage.conf.devices.devices[0];
    stage.fake->clock_ns = &fake_now_ns;
    stage.fake->cost_ns = ANSWER_NS;
    uint16_t *registers = stage.fake->registers[1];
    registers[STATUS] = 1;
    registers[TARGET] = 20;
    registers[SOURCE] = 2;
    registers[SOE] = 54;
    registers[BLOCKS] = 10;
    stage.command = (struct command){
        .point = (unsigned)stage.battery->control.setpoint, .has_value = true, .value = 50};
    return stage;
}

static inline struct stage stage(void)
{
    return stage_with(SITE_ONE(SITE_DISCHARGE));
}

static inline bool is_setpoint(const struct stage *stage)
{
    return (int)stage->command.point == stage->battery->control.setpoint;
}

/* One step; it makes one transaction at most, besides opening. */
static inline void stage_step(struct stage *stage, struct sequence *sequence)
{
    const unsigned calls = stage->fake->n_calls, opened = stage->fake->n_opened;
    const int64_t pause_ns = sequence_pause_ns(sequence);
    if (sequence_state(sequence) == SEQUENCE_PAUSE)
        fake_now_ns = pause_ns;
    sequence_step(sequence, &stage->fake->link);
    assert_true(stage->fake->n_calls - calls <= 1 + stage->fake->n_opened - opened);
    /* A write and opening are never one step. */
    if (stage->fake->n_opened != opened)
        assert_int_not_equal(stage->fake->calls[stage->fake->n_calls - 1].function, FAKE_WRITE);
}

static inline void stage_run(struct stage *stage)
{
    struct sequence *sequence = sequence_new(stage->battery, NULL);
    assert_non_null(sequence);
    assert_int_equal(sequence_state(sequence), SEQUENCE_IDLE);
    stage->command.stop = stage->command.value == 0.0 && is_setpoint(stage);
    stage->outcome = (struct outcome){.command = stage->command};
    sequence_begin(sequence, &stage->outcome, false, false);
    while (sequence_state(sequence) != SEQUENCE_ENDED)
        stage_step(stage, sequence);
    stage->outcome.done_ns = fake_now_ns;
    sequence_rest(sequence);
    assert_int_equal(sequence_state(sequence), SEQUENCE_IDLE);
    sequence_free(sequence);
}

static inline void stage_end(struct stage *stage)
{
    conf_free(&stage->conf);
    free(stage->fake);
}

static inline void assert_outcome(const struct stage *stage, enum outcome_kind outcome)
{
    assert_string_equal(outcome_word(stage->outcome.kind), outcome_word(outcome));
}

static inline void assert_refused(const struct stage *stage, enum reason reason)
{
    assert_outcome(stage, OUTCOME_REFUSED);
    assert_string_equal(reason_word(stage->outcome.reason), reason_word(reason));
    assert_int_equal(stage->fake->n_writes, 0);
    assert_int_equal(stage->outcome.written_ns, 0);
    assert_int_equal(stage->outcome.n_words, 0);
    assert_false(stage->outcome.has_readback);
}

/* Exactly one request to write went out, of this word to the setpoint. */
static inline void assert_wrote_once(const struct stage *stage, uint16_t word)
{
    assert_int_equal(stage->fake->n_writes, 1);
    assert_int_equal(fake_count(stage->fake, FAKE_WRITE, TARGET), 1);
    for (unsigned i = 0; i < stage->fake->n_calls; i++) {
        if (stage->fake->calls[i].function == FAKE_WRITE)
            assert_int_equal(stage->fake->calls[i].words[0], word);
    }
    assert_int_equal(stage->outcome.n_words, 1);
    assert_int_equal(stage->outcome.words[0], word);
    assert_true(stage->outcome.written_ns >= FAKE_MONO_NS);
}

#endif
