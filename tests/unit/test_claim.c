/* claim, in the directory that it finds: whoever holds one holds off everybody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/lines/claim.h"

static char peer[CLAIM_PEER_MAX]; /* of this run alone */
static struct claim ours, theirs;
static char holder[CLAIM_TEXT_MAX];

static int begin(void **state)
{
    (void)state;
    (void)snprintf(peer, sizeof peer, "test-claim-%ld", (long)getpid());
    claim_init(&ours);
    claim_init(&theirs);
    return 0;
}

static bool hold(struct claim *claim)
{
    return claim_hold(claim, peer, 1, claim == &ours ? "us" : "them", holder);
}

/* Where its file lies. */
static void find(const struct claim *claim, char path[512])
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", claim->file);
    const ssize_t size = readlink(link, path, 511);
    assert_true(size > 0);
    path[size] = '\0';
}

static int end(void **state)
{
    char path[512];
    (void)state;
    if (!hold(&ours))
        return -1;
    find(&ours, path);
    claim_release(&ours);
    return unlink(path);
}

static void test_one_holds_it(void **state)
{
    (void)state;
    assert_true(hold(&ours));
    assert_true(hold(&ours));
    assert_false(hold(&theirs));
    assert_string_equal(holder, "us");
    claim_release(&ours);
    assert_true(hold(&theirs));
    claim_release(&theirs);
}

/* By a tidy administrator, or with its directory. */
static void test_one_whose_file_is_removed_is_taken_anew(void **state)
{
    char path[512], after[512];
    (void)state;
    assert_true(hold(&ours));
    find(&ours, path);
    assert_int_equal(unlink(path), 0);
    assert_true(hold(&ours));
    find(&ours, after);
    assert_string_equal(after, path);
    assert_false(hold(&theirs));
    assert_string_equal(holder, "us");
    claim_release(&ours);
}

static void test_whoever_is_quicker_then_has_it(void **state)
{
    char path[512];
    (void)state;
    assert_true(hold(&ours));
    find(&ours, path);
    assert_int_equal(unlink(path), 0);
    assert_true(hold(&theirs));
    assert_false(hold(&ours));
    assert_true(ours.denied);
    assert_string_equal(holder, "them");
    claim_release(&theirs);
    assert_true(hold(&ours));
    claim_release(&ours);
}

/* What lies in its place is not followed, and not taken for one. */
static void test_what_is_no_file(void **state)
{
    char path[512];
    (void)state;
    assert_true(hold(&ours));
    find(&ours, path);
    claim_release(&ours);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_false(hold(&ours));
    assert_non_null(strstr(holder, "nobody: no claim can be taken"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, S_IRWXU), 0);
    assert_false(hold(&ours));
    assert_non_null(strstr(holder, "nobody: no claim can be taken"));
    assert_int_equal(rmdir(path), 0);
    assert_true(hold(&ours));
    claim_release(&ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_holds_it, begin, end),
        cmocka_unit_test_setup_teardown(test_one_whose_file_is_removed_is_taken_anew, begin, end),
        cmocka_unit_test_setup_teardown(test_whoever_is_quicker_then_has_it, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
