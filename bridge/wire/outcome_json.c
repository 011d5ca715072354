#include "bridge/wire/outcome_json.h"

#include <math.h>
#include <string.h>

#include "bridge/wire/json_text.h"

static json_t *outcome_object(const struct outcome *outcome)
{
    json_t *root = json_object();
    json_object_set_new(root, "id", outcome->has_id ? json_string(outcome->id) : json_null());
    json_object_set_new(root, "device", json_text_or_null(outcome->device));
    json_object_set_new(root, "point", json_text_or_null(outcome->point));
    json_object_set_new(root, "value",
                        outcome->has_value ? json_text_number(outcome->value) : json_null());
    json_object_set_new(root, "outcome", json_string(outcome_word(outcome->kind)));
    if (outcome->kind == OUTCOME_REFUSED)
        json_object_set_new(root, "reason", json_string(reason_word(outcome->reason)));
    if (outcome->kind == OUTCOME_FAILED)
        json_object_set_new(root, "reason", json_string(fault_word(outcome->fault)));
    const char *detail = outcome->detail;
    if (detail[0] == '\0' && outcome->kind == OUTCOME_REFUSED)
        detail = reason_hint(outcome->reason);
    if (detail[0] != '\0')
        json_object_set_new(root, "detail", json_text_or_null(detail));
    if (outcome->has_readback)
        json_object_set_new(root, "readback", json_text_number(outcome->readback));
    json_object_set_new(root, "ts", json_integer(outcome->ts_ms));
    json_object_set_new(root, "latency_ms", json_real(round(outcome->latency_ms * 1e3) / 1e3));
    if (outcome->source[0] != '\0')
        json_object_set_new(root, "source", json_text_or_null(outcome->source));
    if (outcome->correction)
        json_object_set_new(root, "correction", json_true());
    return root;
}

char *outcome_json(const struct outcome *outcome)
{
    return json_text_dump(outcome_object(outcome));
}

char *outcome_json_audit(const struct outcome *outcome, const struct wire_trace *trace)
{
    json_t *root = outcome_object(outcome);
    json_t *words = json_array();
    for (unsigned i = 0; i < trace->n_words; i++)
        json_array_append_new(words, json_integer(trace->words[i]));
    json_object_set_new(root, "received", json_integer(trace->received_ms));
    if (trace->judged_ms != 0)
        json_object_set_new(root, "judged", json_integer(trace->judged_ms));
    if (trace->written_ms != 0)
        json_object_set_new(root, "written", json_integer(trace->written_ms));
    json_object_set_new(root, "registers", words);
    if (trace->user_source != NULL && trace->user_source[0] != '\0')
        json_object_set_new(root, "user_source", json_text_or_null(trace->user_source));
    if (trace->user_traceparent != NULL && trace->user_traceparent[0] != '\0')
        json_object_set_new(root, "traceparent", json_text_or_null(trace->user_traceparent));
    return json_text_dump(root);
}

char *outcome_json_repeat(const char *payload)
{
    json_t *root = json_loads(payload, 0, NULL);
    if (root != NULL)
        json_object_set_new(root, "duplicate", json_true());
    return json_text_dump(root);
}

bool outcome_json_parse_audit(const char *line, char device[COMMAND_NAME_MAX + 1],
                              char id[COMMAND_ID_MAX + 1], int64_t *ts_ms, char **payload)
{
    static const char *const trace[] = {"received",  "judged",      "written",
                                        "registers", "user_source", "traceparent"};
    json_t *root = json_loads(line, 0, NULL);
    const char *of = json_string_value(json_object_get(root, "device"));
    const char *name = json_string_value(json_object_get(root, "id"));
    const json_t *ts = json_object_get(root, "ts");
    bool good = of != NULL && strlen(of) <= COMMAND_NAME_MAX && name != NULL &&
                strlen(name) <= COMMAND_ID_MAX && json_is_integer(ts) &&
                json_object_get(root, "duplicate") == NULL;
    if (!good) {
        json_decref(root);
        return false;
    }
    memcpy(device, of, strlen(of) + 1);
    memcpy(id, name, strlen(name) + 1);
    *ts_ms = json_integer_value(ts);
    for (size_t i = 0; i < sizeof(trace) / sizeof(*trace); i++)
        json_object_del(root, trace[i]);
    *payload = json_text_dump(root);
    return *payload != NULL;
}
