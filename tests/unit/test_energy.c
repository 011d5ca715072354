/* energy: what is counted, over which gaps, and that no counter ever falls. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "bridge/base/clock.h"
#include "bridge/telemetry/energy.h"
#include "given.h"
#include "site.h"
#include "tests/unit/kept_state.h"

#define SECOND CLOCK_NS_PER_S
#define HOUR   (3600 * SECOND)
#define NEAR   1e-9

#define assert_near(a, b) assert_true(fabs((a) - (b)) < NEAR)

/* ---- the rules ---- */

static struct energy_counter counted(double from_kw, double to_kw, bool commanded)
{
    struct energy_counter counter = {.begun = false};
    energy_count(&counter, 5 * HOUR, from_kw, commanded, HOUR);
    assert_true(counter.kwh.charged == 0 && counter.kwh.discharged == 0);
    energy_count(&counter, 6 * HOUR, to_kw, commanded, HOUR);
    return counter;
}

static void assert_counted(double from_kw, double to_kw, bool commanded, double charged,
                           double discharged)
{
    struct energy_counter counter = counted(from_kw, to_kw, commanded);
    assert_near(counter.kwh.charged, charged);
    assert_near(counter.kwh.discharged, discharged);
}

static void test_measured_power_moves_in_a_line(void **state)
{
    (void)state;
    assert_counted(10, 10, false, 0, 10);
    assert_counted(10, 20, false, 0, 15);
    assert_counted(-10, -30, false, 20, 0);
    assert_counted(0, -8, false, 4, 0);
    /* Through zero after a third of the time: 10/3 h at 5 kW, then 2/3 h at -10. */
    assert_counted(10, -20, false, 20.0 / 3, 5.0 / 3);
    assert_counted(-20, 10, false, 20.0 / 3, 5.0 / 3);
    assert_counted(0, 0, false, 0, 0);
}

static void test_a_setpoint_holds_until_the_next(void **state)
{
    (void)state;
    assert_counted(10, -20, true, 0, 10);
    assert_counted(-20, 10, true, 20, 0);
    assert_counted(0, 50, true, 0, 0);
}

static void test_a_gap_is_not_counted(void **state)
{
    struct energy_counter counter = {.begun = false};
    (void)state;
    energy_count(&counter, 0, 3600, false, 3 * SECOND);
    energy_count(&counter, 3 * SECOND, 3600, false, 3 * SECOND);
    assert_near(counter.kwh.discharged, 3);
    energy_count(&counter, 6 * SECOND + 1, 3600, false, 3 * SECOND);
    assert_near(counter.kwh.discharged, 3);
    /* After the gap it goes on from there. */
    energy_count(&counter, 7 * SECOND + 1, 3600, false, 3 * SECOND);
    assert_near(counter.kwh.discharged, 4);
    /* Time does not go backwards; if it did, nothing would be taken away. */
    energy_count(&counter, 5 * SECOND, 3600, false, 3 * SECOND);
    assert_near(counter.kwh.discharged, 4);
}

static void test_counters_never_fall(void **state)
{
    struct energy_counter counter = {.begun = false};
    uint32_t random = 1;
    int64_t now_ns = 0;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct energy_kwh before = counter.kwh;
        random = random * 1664525 + 1013904223;
        now_ns += (int64_t)(random >> 20) * SECOND / 1000 - SECOND / 2;
        energy_count(&counter, now_ns, (double)(random >> 8) / 4096 - 2048, i % 2, 3 * SECOND);
        assert_true(counter.kwh.charged >= before.charged);
        assert_true(counter.kwh.discharged >= before.discharged);
    }
    assert_true(counter.kwh.charged > 0 && counter.kwh.discharged > 0);
}

static const struct point target = {.name = "target_power", .unit = "kW", .writable = true};
static const struct point total = {.name = "active_power_total", .unit = "W"};
static const struct point inverter = {.name = "inverter_power", .unit = "MW"};
static const struct point dc = {.name = "dc_power", .unit = "kW"};
static const struct point soe = {.name = "soe", .unit = "%"};

