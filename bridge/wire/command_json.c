#include "bridge/wire/command_json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/wire/json_text.h"

enum { SEEN_ID = 1, SEEN_VALUE = 2, SEEN_ISSUED_AT = 4, SEEN_TTL = 8 };

static bool complain(char detail[DETAIL_MAX], const char *what)
{
    (void)snprintf(detail, DETAIL_MAX, "%s", what);
    return false;
}

/* Reads one known field of a command object; false with a detail. */
static bool parse_field(const char *key, const json_t *value, struct command *command,
                        unsigned *seen, char detail[DETAIL_MAX])
{
    const double most_ttl_s = 365.0 * 86400.0;

    if (strcmp(key, "id") == 0) {
        *seen |= SEEN_ID;
        return json_text_read(value, command->id) ||
               complain(detail, "id is not a text of 1 to 64 printable characters");
    }
    if (strcmp(key, "value") == 0) {
        *seen |= SEEN_VALUE;
        command->value = json_number_value(value);
        return json_is_number(value) || complain(detail, "value is not a number");
    }
    if (strcmp(key, "issued_at") == 0) {
        *seen |= SEEN_ISSUED_AT;
        return json_text_read_time(value, &command->issued_at_ms) ||
               complain(detail, "issued_at is not a time in whole milliseconds since 1970 UTC");
    }
    if (strcmp(key, "ttl_s") == 0) {
        double ttl_s = json_number_value(value);
        *seen |= SEEN_TTL;
        if (!json_is_number(value) || !(ttl_s > 0.0 && ttl_s <= most_ttl_s))
            return complain(detail, "ttl_s is not a number of seconds above 0");
        command->ttl_ns = (int64_t)(ttl_s * (double)CLOCK_NS_PER_S);
        return true;
    }
    if (strcmp(key, "source") == 0)
        return json_text_read(value, command->source) ||
               complain(detail, "source is not a text of 1 to 64 printable characters");
    (void)snprintf(detail, DETAIL_MAX, "unknown field \"%s\"", key);
    return false;
}

static bool parse_object(json_t *root, struct command *command, char detail[DETAIL_MAX])
{
    unsigned seen = 0;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!parse_field(key, value, command, &seen, detail))
            return false;
    }
    if (!(seen & SEEN_ID))
        return complain(detail, "id is missing");
    if (!(seen & SEEN_VALUE))
        return complain(detail, "value is missing");
    command->dated = (seen & SEEN_ISSUED_AT) && (seen & SEEN_TTL);
    if (!command->dated && (seen & (SEEN_ISSUED_AT | SEEN_TTL)))
        return complain(detail, "issued_at and ttl_s go together");
    return true;
}

/* Whose command it is, whatever else is wrong with it. */
static void parse_id(const json_t *root, struct command *command)
{
    if (!json_text_read(json_object_get(root, "id"), command->id))
        command->id[0] = '\0';
    command->source[0] = '\0';
}

bool command_json_parse(const char *payload, size_t size, bool allow_bare, struct command *command,
                        char detail[DETAIL_MAX])
{
    const size_t flags = JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL;
    json_error_t error;
    bool good = false;

    command->id[0] = '\0';
    /* jansson passes over a NUL that follows a number. */
    if (memchr(payload, '\0', size) != NULL)
        return complain(detail, "not JSON: a NUL byte");
    /* As real, so that 99999999999999999999 is out of range and not malformed. */
    json_t *root = json_loadb(payload, size, flags | JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        (void)snprintf(detail, DETAIL_MAX, "not JSON: %s", error.text);
        root = json_loadb(payload, size, flags, NULL); /* a key stands twice */
        parse_id(root, command);
    } else if (json_is_object(root)) {
        good = parse_object(root, command, detail);
        if (!good)
            parse_id(root, command);
    } else if (!json_is_number(root)) {
        complain(detail, "not a JSON object with id and value");
    } else if (!allow_bare) {
        complain(detail, "a bare number, and allow_bare is off: send {\"id\":…,\"value\":…}");
    } else {
        command->value = json_number_value(root);
        good = true;
    }
    command->has_value = good;
    json_decref(root);
    return good;
}
