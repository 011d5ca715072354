#include "profile_bed.h"

static void a_scale_is_read_with_what_it_scales(void **state)
{
    (void)state;
    struct profile *profile =
        read_text("sunspec_model = 203; unreadable = ( { first = 3; last = 3; } );\n"
                  "points = ( { name = \"v\"; address = 1; type = \"int16\"; scale_register = "
                  "\"sf\"; every = 6; },\n"
                  "{ name = \"sf\"; address = 2; type = \"int16\"; every = 9; },\n"
                  "{ name = \"w\"; address = 3; type = \"int32\"; scale_register = \"sf\"; every = "
                  "12; sunspec_model = 103; } );",
                  "");
    assert_int_equal(profile->points[0].scale_row, 2);
    assert_int_equal(profile->points[1].every, 3); /* due whenever one of them is */
    assert_int_equal(profile->points[2].scale_row, 2);
    assert_int_equal(profile->points[0].model, 203);
    assert_int_equal(profile->points[2].model, 103);
    assert_int_equal(profile->unreadable[0].model, 203);
    profile_free(profile);
}

static void a_type_is_made_of_16_models(void **state)
{
    char text[4096] = "points = (\n";
    (void)state;
    for (unsigned i = 1; i <= 17; i++) {
        const size_t length = strlen(text);
        if (i > 16) { /* one of a model that is there already is no more */
            strcpy(text + length, ", { name = \"again\"; address = 3; type = \"int16\"; "
                                  "sunspec_model = 7; } );");
            profile_free(read_text(text, ""));
        }
        snprintf(text + length, sizeof text - length,
                 "%s{ name = \"v%u\"; address = 2; type = \"int16\"; sunspec_model = %u; }",
                 i > 1 ? ", " : "", i, i);
    }
    strcat(text, " );");
    read_text(text, "test.cfg:1: the rows are of more than 16 SunSpec models\n");
}

static void points_beside_an_unreadable_range(void **state)
{
    (void)state;
    profile_free(read_text("unreadable = ( { first = 100; last = 101; } );\n"
                           "points = ( { name = \"a\"; address = 98; type = \"int32\"; },\n"
                           "{ name = \"b\"; address = 102; type = \"int16\"; },\n"
                           "{ name = \"c\"; address = 100; function = 4; type = \"int16\"; } );\n",
                           ""));
}

static void a_code_clashes_in_either_order(void **state)
{
    (void)state;
    read_text("points = ( { name = \"a_code\"; address = 0; type = \"int16\"; },\n"
              "{ name = \"a\"; address = 1; type = \"int16\"; enumerated = true; } );",
              "test.cfg:2: 'a_code' and 'a': an enumerated point is published as _code too\n");
    profile_free(read_text("points = ( { name = \"a_code\"; address = 0; type = \"int16\"; },\n"
                           "{ name = \"a\"; address = 1; type = \"int16\"; } );",
                           ""));
}

#define ONE_POINT "points = ( { name = \"a\"; address = 0; type = \"uint64\"; } );"

static void faulty_heads(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"", "test.cfg:1: missing key 'points'\n"},
        {"points = 5;", "test.cfg:1: points must be a list of 1 to 256 groups\n"},
        {"points = ();", "test.cfg:1: points must be a list of 1 to 256 groups\n"},
        {"points = ( 5 );", "test.cfg:1: this element must be a group: { key = value; ... }\n"},
        {"\nvendor = \"x\"; " ONE_POINT, "test.cfg:2: unknown key 'vendor'\n"},
        {"function = 0; " ONE_POINT, "test.cfg:1: function must be from 1 to 4, not 0\n"},
        {"max_registers = 0; " ONE_POINT,
         "test.cfg:1: max_registers must be from 1 to 125, not 0\n"},
        {"max_registers = 126; " ONE_POINT,
         "test.cfg:1: max_registers must be from 1 to 125, not 126\n"},
        {"max_registers = 3;\n" ONE_POINT, "test.cfg:2: a is longer than max_registers\n"},
        {"max_gap = -1; " ONE_POINT, "test.cfg:1: max_gap must be from 0 to 125, not -1\n"},
        {"max_gap = 126; " ONE_POINT, "test.cfg:1: max_gap must be from 0 to 125, not 126\n"},
        {"word_order = \"ABCD\"; " ONE_POINT,
         "test.cfg:1: word_order must be \"abcd\", \"cdab\", \"badc\" or \"dcba\"\n"},
        {"unreadable = 5; " ONE_POINT,
         "test.cfg:1: unreadable must be a list of at most 32 groups\n"},
        {"unreadable = ( { first = 9; last = 8; } );\n" ONE_POINT,
         "test.cfg:1: first is above last\n"},
        {"unreadable = ( { first = 9; } );\n" ONE_POINT, "test.cfg:1: missing key 'last'\n"},
        {"unreadable = ( { first = 65536; last = 65536; } );\n" ONE_POINT,
         "test.cfg:1: first must be from 0 to 65535, not 65536\n"
         "test.cfg:1: last must be from 0 to 65535, not 65536\n"},
        {"unreadable = ( { function = 5; first = 1; last = 1; } );\n" ONE_POINT,
         "test.cfg:1: function must be from 1 to 4, not 5\n"},
        {"unreadable = ( { first = 9; last = 65536; } );\n" ONE_POINT,
         "test.cfg:1: last must be from 0 to 65535, not 65536\n"},
        {"points = (\n",
         "test.cfg:2: the end of the file comes before the ) that closes 'points' of test.cfg:1\n"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++)
        read_text(rows[i].text, rows[i].said);
    profile_free(read_text("max_registers = 4;" ONE_POINT, ""));
}

