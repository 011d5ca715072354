/* admit: every refusal on arrival, at its limit and one step to either side. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/battery/admit.h"
#include "site.h"

static const int64_t NOW_MS = 1763791200000;
static const int64_t NOW_NS = 7000000000000;
static const int64_t UNTOUCHED = -4711;
static const double MIN_INTERVAL_S = 5;

static struct conf conf;
static struct device *battery;

static int read_site(void **state)
{
    (void)state;
    site_read(&conf, SITE_ONE(SITE_DISCHARGE "min_interval = \"5s\"; ttl = \"10s\";"
                                             "max_clock_skew = \"2s\"; soe_min = 10.0;"));
    battery = &conf.devices.devices[0];
    return 0;
}

static int free_site(void **state)
{
    (void)state;
    conf_free(&conf);
    return 0;
}

/* A command and a scene; by default nothing is wrong with either. */
struct given_command {
    struct command command;
    struct admit_scene scene;
    char detail[DETAIL_MAX];
};

static struct given_command good(void)
{
    return (struct given_command){
        .command = {.id = "d-1",
                    .value = 50,
                    .dated = true,
                    .issued_at_ms = NOW_MS - 1000,
                    .ttl_ns = 5 * CLOCK_NS_PER_S},
        .scene = {.device = battery,
                  .index = 3,
                  .point = battery->control.setpoint,
                  .utc_ms = NOW_MS,
                  .mono_ns = NOW_NS,
                  .last_write_ns = INT64_MIN},
    };
}

static enum reason judge(struct given_command *given)
{
    given->command.expires_ns = UNTOUCHED;
    enum reason reason = admit(&given->command, &given->scene, given->detail);
    if (reason != REASON_NONE)
        assert_int_equal(given->command.expires_ns, UNTOUCHED);
    return reason;
}

static enum reason judge_value(double value)
{
    struct given_command given = good();
    given.command.value = value;
    return judge(&given);
}

static void test_a_good_command_passes(void **state)
{
    (void)state;
    struct given_command given = good();
    assert_int_equal(judge(&given), REASON_NONE);
    assert_int_equal(given.command.expires_ns, NOW_NS + 4 * CLOCK_NS_PER_S);
    assert_int_equal(given.command.device, 3);
    assert_int_equal(given.command.point, battery->control.setpoint);
    assert_false(given.command.stop);
    assert_string_equal(given.detail, "");
}

/* What parsing had to say is of no use to whoever has to drop a flag. */
static void test_a_retained_message_is_told_for_that_alone(void **state)
{
    (void)state;
    struct given_command given = good();
    given.scene.retained = true;
    given.scene.malformed = true;
    strcpy(given.detail, "not JSON");
    assert_int_equal(judge(&given), REASON_RETAINED);
    assert_string_equal(given.detail, "");
}

/* ---- the order of the checks ---- */

static void break_retained(struct given_command *given)
{
    given->scene.retained = true;
}
static void break_size(struct given_command *given)
{
    given->scene.too_large = true;
}
static void break_form(struct given_command *given)
{
    given->scene.malformed = true;
}
static void break_device(struct given_command *given)
{
    given->scene.device = NULL;
}
static void break_point(struct given_command *given)
{
    given->scene.point = -1;
}
static void break_access(struct given_command *given)
{
    if (given->scene.point >= 0)
        given->scene.point = battery->control.soe;
}
static void break_id(struct given_command *given)
{
    given->scene.duplicate = true;
}
static void break_future(struct given_command *given)
{
    given->command.issued_at_ms = NOW_MS + 2001;
}
static void break_age(struct given_command *given)
{
    given->command.issued_at_ms = NOW_MS - 5000;
}
static void break_life(struct given_command *given)
{
    given->scene.shutting_down = true;
}
static void break_audit(struct given_command *given)
{
    given->scene.audit_unavailable = true;
}
static void break_rate(struct given_command *given)
{
    given->scene.last_write_ns = NOW_NS - 1;
}
static void break_range(struct given_command *given)
{
    given->command.value += 1000;
}
static void break_step(struct given_command *given)
{
    given->command.value += 0.5;
}

