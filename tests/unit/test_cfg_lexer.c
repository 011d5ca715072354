/* cfg_lexer, and cfg_hint: libconfig's notation without libconfig's ends. */
#include "given.h"

#include <sys/fsuid.h>
#include <sys/stat.h>

#include "devices/registers/cfg_lexer.h"

/* Opens `text` as test.cfg and checks what is said of it. */
static const struct cfg_setting *open_text(const char *text, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    assert_int_equal(root == NULL, given.cfg.problems > 0);
    assert_said(&given, said);
    return root;
}

static void refuse_text(const char *text, const char *said)
{
    assert_null(open_text(text, said));
}

/* ---- all of the notation ---- */

/* A setting of the file below by its path: a name, or a number within a list or array. */
static const struct cfg_setting *at(const struct cfg_setting *root, const char *path)
{
    const struct cfg_setting *setting = root;
    char copy[32], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *step = strtok_r(copy, "/", &rest); step; step = strtok_r(NULL, "/", &rest))
        setting = cfg_is_row(setting) ? cfg_element(setting, (unsigned)atoi(step))
                                      : cfg_member(setting, step);
    assert_non_null(setting);
    return setting;
}

static void all_of_the_notation_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        double number;
    } numbers[] = {
        {"a", 1},
        {"b", 2},
        {"c", 3},
        {"d", -4},
        {"e", 5},
        {"f", INT32_MAX},
        {"g", 7},
        {"h", 5e9},
        {"i", 0x123456789a},
        {"j", .5},
        {"k", 5},
        {"l", -1.5e-3},
        {"m", 200},
        {"n", 10},
        {"w/*x-1_*/0", 1},
        {"w/*x-1_*/2", 3},
        {"w/y/0/0", 5e9},
        {"w/y/0/1", 2.5},
        {"z/1", 4294967296},
        {"z/2", 3},
    };
    static const struct {
        const char *path, *text;
    } texts[] = {
        {"q", ""},
        {"r", "abc"},
        {"s", "\\ \" \n\r\t\f A ~ # no /* comment */ // either"},
        {"w/y/1/z/0", "a"},
    };
    const struct cfg_setting *root = open_text(
        "# one\n// two\n/* three\n */ a = 1; b : 2, c = 3 d = -4; e = +5\n"
        "f = 0x7fffFFFF; g = 007; h = 5000000000; i = 0X123456789aLL;\n"
        "j = .5; k = 5.; l = -1.5e-3; m = 2E2; n = 1.e+1;\n"
        "o = TRUE; p = fAlse; q = \"\"; r = \"a\" /* and */ \"b\"\n  \"c\";\n"
        "s = \"\\\\ \\\" \\n\\r\\t\\f \\x41 \\x7e # no /* comment */ // either\";\n"
        "t = []; u = ( ); v = {}; w : { *x-1_* = [1, 2 ,3,]; y = ( (5000000000, 2.5,), { z = [ "
        "\"a\" ]; } ); };\n"
        "z = [ 1, 4294967296, 3 ];\n",
        "");
    double number = 0;
    bool boolean = false;
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_true(cfg_number(at(root, numbers[i].path), &number));
        assert_true(number == numbers[i].number);
    }
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_string_equal(cfg_text(at(root, texts[i].path)), texts[i].text);
    assert_true(cfg_boolean(at(root, "o"), &boolean) && boolean);
    assert_true(cfg_boolean(at(root, "p"), &boolean) && !boolean);
    assert_true(cfg_is_row(at(root, "t")) && !cfg_is_list(at(root, "t")));
    assert_true(cfg_is_list(at(root, "u")) && cfg_is_group(at(root, "v")));
    assert_int_equal(cfg_length(at(root, "t")) + cfg_length(at(root, "u")), 0);
    assert_int_equal(cfg_length(at(root, "w/*x-1_*")), 3);
    cfg_close(root);
    cfg_close(open_text("", ""));
}

