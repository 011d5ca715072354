#include "given.h"

#include <math.h>

enum { B = 1, C };
static const char *const LETTERS[] = {"a", "b", "c", NULL};

struct all {
    char text[8];
    double number, ratio;
    int64_t integer, duration, size;
    bool flag;
    int letter;
};

#define FIELD(member) .offset = offsetof(struct all, member)
static const struct cfg_field FIELDS[] = {
    {"text", CFG_TEXT, FIELD(text), .size = 8, .min = 1},
    {"number", CFG_NUMBER, FIELD(number)},
    {"ratio", CFG_NUMBER, FIELD(ratio), .min = -0.5, .max = 1},
    {"integer", CFG_INTEGER, FIELD(integer), .min = 1, .max = 247},
    {"duration", CFG_DURATION, FIELD(duration), .min = 0.01, .max = 3600},
    {"size", CFG_SIZE, FIELD(size), .min = 1024, .max = 1073741824},
    {"flag", CFG_BOOLEAN, FIELD(flag)},
    {"letter", CFG_CHOICE, FIELD(letter), .choices = LETTERS},
    {.key = "other", .kind = CFG_OTHER},
    CFG_END,
};

/* Reads `text` as a whole file into `all` and checks what is said. */
static bool read_all(const char *text, struct all *all, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    bool good = root && cfg_read(&given.cfg, root, FIELDS, all);
    cfg_close(root);
    assert_int_equal(good, given.cfg.problems == 0);
    assert_said(&given, said);
    return good;
}

static void every_kind_is_read(void **state)
{
    (void)state;
    struct all all = {0};
    assert_true(read_all("text = \"Grün\"; number = 2.5; ratio = 1; integer = 247.0;\n"
                         "duration = \"500ms\"; size = \"64KiB\"; flag = true; letter = \"c\";\n"
                         "other: { any = 1; };\n",
                         &all, ""));
    assert_string_equal(all.text, "Grün");
    assert_true(all.number == 2.5 && all.ratio == 1);
    assert_int_equal(all.integer, 247);
    assert_int_equal(all.duration, 500000000);
    assert_int_equal(all.size, 65536);
    assert_true(all.flag);
    assert_int_equal(all.letter, C);
}

static void absent_keys_leave_the_default(void **state)
{
    (void)state;
    struct all all = {.text = "keep", .number = 7, .letter = B, .flag = true};
    assert_true(read_all("", &all, ""));
    assert_string_equal(all.text, "keep");
    assert_true(all.number == 7 && all.letter == B && all.flag);
}

static void integers_are_numbers_too(void **state)
{
    (void)state;
    struct all all = {.number = 7};
    assert_true(read_all("number = 0;", &all, ""));
    assert_true(all.number == 0);
    assert_true(read_all("number = -250;", &all, ""));
    assert_true(all.number == -250);
    assert_true(read_all("number = 5000000000L;", &all, ""));
    assert_true(all.number == 5e9);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"10ms", 10000000},     {"500ms", 500000000},  {"5s", 5000000000},     {"1.5s", 1500000000},
        {"0.25m", 15000000000}, {"1h", 3600000000000}, {"60m", 3600000000000},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[64];
        struct all all = {0};
        snprintf(line, sizeof line, "duration = \"%s\";", rows[i].text);
        assert_true(read_all(line, &all, ""));
        assert_int_equal(all.duration, rows[i].ns);
    }
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } rows[] = {
        {"1024", 1024},           {"\"1024\"", 1024},
        {"\"1KiB\"", 1024},       {"\"256MiB\"", 268435456},
        {"\"1GiB\"", 1073741824}, {"\"1.5KiB\"", 1536},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[64];
        struct all all = {0};
        snprintf(line, sizeof line, "size = %s;", rows[i].text);
        assert_true(read_all(line, &all, ""));
        assert_int_equal(all.size, rows[i].bytes);
    }
}

#define NO_DURATION                                                                                \
    "test.cfg:1: duration must be a duration with its unit, such as \"500ms\", \"5s\", \"1m\" or " \
    "\"2h\"\n"
#define NO_SIZE "test.cfg:1: size must be a size, such as \"64KiB\", \"256MiB\" or \"2GiB\"\n"
#define NO_TEXT "test.cfg:1: text must be UTF-8 without control characters\n"

