#include "bridge/cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/cli/terminal.h"

struct cell {
    char *text;
    int width;
    bool marked;
};

struct table {
    unsigned n_columns, n_cells, room;
    bool lost; /* a cell, for want of memory */
    bool right[TABLE_COLUMNS_MAX];
    struct cell *cells;
};

struct table *table_new(const char *alignment)
{
    struct table *table = calloc(1, sizeof(*table));
    for (; table != NULL && *alignment != '\0' && table->n_columns < TABLE_COLUMNS_MAX; alignment++)
        table->right[table->n_columns++] = *alignment == 'r';
    return table;
}

void table_free(struct table *table)
{
    for (unsigned i = 0; table != NULL && i < table->n_cells; i++)
        free(table->cells[i].text);
    if (table != NULL)
        free(table->cells);
    free(table);
}

/* Characters of a UTF-8 text. */
static int width(const char *text)
{
    int characters = 0;
    for (; *text; text++)
        characters += ((unsigned char)*text & 0xc0) != 0x80;
    return characters;
}

static bool make_room(struct table *table)
{
    if (table->n_cells < table->room)
        return true;
    unsigned room = table->room > 0 ? 2 * table->room : 64;
    struct cell *more = realloc(table->cells, room * sizeof(*more));
    if (more == NULL)
        return false;
    table->cells = more;
    table->room = room;
    return true;
}

void table_cell(struct table *table, const char *format, ...)
{
    va_list arguments;
    char *text;

    if (table == NULL)
        return;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        table->lost = true;
    } else if (!make_room(table)) {
        free(text);
        table->lost = true;
    } else {
        table->cells[table->n_cells++] = (struct cell){.text = text, .width = width(text)};
    }
}

void table_mark(struct table *table)
{
    if (table != NULL && table->n_cells > 0)
        table->cells[table->n_cells - 1].marked = true;
}

static void print_row(const struct table *table, const struct cell *row, const int *widths,
                      FILE *out)
{
    unsigned n = table->n_columns;
    while (n > 1 && row[n - 1].width == 0)
        n--;
    for (unsigned column = 0; column < n; column++) {
        const int padding = widths[column] - row[column].width;
        const bool last = column + 1 == n;
        if (table->right[column])
            fprintf(out, "%*s%s%s", padding, "", row[column].text, last ? "" : "  ");
        else
            fprintf(out, "%s%*s", row[column].text, last ? 0 : padding + 2, "");
    }
}

bool table_print(const struct table *table, FILE *out)
{
    int widths[TABLE_COLUMNS_MAX] = {0};
    if (table == NULL || table->lost)
        return false;
    for (unsigned i = 0; i < table->n_cells; i++)
        if (table->cells[i].width > widths[i % table->n_columns])
            widths[i % table->n_columns] = table->cells[i].width;

    const bool coloured = terminal_is_coloured(out);
    for (unsigned i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns) {
        bool marked = false;
        for (unsigned column = 0; column < table->n_columns; column++)
            marked = marked || table->cells[i + column].marked;
        const char *colour = !coloured ? "" : i == 0 ? TERMINAL_BOLD : marked ? TERMINAL_RED : "";
        fputs(colour, out);
        print_row(table, &table->cells[i], widths, out);
        fputs(*colour != '\0' ? TERMINAL_PLAIN "\n" : "\n", out);
    }
    return true;
}
