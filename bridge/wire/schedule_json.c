#include "bridge/wire/schedule_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/wire/json_text.h"

enum { SEEN_ID = 1, SEEN_REVISION = 2, SEEN_VALID_UNTIL = 4, SEEN_ENTRIES = 8 };
enum { SEEN_START = 1, SEEN_END = 2, SEEN_VALUE = 4, SEEN_WHOLE = 7 };

#define REVISION_MAX 9007199254740991.0 /* 2^53 - 1: whole in every JSON library */

static bool complain(char detail[DETAIL_MAX], const char *what)
{
    (void)snprintf(detail, DETAIL_MAX, "%s", what);
    return false;
}

static bool read_revision(const json_t *value, int64_t *revision)
{
    const double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0 && number <= REVISION_MAX) ||
        trunc(number) != number)
        return false;
    *revision = (int64_t)number;
    return true;
}

/* ---- entries ---- */

static bool read_entry(const json_t *object, struct timetable_entry *entry, unsigned index,
                       char detail[DETAIL_MAX])
{
    unsigned seen = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool good = false;
        if (strcmp(key, "start") == 0) {
            seen |= SEEN_START;
            good = json_text_read_time(value, &entry->start_ms);
        } else if (strcmp(key, "end") == 0) {
            seen |= SEEN_END;
            good = json_text_read_time(value, &entry->end_ms);
        } else if (strcmp(key, "value") == 0) {
            seen |= SEEN_VALUE;
            good = json_is_number(value);
            entry->value = json_number_value(value);
        } else {
            (void)snprintf(detail, DETAIL_MAX, "entry %u: unknown field \"%s\"", index, key);
            return false;
        }
        if (!good) {
            (void)snprintf(detail, DETAIL_MAX, "entry %u: %s is not %s", index, key,
                           seen & SEEN_VALUE && strcmp(key, "value") == 0
                               ? "a number"
                               : "a time in whole milliseconds since 1970 UTC");
            return false;
        }
    }
    if (seen == SEEN_WHOLE)
        return true;
    (void)snprintf(detail, DETAIL_MAX, "entry %u is not an object with start, end and value",
                   index);
    return false;
}

/* In their order, half-open, not overlapping, and not over too long a time. */
static enum reason judge_entries(const struct timetable *table, char detail[DETAIL_MAX])
{
    const struct timetable_entry *entries = table->entries;
    for (unsigned i = 0; i < table->n; i++) {
        if (entries[i].end_ms <= entries[i].start_ms) {
            (void)snprintf(detail, DETAIL_MAX, "entry %u ends before it has begun", i);
            return REASON_MALFORMED;
        }
        if (i > 0 && entries[i].start_ms < entries[i - 1].start_ms) {
            (void)snprintf(detail, DETAIL_MAX, "entry %u begins before the one before it", i);
            return REASON_MALFORMED;
        }
        if (i > 0 && entries[i].start_ms < entries[i - 1].end_ms) {
            (void)snprintf(detail, DETAIL_MAX, "entry %u begins before the one before it ends", i);
            return REASON_OVERLAP;
        }
    }
    if (table->n > 0 &&
        entries[table->n - 1].end_ms - entries[0].start_ms > TIMETABLE_SPAN_MAX_MS) {
        complain(detail, "the entries cover more than 7 days");
        return REASON_TOO_LARGE;
    }
    return REASON_NONE;
}

/* ---- the whole ---- */

static bool read_default(const json_t *value, struct timetable *table)
{
    const char *word = json_string_value(value);
    table->releases = word != NULL && strcmp(word, "release") == 0;
    return table->releases || (json_is_number(value) && json_number_value(value) == 0.0);
}