/* libconfig counts lines of the text that it is given. */
static void places_are_those_of_the_files(void **state)
{
    (void)state;
    static const char *const paths[] = {"a", "a/0", "a/1", "b", "b/c", "d", "d/0", "d/0/e", "f"};
    struct given given;
    given_file("places.inc", "\nb: {\n c = 5000000000;\n};");
    given_file("test.cfg", "/*\n*/ a = [\n\"x\",\n\"y\"\n\n];\n@include \"places.inc\"\n"
                           "d = (\n{ e\n= \"z\"\n; } );\nf\n= \"1\"\n;\n");
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    cfg_problem(&given.cfg, root, "root");
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++)
        cfg_problem(&given.cfg, at(root, paths[i]), "%s", paths[i]);
    cfg_close(root);
    assert_said(&given, "test.cfg:1: root\n"
                        "test.cfg:2: a\ntest.cfg:3: a/0\ntest.cfg:4: a/1\n"
                        "places.inc:2: b\nplaces.inc:3: b/c\n"
                        "test.cfg:8: d\ntest.cfg:9: d/0\ntest.cfg:9: d/0/e\ntest.cfg:12: f\n");
}

/* ---- numbers ---- */

static void whole_numbers_have_64_bits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t content;
        bool negative, integer;
    } rows[] = {
        {"0", 0, false, true},
        {"-0", 0, false, true},
        {"\"-0\"", 0, false, true},
        {"4294967296", 4294967296, false, true},
        {"0xFFFFFFFF", 0xffffffff, false, true},
        {"9223372036854775807", INT64_MAX, false, true},
        {"-9223372036854775808", UINT64_C(1) << 63, true, true},
        {"9223372036854775808", UINT64_C(1) << 63, false, false},
        {"0x8000000000000000", UINT64_C(1) << 63, false, false},
        {"0x8000000000000000L", UINT64_C(1) << 63, false, false},
        {"\"0x8000000000000000\"", UINT64_C(1) << 63, false, false},
        {"18446744073709551615", UINT64_MAX, false, false},
        {"\"-2\"", (uint64_t)-2, true, true},
        {"502.0", 502, false, true},
        {"-502.0", (uint64_t)-502, true, true},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        uint64_t content;
        int64_t integer = 0;
        bool negative;
        snprintf(text, sizeof text, "a = [ %s ];", rows[i].text);
        const struct cfg_setting *root = open_text(text, "");
        const struct cfg_setting *a = cfg_first(cfg_first(root));
        assert_true(cfg_content(a, &content, &negative));
        assert_true(content == rows[i].content && negative == rows[i].negative);
        assert_int_equal(cfg_integer(a, &integer), rows[i].integer);
        assert_true(!rows[i].integer || integer == (int64_t)rows[i].content);
        cfg_close(root);
    }
    static const char *const none[] = {"1.5",     "\"\"",     "\"x\"",
                                       "\"1.5\"", "\"0x\"",   "\" 1\"",
                                       "\"1 \"",  "\"-0x1\"", "\"18446744073709551616\"",
                                       "true"};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++) {
        char text[64];
        uint64_t content;
        bool negative;
        snprintf(text, sizeof text, "a = %s;", none[i]);
        const struct cfg_setting *root = open_text(text, "");
        assert_false(cfg_content(cfg_first(root), &content, &negative));
        cfg_close(root);
    }
}

static void numbers_that_fit_nothing(void **state)
{
    (void)state;
    refuse_text("\na = 18446744073709551616;",
                "test.cfg:2: 18446744073709551616 does not fit 64 bits\n");
    refuse_text("a = 0x10000000000000000;",
                "test.cfg:1: 0x10000000000000000 does not fit 64 bits\n");
    refuse_text("a = -9223372036854775809L;",
                "test.cfg:1: -9223372036854775809L does not fit 64 bits\n");
}

