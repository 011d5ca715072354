/* unsettled: an unknown outcome gets one correction: by its register, or when that is written over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/battery/unsettled.h"
#include "devices/registers/codec.h"

enum { OTHER, POWER, NOW = 5000 };

static struct point points[] = {
    [OTHER] = {.name = "command_source", .type = POINT_UINT16, .scale = 1},
    [POWER] = {.name = "target_power", .type = POINT_INT16, .scale = 1},
};
static const struct device battery = {.points = points, .n_points = 2};

static struct unsettled unknown(void)
{
    struct unsettled unsettled = {.waits = false};
    struct outcome outcome = {
        .kind = OUTCOME_UNKNOWN,
        .command = {.id = "d-1", .point = POWER, .value = -50},
        .written_ns = 1000,
        .done_ns = 2000,
        .n_words = 1,
        .words = {0xffce},
        .detail = "the reply to the write: timeout",
    };
    unsettled_note(&unsettled, &outcome);
    return unsettled;
}

static struct value held(double number)
{
    return (struct value){.state = VALUE_READ, .number = number, .raw = (uint64_t)(int64_t)number};
}

static void test_the_register_tells(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        struct unsettled unsettled = unknown();
        struct outcome corrected;
        const struct value value = held(taken ? -50 : 20);
        assert_true(unsettled_waits(&unsettled, POWER));
        assert_false(unsettled_waits(&unsettled, OTHER));
        assert_true(unsettled_see(&unsettled, &battery, &value, NOW, &corrected));
        assert_int_equal(corrected.kind, taken ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH);
        assert_true(corrected.correction);
        assert_true(corrected.has_readback);
        assert_true(corrected.readback == (taken ? -50 : 20));
        assert_string_equal(corrected.command.id, "d-1");
        assert_int_equal(corrected.done_ns, NOW);
        assert_string_equal(corrected.detail, "");
        /* Once. */
        assert_false(unsettled_waits(&unsettled, POWER));
        assert_false(unsettled_see(&unsettled, &battery, &value, NOW, &corrected));
    }
}

static void test_what_could_not_be_read_settles_nothing(void **state)
{
    (void)state;
    struct unsettled unsettled = unknown();
    struct outcome corrected;
    const struct value rows[] = {{.state = VALUE_FAULT}, {.state = VALUE_ABSENT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_false(unsettled_see(&unsettled, &battery, &rows[i], NOW, &corrected));
    assert_true(unsettled_waits(&unsettled, POWER));
}

static void test_written_over_nobody_will_ever_know(void **state)
{
    (void)state;
    struct unsettled unsettled = unknown();
    struct outcome corrected;
    assert_false(unsettled_overwrite(&unsettled, OTHER, NOW, &corrected));
    assert_true(unsettled_overwrite(&unsettled, POWER, NOW, &corrected));
    assert_int_equal(corrected.kind, OUTCOME_SUPERSEDED);
    assert_true(corrected.correction);
    assert_false(corrected.has_readback);
    assert_string_not_equal(corrected.detail, "");
    assert_false(unsettled_overwrite(&unsettled, POWER, NOW, &corrected));
}

/* Where a type says how its battery is commanded, a float32 is the decimal that it was told,
 * and another point is judged by its registers. */
static void test_a_float_of_a_driven_battery(void **state)
{
    (void)state;
    struct profile profile = {.drive = {.given = true}};
    struct point rows[] = {
        [OTHER] = {.name = "limit", .type = POINT_FLOAT32, .scale = 1, .writable = true},
        [POWER] = {.name = "target_power", .type = POINT_FLOAT32, .scale = 1, .writable = true},
    };
    struct device device = {.points = rows, .n_points = 2, .profile = &profile};
    device.controllable = true;
    device.control.setpoint = POWER;
    for (unsigned point = OTHER; point <= POWER; point++) {
        for (int taken = 0; taken < 2; taken++) {
            struct unsettled unsettled = unknown();
            struct outcome corrected;
            unsettled.outcome.command.point = point;
            unsettled.outcome.command.value = 33.3;
            assert_int_equal(codec_encode(&rows[point], 33.3, unsettled.outcome.words), CODEC_FITS);
            uint16_t words[2];
            (void)codec_encode(&rows[point], taken ? 33.3 : 33.4, words);
            const struct value value = codec_decode(&rows[point], words);
            assert_true(unsettled_see(&unsettled, &device, &value, NOW, &corrected));
            assert_int_equal(corrected.kind, taken ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH);
            assert_true(corrected.readback == (taken ? 33.3 : 33.4));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_register_tells),
        cmocka_unit_test(test_what_could_not_be_read_settles_nothing),
        cmocka_unit_test(test_written_over_nobody_will_ever_know),
        cmocka_unit_test(test_a_float_of_a_driven_battery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
