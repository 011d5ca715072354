/* verdict: what `fluxbridge check` has to say, for people or for a machine.
 *
 * Takes the lines that cfg_problem() and cfg_warning() print, and shows them as
 * they are, coloured on a terminal; or keeps them and prints one JSON object at
 * the end. One thread.
 */
#ifndef BRIDGE_CLI_VERDICT_H
#define BRIDGE_CLI_VERDICT_H

#include <stdbool.h>
#include <stdio.h>

#include "bridge/site/conf.h"

struct verdict {
    struct cfg cfg; /* where problems are reported */
    bool json;
    char *text;
    size_t size, shown;
    FILE *reload; /* a sentence a line on what a reload would do; NULL: nobody has asked */
    char *reload_text;
    size_t reload_size;
};

/* False when out of memory. Call verdict_end() in either case. */
bool verdict_begin(struct verdict *verdict, bool json);

/* Notes one sentence on what a reload would do; `context` is the verdict. */
void verdict_note_reload(void *context, const char *sentence);

/* Prints what has been said since. For people only: does nothing for JSON. */
void verdict_show(struct verdict *verdict);

/* The last word on the configuration `path`: good unless there was a problem.
 * `conf` NULL: it could not be read. */
void verdict_end(struct verdict *verdict, const char *path, const struct conf *conf);

#endif