/* ---- what was likely meant ---- */

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"\xef\xbb\xbf"
         "a = 1;",
         "1: a byte order mark (BOM) stands before the text: save the file as UTF-8 without it"},
        {"\na = \xe2\x80\x9cx\xe2\x80\x9d;",
         "2: a curly quote (\xe2\x80\x9c): a text stands in straight ones, \"like this\""},
        {"a = 'x';", "1: a text stands in double quotes, \"like this\", not in '"},
        {"a = x;", "1: 'x' stands where a value should: a text needs quotes, \"like this\""},
        {"a = 5s;", "1: '5s' is no number; a text needs quotes: \"5s\""},
        {"a = 10.0.0.1;", "1: '10.0.0.1' is no number; a text needs quotes: \"10.0.0.1\""},
        {"a = \"x;\nb = 1;", "1: the text that begins here has no closing quote in its line"},
        {"a = \"\\d\";", "1: a backslash in a text is written twice: \\\\"},
        {"a = \"\\x00\";", "1: a text cannot hold \\x00"},
        {"a: {\nb = 1;\n",
         "3: the end of the file comes before the } that closes 'a' of test.cfg:1"},
        {"a: ( {\nb = 1;\n );", "3: ) comes before the } that closes the { of test.cfg:1"},
        {"a = 1; };", "1: } closes what was not opened"},
        {"a = ( 1 2 );", "1: '2' stands where a comma or ) should"},
        {"a = ( {} {} );", "1: { stands where a comma or ) should"},
        {"a = ( 1; 2 );", "1: ; within a list: its elements are separated by a comma"},
        {"a = [ (1) ];", "1: ( in an array [ ], which holds no lists and groups: write ( )"},
        {"a = [ 1, 2.5 ];", "1: '2.5' in an array [ ] of values of another kind: write ( )"},
        {"a = [ 1,\n\"x\"\n ];", "2: \"x\" in an array [ ] of values of another kind: write ( )"},
        {"a = [ 1, true ];", "1: 'true' in an array [ ] of values of another kind: write ( )"},
        {"a = ( , 1 );", "1: , stands where a value should"},
        {"a = 1;\n\"b\" = 1;", "2: \"b\" stands where a name should: this looks like JSON, and a "
                               "name has no quotes: name = value; or a bracket or ; is missing "
                               "before it"},
        {"a \"b\";", "1: \"b\" stands where = or : should, after a name"},
        {"a = x;\nb = 'c';",
         "1: 'x' stands where a value should: a text needs quotes, \"like this\""},
        {"a { b = 1; };", "1: { stands where = or : should, after a name"},
        {"a = ;", "1: ; stands where a value should"},
        {"a = 1; /* b", "1: the comment that begins here has no */"},
        {"{ \"a\": 1 }", "1: { before any name: this looks like JSON; the outermost settings stand "
                         "in no braces, and names in no quotes: name = value;"},
        {"\"a\": 1", "1: \"a\" stands where a name should: this looks like JSON, and a name has "
                     "no quotes: name = value; or a bracket or ; is missing before it"},
        {"---\na: 1", "1: '---' stands where a setting or a number should: this looks like YAML, "
                      "and a list is ( { key = value; }, { key = value; } )"},
        {"a:\n  - b: 1", "2: '-' stands where a setting or a number should: this looks like YAML, "
                         "and a list is ( { key = value; }, { key = value; } )"},
        {"[a]", "1: [ before any name: this looks like INI or TOML; a group is name: { key = "
                "value; };"},
        {"a: { b: x; };\nc:\n  d: \"x\";",
         "1: 'x' stands where a value should: a text needs quotes, \"like this\""},
        {"c:\n  d: \"x\"", "2: 'd' stands where a value should: there is none before it, or this "
                           "looks like YAML, and a group is name: { key = value; };"},
        {"a =\nb = 1;", "2: 'b' stands where a value should: there is none before it, or this "
                        "looks like YAML, and a group is name: { key = value; };"},
        {"a = Yes;", "1: 'Yes' stands where a value should: a switch is true or false"},
        {"a = off;", "1: 'off' stands where a value should: a switch is true or false"},
        {"a = -1,5;", "1: '5' stands where a name should: decimals stand behind a point, not a "
                      "comma"},
        {"a = 5; b = (1,5); 7", "1: '7' stands where a name should: a setting is name = value;"},
        {"a = \xe2\x88\x92"
         "5;",
         "1: a dash (\xe2\x88\x92) is no minus sign: write -"},
        {"a = \xe2\x80\x93"
         "5;",
         "1: a dash (\xe2\x80\x93) is no minus sign: write -"},
        {"a =\xc2\xa0"
         "5;",
         "1: a no-break space, as copied from a page: write a plain one"},
        {"a = 1;\xe2\x80", "1: a byte 0xE2 stands where a name, a value or a sign should"},
        {"a = 1;\xc3\xbc", "1: a byte 0xC3 stands where a name, a value or a sign should"},
        {"a = 1;\xe2\x80\x8b", "1: a space of another kind, or an invisible character, as copied "
                               "from a page: write a plain space or none"},
        {"a =\xe2\x80\xaf"
         "5;",
         "1: a space of another kind, or an invisible character, as copied from a page: write a "
         "plain space or none"},
        {"a = 5\xe3\x80\x80;", "1: a space of another kind, or an invisible character, as copied "
                               "from a page: write a plain space or none"},
        {"a = $b;", "1: '$' stands where a name, a value or a sign should: variables of the "
                    "environment are not known: see @let in fluxbridge.conf(5)"},
        {"a = 5 %;", "1: '%' stands where a name, a value or a sign should: a number has no unit "
                     "behind it"},
        {"a = 250 kW;", "1: ; stands where = or : should: a number has no unit behind it, but in a "
                        "text, such as \"5s\""},
        {"<<<<<<< HEAD\na = 1;", "1: '<' stands where a name, a value or a sign should: this looks "
                                 "like XML or HTML, or like what git leaves of a conflict"},
        {"a = 1 &", "1: '&' stands where a name, a value or a sign should"},
        {"a == 1;", "1: = stands where a value should: one = or : is enough"},
        {"a := 1;", "1: = stands where a value should: one = or : is enough"},
        {"-- b\na = 1;", "1: '--' stands where a number should: a comment begins with # or //"},
        {"; b\na = 1;", "1: ; stands where a name should: there is one too many, or it begins a "
                        "comment, which # or // does here"},
        {"@inclde \"x\"", "1: '@' stands where a name, a value or a sign should"},
        {"@include x", "1: @include needs a path in quotes"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char said[512];
        snprintf(said, sizeof said, "test.cfg:%s\n", rows[i].said);
        refuse_text(rows[i].text, said);
    }
}

