/* The last outcomes: what is kept, shown and taken. */
#include "bridge/commands/recent.h"

#include <poll.h>

#include "tests/unit/given.h"

static void put(struct recent *recent, unsigned number)
{
    char text[32];
    (void)snprintf(text, sizeof text, "{\"n\":%u}", number);
    recent_put(recent, number, text);
}

static bool calls(const struct recent *recent)
{
    struct pollfd fd = {.fd = recent_fd(recent), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

/* The next that is taken has this number; 0 = there is none. */
static void assert_next(struct recent *recent, uint64_t *last, unsigned number)
{
    char wanted[32];
    uint64_t ticket = 0;
    char *text = recent_take(recent, last, &ticket);
    (void)snprintf(wanted, sizeof wanted, "{\"n\":%u}", number);
    if (number == 0) {
        assert_null(text);
        return;
    }
    assert_string_equal(text, wanted);
    assert_int_equal(ticket, number);
    free(text);
}

static void test_each_once(void **state)
{
    (void)state;
    struct recent *recent = recent_new();
    uint64_t last = 0;
    assert_false(calls(recent));
    assert_next(recent, &last, 0);
    put(recent, 1);
    put(recent, 2);
    assert_true(calls(recent));
    assert_next(recent, &last, 1);
    assert_next(recent, &last, 2);
    assert_next(recent, &last, 0);
    assert_false(calls(recent));
    put(recent, 3);
    assert_true(calls(recent));
    assert_next(recent, &last, 3);
    recent_free(recent);
}

static void test_the_oldest_are_forgotten(void **state)
{
    (void)state;
    struct recent *recent = recent_new();
    uint64_t last = 0;
    put(recent, 1);
    assert_next(recent, &last, 1);
    for (unsigned i = 2; i <= RECENT_KEPT + 3; i++)
        put(recent, i);
    for (unsigned i = 4; i <= RECENT_KEPT + 3; i++)
        assert_next(recent, &last, i);
    assert_next(recent, &last, 0);
    recent_free(recent);
}

static char *print(struct recent *recent)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    recent_print(recent, out);
    fclose(out);
    return text;
}

static void test_the_newest_first(void **state)
{
    (void)state;
    struct recent *recent = recent_new();
    char *text = print(recent);
    assert_string_equal(text, "");
    free(text);
    put(recent, 1);
    put(recent, 2);
    text = print(recent);
    assert_string_equal(text, "{\"n\":2},{\"n\":1}");
    free(text);
    for (unsigned i = 3; i <= RECENT_SHOWN + 1; i++)
        put(recent, i);
    text = print(recent);
    assert_non_null(strstr(text, "{\"n\":2}"));
    assert_null(strstr(text, "{\"n\":1}"));
    free(text);
    recent_free(recent);
    recent_put(NULL, 1, "nobody looks on");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_once),
        cmocka_unit_test(test_the_oldest_are_forgotten),
        cmocka_unit_test(test_the_newest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