static void wrong_values_are_told_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *line, *said;
    } rows[] = {
        {"text = 5;", "test.cfg:1: text must be a text in quotes\n"},
        {"text = \"12345678\";", "test.cfg:1: text is longer than 7 bytes\n"},
        {"text = \"\";", "test.cfg:1: text must not be empty\n"},
        {"text = \"a\\tb\";", NO_TEXT},
        {"text = \"\x7f\";", NO_TEXT},
        {"text = \"\xff\";", NO_TEXT},
        {"text = \"\xc3\";", NO_TEXT},             /* cut short */
        {"text = \"\x80\";", NO_TEXT},             /* begins in the middle */
        {"text = \"\xc0\x80\";", NO_TEXT},         /* overlong */
        {"text = \"\xe0\x80\x80\";", NO_TEXT},     /* overlong */
        {"text = \"\xf0\x80\x80\x80\";", NO_TEXT}, /* overlong */
        {"text = \"\xed\xa0\x80\";", NO_TEXT},     /* half a surrogate pair */
        {"text = \"\xf4\x90\x80\x80\";", NO_TEXT}, /* beyond U+10FFFF */
        {"number = \"5\";", "test.cfg:1: number must be a number\n"},
        {"number = 1e999;", "test.cfg:1: number must be a finite number, not inf\n"},
        {"ratio = -0.51;", "test.cfg:1: ratio must be from -0.5 to 1, not -0.51\n"},
        {"ratio = 2;", "test.cfg:1: ratio must be from -0.5 to 1, not 2\n"},
        {"integer = 0;", "test.cfg:1: integer must be from 1 to 247, not 0\n"},
        {"integer = 248;", "test.cfg:1: integer must be from 1 to 247, not 248\n"},
        {"integer = 1.5;", "test.cfg:1: integer must be a whole number\n"},
        {"integer = 1e300;", "test.cfg:1: integer must be a whole number\n"},
        {"integer = \"one\";", "test.cfg:1: integer must be a whole number\n"},
        {"integer = \"248\";", "test.cfg:1: integer must be from 1 to 247, not 248\n"},
        {"integer = 4294967297;", "test.cfg:1: integer must be from 1 to 247, not 4294967297\n"},
        {"integer = 0x8000000000000000;", "test.cfg:1: integer must be a whole number\n"},
        {"duration = \"9ms\";", "test.cfg:1: duration must be from 10ms to 1h, not 9ms\n"},
        {"duration = \"61m\";", "test.cfg:1: duration must be from 10ms to 1h, not 61m\n"},
        {"duration = \"0s\";", "test.cfg:1: duration must be from 10ms to 1h, not 0ms\n"},
        {"duration = 5;", NO_DURATION},
        {"duration = \"5\";", NO_DURATION},
        {"duration = \"s\";", NO_DURATION},
        {"duration = \"\";", NO_DURATION},
        {"duration = \"5 s\";", NO_DURATION},
        {"duration = \" 5s\";", NO_DURATION},
        {"duration = \"-5s\";", NO_DURATION},
        {"duration = \"+5s\";", NO_DURATION},
        {"duration = \"5.s\";", NO_DURATION},
        {"duration = \".5s\";", NO_DURATION},
        {"duration = \"1,5s\";", NO_DURATION},
        {"duration = \"1.5.1s\";", NO_DURATION},
        {"duration = \"0x5s\";", NO_DURATION},
        {"duration = \"1e3s\";", NO_DURATION},
        {"duration = \"5S\";", NO_DURATION},
        {"duration = \"5sec\";", NO_DURATION},
        {"duration = \"1d\";", NO_DURATION},
        {"duration = \"1m30s\";", NO_DURATION},
        {"size = \"1023\";", "test.cfg:1: size must be from 1KiB to 1GiB, not 1023\n"},
        {"size = \"2GiB\";", "test.cfg:1: size must be from 1KiB to 1GiB, not 2GiB\n"},
        {"size = \"1MB\";", NO_SIZE},
        {"size = true;", NO_SIZE},
        {"flag = 1;", "test.cfg:1: flag must be true or false\n"},
        {"letter = \"d\";", "test.cfg:1: letter must be \"a\", \"b\" or \"c\"\n"},
        {"letter = 1;", "test.cfg:1: letter must be \"a\", \"b\" or \"c\"\n"},
        {"txet = \"a\";", "test.cfg:1: unknown key 'txet': is 'text' meant?\n"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct all all = {.text = "keep", .number = 7, .letter = B}, before = all;
        assert_false(read_all(rows[i].line, &all, rows[i].said));
        assert_memory_equal(&all, &before, sizeof all);
    }
}

static void good_utf8_is_text(void **state)
{
    (void)state;
    static const char *const texts[] = {"\xc2\x80",         "\xdf\xbf",     "\xe0\xa0\x80",
                                        "\xed\x9f\xbf",     "\xee\x80\x80", "\xf0\x90\x80\x80",
                                        "\xf4\x8f\xbf\xbf", "a\xc2\xb0",    "~ !"};
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char line[64];
        struct all all = {0};
        snprintf(line, sizeof line, "text = \"%s\";", texts[i]);
        assert_true(read_all(line, &all, ""));
        assert_string_equal(all.text, texts[i]);
    }
}

