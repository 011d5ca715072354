/* What a device leaves unanswered: it hides nothing else, and is learned from. */
#include "scan_bed.h"

/* The first or the last of two blocks: the other one has its values all the same. */
static void test_a_silent_block_takes_nothing_from_the_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SILENCES; i++) {
        for (unsigned far = 0; far < 2; far++) {
            struct stage s;
            stage_begin(&s);
            silent_at(&s, far ? E : A, SILENCES[i]);
            for (unsigned n = 0; n < 10; n++) {
                assert_int_equal(scan_all(&s, n), SCAN_DONE);
                for (unsigned j = far ? 0 : 4; j < (far ? 4 : 5); j++)
                    assert_read(&s, j);
                assert_int_equal(s.values[far ? 4 : 0].state, VALUE_FAULT);
                /* It may have been lost on the way: told the first time alone. */
                assert_int_equal(s.scan.lost, n == 0 ? SILENCES[i] : FAULT_NONE);
            }
            assert_int_equal(s.values[far ? 4 : 0].fault, SILENCES[i] == FAULT_TIMEOUT
                                                              ? FAULT_TIMEOUT
                                                              : s.values[far ? 4 : 0].fault);
            for (unsigned j = far ? 0 : 1; j < (far ? 4 : 5); j++)
                assert_read(&s, j); /* by now its neighbours too */
            stage_end(&s);
        }
    }
}

static void test_a_silent_device(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SILENCES; i++) {
        struct stage s;
        stage_begin(&s);
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ, .fault = SILENCES[i]});
        for (unsigned n = 0; n < 100; n++) {
            unsigned before = reads(&s);
            assert_int_equal(scan_all(&s, n), SCAN_BROKEN);
            assert_int_equal(s.fault, SILENCES[i]);
            for (unsigned j = 0; j < N_POINTS; j++)
                assert_fault(&s, j, SILENCES[i]);
            assert_int_equal(s.scan.read, 0);
            assert_int_equal(s.scan.failed, N_POINTS);
            assert_int_equal(reads(&s) - before, n == 0 ? 2 : 1);
        }
        /* It is back: all is read at once, and soon in whole blocks. */
        s.fake->n_rules = 0;
        for (unsigned n = 100; n < 104; n++) {
            unsigned before = reads(&s);
            char text[PLAN_EXPLANATION_MAX];
            assert_int_equal(scan_all(&s, n), SCAN_DONE);
            for (unsigned j = 0; j < N_POINTS; j++)
                assert_read(&s, j);
            assert_true(n == 100 || reads(&s) - before == 2);
            assert_false(plan_explain(s.plan, text));
        }
        stage_end(&s);
    }
}

/* The part of the device that answers is found, wherever it is. */
static void test_a_device_of_which_one_register_answers(void **state)
{
    (void)state;
    static const unsigned addresses[] = {A, B, C, D, E};
    for (unsigned answers = 0; answers < N_POINTS; answers++) {
        struct stage s;
        stage_begin(&s);
        for (unsigned i = 0; i < N_POINTS; i++)
            if (i != answers)
                silent_at(&s, addresses[i], FAULT_TIMEOUT);
        bool found = false;
        for (unsigned n = 0; n < 20 && !found; n++)
            found = scan_all(&s, n) == SCAN_DONE && s.values[answers].state == VALUE_READ;
        assert_true(found);
        stage_end(&s);
    }
}

static void test_silence_on_a_hole(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SILENCES; i++) {
        struct stage s;
        unsigned n = 0;
        stage_begin(&s);
        silent_at(&s, C + 3, SILENCES[i]); /* between C and D */
        assert_string_equal(learn(&s, 8, &n),
                            "holding registers 103..109, between c and d, cannot be read along: "
                            "\"unreadable\" or a smaller \"max_gap\" in the type's file spares the "
                            "attempt");
        unsigned silences = s.fake->rules[0].seen;
        char text[PLAN_EXPLANATION_MAX];
        for (unsigned k = 0; k < 20; k++) {
            assert_int_equal(scan_all(&s, n++), SCAN_DONE);
            for (unsigned j = 0; j < N_POINTS; j++)
                assert_read(&s, j);
            assert_false(plan_explain(s.plan, text));
        }
        assert_int_equal(s.fake->rules[0].seen, silences); /* never asked again */
        stage_end(&s);
    }
}

