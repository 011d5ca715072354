/* A payload from anybody: whatever passes is a finite, whole value within the
 * limits that ends in time; whatever does not is answered with valid JSON. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/battery/admit.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/outcome_json.h"

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

static struct profile profile; /* without a control group */

static const struct device battery = {
    .name = "Site-BESS-01",
    .profile = &profile,
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

/* What would be published of it, and what the audit log would lead back to. */
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
    if (command->id[0] != '\0')
        check(strcmp(json_string_value(json_object_get(json, "id")), command->id) == 0);
    else
        check(json_is_null(json_object_get(json, "id")));
    check(json_is_number(json_object_get(json, "value")) == command->has_value);
    if (outcome_json_parse_audit(line, device, id, &ts_ms, &again)) {
        check(reason != REASON_MALFORMED && strcmp(id, command->id) == 0);
        check(strcmp(again, text) == 0);
        free(again);
    }
    json_decref(json);
    free(line);
    free(text);
}

static void judge(const struct command *parsed, bool good, int point, const char *parse_detail)
{
    struct command command = *parsed;
    struct admit_scene scene = {.device = &battery,
                                .point = point,
                                .malformed = !good,
                                .utc_ms = NOW_MS,
                                .mono_ns = NOW_NS,
                                .last_write_ns = INT64_MIN};
    char detail[DETAIL_MAX] = "";
    command.expires_ns = -1;
    strcpy(detail, parse_detail);
    enum reason reason = admit(&command, &scene, detail);
    check((reason == REASON_MALFORMED) == !good);
    check_answer(&command, reason, detail);
    if (reason != REASON_NONE) {
        check(command.expires_ns == -1);
        return;
    }
    check(trunc(command.value) == command.value);
    check(point == SETPOINT ? fabs(command.value) <= 250
                            : command.value >= 0 && command.value <= 65535);
    check(command.stop == (point == SETPOINT && command.value == 0));
    int64_t life_ns = command.dated ? command.ttl_ns + 2 * CLOCK_NS_PER_S : 10 * CLOCK_NS_PER_S;
    check(command.expires_ns > NOW_NS);
    check(command.stop ? command.expires_ns == CLOCK_NEVER
                       : command.expires_ns <= NOW_NS + life_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > COMMAND_PAYLOAD_MAX)
        size = COMMAND_PAYLOAD_MAX;
    for (int allow_bare = 0; allow_bare < 2; allow_bare++) {
        struct command command = {.device_name = "Site-BESS-01", .point_name = "target_power"};
        char detail[DETAIL_MAX] = "";
        bool parsed =
            command_json_parse((const char *)data, size, allow_bare != 0, &command, detail);
        check(parsed == (detail[0] == '\0') && parsed == command.has_value);
        check(!parsed || isfinite(command.value));
        check(!parsed || !command.dated || (command.issued_at_ms >= 0 && command.ttl_ns >= 0));
        check(allow_bare || !parsed || command.id[0] != '\0');
        judge(&command, parsed, SETPOINT, detail);
        judge(&command, parsed, SOURCE, detail);
    }
    return 0;
}
