/* outcome_json: what became of a command, for the result topic and the audit log.
 *
 * Pure but for memory.
 */
#ifndef BRIDGE_WIRE_OUTCOME_JSON_H
#define BRIDGE_WIRE_OUTCOME_JSON_H

#include "bridge/battery/command.h"
#include "devices/lines/fault.h"

enum { COMMAND_NAME_MAX = 128 };

/* What became of a command, for the result topic and the audit log. */
struct outcome {
    char device[COMMAND_NAME_MAX + 1];
    char point[COMMAND_NAME_MAX + 1];
    bool has_id, has_value;
    char id[COMMAND_ID_MAX + 1];
    double value;
    enum outcome_kind kind;
    enum reason reason; /* REFUSED */
    enum fault fault;   /* FAILED */
    bool has_readback;
    double readback;
    int64_t ts_ms;
    double latency_ms;
    char source[COMMAND_SOURCE_MAX + 1];
    char detail[DETAIL_MAX];
    bool correction; /* settles an earlier OUTCOME_UNKNOWN of the same id */
};

/* What only the audit log says of it: how and when it came to that. */
struct wire_trace {
    int64_t received_ms, judged_ms, written_ms; /* UTC; 0 = did not come to it */
    unsigned n_words;                           /* registers written */
    uint16_t words[4];
    const char *user_source; /* MQTT user properties, "" or NULL = none */
    const char *user_traceparent;
};

/* JSON texts, malloc'ed (free with free()); NULL when out of memory. */
char *outcome_json(const struct outcome *outcome);
char *outcome_json_audit(const struct outcome *outcome, const struct wire_trace *trace);

/* A published outcome's text once more, marked "duplicate":true. */
char *outcome_json_repeat(const char *payload);

/* Takes a line of the audit log back to whose outcome it was and what was
 * published; *payload is malloc'ed. False for anything else. */
bool outcome_json_parse_audit(const char *line, char device[COMMAND_NAME_MAX + 1],
                              char id[COMMAND_ID_MAX + 1], int64_t *ts_ms, char **payload);
#endif
