/* change: places stay with their devices, and numbers with their links and threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/site/change.h"
#include "tests/unit/site.h"

#define METER(name, host, more)                                                                    \
    "{ id = \"" name "\"; name = \"" name "\"; type = \"acuvim2\"; modbus: { host = \"" host       \
    "\"; address = 1; };" more " }"
#define SERIAL                                                                                     \
    "{ id = \"s\"; name = \"S\"; type = \"acuvim2\"; modbus: { serial = \"/dev/t\"; address = 1; " \
    "}; }"
#define BATTERY(host)                                                                              \
    "bess = ( { id = \"z\"; name = \"Z\"; type = \"powerpack\"; modbus: { host = \"" host          \
    "\"; address = 2; }; control: { ready_status = [ 1 ]; min_kw = -1.0; max_kw = 1.0; "           \
    "positive_is = \"charge\"; }; } );"

enum { MANY = 5000 };

static struct conf before, after;
static struct change change;
static char why[CHANGE_WHY_MAX];

static bool find(const char *old, const char *new)
{
    site_read(&before, old);
    assert_true(change_make_room(&before));
    site_read(&after, new);
    return change_find(&before, &after, &change, why);
}

static void end(void)
{
    change_free(&change);
    conf_free(&before);
    conf_free(&after);
}

/* What becomes the configuration of before the next one. */
static void take_over(const char *new)
{
    change_free(&change);
    conf_free(&before);
    before = after;
    site_read(&after, new);
    assert_true(change_find(&before, &after, &change, why));
}

static const struct device *at(unsigned place, const char *name, enum change_kind kind)
{
    assert_int_equal(after.devices.n_devices, before.devices.n_devices);
    assert_string_equal(after.devices.devices[place].name, name);
    assert_int_equal(change.devices[place], kind);
    return &after.devices.devices[place];
}

static void test_nothing(void **state)
{
    (void)state;
    assert_true(find("meters = ( " METER("A", "a", "") ", " METER("B", "b", "") " );",
                     "/* the same */ meters=(" METER("A", "a", "") ",\n" METER("B", "b", "") ");"));
    assert_false(change_is_any(&change));
    for (unsigned group = 0; group < CONF_GROUPS; group++)
        assert_false(change.groups[group]);
    end();
}

static void test_places_stay(void **state)
{
    (void)state;
    assert_true(
        find("meters = ( " METER("A", "a", "") ", " METER("B", "b", "") ", " //
             METER("C", "c", "") " );",
             "meters = ( " METER("D", "d", "") ", " METER("C", "c", "poll = \"2s\";") ", " //
             METER("A", "a", "") " );"));
    assert_int_equal(at(0, "A", CHANGE_NONE)->poller, 0);
    at(1, "", CHANGE_GONE);
    at(2, "C", CHANGE_ALTERED);
    at(3, "D", CHANGE_NEW);
    assert_true(change_is_any(&change));
    /* The place that was left is taken, and the numbers of links are not given twice. */
    take_over("meters = ( " METER("D", "d", "") ", " METER("E", "e", "") ", " //
              METER("A", "a", "") ", " METER("C", "c", "poll = \"2s\";") " );");
    at(1, "E", CHANGE_NEW);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(after.devices.devices[i].link, after.devices.devices[k].link);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(after.devices.devices[i].poller, 0);
    end();
}

static void test_pollers(void **state)
{
    (void)state;
    assert_true(
        find("meters = ( " METER("A", "a", "") ", " SERIAL ", " METER("B", "b", "") " );",
             BATTERY("b") "meters = ( " METER("B", "b", "") ", " METER("A", "a", "") " );"));
    assert_int_equal(at(0, "A", CHANGE_NONE)->poller, 0);
    at(1, "", CHANGE_GONE);
    /* Its line is the battery's now: no poller of before has that number. */
    assert_int_equal(at(2, "B", CHANGE_MOVED)->poller, 2);
    assert_int_equal(at(3, "Z", CHANGE_NEW)->poller, 2);
    assert_int_equal(after.devices.devices[2].link, after.devices.devices[3].link);
    /* Without the battery it stays where it is: nothing of it has to end for that. */
    take_over("meters = ( " METER("B", "b", "") ", " METER("A", "a", "") ", " SERIAL " );");
    assert_int_equal(at(2, "B", CHANGE_NONE)->poller, 2);
    at(3, "", CHANGE_GONE);
    assert_int_equal(at(1, "S", CHANGE_NEW)->poller, 1);
    end();
}

/* Serial lines, each with a thread of its own, at `poll`. */
static char *lines(unsigned n, const char *poll)
{
    char *text = malloc(n * 160), *end = text + sprintf(text, "meters = ( ");
    for (unsigned i = 0; i < n; i++)
        end += sprintf(end,
                       "%s{ id = \"s%u\"; name = \"S%u\"; type = \"acuvim2\"; poll = \"%s\"; "
                       "modbus: { serial = \"/dev/t%u\"; address = 1; }; }",
                       i > 0 ? ", " : "", i, i, poll, i);
    strcpy(end, " );");
    return text;
}