/* One known field but the entries; false with a detail. */
static bool read_field(const char *key, const json_t *value, struct timetable *table,
                       unsigned *seen, char detail[DETAIL_MAX])
{
    static const char *const texts = "is not a text of 1 to 64 printable characters";
    static const char *const times = "is not a time in whole milliseconds since 1970 UTC";
    const char *wrong = NULL;
    if (strcmp(key, "id") == 0) {
        *seen |= SEEN_ID;
        wrong = json_text_read(value, table->id) ? NULL : texts;
    } else if (strcmp(key, "source") == 0) {
        wrong = json_text_read(value, table->source) ? NULL : texts;
    } else if (strcmp(key, "revision") == 0) {
        *seen |= SEEN_REVISION;
        wrong = read_revision(value, &table->revision) ? NULL : "is not a whole number from 0 on";
    } else if (strcmp(key, "issued_at") == 0) {
        table->dated = true;
        wrong = json_text_read_time(value, &table->issued_at_ms) ? NULL : times;
    } else if (strcmp(key, "valid_until") == 0) {
        *seen |= SEEN_VALID_UNTIL;
        wrong = json_text_read_time(value, &table->valid_until_ms) ? NULL : times;
    } else if (strcmp(key, "default") == 0) {
        wrong = read_default(value, table) ? NULL : "is neither 0 nor \"release\"";
    } else if (strcmp(key, "entries") != 0) {
        (void)snprintf(detail, DETAIL_MAX, "unknown field \"%s\"", key);
        return false;
    }
    if (wrong != NULL)
        (void)snprintf(detail, DETAIL_MAX, "%s %s", key, wrong);
    return wrong == NULL;
}

static enum reason read_object(json_t *root, struct timetable *table, char detail[DETAIL_MAX])
{
    static const char *const required[] = {"id", "revision", "valid_until", "entries"};
    unsigned seen = 0;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (!read_field(key, value, table, &seen, detail))
            return REASON_MALFORMED;
    }
    seen |= json_object_get(root, "entries") != NULL ? SEEN_ENTRIES : 0;
    for (unsigned i = 0; i < sizeof(required) / sizeof(*required); i++) {
        if (seen & (1U << i))
            continue;
        (void)snprintf(detail, DETAIL_MAX, "%s is missing", required[i]);
        return REASON_MALFORMED;
    }
    const json_t *entries = json_object_get(root, "entries");
    for (unsigned i = 0; i < table->n; i++) {
        if (!read_entry(json_array_get(entries, i), &table->entries[i], i, detail))
            return REASON_MALFORMED;
    }
    return judge_entries(table, detail);
}

static struct timetable *timetable_new(const char *payload, size_t size, size_t n)
{
    struct timetable *table = calloc(1, sizeof(*table) + n * sizeof(struct timetable_entry));
    if (table == NULL)
        return NULL;
    table->n = (unsigned)n;
    table->text = calloc(1, TIMETABLE_HEAD_MAX + size + 1);
    if (table->text == NULL) {
        free(table);
        return NULL;
    }
    memcpy(table->text + TIMETABLE_HEAD_MAX, payload, size);
    return table;
}

void schedule_json_free(struct timetable *timetable)
{
    if (timetable != NULL)
        free(timetable->text);
    free(timetable);
}

/* Whose it is, whatever else is wrong with it. */
static void read_names(const json_t *root, struct command *command)
{
    char source[COMMAND_TEXT_BYTES + 1] = "";
    command->id[0] = '\0';
    command->revision = -1;
    (void)json_text_read(json_object_get(root, "id"), command->id);
    (void)json_text_read(json_object_get(root, "source"), source);
    (void)read_revision(json_object_get(root, "revision"), &command->revision);
    (void)snprintf(command->source, sizeof(command->source), "%s", source);
}

