/* Tables as they come out where there is no terminal; tests/integration/tools.py
 * has one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bridge/cli/table.h"

static void assert_printed(const struct table *table, const char *expected)
{
    FILE *file = tmpfile();
    char text[8192] = "";
    assert_non_null(file);
    assert_true(table_print(table, file));
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

static void test_columns_are_aligned(void **state)
{
    struct table *table = table_new("lrl");
    static const char *const cells[] = {"POINT", "VALUE", "UNIT", "warm", "-1.5",
                                        "°C",    "p",     "1",    ""};
    (void)state;
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        table_cell(table, "%s", cells[i]);
    table_mark(table); /* no colour in a file */
    assert_printed(table, "POINT  VALUE  UNIT\n"
                          "warm    -1.5  °C\n"
                          "p          1\n");
    table_free(table);
}

static void test_width_counts_characters(void **state)
{
    struct table *table = table_new("ll");
    (void)state;
    table_cell(table, "äöü");
    table_cell(table, "x");
    table_cell(table, "abcd");
    table_cell(table, "y");
    assert_printed(table, "äöü   x\nabcd  y\n");
    table_free(table);
}

static void test_many_rows(void **state)
{
    struct table *table = table_new("r");
    char expected[8192], *end = expected;
    (void)state;
    for (int i = 0; i < 500; i++) {
        table_cell(table, "%d", i);
        end += sprintf(end, "%3d\n", i);
    }
    assert_printed(table, expected);
    table_free(table);
}

static void test_no_memory(void **state)
{
    (void)state;
    table_cell(NULL, "x");
    table_mark(NULL);
    assert_false(table_print(NULL, stdout));
    table_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_aligned),
        cmocka_unit_test(test_width_counts_characters),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
