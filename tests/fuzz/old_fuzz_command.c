/* A payload from anybody: whatever passes is a finite, whole value within the
 * limits that ends in time; whatever does not is answered with valid JSON. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/outcome_json.h"
#include "bridge/wire/topic.h"

enum { SETPOINT, SOURCE, N_POINTS };

static void check(bool good)
{
    if (!good)
        abort();
}

static const int64_t NOW_MS = 1763791200000;
static const int64_t NOW_NS = 7000000000000;

static struct point points[N_POINTS] = {
    [SETPOINT] = {.name = "target_power",
                  .unit = "kW",
                  .table = POINT_HOLDING,
                  .type = POINT_INT16,
                  .writable = true,
                  .scale = 1},
    [SOURCE] = {.name = "command_source",
                .table = POINT_HOLDING,
                .type = POINT_UINT16,
                .writable = true,
                .scale = 1,
                .min = NAN,
                .max = NAN},
};

static const struct device battery = {
    .name = "Site-BESS-01",
    .n_points = N_POINTS,
    .points = points,
    .controllable = true,
    .control = {.setpoint = SETPOINT,
                .source = SOURCE,
                .min_kw = -250,
                .max_kw = 250,
                .ttl_ns = 10 * CLOCK_NS_PER_S,
                .max_clock_skew_ns = 2 * CLOCK_NS_PER_S},
};

/* What would be published of it. */
static void check_answer(const struct command *command, bool parsed, enum reason reason,
                         const char *detail)
{
    struct outcome outcome = {.kind = OUTCOME_REFUSED,
                              .reason = reason,
                              .has_id = parsed,
                              .has_value = parsed,
                              .value = command->value};
    memcpy(outcome.id, command->id, sizeof outcome.id);
    memcpy(outcome.source, command->source, sizeof outcome.source);
    strcpy(outcome.detail, detail);
    char *text = outcome_json(&outcome);
    json_t *json = text != NULL ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    check(json != NULL);
    check(!parsed || strcmp(json_string_value(json_object_get(json, "id")), command->id) == 0);
    json_decref(json);
    free(text);
}

static void judge(const struct command *command, bool parsed, int point, const char *parse_detail)
{
    struct command_scene scene = {.device = &battery,
                                  .point = point,
                                  .parsed = parsed,
                                  .utc_ms = NOW_MS,
                                  .mono_ns = NOW_NS,
                                  .last_write_ns = INT64_MIN};
    char detail[DETAIL_MAX] = "";
    int64_t expires_ns = -1;
    strcpy(detail, parse_detail);
    enum reason reason = command_judge(command, &scene, &expires_ns, detail);
    check_answer(command, parsed, reason, detail);
    if (reason != REASON_NONE) {
        check(expires_ns == -1);
        return;
    }
    check(parsed);
    check(trunc(command->value) == command->value);
    check(point == SETPOINT ? fabs(command->value) <= 250
                            : command->value >= 0 && command->value <= 65535);
    int64_t life_ns = command->dated ? command->ttl_ns + 2 * CLOCK_NS_PER_S : 10 * CLOCK_NS_PER_S;
    check(expires_ns > NOW_NS && expires_ns <= NOW_NS + life_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > COMMAND_PAYLOAD_MAX)
        size = COMMAND_PAYLOAD_MAX;
    for (int allow_bare = 0; allow_bare < 2; allow_bare++) {
        struct command command = {0};
        char detail[DETAIL_MAX] = "";
        bool parsed =
            command_json_parse((const char *)data, size, allow_bare != 0, &command, detail);
        check(parsed == (detail[0] == '\0'));
        check(isfinite(command.value));
        check(!command.dated || (command.issued_at_ms >= 0 && command.ttl_ns >= 0));
        check(allow_bare || parsed == (command.id[0] != '\0'));
        judge(&command, parsed, SETPOINT, detail);
        judge(&command, parsed, SOURCE, detail);
    }
    return 0;
}
