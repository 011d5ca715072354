/* subscriber_stage: a real subscriber between a real inbox and real mailboxes.
 *
 * The test is broker and poller; the audit log below only collects.
 */
#ifndef TESTS_UNIT_SUBSCRIBER_STAGE_H
#define TESTS_UNIT_SUBSCRIBER_STAGE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bed.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/commands/answered.h"
#include "bridge/commands/audit_file.h"
#include "bridge/commands/subscriber.h"
#include "bridge/wire/schedule_json.h"
#include "site.h"

enum { ANSWERS_MOST = 1000 };

struct answer {
    char *topic, *payload, *line, *response_topic;
    size_t correlation_size;
    unsigned char correlation[COMMAND_CORRELATION_MAX];
    json_t *json;
};

static struct stage {
    struct conf conf;
    struct inbox *inbox;
    struct mailbox *mailbox;
    struct health health;
    struct subscriber *subscriber;
    const char *const *replayed; /* lines of an earlier run, ended by NULL */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool audit_unavailable;
    struct answer answers[ANSWERS_MOST];
    unsigned n_answers;
} stage = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* ---- the audit log, as the subscriber knows it ---- */

bool audit_available(struct audit *audit)
{
    (void)audit;
    pthread_mutex_lock(&stage.mutex);
    bool available = !stage.audit_unavailable;
    pthread_mutex_unlock(&stage.mutex);
    return available;
}

bool audit_was_available(const struct audit *unused)
{
    (void)unused;
    return true;
}

void audit_put(struct audit *audit, const struct audit_entry *entry)
{
    (void)audit;
    pthread_mutex_lock(&stage.mutex);
    if (stage.n_answers == ANSWERS_MOST)
        abort();
    struct answer *answer = &stage.answers[stage.n_answers++];
    *answer = (struct answer){
        .topic = strdup(entry->topic),
        .payload = strdup(entry->payload),
        .line = strdup(entry->line),
        .response_topic = entry->response_topic != NULL ? strdup(entry->response_topic) : NULL,
        .correlation_size = entry->correlation_size,
        .json = json_loads(entry->payload, JSON_REJECT_DUPLICATES, NULL),
    };
    memcpy(answer->correlation, entry->correlation, entry->correlation_size);
    pthread_cond_broadcast(&stage.cond);
    pthread_mutex_unlock(&stage.mutex);
}

bool audit_take_earlier(struct audit *audit, char **lines)
{
    (void)audit;
    size_t size = 0;
    FILE *text = open_memstream(lines, &size);
    for (const char *const *line = stage.replayed; line != NULL && *line != NULL; line++)
        fprintf(text, "%s\n", *line);
    fclose(text);
    stage.replayed = NULL;
    return true;
}

void audit_read_earlier(struct audit *audit)
{
    (void)audit;
}

/* ---- the stage ---- */

static inline void stage_open(const char *control)
{
    char devices[2048];
    snprintf(
        devices, sizeof devices,
        "bess = ( " SITE_BATTERY("b1", "Site-BESS-01", "1", SITE_DISCHARGE "%s") ", " SITE_BATTERY(
            "b2", "Site-BESS-02", "3",
            SITE_DISCHARGE) ");"
                            "meters = ( { id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\"; "
                            "modbus: { "
                            "host = \"127.0.0.1\"; port = 1502; address = 2; timeout = \"5s\"; }; "
                            "} );",
        control);
    site_read(&stage.conf, devices);
    stage.inbox = inbox_new();
    stage.mailbox = mailbox_new(2);
    memset(&stage.health, 0, sizeof stage.health);
    stage.n_answers = 0;
    stage.audit_unavailable = false;
    stage.replayed = NULL;
    stage.subscriber = NULL;
}

static inline void stage_start(void)
{
    stage.subscriber = subscriber_start(&(struct subscriber_setup){
        .conf = &stage.conf,
        .inbox = stage.inbox,
        .mailboxes = &stage.mailbox,
        .health = &stage.health,
    });
    assert_non_null(stage.subscriber);
}

static inline void stage_begin(const char *control)
{
    stage_open(control);
    stage_start();
}

static inline void stage_end(void)
{
    subscriber_stop(stage.subscriber);
    for (unsigned i = 0; i < stage.n_answers; i++) {
        struct answer *answer = &stage.answers[i];
        free(answer->topic);
        free(answer->payload);
        free(answer->line);
        free(answer->response_topic);
        json_decref(answer->json);
    }
    mailbox_free(stage.mailbox);
    inbox_free(stage.inbox);
    conf_free(&stage.conf);
}

static inline struct inbox_message message_of(const char *topic, const char *payload)
{
    struct inbox_message message = {.mono_ns = clock_mono_ns(), .utc_ms = clock_utc_ms()};
    snprintf(message.topic, sizeof message.topic, "%s", topic);
    snprintf(message.payload, sizeof message.payload, "%s", payload);
    message.payload_size = strlen(message.payload);
    return message;
}

static inline void send_message(const struct inbox_message *message)
{
    assert_true(inbox_put_message(stage.inbox, message));
}

#define SETPOINT "flux/demo/Site-BESS-01/set/target_power"

static inline void send_to(const char *topic, const char *payload)
{
    struct inbox_message message = message_of(topic, payload);
    send_message(&message);
}

static inline void ask(const char *id, double value)
{
    char payload[200];
    snprintf(payload, sizeof payload, "{\"id\":\"%s\",\"value\":%g}", id, value);
    send_to(SETPOINT, payload);
}

/* Waits until so many answers have been given in all. */
static inline void wait_answers(unsigned n)
{
    pthread_mutex_lock(&stage.mutex);
    while (stage.n_answers < n)
        pthread_cond_wait(&stage.cond, &stage.mutex);
    pthread_mutex_unlock(&stage.mutex);
}

static inline struct command take(void)
{
    struct command command;
    assert_true(bed_take(stage.mailbox, &command));
    return command;
}

/* What came of a command, as its poller tells it. */
static inline void tell(const struct command *command, enum outcome_kind kind)
{
    struct outcome outcome = {.command = *command, .kind = kind, .done_ns = clock_mono_ns()};
    if (kind == OUTCOME_CONFIRMED) {
        outcome.has_readback = true;
        outcome.readback = command->value;
    }
    if (kind != OUTCOME_REFUSED)
        outcome.written_ns = outcome.done_ns;
    inbox_put_outcome(stage.inbox, &outcome);
}

static inline const char *text_of(unsigned index, const char *key)
{
    const char *text = json_string_value(json_object_get(stage.answers[index].json, key));
    return text != NULL ? text : "";
}

static inline void assert_answer(unsigned index, const char *id, const char *outcome,
                                 const char *reason)
{
    assert_string_equal(text_of(index, "id"), id);
    assert_string_equal(text_of(index, "outcome"), outcome);
    assert_string_equal(text_of(index, "reason"), reason);
}

/* Nothing has come of it but these answers: a last command is the very next. */
static inline void assert_no_more(unsigned n)
{
    struct command order;
    send_to("flux/demo/nobody/set/end", "{\"id\":\"end\",\"value\":1}");
    wait_answers(n + 1);
    assert_int_equal(stage.n_answers, n + 1);
    assert_answer(n, "end", "refused", "unknown_device");
    assert_false(mailbox_take(stage.mailbox, &order));
}

#endif
