/* A schedule from anybody: whatever passes is in its order and within its bounds, comes
 * back from disk as it was, and wants nothing outside of its entries' time; whatever
 * does not is answered with valid JSON. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/battery/schedule.h"
#include "bridge/wire/outcome_json.h"
#include "bridge/wire/schedule_json.h"

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_answer(const struct command *command, enum reason reason, const char *detail)
{
    struct outcome outcome = {.command = *command, .kind = OUTCOME_REFUSED, .reason = reason};
    char device[COMMAND_NAME_MAX + 1], id[COMMAND_ID_MAX + 1], *again = NULL;
    int64_t ts_ms;
    strcpy(outcome.detail, detail);
    char *text = outcome_json(&outcome);
    char *line = outcome_json_audit(&outcome);
    json_t *json = text != NULL ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    check(json != NULL && line != NULL);
    check((json_object_get(json, "revision") != NULL) == (command->revision >= 0));
    /* Nothing of a schedule is any command's outcome. */
    check(command->revision < 0 || !outcome_json_parse_audit(line, device, id, &ts_ms, &again));
    free(again);
    json_decref(json);
    free(line);
    free(text);
}

static void check_table(const struct timetable *table)
{
    check(table->n <= TIMETABLE_ENTRIES_MAX && table->id[0] != '\0' && table->revision >= 0);
    for (unsigned i = 0; i < table->n; i++) {
        const struct timetable_entry *entry = &table->entries[i];
        check(entry->start_ms >= 0 && entry->start_ms < entry->end_ms && isfinite(entry->value));
        check(i == 0 || table->entries[i - 1].end_ms <= entry->start_ms);
        check(entry->end_ms - table->entries[0].start_ms <= TIMETABLE_SPAN_MAX_MS);
    }
}

/* At each of its edges, and a millisecond before. */
static void check_wishes(struct schedule *schedule)
{
    const struct timetable *table = schedule->table;
    for (unsigned i = 0; i < 4 * table->n; i++) {
        const struct timetable_entry *entry = &table->entries[i / 4];
        struct schedule_now now = {.mono_ns = 1, .trusted = true, .lease_ns = SCHEDULE_NEVER};
        struct schedule_wish wish;
        struct schedule_status status;
        int64_t due_ns;
        now.utc_ms = (i % 4 < 2 ? entry->start_ms : entry->end_ms) - (i % 2);
        const bool covered = i % 4 == 0 || i % 4 == 3;
        if (schedule_wants(schedule, &now, &wish, &due_ns) && covered)
            check(wish.value == entry->value && now.utc_ms < table->valid_until_ms);
        schedule_describe(schedule, &now, &status);
        check(!status.has_entry ||
              (status.entry.start_ms <= now.utc_ms && now.utc_ms < status.entry.end_ms));
        char *text = schedule_json_status(&status);
        check(text != NULL);
        free(text);
    }
}

static void check_restart(struct timetable *table)
{
    const struct schedule_now now = {.utc_ms = 1, .mono_ns = 1, .lease_ns = SCHEDULE_NEVER};
    struct schedule schedule, next;
    schedule_init(&schedule);
    (void)schedule_adopt(&schedule, table, &now);
    check_wishes(&schedule);
    schedule_print(&schedule, table->text);
    struct command again = {.timetable = NULL};
    char detail[DETAIL_MAX];
    const char *text = table->text;
    check(schedule_json_parse(text + TIMETABLE_HEAD_MAX, strlen(text + TIMETABLE_HEAD_MAX), &again,
                              detail) == REASON_NONE);
    check(again.timetable->n == table->n && again.timetable->revision == table->revision);
    check(memcmp(again.timetable->entries, table->entries,
                 table->n * sizeof(struct timetable_entry)) == 0);
    check(schedule_resume(&next, text, again.timetable, &now, 0));
    check(next.accepted_ms == schedule.accepted_ms && next.stopped == schedule.stopped);
    schedule_json_free(again.timetable);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > TIMETABLE_PAYLOAD_MAX)
        size = TIMETABLE_PAYLOAD_MAX;
    struct command command = {
        .device_name = "Site-BESS-01", .point_name = "schedule", .offers = true};
    char detail[DETAIL_MAX] = "";
    const enum reason reason = schedule_json_parse((const char *)data, size, &command, detail);
    check((reason == REASON_NONE) == (command.timetable != NULL));
    check((reason == REASON_NONE) == (detail[0] == '\0'));
    check(reason == REASON_NONE || reason == REASON_MALFORMED || reason == REASON_OVERLAP ||
          reason == REASON_TOO_LARGE);
    struct timetable *table = command.timetable;
    command.timetable = NULL;
    check_answer(&command, reason, detail);
    if (table != NULL) {
        check_table(table);
        check_restart(table);
    }
    schedule_json_free(table);
    /* What may stand before it on disk. */
    struct schedule schedule;
    char head[TIMETABLE_HEAD_MAX + 1] = "";
    memcpy(head, data, size < TIMETABLE_HEAD_MAX ? size : TIMETABLE_HEAD_MAX);
    struct timetable none = {.n = 0};
    const struct schedule_now now = {.utc_ms = 1, .mono_ns = 1, .lease_ns = SCHEDULE_NEVER};
    schedule_init(&schedule);
    (void)schedule_resume(&schedule, head, &none, &now, 1);
    return 0;
}