static void every_doubled_name_is_told(void **state)
{
    (void)state;
    refuse_text("a = 1;\nb: { c = 1;\nc = 2; };\na = 3; d = 1;",
                "test.cfg:3: 'c' stands here twice: it is in test.cfg:2 already\n"
                "test.cfg:4: 'a' stands here twice: it is in test.cfg:1 already\n");
}

static void nul_bytes_and_depth(void **state)
{
    (void)state;
    static const struct {
        char text[8];
        const char *said;
    } rows[] = {
        {"a = 1;\0b", "test.cfg:1: cannot read nul.cfg: there is a NUL byte in it: it is no text "
                      "file\n"},
        {"\xff\xfe"
         "a\0=\0001",
         "test.cfg:1: cannot read nul.cfg: it is UTF-16: save it as UTF-8, "
         "without a byte order mark\n"},
        {"a\0 \0=\0001", "test.cfg:1: cannot read nul.cfg: it is UTF-16: save it as UTF-8, "
                         "without a byte order mark\n"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        FILE *file = fopen("nul.cfg", "w");
        assert_int_equal(fwrite(rows[i].text, 1, 8, file), 8);
        fclose(file);
        struct given given;
        given_cfg(&given);
        assert_null(cfg_open(&given.cfg, "nul.cfg"));
        assert_said(&given, rows[i].said);
    }

    char deep[256] = "a = ";
    memset(deep + 4, '(', 65);
    refuse_text(deep, "test.cfg:1: brackets are nested deeper than 64\n");
}

/* libconfig compares each name with all that are in its group: 50,000 took minutes, for which
 * the running bridge stood still. */
static void groups_have_an_end(void **state)
{
    (void)state;
    char *text = calloc(1, 1 << 16), *end = text + sprintf(text, "g: { g0: { k = 1; };\n");
    assert_non_null(text);
    for (int i = 1; i < 1000; i++)
        end += sprintf(end, "g%d = %d;\n", i, i);
    strcpy(end, "}; h = 1;");
    const struct cfg_setting *root = open_text(text, "");
    assert_int_equal(cfg_length(cfg_member(root, "g")), 1000);
    cfg_close(root);
    strcpy(end, "more : 1; };");
    refuse_text(text, "test.cfg:1001: there are more than 1000 settings in one group\n");
    free(text);
}

/* ---- includes: each of these made libconfig end the process, or wait for ever ---- */

static void includes_go_where_they_stand(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_int_equal(system("mkdir -p sub"), 0);
    given_file("sub/list.inc", "{ a = 1; },\n@include \"sub/more.inc\"\n");
    given_file("sub/more.inc", "{ a = 2; }");
    const struct cfg_setting *root =
        open_text("list = (\n  @include \"sub/list.inc\"\n, { a = 3; } ); end = 4;", "");
    const struct cfg_setting *list = cfg_member(root, "list");
    assert_int_equal(cfg_length(list), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(cfg_integer(cfg_member(cfg_element(list, i), "a"), &value));
        assert_int_equal(value, i + 1);
    }
    assert_non_null(cfg_member(root, "end"));
    assert_null(cfg_lookup(root, "list.a"));
    cfg_close(root);
}

static void includes_that_cannot_be_read(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p directory"), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    refuse_text("a = 1;\n@include \"directory\"\n",
                "test.cfg:2: cannot read directory: Is a directory\n");
    refuse_text("\n\n@include \"absent\"\n",
                "test.cfg:3: cannot read absent: No such file or directory\n");
    refuse_text("@include \"pipe\"\n", "test.cfg:1: cannot read pipe: it is no plain file\n");
    refuse_text("@include \"/dev/zero\"\n",
                "test.cfg:1: cannot read /dev/zero: it is no plain file\n");
    given_file("sealed", "a = 1;");
    assert_int_equal(chmod("sealed", 0), 0);
    if (access("sealed", R_OK) != 0) /* root reads all */
        refuse_text("@include \"sealed\"\n", "test.cfg:1: cannot read sealed: Permission denied\n");
    assert_int_equal(truncate("sealed", CFG_BYTES_MAX), 0);
    assert_int_equal(chmod("sealed", 0600), 0);
    refuse_text("@include \"sealed\"\n",
                "test.cfg:1: cannot read sealed: it is too large for a configuration\n");
}