static const struct {
    enum reason reason;
    void (*apply)(struct given_command *given);
} breaks[] = {
    {REASON_RETAINED, break_retained},
    {REASON_TOO_LARGE, break_size},
    {REASON_MALFORMED, break_form},
    {REASON_UNKNOWN_DEVICE, break_device},
    {REASON_UNKNOWN_POINT, break_point},
    {REASON_NOT_WRITABLE, break_access},
    {REASON_DUPLICATE, break_id},
    {REASON_FUTURE_DATED, break_future},
    {REASON_EXPIRED, break_age},
    {REASON_SHUTTING_DOWN, break_life},
    {REASON_AUDIT_UNAVAILABLE, break_audit},
    {REASON_RATE_LIMITED, break_rate},
    {REASON_OUT_OF_RANGE, break_range},
    {REASON_OFF_STEP, break_step},
};
enum { BREAKS = sizeof breaks / sizeof *breaks };

/* Any number of things wrong at once: the first in the order is the reason. */
static void test_the_first_failure_in_the_order_wins(void **state)
{
    (void)state;
    for (unsigned set = 1; set < 1U << BREAKS; set++) {
        struct given_command given = good();
        enum reason first = REASON_NONE;
        bool future = false;
        for (unsigned i = 0; i < BREAKS; i++) {
            if (!(set >> i & 1))
                continue;
            /* No command is from the future and too old as well. */
            if (breaks[i].reason == REASON_EXPIRED && future)
                continue;
            future = future || breaks[i].reason == REASON_FUTURE_DATED;
            breaks[i].apply(&given);
            if (first == REASON_NONE)
                first = breaks[i].reason;
        }
        assert_int_equal(judge(&given), first);
    }
}

static void test_the_words_are_those_of_the_topics(void **state)
{
    (void)state;
    const char *const reasons[REASON_COUNT] = {
        "none",
        "retained",
        "too_large",
        "malformed",
        "unknown_device",
        "unknown_point",
        "not_writable",
        "duplicate",
        "future_dated",
        "expired",
        "shutting_down",
        "audit_unavailable",
        "rate_limited",
        "out_of_range",
        "off_step",
        "not_owner",
        "device_offline",
        "state_unknown",
        "not_ready",
        "soe_low",
        "soe_high",
        "blocks",
        "step_too_large",
        "overlap",
        "clock_unsynchronised",
        "stale_revision",
        "not_stored",
    };
    const char *const outcomes[OUTCOME_COUNT] = {"confirmed", "mismatch",   "unknown",  "failed",
                                                 "refused",   "superseded", "accepted", "lost"};
    for (int i = 0; i < REASON_COUNT; i++)
        assert_string_equal(reason_word((enum reason)i), reasons[i]);
    for (int i = 0; i < OUTCOME_COUNT; i++)
        assert_string_equal(outcome_word((enum outcome_kind)i), outcomes[i]);
}

/* ---- the limits ---- */