static void assert_source(bool battery, const struct point *points, unsigned n, int expected,
                          double kw, bool commanded)
{
    struct point copy[4];
    struct device device = {.battery = battery, .n_points = n, .points = copy};
    struct energy_source source = {.point = 99};
    memcpy(copy, points, n * sizeof(*points));
    assert_int_equal(energy_source(&device, &source), expected >= 0);
    if (expected < 0) {
        assert_int_equal(source.point, 99);
        return;
    }
    assert_int_equal(source.point, expected);
    assert_true(source.kw == kw);
    assert_int_equal(source.commanded, commanded);
}

static void test_where_the_power_comes_from(void **state)
{
    (void)state;
    assert_source(true, (struct point[]){soe, target}, 2, 1, 1, true);
    assert_source(true, (struct point[]){target, total}, 2, 1, 1e-3, false);
    assert_source(true, (struct point[]){dc, target, total}, 3, 2, 1e-3, false);
    assert_source(true, (struct point[]){target, inverter}, 2, 1, 1e3, false);
    /* Two that might be meant: better none of them. */
    assert_source(true, (struct point[]){target, inverter, dc}, 3, 0, 1, true);
    assert_source(true, (struct point[]){soe}, 1, -1, 0, false);
    assert_source(false, (struct point[]){target, total}, 2, -1, 0, false);
}

/* ---- the counters of a site ---- */

static struct conf conf;
static struct state *kept;

/* A directory of our own, and a battery and a meter polled each second. */
static int given_site(void **state)
{
    if (given_directory(state) != 0)
        return -1;
    site_read(&conf, SITE_ONE(SITE_DISCHARGE) "meters = ( { id = \"m1\"; name = \"Grid-Meter\"; "
                                              "type = \"acuvim2\"; poll = \"1s\"; "
                                              "modbus: { host = \"h\"; address = 2; }; } );");
    snprintf(conf.audit_path, sizeof conf.audit_path, "%s/audit.jsonl", (char *)*state);
    return 0;
}

static int remove_site(void **state)
{
    conf_free(&conf);
    return remove_directory(state);
}

/* As the supervisor does. */
static struct energy *start(void)
{
    char path[CONF_PATH_MAX + 1];
    state_path(&conf, path);
    kept = state_open(path, energy_inherit);
    assert_non_null(kept);
    conf.ha_enabled = true;
    struct energy *energy = energy_start(&conf, kept);
    assert_non_null(energy);
    return energy;
}

static void stop(struct energy *energy)
{
    energy_stop(energy);
    state_close(kept);
}

/* One scan of the battery at `second`, with its setpoint or without. */
static bool note(struct energy *energy, int second, double target_kw, bool read,
                 struct energy_kwh *shown)
{
    struct value values[8] = {{.state = VALUE_ABSENT}};
    int point = device_find_point(&conf.devices.devices[0], "target_power");
    values[point].state = read ? VALUE_READ : VALUE_FAULT;
    values[point].number = target_kw;
    return energy_note(energy, 0, second * SECOND, values, shown);
}

static struct energy_kwh scan(struct energy *energy, int second, double target_kw, bool read)
{
    struct energy_kwh shown;
    assert_true(note(energy, second, target_kw, read, &shown));
    return shown;
}

/* In kWh: what a run would find now. */
static double on_disk(const char *id, const char *key)
{
    char path[CONF_PATH_MAX + 1], name[100], text[100] = "0 0";
    uint64_t charged, discharged;
    state_path(&conf, path);
    struct state *state = state_open(path, NULL);
    snprintf(name, sizeof name, "energy/%s", id);
    (void)state_get(state, name, text, sizeof text);
    state_close(state);
    assert_int_equal(sscanf(text, "%" SCNu64 " %" SCNu64, &charged, &discharged), 2);
    return (double)(strcmp(key, "charged_kwh") == 0 ? charged : discharged) / 1e9;
}

/* It begins anew, and goes on from there. */
static void test_counters_that_make_no_sense(void **state)
{
    (void)state;
    static const char *const texts[] = {"18446744073709551615 1", "1 18446744073709551615", "-1 1",
                                        "1e300 1", ""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char path[CONF_PATH_MAX + 1];
        state_path(&conf, path);
        struct state *before = state_open(path, NULL);
        assert_true(state_put(before, "energy/b1", texts[i]));
        state_close(before);
        struct energy *energy = start();
        scan(energy, 0, 3600, true);
        scan(energy, 1, 0, true);
        stop(energy);
        assert_near(on_disk("b1", "discharged_kwh"), 1);
        assert_near(on_disk("b1", "charged_kwh"), 0);
    }
}