static void includes_without_end(void **state)
{
    (void)state;
    refuse_text("@include \"test.cfg\"\n", "test.cfg:1: test.cfg is included by itself\n");
    given_file("a.inc", "\n@include \"b.inc\"\n");
    given_file("b.inc", "@include \"a.inc\"\n");
    refuse_text("@include \"a.inc\"\n",
                "b.inc:1: a.inc is included by itself (included at a.inc:2)\n");

    for (unsigned i = 1; i < 12; i++) {
        char name[16], text[32];
        snprintf(name, sizeof name, "%u.inc", i);
        snprintf(text, sizeof text, "@include \"%u.inc\"", i + 1);
        given_file(name, text);
    }
    refuse_text("@include \"1.inc\"\n", "9.inc:1: includes are nested deeper than 10 files "
                                        "(included at 8.inc:1)\n");
}

static void a_mistake_in_an_include_names_both(void **state)
{
    (void)state;
    given_file("bad.inc", "\nb = ;\n");
    refuse_text("a = 1;\n\n@include \"bad.inc\"\n",
                "bad.inc:2: ; stands where a value should (included at test.cfg:3)\n");
}

/* ---- one configuration for many sites ---- */

static void values_are_filled_in(void **state)
{
    (void)state;
    given_file("part.cfg", "@let port = \"1\"\n@let size = \"2\"\nport = @port@; size = @size@;\n");
    const struct cfg_setting *root =
        open_text("@let site = \"north\"\n@let port = \"0x10\" @let on = \"true\"\n"
                  "@let file = \"part\"\n"
                  "name = \"the @site@ of \\\"@site@\\\", x@y.org\"; on = @on@;\n"
                  "row = [ @port@, 3 ];\n@include \"@file@.cfg\"\n",
                  "");
    int64_t number;
    bool on;
    assert_string_equal(cfg_text(cfg_member(root, "name")), "the north of \"north\", x@y.org");
    assert_true(cfg_boolean(cfg_member(root, "on"), &on) && on);
    assert_true(cfg_integer(at(root, "row/0"), &number) && number == 16);
    assert_true(cfg_integer(at(root, "port"), &number) && number == 16); /* the first stands */
    assert_true(cfg_integer(at(root, "size"), &number) && number == 2);
    cfg_close(root);
    root = open_text("@let site = \"north\"\n@let client = \"fb-@site@\"\n"
                     "name = \"@client@, x\\x40site@\";\n",
                     "");
    assert_string_equal(cfg_text(cfg_member(root, "name")), "fb-north, x@site@");
    cfg_close(root);
    root = open_text("name = \"@site@\";\n", ""); /* without a @let it is any text */
    assert_string_equal(cfg_text(cfg_member(root, "name")), "@site@");
    cfg_close(root);
}