static void is_silent_for_long_reads(struct fake_link *fake, const struct fake_call *call)
{
    fake->rules[0].address = call->count > 2 ? call->address : 1;
}

static void test_silence_for_a_read_that_is_too_long(void **state)
{
    (void)state;
    for (unsigned alone = 0; alone < 2; alone++) {
        struct stage s;
        unsigned n = 0;
        stage_begin(&s);
        s.points[3].address = 103;
        s.fake->registers[1][103] = 1030;
        plan_free(s.plan); /* alone: the device has no other block */
        s.plan = plan_new(&s.device, alone ? (const bool[]){true, true, true, false, false} : NULL);
        silent_at(&s, 1, FAULT_TIMEOUT);
        s.fake->before = is_silent_for_long_reads;
        const char *text = learn(&s, 20, &n);
        assert_non_null(strstr(text, alone ? "a read of 3 from " : "a read of "));
        assert_non_null(strstr(text, "is too long for the device, its parts are not: a smaller "
                                     "\"max_registers\" in the type's file spares the attempt"));
        unsigned silences = s.fake->rules[0].seen;
        for (unsigned k = 0; k < 20; k++) {
            assert_int_equal(scan_all(&s, n++), SCAN_DONE);
            for (unsigned j = 0; j < 3; j++)
                assert_read(&s, j);
        }
        assert_int_equal(s.fake->rules[0].seen, silences);
        stage_end(&s);
    }
}

static void test_a_silent_register_is_asked_seldom(void **state)
{
    (void)state;
    struct stage s;
    unsigned n = 0;
    stage_begin(&s);
    silent_at(&s, B, FAULT_TIMEOUT);
    assert_string_equal(
        learn(&s, 20, &n),
        "holding register 101 (b): timeout while others are read: is \"address\" or "
        "\"function\" wrong in the type's file, or does this device have no such "
        "point?");
    unsigned silences = s.fake->rules[0].seen;
    for (unsigned k = 0; k < 6 * PLAN_QUIET_SCANS_MAX; k++) {
        assert_int_equal(scan_all(&s, n++), SCAN_DONE);
        for (unsigned j = 0; j < N_POINTS; j++)
            if (j == 1)
                assert_fault(&s, j, FAULT_TIMEOUT);
            else
                assert_read(&s, j);
    }
    assert_in_range(s.fake->rules[0].seen - silences, 5, 12);
    s.fake->n_rules = 0;
    for (unsigned k = 0; k < PLAN_QUIET_SCANS_MAX; k++)
        scan_all(&s, n++);
    assert_read(&s, 1);
    unsigned before = reads(&s);
    scan_all(&s, n++);
    assert_int_equal(reads(&s) - before, 2); /* whole blocks again */
    stage_end(&s);
}

/* A loss now and then is no reason to read in small pieces. */
static void test_lost_answers_teach_nothing(void **state)
{
    (void)state;
    struct stage s;
    char text[PLAN_EXPLANATION_MAX];
    stage_begin(&s);
    for (unsigned n = 0; n < 400; n++) {
        s.fake->n_rules = 0;
        if (n % 7 == 0 || n % 7 == 1)
            silent_at(&s, B, FAULT_TIMEOUT);
        assert_int_equal(scan_all(&s, n), SCAN_DONE);
        assert_false(plan_explain(s.plan, text));
    }
    unsigned before = reads(&s);
    s.fake->n_rules = 0;
    for (unsigned n = 400; n < 403; n++)
        scan_all(&s, n);
    assert_true(reads(&s) - before <= 7);
    stage_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_block_takes_nothing_from_the_others),
        cmocka_unit_test(test_a_silent_device),
        cmocka_unit_test(test_a_device_of_which_one_register_answers),
        cmocka_unit_test(test_silence_on_a_hole),
        cmocka_unit_test(test_silence_for_a_read_that_is_too_long),
        cmocka_unit_test(test_a_silent_register_is_asked_seldom),
        cmocka_unit_test(test_lost_answers_teach_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
