/* json_text: what all JSON documents of the house are made with.
 *
 * Pure but for memory. Whoever gets a json_t owns it.
 */
#ifndef BRIDGE_WIRE_JSON_TEXT_H
#define BRIDGE_WIRE_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "bridge/model/command.h"

/* A number as the codec prints it (50, not 50.0; 5.3, not 5.2999…). */
json_t *json_text_number(double value);

/* Texts from outside that were cut to fit may end in a part of a character:
 * it is left out. What is not UTF-8 at all becomes null instead of a document
 * that cannot be sent. */
json_t *json_text_or_null(const char *text);

/* Reads a text of 1 to COMMAND_TEXT_MAX printable characters: of any script, but no
 * control characters (U+0000 to 1F, 7F to 9F). False: `text` is as it was. */
bool json_text_read(const json_t *value, char text[COMMAND_TEXT_BYTES + 1]);

/* Reads whole milliseconds since 1970, however they are written: JSON has one kind of
 * numbers, and some senders print all of them with a point. */
bool json_text_read_time(const json_t *value, int64_t *ms);

/* The text of a document, which is freed; malloc'ed (free with free()), NULL
 * when out of memory. */
char *json_text_dump(json_t *root);

#endif