static void test_next_run_goes_on(void **state)
{
    (void)state;
    struct energy *energy = start();
    for (int i = 0; i < 10; i++)
        scan(energy, i, 3600, true);
    scan(energy, 10, -7200, true);
    scan(energy, 11, 0, true);
    stop(energy);
    assert_near(on_disk("b1", "discharged_kwh"), 10);
    assert_near(on_disk("b1", "charged_kwh"), 2);

    energy = start();
    struct energy_kwh shown = scan(energy, 1000, 3600, true);
    assert_near(shown.discharged, 10);
    assert_near(shown.charged, 2);
    scan(energy, 1001, 3600, true);
    stop(energy);
    assert_near(on_disk("b1", "discharged_kwh"), 11);
}

static void test_only_good_values_within_three_polls(void **state)
{
    (void)state;
    struct energy *energy = start();
    scan(energy, 0, 3600, true);
    scan(energy, 1, 0, false);
    scan(energy, 2, 0, false);
    scan(energy, 3, 3600, true); /* 3 s: counted */
    scan(energy, 7, 3600, true); /* 4 s: not */
    stop(energy);
    assert_near(on_disk("b1", "discharged_kwh"), 3);
}

/* Whatever ends the program, its next run begins no lower. Saved at once, and
 * then once a minute; shown is what was saved. */
static void test_what_is_shown_is_on_disk(void **state)
{
    (void)state;
    struct energy *energy = start();
    char text[100];
    uint64_t charged, discharged;
    double shown = 0;
    int second = 0;
    scan(energy, second++, 3600, true);
    for (int saved = 0; saved < 5; saved++) {
        const int begun = second;
        assert_near(scan(energy, second++, 3600, true).discharged, shown);
        assert_true(state_sync(kept, CLOCK_NEVER));
        assert_true(state_get(kept, "energy/b1", text, sizeof text));
        assert_int_equal(sscanf(text, "%" SCNu64 " %" SCNu64, &charged, &discharged), 2);
        assert_true((double)discharged / 1e9 > shown);
        shown = (double)discharged / 1e9;
        while (second < begun + 60)
            assert_near(scan(energy, second++, 3600, true).discharged, shown);
    }
    stop(energy);
}

static void test_batteries_not_configured_are_kept(void **state)
{
    (void)state;
    given_file("energy-demo.json",
               "{\"gone\":{\"charged_kwh\":5,\"discharged_kwh\":6.5},"
               "\"b1\":{\"charged_kwh\":-1,\"discharged_kwh\":\"2\"},\"m1\":7}");
    struct energy *energy = start();
    struct energy_kwh shown = scan(energy, 0, 3600, true);
    assert_true(shown.charged == 0 && shown.discharged == 0);
    scan(energy, 1, 3600, true);
    stop(energy);
    assert_near(on_disk("gone", "charged_kwh"), 5);
    assert_near(on_disk("gone", "discharged_kwh"), 6.5);
    assert_near(on_disk("b1", "discharged_kwh"), 1);
    assert_int_not_equal(access("energy-demo.json", F_OK), 0); /* it was taken over once */
}

static void test_a_damaged_file_ends_nothing(void **state)
{
    static const char *const damaged[] = {"", "[1]", "{\"b1\":{\"charged_kwh\":1", "{}{}"};
    (void)state;
    for (unsigned i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        given_file("energy-demo.json", damaged[i]);
        struct energy *energy = start();
        scan(energy, 0, 3600, true);
        scan(energy, 1, 3600, true);
        stop(energy);
        assert_near(on_disk("b1", "discharged_kwh"), i + 1);
    }
}

static void count(struct energy *energy, int from, int to)
{
    for (int second = from; second <= to; second++)
        scan(energy, second, 3600, true);
}

static void test_they_stand_still_while_the_disk_says_no(void **state)
{
    const struct rlimit nothing = {0, RLIM_INFINITY}, all = {RLIM_INFINITY, RLIM_INFINITY};
    (void)state;
    struct energy *energy = start();
    count(energy, 0, 1);
    assert_true(state_sync(kept, CLOCK_NEVER));
    const double shown = scan(energy, 2, 3600, true).discharged;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &nothing), 0);
    count(energy, 3, 180);
    assert_near(scan(energy, 181, 3600, true).discharged, shown);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    while (!state_sync(kept, clock_awake_ns() + SECOND))
        ;
    assert_true(scan(energy, 182, 3600, true).discharged > shown);
    stop(energy);
}

