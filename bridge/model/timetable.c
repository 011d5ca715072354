#include "bridge/model/timetable.h"

#include <string.h>

static bool entry_same(const struct timetable_entry *a, const struct timetable_entry *b)
{
    return a->start_ms == b->start_ms && a->end_ms == b->end_ms && a->value == b->value;
}

bool schedule_status_same(const struct schedule_status *a, const struct schedule_status *b)
{
    return a->state == b->state && a->revision == b->revision && strcmp(a->id, b->id) == 0 &&
           strcmp(a->source, b->source) == 0 && a->releases == b->releases &&
           a->valid_until_ms == b->valid_until_ms && a->has_entry == b->has_entry &&
           entry_same(&a->entry, &b->entry) && a->changes == b->changes &&
           a->next_ms == b->next_ms && a->next_has_value == b->next_has_value &&
           a->next_value == b->next_value && a->owes_default == b->owes_default &&
           strcmp(a->why, b->why) == 0;
}
