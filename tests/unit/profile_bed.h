/* profile_bed: a device type, read from a text, and what was said about it. */
#ifndef TESTS_UNIT_PROFILE_BED_H
#define TESTS_UNIT_PROFILE_BED_H

#include "devices/registers/profile.h"
#include "given.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Reads `text` as profile "test" and checks what is said. */
static inline struct profile *read_text(const char *text, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    given.cfg.file = "outer.cfg";
    struct profile *profile = profile_read_file(&given.cfg, "test.cfg", "test");
    assert_string_equal(given.cfg.file, "outer.cfg");
    assert_int_equal(profile == NULL, given.cfg.problems > 0);
    assert_said(&given, said);
    return profile;
}

static inline struct profile *read_good(const char *path, const char *type)
{
    struct given given;
    given_cfg(&given);
    struct profile *profile = profile_read_file(&given.cfg, path, type);
    assert_said(&given, "");
    assert_non_null(profile);
    return profile;
}

#endif