static void values_have_their_mistakes(void **state)
{
    (void)state;
    refuse_text("@let a = \"1\"\nb = \"@c@\";\n",
                "test.cfg:2: @c@ is not set: say @let c = \"...\" before it\n");
    refuse_text("b =\n@c@;\n", "test.cfg:2: @c@ is not set: say @let c = \"...\" before it\n");
    refuse_text("@let a = \"x\"\nb = @a@;\n",
                "test.cfg:2: @a@ is no number here: a text stands in quotes, \"@a@\"\n");
    refuse_text("@let a\n", "test.cfg:1: @let needs a name and a text: @let site = \"north\"\n");
    refuse_text("@let a = 1\n",
                "test.cfg:1: @let needs a name and a text: @let site = \"north\"\n");
    refuse_text("\n@let a = \"x-@b@\"\n@let b = \"1\"\n",
                "test.cfg:2: @b@ is not set: say @let b = \"...\" before it\n");
    refuse_text("@let a = \"1\"\n@let b = \"2\"\n@let a = \"3\"\n",
                "test.cfg:3: @let a stands in this file twice: it is in line 1 already\n");
    refuse_text("a = 1; b = 2;\n@lets = 3;\n",
                "test.cfg:2: '@' stands where a name, a value or a sign should\n");
}

static void values_do_not_grow_without_end(void **state)
{
    (void)state;
    char *text = malloc(1 << 20), *end = text;
    end += sprintf(end, "@let a = \"%0*d\"\n", 1 << 16, 0);
    for (unsigned i = 0; i < 100; i++)
        end += sprintf(end, "a%u = \"@a@\";\n", i);
    refuse_text(text, "test.cfg:64: it is too large for a configuration\n");
    free(text);
}