/* `n` times a piece, with numbers, between a head and a tail. */
static char *repeat(const char *head, const char *format, unsigned n, const char *tail)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fputs(head, out);
    for (unsigned i = 0; i < n; i++) {
        fputs(i ? ", " : "", out);
        for (const char *at = format; *at; at++)
            *at == '#' ? fprintf(out, "%u", i) : fputc(*at, out);
    }
    fputs(tail, out);
    fclose(out);
    return text;
}

static void as_many_as_there_may_be(void **state)
{
    (void)state;
    static const struct {
        const char *head, *format, *tail, *said;
        unsigned most;
    } rows[] = {
        {"points = (", "{ name = \"p#\"; address = #; type = \"int16\"; }", ");",
         "test.cfg:1: points must be a list of 1 to 256 groups\n", PROFILE_ROWS_MAX},
        {"unreadable = (", "{ first = 9#; last = 9#; }", "); " ONE_POINT,
         "test.cfg:1: unreadable must be a list of at most 32 groups\n", PROFILE_RANGES_MAX},
        {"points = ( { name = \"a\"; address = 0; type = \"int16\"; labels = (",
         "{ value = #; label = \"l#\"; }", "); } );", "test.cfg:1: more than 256 labels\n",
         POINT_LABELS_MAX},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char *text = repeat(rows[i].head, rows[i].format, rows[i].most, rows[i].tail);
        profile_free(read_text(text, ""));
        free(text);
        text = repeat(rows[i].head, rows[i].format, rows[i].most + 1, rows[i].tail);
        read_text(text, rows[i].said);
        free(text);
    }
}

static void one_run_shows_all_problems(void **state)
{
    (void)state;
    read_text("max_gap = 500;\n"
              "points = ( { name = \"A\"; address = 1; type = \"int16\"; },\n"
              "{ name = \"b\"; address = 1; type = \"int16\"; scale = 0; },\n"
              "{ name = \"c\"; address = 1; } );\n",
              "test.cfg:1: max_gap must be from 0 to 125, not 500\n"
              "test.cfg:2: 'A': a point's name is made of a-z, 0-9 and _\n"
              "test.cfg:3: b: scale must not be 0\n"
              "test.cfg:4: missing key 'type'\n");
}

/* ---- where profiles are found */

static void the_first_directory_wins(void **state)
{
    (void)state;
    static const char *const directories[] = {"none", "one", "two", NULL};
    assert_int_equal(system("mkdir -p one two"), 0);
    given_file("one/x.cfg", "model = \"one\"; " ONE_POINT);
    given_file("two/x.cfg", "model = \"two\"; " ONE_POINT);
    given_file("two/y.cfg", "model = \"two\"; " ONE_POINT);
    struct given given;
    given_cfg(&given);
    struct profile *x = profile_read(&given.cfg, NULL, directories, "x");
    struct profile *y = profile_read(&given.cfg, NULL, directories, "y");
    assert_null(profile_read(&given.cfg, NULL, directories, "z"));
    assert_null(profile_read(&given.cfg, NULL, directories, "../one/x"));
    assert_said(&given, "test.cfg:1: no profile for type 'z': z.cfg is not in none, one, two\n"
                        "test.cfg:1: type '../one/x' is not made of letters, digits, - and _\n");
    assert_string_equal(x->model, "one");
    assert_string_equal(x->type, "x");
    assert_string_equal(y->model, "two");
    profile_free(x);
    profile_free(y);
    profile_free(NULL);
}

static void the_directories_searched(void **state)
{
    (void)state;
    unsetenv("FLUXBRIDGE_PROFILES");
    const char *const *directories = profile_directories();
    assert_string_equal(directories[0], "/etc/fluxbridge/profiles");
    const char *last = directories[0];
    for (unsigned i = 0; directories[i]; i++)
        last = directories[i];
    assert_string_equal(last, FLUXBRIDGE_PROFILES);

    char self[512] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    bool built_here = strncmp(self, FLUXBRIDGE_BUILD_DIR "/", sizeof FLUXBRIDGE_BUILD_DIR) == 0;
    assert_int_equal(strcmp(directories[1], FLUXBRIDGE_SOURCE_PROFILES) == 0, built_here);

    setenv("FLUXBRIDGE_PROFILES", "/my/own", 1);
    directories = profile_directories();
    assert_string_equal(directories[0], "/my/own");
    assert_string_equal(directories[1], "/etc/fluxbridge/profiles");
    setenv("FLUXBRIDGE_PROFILES", "", 1);
    assert_string_equal(profile_directories()[0], "/etc/fluxbridge/profiles");
    unsetenv("FLUXBRIDGE_PROFILES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scale_is_read_with_what_it_scales),
        cmocka_unit_test(a_type_is_made_of_16_models),
        cmocka_unit_test(points_beside_an_unreadable_range),
        cmocka_unit_test(a_code_clashes_in_either_order),
        cmocka_unit_test(faulty_heads),
        cmocka_unit_test(as_many_as_there_may_be),
        cmocka_unit_test(one_run_shows_all_problems),
        cmocka_unit_test(the_first_directory_wins),
        cmocka_unit_test(the_directories_searched),
    };
    return cmocka_run_group_tests_name("profile", tests, given_directory, remove_directory);
}
