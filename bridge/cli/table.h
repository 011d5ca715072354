/* table: cells of text in aligned columns.
 *
 * Filled cell by cell, row by row; the first row is the headings. On a terminal
 * they are bold, and rows that were marked are red, unless NO_COLOR is set
 * (https://no-color.org); elsewhere plain text. Widths count characters of
 * UTF-8. One thread.
 */
#ifndef BRIDGE_CLI_TABLE_H
#define BRIDGE_CLI_TABLE_H

#include <stdbool.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16 };

struct table;

/* `alignment` has one character for each column: 'l' or 'r'. NULL when out of
 * memory, which the other functions take. */
struct table *table_new(const char *alignment);
void table_free(struct table *table);

/* The next cell. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The row of the last cell is about something wrong. */
void table_mark(struct table *table);

/* Prints the rows, without spaces at their ends. False when there was not
 * enough memory for all of them; then nothing is printed. */
bool table_print(const struct table *table, FILE *out);

#endif