static enum reason read_root(json_t *root, const char *payload, size_t size,
                             struct command *command, char detail[DETAIL_MAX])
{
    const json_t *entries = json_object_get(root, "entries");
    const size_t n = json_array_size(entries);
    if (!json_is_object(root) || (entries != NULL && !json_is_array(entries))) {
        complain(detail, json_is_object(root) ? "entries is not a list" : "not a JSON object");
        return REASON_MALFORMED;
    }
    if (n > TIMETABLE_ENTRIES_MAX) {
        (void)snprintf(detail, DETAIL_MAX, "%zu entries are more than %d", n,
                       TIMETABLE_ENTRIES_MAX);
        return REASON_TOO_LARGE;
    }
    struct timetable *table = timetable_new(payload, size, n);
    if (table == NULL) {
        complain(detail, "out of memory");
        return REASON_NOT_STORED;
    }
    const enum reason reason = read_object(root, table, detail);
    if (reason == REASON_NONE)
        command->timetable = table;
    else
        schedule_json_free(table);
    return reason;
}

enum reason schedule_json_parse(const char *payload, size_t size, struct command *command,
                                char detail[DETAIL_MAX])
{
    json_error_t error;
    enum reason reason = REASON_MALFORMED;
    command->timetable = NULL;
    command->id[0] = command->source[0] = '\0';
    command->revision = -1;
    if (memchr(payload, '\0', size) != NULL) {
        complain(detail, "not JSON: a NUL byte");
        return REASON_MALFORMED;
    }
    json_t *root =
        json_loadb(payload, size, JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        (void)snprintf(detail, DETAIL_MAX, "not JSON: %s", error.text);
        root = json_loadb(payload, size, JSON_DECODE_INT_AS_REAL, NULL); /* a key stands twice */
        read_names(root, command);
    } else {
        read_names(root, command);
        reason = read_root(root, payload, size, command, detail);
    }
    json_decref(root);
    return reason;
}

/* ---- where it stands ---- */

const char *schedule_json_word(enum schedule_state state)
{
    static const char *const words[SCHEDULE_STATES] = {
        [SCHEDULE_NONE] = "none",           [SCHEDULE_WAITING] = "waiting",
        [SCHEDULE_RUNNING] = "running",     [SCHEDULE_PENDING] = "pending",
        [SCHEDULE_LIVE] = "live",           [SCHEDULE_DEFAULT] = "default",
        [SCHEDULE_STOPPED] = "stopped",     [SCHEDULE_UNSYNCHRONISED] = "clock_unsynchronised",
        [SCHEDULE_CANCELLED] = "cancelled", [SCHEDULE_ENDED] = "ended",
    };
    return words[state];
}

static void set(json_t *root, const char *key, json_t *value)
{
    json_object_set_new(root, key, value);
}

static json_t *default_of(const struct schedule_status *status)
{
    return status->releases ? json_string("release") : json_text_number(0);
}

static json_t *current_of(const struct schedule_status *status)
{
    json_t *entry = json_object();
    set(entry, "start", json_integer(status->entry.start_ms));
    set(entry, "end", json_integer(status->entry.end_ms));
    set(entry, "value", json_text_number(status->entry.value));
    return entry;
}

static json_t *next_of(const struct schedule_status *status)
{
    json_t *next = json_object();
    set(next, "at", json_integer(status->next_ms));
    set(next, "value",
        status->next_has_value ? json_text_number(status->next_value) : default_of(status));
    return next;
}

char *schedule_json_status(const struct schedule_status *status)
{
    const bool known = status->revision >= 0;
    json_t *root = json_object();
    set(root, "id", known ? json_string(status->id) : json_null());
    set(root, "revision", known ? json_integer(status->revision) : json_null());
    set(root, "state", json_string(schedule_json_word(status->state)));
    set(root, "current", status->has_entry ? current_of(status) : json_null());
    set(root, "next", status->changes ? next_of(status) : json_null());
    set(root, "default", known ? default_of(status) : json_null());
    set(root, "valid_until", known ? json_integer(status->valid_until_ms) : json_null());
    set(root, "reason", status->why[0] != '\0' ? json_string(status->why) : json_null());
    if (status->source[0] != '\0')
        set(root, "source", json_text_or_null(status->source));
    return json_text_dump(root);
}