/* Such as on a disk that is mounted late. */
static void test_they_wait_for_what_was_kept(void **state)
{
    struct energy_kwh shown;
    (void)state;
    struct energy *energy = start();
    count(energy, 0, 10);
    stop(energy);
    assert_int_equal(rename("state-demo.db", "elsewhere"), 0);
    assert_int_equal(mkdir("state-demo.db", 0700), 0); /* no file can be there */
    energy = start();
    for (int second = 100; second <= 105; second++)
        assert_false(note(energy, second, 3600, true, &shown));
    assert_int_equal(rmdir("state-demo.db"), 0);
    assert_int_equal(rename("elsewhere", "state-demo.db"), 0);
    while (!state_is_loaded(kept))
        (void)state_sync(kept, clock_awake_ns() + SECOND);
    assert_near(scan(energy, 106, 3600, true).discharged, 10);
    stop(energy);
    assert_near(on_disk("b1", "discharged_kwh"), 16);
}

static void assert_memory_only(void)
{
    struct energy *energy = start();
    scan(energy, 0, 3600, true);
    assert_near(scan(energy, 1, 3600, true).discharged, 1);
    assert_near(scan(energy, 2, 3600, true).discharged, 2);
    stop(energy);
    assert_int_not_equal(access("state-demo.db", F_OK), 0);
}

static void test_without_a_directory_they_live_in_memory(void **state)
{
    (void)state;
    strcpy(conf.audit_path, "");
    assert_memory_only();
    strcpy(conf.audit_path, "/dev/null");
    assert_memory_only();
    assert_int_not_equal(access("/dev/state-demo.db", F_OK), 0);
}

static void test_the_spools_directory_comes_first(void **state)
{
    (void)state;
    snprintf(conf.spool_path, sizeof conf.spool_path, "%s/spool.db", (char *)*state);
    strcpy(conf.audit_path, "/dev/null");
    struct energy *energy = start();
    scan(energy, 0, 3600, true);
    scan(energy, 1, 3600, true);
    stop(energy);
    assert_near(on_disk("b1", "discharged_kwh"), 1);
}

static void test_nothing_is_shown_for_others(void **state)
{
    struct value values[8] = {{.state = VALUE_ABSENT}};
    struct energy_kwh shown;
    (void)state;
    struct energy *energy = start();
    assert_false(energy_note(energy, 1, SECOND, values, &shown));
    assert_false(energy_note(NULL, 0, SECOND, values, &shown));
    stop(energy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured_power_moves_in_a_line),
        cmocka_unit_test(test_a_setpoint_holds_until_the_next),
        cmocka_unit_test(test_a_gap_is_not_counted),
        cmocka_unit_test(test_counters_never_fall),
        cmocka_unit_test(test_where_the_power_comes_from),
        cmocka_unit_test_setup_teardown(test_counters_that_make_no_sense, given_site, remove_site),
        cmocka_unit_test_setup_teardown(test_next_run_goes_on, given_site, remove_site),
        cmocka_unit_test_setup_teardown(test_only_good_values_within_three_polls, given_site,
                                        remove_site),
        cmocka_unit_test_setup_teardown(test_what_is_shown_is_on_disk, given_site, remove_site),
        cmocka_unit_test_setup_teardown(test_batteries_not_configured_are_kept, given_site,
                                        remove_site),
        cmocka_unit_test_setup_teardown(test_a_damaged_file_ends_nothing, given_site, remove_site),
        cmocka_unit_test_setup_teardown(test_they_wait_for_what_was_kept, given_site, remove_site),
        cmocka_unit_test_setup_teardown(test_they_stand_still_while_the_disk_says_no, given_site,
                                        remove_site),
        cmocka_unit_test_setup_teardown(test_without_a_directory_they_live_in_memory, given_site,
                                        remove_site),
        cmocka_unit_test_setup_teardown(test_the_spools_directory_comes_first, given_site,
                                        remove_site),
        cmocka_unit_test_setup_teardown(test_nothing_is_shown_for_others, given_site, remove_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