static void values_that_nothing_uses(void **state)
{
    (void)state;
    struct given given;
    given_file("part.cfg", "@let max = \"250\"\n@let min = \"0\"\nmax = @max@; dir = \"@dir@\";\n");
    given_file("test.cfg", "@let maxx = \"100\"\n@let top = \"/x\" @let dir = \"@top@/y\"\n"
                           "@include \"part.cfg\"\n");
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    cfg_warn_unused(&given.cfg, root);
    cfg_close(root);
    assert_int_equal(given.cfg.warnings, 2);
    assert_said(&given, "test.cfg:1: warning: @maxx@ is used nowhere: is another name meant?\n"
                        "part.cfg:2: warning: @min@ is used nowhere: is another name meant?\n");
}

static void several_files_are_included(void **state)
{
    (void)state;
    int64_t number;
    assert_int_equal(mkdir("d", 0700), 0);
    given_file("d/2.cfg", "{ n = 2; },");
    given_file("d/1.cfg", "{ n = 1; },");
    given_file("d/3.txt", "broken");
    const struct cfg_setting *root = open_text("all = ( @include \"d/*.cfg\" );\n", "");
    assert_int_equal(cfg_length(cfg_member(root, "all")), 2);
    assert_true(cfg_integer(at(root, "all/0/n"), &number) && number == 1);
    assert_true(cfg_integer(at(root, "all/1/n"), &number) && number == 2);
    cfg_close(root);
    given_file("d/4.cfg", "{ n = ; },");
    refuse_text("all = ( @include \"d/*.cfg\" );\n",
                "d/4.cfg:1: ; stands where a value should (included at test.cfg:1)\n");
    refuse_text("a = 1;\n@include \"e/*.cfg\"\n",
                "test.cfg:2: there is no file for @include \"e/*.cfg\"\n");
}

/* What is in it is not to be taken for gone. */
static void a_directory_that_cannot_be_read(void **state)
{
    (void)state;
    struct given given;
    assert_int_equal(mkdir("f", 0755) + mkdir("f/a", 0755) + mkdir("f/b", 0000), 0);
    given_file("f/a/1.cfg", "{ n = 1; },");
    given_file("test.cfg", "all = ( @include \"f/*/*.cfg\" );\n");
    assert_int_equal(chmod(".", 0755) + chmod("test.cfg", 0644) + chmod("f/a/1.cfg", 0644), 0);
    given_cfg(&given);
    setfsuid(65534); /* root may read it */
    assert_null(cfg_open(&given.cfg, "test.cfg"));
    setfsuid(geteuid());
    assert_said(&given, "test.cfg:1: a directory of @include \"f/*/*.cfg\" cannot be read: "
                        "Permission denied\n");
    assert_int_equal(rmdir("f/b") + symlink("nowhere", "f/c"), 0);
    cfg_close(open_text("all = ( @include \"f/*/*.cfg\" );\n", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_the_notation_is_read),
        cmocka_unit_test(places_are_those_of_the_files),
        cmocka_unit_test(whole_numbers_have_64_bits),
        cmocka_unit_test(numbers_that_fit_nothing),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(every_doubled_name_is_told),
        cmocka_unit_test(nul_bytes_and_depth),
        cmocka_unit_test(includes_go_where_they_stand),
        cmocka_unit_test(includes_that_cannot_be_read),
        cmocka_unit_test(includes_without_end),
        cmocka_unit_test(a_mistake_in_an_include_names_both),
        cmocka_unit_test(values_are_filled_in),
        cmocka_unit_test(values_have_their_mistakes),
        cmocka_unit_test(values_do_not_grow_without_end),
        cmocka_unit_test(values_that_nothing_uses),
        cmocka_unit_test(groups_have_an_end),
        cmocka_unit_test(several_files_are_included),
        cmocka_unit_test(a_directory_that_cannot_be_read),
    };
    return cmocka_run_group_tests_name("cfg_lexer", tests, given_directory, remove_directory);
}
