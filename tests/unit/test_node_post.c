/* node_post: which bdSeq the Will of a Sparkplug node bears. The MQTT module is the test's own. */
#include "bridge/publish/node_post.h"
#include "tests/unit/kept_state.h"
#include "tests/unit/late_state.h"
#include "tests/unit/slept.h"

static const struct conf conf = {.site = "demo", .sparkplug = {.group = "flux"}};
static int64_t will; /* the bdSeq of the last; -1 = none */

unsigned mqtt_room(struct mqtt *mqtt)
{
    (void)mqtt;
    return 0;
}

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    (void)mqtt, (void)message, (void)ticket;
    return false;
}

void mqtt_set_will(struct mqtt *mqtt, const void *payload, size_t size, bool retained)
{
    struct sparkplug_wish wish;
    unsigned n;
    (void)mqtt;
    assert_false(retained);
    assert_true(sparkplug_decode(payload, size, &wish, 1, &n));
    assert_int_equal(n, 1);
    assert_string_equal(wish.name, "bdSeq");
    will = (int64_t)wish.number;
}

static int64_t begin(struct state *store, uint32_t seed)
{
    struct node_post post;
    will = -1;
    node_post_begin(&post, &conf, store, NULL, seed);
    return will;
}

static void test_it_goes_on_with_that_of_the_run_before(void **state)
{
    (void)state;
    struct state *store = state_open("", NULL);
    assert_int_equal(begin(store, 41), 0); /* the first ever */
    assert_int_equal(begin(store, 41), 1);
    assert_true(state_put(store, "sparkplug/bdseq", "255"));
    assert_int_equal(begin(store, 41), 0);
    state_close(store);
}

/* A host takes a Will that comes late for the death of whoever bears its number: that of the
 * run before is not known, so it is not to be met but by chance, and least of all by 0, which
 * every run would begin with. */
static void test_a_state_that_comes_late(void **state)
{
    char text[8];
    struct node_post post;
    assert_int_equal(given_directory(state), 0);
    struct state *store = given_late_state("sparkplug/bdseq", "7");
    node_post_begin(&post, &conf, store, NULL, 3 * 256 + 41);
    assert_int_equal(will, 42);
    wait_late_state(store);
    node_post_end(&post, false); /* no CONNECT was sent: the same Will again */
    assert_int_equal(will, 42);
    node_post_end(&post, true);
    assert_int_equal(will, 43);
    assert_true(state_sync(store, CLOCK_NEVER));
    state_close(store);
    store = state_open("disk/state.db", NULL); /* and what was used is what is kept */
    assert_true(state_get(store, "sparkplug/bdseq", text, sizeof(text)));
    assert_string_equal(text, "43");
    assert_int_equal(begin(store, 41), 44);
    state_close(store);
    assert_int_equal(remove_directory(state), 0);
}

/* A disk that does not take it is not waited for; but while the machine sleeps it could not. */
static void test_a_disk_that_does_not_take_it(void **state)
{
    struct node_post post;
    assert_int_equal(given_directory(state), 0);
    struct state *store = given_late_state("sparkplug/bdseq", "7");
    const int64_t before_ns = clock_awake_ns();
    node_post_begin(&post, &conf, store, NULL, 41);
    assert_in_range(post.patience_ns, before_ns + CLOCK_NS_PER_S,
                    clock_awake_ns() + CLOCK_NS_PER_S);
    assert_false(node_post_may_connect(&post, post.patience_ns - 1));
    assert_true(node_post_may_connect(&post, post.patience_ns));
    wait_late_state(store);
    assert_true(state_sync(store, CLOCK_NEVER));
    assert_true(node_post_may_connect(&post, before_ns));
    state_close(store);
    assert_int_equal(remove_directory(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_goes_on_with_that_of_the_run_before),
        cmocka_unit_test(test_a_state_that_comes_late),
        cmocka_unit_test(test_a_disk_that_does_not_take_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