static void test_range(void **state)
{
    (void)state;
    const struct {
        double value;
        enum reason reason;
    } rows[] = {
        {250, REASON_NONE},
        {249, REASON_NONE},
        {251, REASON_OUT_OF_RANGE},
        {-250, REASON_NONE},
        {-249, REASON_NONE},
        {-251, REASON_OUT_OF_RANGE},
        {nextafter(250, 1e9), REASON_OUT_OF_RANGE},
        {nextafter(-250, -1e9), REASON_OUT_OF_RANGE},
        {nextafter(250, 0), REASON_OFF_STEP},
        {nextafter(-250, 0), REASON_OFF_STEP},
        {50.0000001, REASON_OFF_STEP},
        {0.5, REASON_OFF_STEP},
        {-1e-300, REASON_OFF_STEP},
        {5e-324, REASON_OFF_STEP}, /* nearly nothing is not zero */
        {1e308, REASON_OUT_OF_RANGE},
        {-1e308, REASON_OUT_OF_RANGE},
        {INFINITY, REASON_OUT_OF_RANGE},
        {-INFINITY, REASON_OUT_OF_RANGE},
        {NAN, REASON_OUT_OF_RANGE},
        {0.0, REASON_NONE},
        {-0.0, REASON_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(judge_value(rows[i].value), rows[i].reason);
}

static void test_range_says_what_would_do(void **state)
{
    (void)state;
    struct given_command given = good();
    given.command.value = 251;
    judge(&given);
    assert_string_equal(given.detail, "251 kW is above the maximum of 250 kW");
    given.command.value = -300.5;
    judge(&given);
    assert_string_equal(given.detail, "-300.5 kW is below the minimum of -250 kW");
    given.command.value = 50.25;
    judge(&given);
    assert_string_equal(given.detail, "50.25 is finer than the register's step of 1 kW");
}

/* Should the configuration ever let wider limits through, the register still
 * does not. */
static void test_nothing_wraps_around_in_the_register(void **state)
{
    (void)state;
    struct device wide = *battery;
    wide.control.min_kw = -1e6;
    wide.control.max_kw = 1e6;
    const struct {
        double value;
        enum reason reason;
    } rows[] = {
        {32767, REASON_NONE},
        {32768, REASON_OUT_OF_RANGE},
        {-32768, REASON_NONE},
        {-32769, REASON_OUT_OF_RANGE},
        {65536 + 50, REASON_OUT_OF_RANGE},
        {-65536, REASON_OUT_OF_RANGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct given_command given = good();
        given.scene.device = &wide;
        given.command.value = rows[i].value;
        assert_int_equal(judge(&given), rows[i].reason);
    }
}

static void test_age(void **state)
{
    (void)state;
    const struct {
        int64_t age_ms, ttl_ns;
        enum reason reason;
        int64_t left_ms;
    } rows[] = {
        {0, 5 * CLOCK_NS_PER_S, REASON_NONE, 5000},
        {4999, 5 * CLOCK_NS_PER_S, REASON_NONE, 1},
        {5000, 5 * CLOCK_NS_PER_S, REASON_EXPIRED, 0},
        {5001, 5 * CLOCK_NS_PER_S, REASON_EXPIRED, 0},
        {0, CLOCK_NS_PER_MS, REASON_NONE, 1},
        {0, CLOCK_NS_PER_MS - 1, REASON_EXPIRED, 0},
        {-2000, 5 * CLOCK_NS_PER_S, REASON_NONE, 7000},
        {-1999, 1 * CLOCK_NS_PER_S, REASON_NONE, 2999},
        {-2001, 5 * CLOCK_NS_PER_S, REASON_FUTURE_DATED, 0},
        {NOW_MS, 5 * CLOCK_NS_PER_S, REASON_EXPIRED, 0},                      /* of 1970 */
        {NOW_MS - 9000000000000, 5 * CLOCK_NS_PER_S, REASON_FUTURE_DATED, 0}, /* of 2255 */
        {0, 365 * 86400 * CLOCK_NS_PER_S, REASON_NONE, INT64_C(365) * 86400000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct given_command given = good();
        given.command.issued_at_ms = NOW_MS - rows[i].age_ms;
        given.command.ttl_ns = rows[i].ttl_ns;
        assert_int_equal(judge(&given), rows[i].reason);
        if (rows[i].reason == REASON_NONE)
            assert_int_equal(given.command.expires_ns, NOW_NS + rows[i].left_ms * CLOCK_NS_PER_MS);
        else
            assert_string_not_equal(given.detail, "");
    }
}

static void test_without_a_date_it_lives_from_its_arrival(void **state)
{
    (void)state;
    struct given_command given = good();
    given.command.dated = false;
    given.command.issued_at_ms = 0;
    given.command.ttl_ns = 0;
    assert_int_equal(judge(&given), REASON_NONE);
    assert_int_equal(given.command.expires_ns, NOW_NS + 10 * CLOCK_NS_PER_S);
}

static void test_min_interval(void **state)
{
    (void)state;
    const int64_t interval_ns = (int64_t)MIN_INTERVAL_S * CLOCK_NS_PER_S;
    const struct {
        int64_t since_ns;
        enum reason reason;
    } rows[] = {
        {interval_ns - 1, REASON_RATE_LIMITED},
        {interval_ns, REASON_NONE},
        {interval_ns + 1, REASON_NONE},
        {0, REASON_RATE_LIMITED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct given_command given = good();
        given.scene.last_write_ns = NOW_NS - rows[i].since_ns;
        assert_int_equal(judge(&given), rows[i].reason);
        given.command.value = 0; /* a battery can always be told to stop */
        assert_int_equal(judge(&given), REASON_NONE);
    }
    struct given_command never = good();
    never.scene.mono_ns = 1; /* just booted */
    assert_int_equal(judge(&never), REASON_NONE);
}

static void test_min_interval_off(void **state)
{
    (void)state;
    struct device free_device = *battery;
    free_device.control.min_interval_ns = 0;
    struct given_command given = good();
    given.scene.device = &free_device;
    given.scene.last_write_ns = NOW_NS;
    assert_int_equal(judge(&given), REASON_NONE);
    given.scene.last_write_ns = NOW_NS + 1; /* written while the command waited its turn */
    assert_int_equal(judge(&given), REASON_NONE);
}

/* ---- zero ---- */

static void test_zero_is_exempt_from_some_checks_and_no_others(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BREAKS; i++) {
        enum reason reason = breaks[i].reason;
        if (reason == REASON_OUT_OF_RANGE || reason == REASON_OFF_STEP)
            continue; /* then it is not zero */
        for (int minus = 0; minus < 2; minus++) {
            struct given_command given = good();
            given.command.value = minus ? -0.0 : 0.0;
            breaks[i].apply(&given);
            bool exempt = reason == REASON_AUDIT_UNAVAILABLE || reason == REASON_RATE_LIMITED;
            assert_int_equal(judge(&given), exempt ? REASON_NONE : reason);
        }
    }
}

/* Its life is judged here, and no more. */
static void test_a_stop_that_is_taken_does_not_expire(void **state)
{
    (void)state;
    struct given_command given = good();
    given.command.value = -0.0;
    assert_int_equal(judge(&given), REASON_NONE);
    assert_true(given.command.stop);
    assert_int_equal(given.command.expires_ns, CLOCK_NEVER);
    given = good();
    given.command.value = 0;
    given.command.dated = false;
    assert_int_equal(judge(&given), REASON_NONE);
    assert_int_equal(given.command.expires_ns, CLOCK_NEVER);
}

static void test_nearly_zero_is_not_zero(void **state)
{
    (void)state;
    for (int minus = 0; minus < 2; minus++) {
        struct given_command given = good();
        given.command.value = minus ? -5e-324 : 5e-324;
        given.scene.audit_unavailable = true;
        assert_int_equal(judge(&given), REASON_AUDIT_UNAVAILABLE);
        given.scene.audit_unavailable = false;
        given.scene.last_write_ns = NOW_NS;
        assert_int_equal(judge(&given), REASON_RATE_LIMITED);
    }
}

static void test_a_crowd_of_ids_leaves_only_zero(void **state)
{
    (void)state;
    struct given_command given = good();
    given.scene.crowded = true;
    assert_int_equal(judge(&given), REASON_RATE_LIMITED);
    given.command.value = 0;
    assert_int_equal(judge(&given), REASON_NONE);
}

/* ---- other points ---- */

static void test_another_point_has_its_own_limits_and_no_exemptions(void **state)
{
    (void)state;
    const struct {
        double value;
        enum reason reason;
    } rows[] = {
        {0, REASON_NONE},          {5, REASON_NONE},
        {65535, REASON_NONE},      {65536, REASON_OUT_OF_RANGE},
        {-1, REASON_OUT_OF_RANGE}, {1.5, REASON_OFF_STEP},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct given_command given = good();
        given.scene.point = battery->control.source;
        given.command.value = rows[i].value;
        given.scene.last_write_ns = NOW_NS; /* that was the setpoint */
        assert_int_equal(judge(&given), rows[i].reason);
    }
    struct given_command given = good();
    given.scene.point = battery->control.source;
    given.command.value = 0;
    assert_int_equal(judge(&given), REASON_NONE);
    assert_false(given.command.stop);
    assert_int_equal(given.command.expires_ns, NOW_NS + 4 * CLOCK_NS_PER_S);
    given.scene.audit_unavailable = true;
    assert_int_equal(judge(&given), REASON_AUDIT_UNAVAILABLE);
}

/* ---- the bridge's own ---- */

/* It has no life and knows no interval; limits are for everybody. */
static void test_the_bridges_own_passes_the_same_door(void **state)
{
    (void)state;
    const enum command_author authors[] = {AUTHOR_DEADMAN, AUTHOR_EXIT};
    for (int i = 0; i < 2; i++) {
        struct given_command given = good();
        given.command.author = authors[i];
        given.command.dated = false;
        given.scene.last_write_ns = NOW_NS;
        assert_int_equal(judge(&given), REASON_NONE);
        assert_int_equal(given.command.expires_ns, CLOCK_NEVER);
        given.command.value = 251;
        assert_int_equal(judge(&given), REASON_OUT_OF_RANGE);
        given.command.value = 0.5;
        assert_int_equal(judge(&given), REASON_OFF_STEP);
    }
}

/* A command that waited its turn may be older than the last write. */
static void test_the_interval_is_looked_at_again(void **state)
{
    (void)state;
    struct given_command given = good();
    assert_int_equal(judge(&given), REASON_NONE);
    assert_true(admit_is_too_soon(battery, &given.command, NOW_NS, NOW_NS + 1));
    assert_true(
        admit_is_too_soon(battery, &given.command, NOW_NS + 5 * CLOCK_NS_PER_S - 1, NOW_NS));
    assert_false(admit_is_too_soon(battery, &given.command, NOW_NS + 5 * CLOCK_NS_PER_S, NOW_NS));
    assert_false(admit_is_too_soon(battery, &given.command, NOW_NS, INT64_MIN));
    given.command.stop = true;
    assert_false(admit_is_too_soon(battery, &given.command, NOW_NS, NOW_NS));
}

static void test_limits_of_a_point_are_inclusive(void **state)
{
    (void)state;
    struct device device = *battery;
    struct point points[PROFILE_POINTS_MAX];
    memcpy(points, battery->points, battery->n_points * sizeof *points);
    device.points = points;
    points[device.control.source].min = 2;
    points[device.control.source].max = 4;
    for (int value = 0; value < 7; value++) {
        struct given_command given = good();
        given.scene.device = &device;
        given.scene.point = device.control.source;
        given.command.value = value;
        assert_int_equal(judge(&given),
                         value >= 2 && value <= 4 ? REASON_NONE : REASON_OUT_OF_RANGE);
    }
}

static void test_only_writable_points_of_a_controlled_device(void **state)
{
    (void)state;
    struct device read_only = *battery;
    read_only.controllable = false;
    for (int point = 0; point < (int)battery->n_points; point++) {
        struct given_command given = good();
        given.scene.point = point;
        bool writable = point == battery->control.setpoint || point == battery->control.source;
        assert_int_equal(judge(&given), writable ? REASON_NONE : REASON_NOT_WRITABLE);
        given.scene.device = &read_only;
        given.command.value = 0;
        assert_int_equal(judge(&given), REASON_NOT_WRITABLE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_command_passes),
        cmocka_unit_test(test_a_retained_message_is_told_for_that_alone),
        cmocka_unit_test(test_the_first_failure_in_the_order_wins),
        cmocka_unit_test(test_the_words_are_those_of_the_topics),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_range_says_what_would_do),
        cmocka_unit_test(test_nothing_wraps_around_in_the_register),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_without_a_date_it_lives_from_its_arrival),
        cmocka_unit_test(test_min_interval),
        cmocka_unit_test(test_min_interval_off),
        cmocka_unit_test(test_zero_is_exempt_from_some_checks_and_no_others),
        cmocka_unit_test(test_a_stop_that_is_taken_does_not_expire),
        cmocka_unit_test(test_nearly_zero_is_not_zero),
        cmocka_unit_test(test_a_crowd_of_ids_leaves_only_zero),
        cmocka_unit_test(test_another_point_has_its_own_limits_and_no_exemptions),
        cmocka_unit_test(test_the_bridges_own_passes_the_same_door),
        cmocka_unit_test(test_the_interval_is_looked_at_again),
        cmocka_unit_test(test_limits_of_a_point_are_inclusive),
        cmocka_unit_test(test_only_writable_points_of_a_controlled_device),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
