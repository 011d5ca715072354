#include "bridge/battery/unsettled.h"

#include <stdio.h>

#include "devices/registers/codec.h"

void unsettled_note(struct unsettled *unsettled, const struct outcome *outcome)
{
    unsettled->waits = true;
    unsettled->outcome = *outcome;
}

bool unsettled_waits(const struct unsettled *unsettled, unsigned point)
{
    return unsettled->waits && unsettled->outcome.command.point == point;
}

static void correct(struct unsettled *unsettled, enum outcome_kind kind, int64_t now_ns,
                    struct outcome *corrected)
{
    *corrected = unsettled->outcome;
    corrected->kind = kind;
    corrected->correction = true;
    corrected->done_ns = now_ns;
    corrected->detail[0] = '\0';
    unsettled->waits = false;
}

bool unsettled_see(struct unsettled *unsettled, const struct device *device,
                   const struct value *held, int64_t now_ns, struct outcome *corrected)
{
    const struct command *command = &unsettled->outcome.command;
    const struct point *row = &device->points[command->point];
    if (!unsettled->waits || held->state != VALUE_READ)
        return false;
    const struct value written = codec_decode(row, unsettled->outcome.words);
    const bool same = device_drive(device) != NULL
                          ? drive_as_read(row, held->number) == drive_as_read(row, command->value)
                          : held->raw == written.raw;
    correct(unsettled, same ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH, now_ns, corrected);
    corrected->has_readback = true;
    corrected->readback = row->made ? held->number : codec_decimal(row, held->number);
    return true;
}

bool unsettled_overwrite(struct unsettled *unsettled, unsigned point, int64_t now_ns,
                         struct outcome *corrected)
{
    if (!unsettled_waits(unsettled, point))
        return false;
    correct(unsettled, OUTCOME_SUPERSEDED, now_ns, corrected);
    (void)snprintf(corrected->detail, sizeof(corrected->detail),
                   "written over before it could be read back");
    return true;
}