/* All places are taken, all of them change at once, and nobody has the shared poller. */
static void test_most_pollers(void **state)
{
    (void)state;
    enum { PLACES = 65 };
    char *some = lines(PLACES - 1, "1s"), *full = lines(PLACES, "1s"), *last = lines(PLACES, "2s");
    char *begun = malloc(strlen(some) + 160);
    sprintf(begun, "meters = ( " METER("A", "a", "") ", %s", some + strlen("meters = ( "));
    assert_true(find("meters = ( " METER("A", "a", "") " );", begun));
    take_over(some);
    take_over(full);
    take_over(last);
    for (unsigned i = 0; i < PLACES; i++)
        assert_int_equal(change.devices[i], CHANGE_ALTERED);
    assert_int_equal(after.devices.n_pollers, change_pollers_max(&before.devices));
    end();
    free(begun);
    free(some);
    free(full);
    free(last);
}

static void test_no_room(void **state)
{
    (void)state;
    char devices[128 * 100] = "meters = ( " METER("A", "a", "");
    for (unsigned i = 0; i < 65; i++)
        sprintf(devices + strlen(devices), ", " METER("N%u", "h%u", ""), i, i, i);
    strcat(devices, " );");
    assert_false(find("meters = ( " METER("A", "a", "") " );", devices));
    assert_string_equal(why,
                        "needs a restart: there are 1 devices more than this run has room for");
    end();
}

/* Each with a link of its own, which is another one afterwards. */
static char *many(const char *more)
{
    char *text = malloc(MANY * 160), *end = text + sprintf(text, "meters = ( ");
    for (unsigned i = 0; i < MANY; i++)
        end += sprintf(end, "%s" METER("N%u", "h%u", "%s"), i > 0 ? ", " : "", i, i, i, more);
    strcpy(end, " );");
    return text;
}

/* While they are compared nobody tells systemd that all is well: what grew with the cube of
 * their number took minutes. */
static void test_thousands(void **state)
{
    (void)state;
    char *old = many(""), *new = many("poll = \"2s\";");
    bool *given = calloc(3 * MANY, sizeof(*given));
    assert_true(find(old, new));
    for (unsigned i = 0; i < MANY; i++) {
        const unsigned link = after.devices.devices[i].link;
        assert_int_equal(change.devices[i], CHANGE_ALTERED);
        assert_in_range(link, MANY, 2 * MANY - 1);
        assert_false(given[link]);
        given[link] = true;
    }
    end();
    free(given);
    free(old);
    free(new);
}

static void count(void *context, const char *sentence)
{
    (void)sentence;
    ++*(unsigned *)context;
}

static void test_groups(void **state)
{
    (void)state;
    unsigned n = 0;
    assert_true(
        find("meters = ( " METER("A", "a", "") " );", "meters = ( " METER("A", "a", "") ");"));
    for (unsigned group = 0; group < CONF_GROUPS; group++) {
        change_free(&change);
        before.hashes[group]++;
        assert_true(change_find(&before, &after, &change, why));
        assert_true(change.groups[group]);
        assert_int_equal(change.sessions, group == CONF_MQTT || group == CONF_SITE);
        assert_int_equal(change_is_any(&change), group != CONF_LOG && group != CONF_DEVICES);
        n = 0;
        change_tell(&before, &after, &change, count, &n);
        assert_int_equal(n, group != CONF_DEVICES);
        before.hashes[group]--;
    }
    end();
}

static const char *told;

static void keep(void *context, const char *sentence)
{
    (void)context;
    told = sentence;
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *spool, *audit, *new_spool, *new_audit, *said;
        int64_t size;
    } rows[] = {
        {"a/s.db", "a/l", "a/s.db", "a/l", "spool is changed: ", 1 << 20},
        {"a/s.db", "a/l", "a/t.db", "a/l", "spool is changed: what waits goes ", 0},
        {"", "a/l", "a/s.db", "a/l", "spool is on: ", 1 << 20},
        {"a/s.db", "a/l", "", "a/l", "spool is off: what waits in its file is sent, ", 0},
        {"a/s.db", "a/l", "a/s.db", "b/m", "audit is changed: ", 0},
        {"", "a/l", "", "a/m", "audit is changed: ", 0},
        {"", "a/l", "", "b/l", "audit is changed: ", 0},
        {"a/s.db", "", "a/s.db", "a/l", "audit is on: ", 0},
        {"a/s.db", "a/l", "a/s.db", "", "audit is off: ", 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_true(
            find("meters = ( " METER("A", "a", "") " );", "meters = ( " METER("A", "a", "") ");"));
        strcpy(before.spool_path, rows[i].spool);
        strcpy(before.audit_path, rows[i].audit);
        strcpy(after.spool_path, rows[i].new_spool);
        strcpy(after.audit_path, rows[i].new_audit);
        after.hashes[CONF_SPOOL] +=
            rows[i].size != 0 || strcmp(rows[i].spool, rows[i].new_spool) != 0;
        after.hashes[CONF_AUDIT] += strcmp(rows[i].audit, rows[i].new_audit) != 0;
        change_free(&change);
        assert_true(change_find(&before, &after, &change, why));
        change_tell(&before, &after, &change, keep, NULL);
        assert_memory_equal(told, rows[i].said, strlen(rows[i].said));
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),   cmocka_unit_test(test_places_stay),
        cmocka_unit_test(test_pollers),   cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_thousands), cmocka_unit_test(test_most_pollers),
        cmocka_unit_test(test_groups),    cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
