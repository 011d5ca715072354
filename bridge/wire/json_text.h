/* json_text: what all JSON documents of the house are made with.
 *
 * Pure but for memory. Whoever gets a json_t owns it.
 */
#ifndef BRIDGE_WIRE_JSON_TEXT_H
#define BRIDGE_WIRE_JSON_TEXT_H

#include <jansson.h>

/* A number as the codec prints it (50, not 50.0; 5.3, not 5.2999…). */
json_t *json_text_number(double value);

/* Texts from outside that were cut to fit may end in a part of a character:
 * it is left out. What is not UTF-8 at all becomes null instead of a document
 * that cannot be sent. */
json_t *json_text_or_null(const char *text);

/* The text of a document, which is freed; malloc'ed (free with free()), NULL
 * when out of memory. */
char *json_text_dump(json_t *root);

#endif