static void one_run_shows_all_problems(void **state)
{
    (void)state;
    struct all all = {0};
    assert_false(read_all("integer = 0;\n\nflag = 1;\nnothing = 2;\nnumber = 3;\n", &all,
                          "test.cfg:1: integer must be from 1 to 247, not 0\n"
                          "test.cfg:3: flag must be true or false\n"
                          "test.cfg:4: unknown key 'nothing'\n"));
    assert_true(all.number == 3);
}

static void doubled_keys_and_broken_syntax(void **state)
{
    (void)state;
    struct all all;
    assert_false(read_all("flag = true;\nflag = false;\n", &all,
                          "test.cfg:2: 'flag' stands here twice: it is in test.cfg:1 already\n"));
    assert_false(read_all("flag = true;\n\nnumber = ;\n", &all,
                          "test.cfg:3: ; stands where a value should\n"));
}

static void required_keys_are_missed(void **state)
{
    (void)state;
    static const struct cfg_field fields[] = {
        {"number", CFG_NUMBER, FIELD(number), .required = true},
        {.key = "other", .kind = CFG_OTHER, .required = true},
        CFG_END,
    };
    struct given given;
    struct all all = {0};
    given_file("test.cfg", "\ngroup:\n{\n};\nflat = 1;\n");
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    assert_false(cfg_read(&given.cfg, cfg_member(root, "group"), fields, &all));
    assert_false(cfg_read(&given.cfg, cfg_member(root, "flat"), fields, &all));
    cfg_close(root);
    assert_int_equal(given.cfg.problems, 3);
    assert_said(&given, "test.cfg:2: missing key 'number'\n"
                        "test.cfg:2: missing key 'other'\n"
                        "test.cfg:5: flat must be a group: { key = value; ... }\n");
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    struct given given;
    given_cfg(&given);
    assert_null(cfg_open(&given.cfg, "absent.cfg"));
    assert_null(cfg_open(&given.cfg, "."));
    assert_int_equal(given.cfg.problems, 2);
    assert_said(&given, "test.cfg:1: cannot read absent.cfg: No such file or directory\n"
                        "test.cfg:1: cannot read .: Is a directory\n");
}

static void includes_are_relative_to_the_file(void **state)
{
    (void)state;
    struct given given;
    struct all all = {0};
    assert_int_equal(system("mkdir -p inner"), 0);
    given_file("inner/outer.cfg", "@include \"more.cfg\"\n");
    given_file("inner/more.cfg", "number = 5;\nflag = 3;\n");
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "inner/outer.cfg");
    assert_false(cfg_read(&given.cfg, root, FIELDS, &all));
    cfg_close(root);
    assert_true(all.number == 5);
    assert_said(&given, "inner/more.cfg:2: flag must be true or false\n");
}

static void problems_and_warnings_are_counted(void **state)
{
    (void)state;
    struct given given;
    given_cfg(&given);
    cfg_problem(&given.cfg, NULL, "bad %d", 1);
    cfg_warning(&given.cfg, NULL, "odd %s", "thing");
    assert_int_equal(given.cfg.problems, 1);
    assert_int_equal(given.cfg.warnings, 1);
    assert_said(&given, "test.cfg:1: bad 1\ntest.cfg:1: warning: odd thing\n");

    struct cfg silent = {.file = "test.cfg"};
    cfg_problem(&silent, NULL, "counted only");
    assert_int_equal(silent.problems, 1);
}

static void names(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'x', sizeof name);
    name[65] = '\0';
    assert_false(cfg_is_name(name));
    name[64] = '\0';
    assert_true(cfg_is_name(name));
    assert_true(cfg_is_name("Site-BESS_01"));
    assert_true(cfg_is_name("Z"));
    static const char *const bad[] = {"", "a b", "a/b", "a+", "#", "a.b", "\xc3\xbc", "$SYS"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(cfg_is_name(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read),
        cmocka_unit_test(absent_keys_leave_the_default),
        cmocka_unit_test(integers_are_numbers_too),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(wrong_values_are_told_with_their_line),
        cmocka_unit_test(good_utf8_is_text),
        cmocka_unit_test(one_run_shows_all_problems),
        cmocka_unit_test(doubled_keys_and_broken_syntax),
        cmocka_unit_test(required_keys_are_missed),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(includes_are_relative_to_the_file),
        cmocka_unit_test(problems_and_warnings_are_counted),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests_name("cfg", tests, given_directory, remove_directory);
}
