/* remembered: a restart neither forgets a stop nor makes a lease longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/battery/remembered.h"

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

static void assert_same(const struct remembered *a, const struct remembered *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n_stops, b->n_stops);
    for (unsigned i = 0; i < a->n_stops; i++) {
        assert_string_equal(a->stops[i].id, b->stops[i].id);
        assert_string_equal(a->stops[i].source, b->stops[i].source);
    }
    assert_string_equal(a->boot, b->boot);
    assert_int_equal(a->end_ns, b->end_ns);
    assert_int_equal(a->end_utc_ms, b->end_utc_ms);
}

static struct remembered with_longest_texts(void)
{
    struct remembered longest = {.kind = REMEMBERED_STOP, .n_stops = REMEMBERED_STOPS_MAX};
    for (unsigned i = 0; i < REMEMBERED_STOPS_MAX; i++) {
        memset(longest.stops[i].id, 'a' + (int)i, COMMAND_ID_MAX);
        memset(longest.stops[i].source, 's', COMMAND_SOURCE_MAX);
    }
    return longest;
}

static void test_what_is_printed_is_read_again(void **state)
{
    (void)state;
    const struct remembered rows[] = {
        {.kind = REMEMBERED_NOTHING},
        {.kind = REMEMBERED_STOP, .n_stops = 1, .stops = {{"d-1", "dispatch a"}}},
        {.kind = REMEMBERED_STOP, .n_stops = 3, .stops = {{"d-3", "b"}, {"d-2", ""}, {"d-1", "a"}}},
        /* a bare zero: nobody is told, but it is owed */
        {.kind = REMEMBERED_STOP, .n_stops = 1},
        with_longest_texts(),
        {.kind = REMEMBERED_STOPPED},
        {.kind = REMEMBERED_LEASE, .boot = "boot", .end_ns = 12 * S, .end_utc_ms = 1763791200000},
        {.kind = REMEMBERED_LEASE, .end_ns = INT64_MAX, .end_utc_ms = INT64_MIN},
        {.kind = REMEMBERED_LEASE, .end_ns = -1, .end_utc_ms = 0},
        {.kind = REMEMBERED_LEASE_STOPPED, .boot = "boot", .end_ns = 12 * S, .end_utc_ms = 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct remembered back;
        char text[REMEMBERED_TEXT_MAX];
        remembered_print(&rows[i], text);
        memset(&back, 0x55, sizeof back);
        remembered_parse(text, &back);
        assert_same(&back, &rows[i]);
    }
}

static void test_what_nobody_printed_is_nothing(void **state)
{
    (void)state;
    const char *const texts[] = {"", "\t", "sto", "stops\ta\tb", "Lease\tb\t1\t2", "{}", "lease"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct remembered back;
        remembered_parse(texts[i], &back);
        /* A cut lease has ended: the deadman is on its guard, not asleep. */
        assert_int_equal(back.kind, i == sizeof texts / sizeof *texts - 1 ? REMEMBERED_LEASE
                                                                          : REMEMBERED_NOTHING);
        assert_int_equal(back.end_ns, 0);
    }
}

static void test_each_device_has_its_own_in_the_store(void **unused)
{
    (void)unused;
    struct state *state = state_open("", NULL);
    const struct remembered stop = {.kind = REMEMBERED_STOP, .n_stops = 1, .stops = {{"d-1", "a"}}};
    const struct remembered nothing = {.kind = REMEMBERED_NOTHING};
    struct remembered back = nothing;
    assert_false(remembered_find(state, "b1", &back));
    remembered_keep(state, "b1", &stop);
    assert_true(remembered_find(state, "b1", &back));
    assert_same(&back, &stop);
    assert_false(remembered_find(state, "b2", &back));
    remembered_keep(state, "b1", &nothing);
    assert_false(remembered_find(state, "b1", &back));
    state_close(state);
    remembered_keep(NULL, "b1", &stop); /* without a store nothing is kept */
    assert_false(remembered_find(NULL, "b1", &back));
}

static void test_a_lease_is_never_longer_than_it_was(void **state)
{
    (void)state;
    const struct {
        const char *boot;
        int64_t end_ns, end_utc_ms; /* kept */
        int64_t now_ns, utc_ms;
        int64_t expected_ns;
    } rows[] = {
        {"same", 100 * S, 0, 70 * S, 0, 100 * S},
        {"same", 100 * S, 0, 99 * S, 50000, 100 * S},    /* whatever UTC says */
        {"same", 100 * S, 0, 130 * S, -90000, 100 * S},  /* over: it fires at once */
        {"same", 1000 * S, 0, 70 * S, 0, 130 * S},       /* never more than a whole one */
        {"other", 100 * S, 40000, 5 * S, 10000, 35 * S}, /* 30 s were left, of UTC */
        {"other", 100 * S, 40000, 5 * S, 40000, 5 * S},
        {"other", 100 * S, 40000, 5 * S, 90000, 5 * S},
        {"other", 100 * S, 40000, 5 * S, -90000, 65 * S}, /* UTC was set back */
        {"other", 1 * S, INT64_MAX / 2, 5 * S, 0, 65 * S},
        {"other", 1 * S, INT64_MIN, 5 * S, 1763791200000, 5 * S}, /* nonsense is over */
        {"same", INT64_MIN, 0, 5 * S, 0, 0},
        {"same", INT64_MAX, 0, 5 * S, 0, 65 * S},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct remembered lease = {
            .kind = REMEMBERED_LEASE, .end_ns = rows[i].end_ns, .end_utc_ms = rows[i].end_utc_ms};
        strcpy(lease.boot, rows[i].boot);
        assert_int_equal(remembered_end_ns(&lease, "same", rows[i].now_ns, rows[i].utc_ms, 60 * S),
                         rows[i].expected_ns);
    }
    /* A machine that does not name its boots: each may be another. */
    const struct remembered unnamed = {
        .kind = REMEMBERED_LEASE, .end_ns = 1000 * S, .end_utc_ms = 40000};
    assert_int_equal(remembered_end_ns(&unnamed, "", 5 * S, 10000, 60 * S), 35 * S);
    assert_int_equal(remembered_end_ns(&unnamed, "", 990 * S, 10000, 60 * S), 1000 * S);
}

static void test_this_boot_has_a_name(void **state)
{
    (void)state;
    char boot[REMEMBERED_BOOT_MAX + 1] = "", again[REMEMBERED_BOOT_MAX + 1] = "";
    remembered_boot(boot);
    remembered_boot(again);
    assert_int_equal(strlen(boot), REMEMBERED_BOOT_MAX); /* a UUID, without the end of its line */
    assert_string_equal(boot, again);
    assert_null(strchr(boot, '\n'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_printed_is_read_again),
        cmocka_unit_test(test_what_nobody_printed_is_nothing),
        cmocka_unit_test(test_each_device_has_its_own_in_the_store),
        cmocka_unit_test(test_a_lease_is_never_longer_than_it_was),
        cmocka_unit_test(test_this_boot_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
