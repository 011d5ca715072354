/* owner, with a root and a directory of somebody else that are only played. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/given.h"
#include "tests/unit/logged.h"

static uid_t who;        /* runs this */
static uid_t whose;      /* the directory is */
static unsigned n_given; /* files given away */
static uid_t given_to;

static uid_t play_geteuid(void)
{
    return who;
}

static int play_fstat(int file, struct stat *status)
{
    int result = fstat(file, status);
    status->st_uid = whose;
    return result;
}

static int play_fchown(int file, uid_t user, gid_t group)
{
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    assert_int_equal(group, status.st_gid); /* in a directory of this group */
    given_to = user;
    n_given++;
    return 0;
}

#define geteuid play_geteuid
#define fstat   play_fstat
#define fchown  play_fchown
#include "bridge/base/owner.c"
#undef geteuid
#undef fstat
#undef fchown

enum { USER = 4711 };

static int begin(void **state)
{
    (void)state;
    who = 0;
    whose = USER;
    n_given = 0;
    return system("rm -f file link other");
}

static void append(const char *path)
{
    int file = owner_open(path, O_WRONLY | O_APPEND, 0640);
    assert_true(file >= 0);
    assert_int_equal(write(file, "x", 1), 1);
    assert_int_equal(close(file), 0);
}

static void test_what_root_makes_is_given(void **state)
{
    struct stat status;
    (void)state;
    append("file");
    assert_int_equal(n_given, 1);
    assert_int_equal(given_to, USER);
    append("file"); /* it is there: whoever owns it keeps it */
    assert_int_equal(n_given, 1);
    assert_int_equal(stat("file", &status), 0);
    assert_int_equal(status.st_size, 2);
    assert_int_equal(status.st_mode & 0137, 0);
    owner_make("other", 0640);
    assert_int_equal(n_given, 2);
    owner_make("other", 0640);
    assert_int_equal(n_given, 2);
}

static void test_what_is_roots_stays(void **state)
{
    (void)state;
    whose = 0;
    append("file");
    assert_int_equal(n_given, 0);
}

static void test_nobody_else_gives(void **state)
{
    struct stat status;
    (void)state;
    who = 1000;
    append("file");
    owner_make("other", 0640);
    assert_int_equal(n_given, 0);
    assert_int_equal(stat("other", &status), -1);
    assert_int_equal(symlink("file", "link"), 0);
    append("link");
    assert_int_equal(stat("file", &status), 0);
    assert_int_equal(status.st_size, 2);
}

static void test_root_follows_no_link(void **state)
{
    (void)state;
    assert_int_equal(symlink("file", "link"), 0);
    assert_int_equal(owner_open("link", O_WRONLY, 0640), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(access("file", F_OK), -1);
    given_file("file", "x");
    assert_int_equal(owner_open("link", O_WRONLY, 0640), -1);
    assert_int_equal(errno, ELOOP);
    assert_false(owner_follows("link"));
    assert_true(owner_follows("file"));
    assert_true(owner_follows("none"));
    who = 1000;
    assert_true(owner_follows("link"));
}

static void test_no_directory(void **state)
{
    (void)state;
    assert_int_equal(owner_open("none/file", O_WRONLY, 0640), -1);
    assert_int_equal(errno, ENOENT);
}

/* Once, with the name of a user who has one. */
static void test_it_is_said(void **state)
{
    struct logged logged;
    (void)state;
    assert_true(logged_begin(&logged));
    append("file");
    append("file");
    whose = getpwnam("daemon")->pw_uid;
    owner_make("other", 0640);
    whose = 0;
    append("link");
    logged_end(&logged);
    assert_true(logged_next(&logged));
    assert_non_null(strstr(logged.line, "warning: this is root: file is given to 4711, whose"));
    assert_true(logged_next(&logged));
    assert_non_null(strstr(logged.line, "this is root: other is given to daemon, whose"));
    assert_false(logged_next(&logged));
    logged_free(&logged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_root_makes_is_given, begin),
        cmocka_unit_test_setup(test_what_is_roots_stays, begin),
        cmocka_unit_test_setup(test_nobody_else_gives, begin),
        cmocka_unit_test_setup(test_root_follows_no_link, begin),
        cmocka_unit_test_setup(test_no_directory, begin),
        cmocka_unit_test_setup(test_it_is_said, begin),
    };
    return cmocka_run_group_tests(tests, given_directory, remove_directory);
}
