/* trust: an hour without a synchronised clock is an hour, whatever is restarted. */
#include "bridge/base/log.h"
#include "bridge/battery/remembered.h"
#include "bridge/battery/schedule.h"
#include "bridge/battery/trust.h"
#include "tests/unit/late_state.h"

#define NOW INT64_C(5000000000000)

static struct health health;

static int64_t since(void)
{
    return health.unsynchronised_ns;
}

static void test_since_it_was_seen(void **state)
{
    (void)state;
    struct trust trust = {.is_distrusted = false};
    memset(&health, 0, sizeof health);
    trust_look(&trust, &health, NULL, true, NOW);
    assert_int_equal(since(), 0);
    trust_look(&trust, &health, NULL, false, NOW + 1);
    trust_look(&trust, &health, NULL, false, NOW + 2);
    assert_int_equal(since(), NOW + 1);
    assert_false(trust.is_distrusted);
    trust_look(&trust, &health, NULL, false, NOW + SCHEDULE_TRUST_NS);
    assert_false(trust.is_distrusted);
    trust_look(&trust, &health, NULL, false, NOW + 1 + SCHEDULE_TRUST_NS);
    assert_true(trust.is_distrusted);
    trust_look(&trust, &health, NULL, true, NOW + 2 + SCHEDULE_TRUST_NS);
    assert_int_equal(since(), 0);
    assert_false(trust.is_distrusted);
}

static void test_a_restart_gives_no_new_hour(void **state)
{
    (void)state;
    struct state *store = state_open("", NULL);
    struct trust trust = {.is_distrusted = false};
    memset(&health, 0, sizeof health);
    trust_look(&trust, &health, store, false, NOW);
    memset(&health, 0, sizeof health); /* another run */
    trust_look(&trust, &health, store, false, NOW + 7);
    assert_int_equal(since(), NOW);
    trust_look(&trust, &health, store, true, NOW + 8); /* and that is forgotten */
    memset(&health, 0, sizeof health);
    trust_look(&trust, &health, store, false, NOW + 9);
    assert_int_equal(since(), NOW + 9);
    state_close(store);
}

static void test_another_boot_and_nonsense_count_from_now(void **state)
{
    (void)state;
    char boot[REMEMBERED_BOOT_MAX + 1], of_future[128];
    remembered_boot(boot);
    snprintf(of_future, sizeof of_future, "%s %lld", boot, (long long)NOW + 1000);
    const char *const texts[] = {"another-boot 1", "", "x", of_future, "\t"};
    for (unsigned i = 0; i < 5; i++) {
        struct state *store = state_open("", NULL);
        struct trust trust = {.is_distrusted = false};
        memset(&health, 0, sizeof health);
        assert_true(state_put(store, "unsynchronised", texts[i]));
        trust_look(&trust, &health, store, false, NOW);
        assert_int_equal(since(), NOW);
        state_close(store);
    }
}

static void test_a_state_that_comes_late(void **state)
{
    char boot[REMEMBERED_BOOT_MAX + 1], text[128];
    remembered_boot(boot);
    snprintf(text, sizeof text, "%s %lld", boot, (long long)NOW - 1000);
    struct trust trust = {.is_distrusted = false};
    memset(&health, 0, sizeof health);
    assert_int_equal(given_directory(state), 0);
    struct state *store = given_late_state("unsynchronised", text);
    trust_look(&trust, &health, store, false, NOW);
    assert_int_equal(since(), NOW);
    wait_late_state(store);
    trust_look(&trust, &health, store, false, NOW + 1);
    assert_int_equal(since(), NOW - 1000);
    trust_look(&trust, &health, store, false, NOW + 2);
    assert_int_equal(since(), NOW - 1000);
    state_close(store);
    assert_int_equal(remove_directory(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_since_it_was_seen),
        cmocka_unit_test(test_a_restart_gives_no_new_hour),
        cmocka_unit_test(test_another_boot_and_nonsense_count_from_now),
        cmocka_unit_test(test_a_state_that_comes_late),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
