/* subscriber: every command has exactly one outcome, whatever comes in between.
 *
 * The real thread between a real inbox and real mailboxes. The test is broker
 * and poller; the audit log below only collects.
 */
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

void audit_file_replay(const char *path, void (*line)(void *context, const char *text),
                       void *context)
{
    (void)path;
    for (const char *const *text = stage.replayed; text != NULL && *text != NULL; text++)
        line(context, *text);
}

/* ---- the stage ---- */

static void stage_open(const char *control)
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

static void stage_start(void)
{
    stage.subscriber = subscriber_start(&(struct subscriber_setup){
        .conf = &stage.conf,
        .inbox = stage.inbox,
        .mailboxes = &stage.mailbox,
        .health = &stage.health,
    });
    assert_non_null(stage.subscriber);
}

static void stage_begin(const char *control)
{
    stage_open(control);
    stage_start();
}

static void stage_end(void)
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

static struct inbox_message message_of(const char *topic, const char *payload)
{
    struct inbox_message message = {.mono_ns = clock_mono_ns(), .utc_ms = clock_utc_ms()};
    snprintf(message.topic, sizeof message.topic, "%s", topic);
    snprintf(message.payload, sizeof message.payload, "%s", payload);
    message.payload_size = strlen(message.payload);
    return message;
}

static void send_message(const struct inbox_message *message)
{
    assert_true(inbox_put_message(stage.inbox, message));
}

#define SETPOINT "flux/demo/Site-BESS-01/set/target_power"

static void send_to(const char *topic, const char *payload)
{
    struct inbox_message message = message_of(topic, payload);
    send_message(&message);
}

static void ask(const char *id, double value)
{
    char payload[200];
    snprintf(payload, sizeof payload, "{\"id\":\"%s\",\"value\":%g}", id, value);
    send_to(SETPOINT, payload);
}

/* Waits until so many answers have been given in all. */
static void wait_answers(unsigned n)
{
    pthread_mutex_lock(&stage.mutex);
    while (stage.n_answers < n)
        pthread_cond_wait(&stage.cond, &stage.mutex);
    pthread_mutex_unlock(&stage.mutex);
}

static struct command take(void)
{
    struct command command;
    assert_true(bed_take(stage.mailbox, &command));
    return command;
}

/* What came of a command, as its poller tells it. */
static void tell(const struct command *command, enum outcome_kind kind)
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

static const char *text_of(unsigned index, const char *key)
{
    const char *text = json_string_value(json_object_get(stage.answers[index].json, key));
    return text != NULL ? text : "";
}

static void assert_answer(unsigned index, const char *id, const char *outcome, const char *reason)
{
    assert_string_equal(text_of(index, "id"), id);
    assert_string_equal(text_of(index, "outcome"), outcome);
    assert_string_equal(text_of(index, "reason"), reason);
}

/* Nothing has come of it but these answers: a last command is the very next. */
static void assert_no_more(unsigned n)
{
    struct command order;
    send_to("flux/demo/nobody/set/end", "{\"id\":\"end\",\"value\":1}");
    wait_answers(n + 1);
    assert_int_equal(stage.n_answers, n + 1);
    assert_answer(n, "end", "refused", "unknown_device");
    assert_false(mailbox_take(stage.mailbox, &order));
}

/* ---- there and back ---- */

static void test_a_command_goes_to_its_poller_and_comes_back(void **state)
{
    (void)state;
    stage_begin("");
    struct inbox_message message = message_of(
        SETPOINT, "{\"id\":\"d-1\",\"value\":50.0,\"issued_at\":1763791200000,\"ttl_s\":5,"
                  "\"source\":\"dispatch-a\"}");
    message.utc_ms = 1763791201000;
    strcpy(message.address.response_topic, "dispatch/answers");
    message.address.correlation_size = 3;
    memcpy(message.address.correlation, "a\0b", 3);
    strcpy(message.user_source, "gateway");
    send_message(&message);

    struct command order = take();
    assert_int_equal(order.device, 0);
    assert_int_equal(order.point, stage.conf.devices.devices[0].control.setpoint);
    assert_true(order.value == 50.0);
    assert_int_equal(order.expires_ns, message.mono_ns + 4 * CLOCK_NS_PER_S);
    assert_int_equal(order.author, AUTHOR_DISPATCHER);
    assert_false(order.stop);
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_answer(0, "d-1", "confirmed", "");
    const struct answer *answer = &stage.answers[0];
    assert_string_equal(answer->topic, "flux/demo/Site-BESS-01/result");
    assert_string_equal(answer->response_topic, "dispatch/answers");
    assert_int_equal(answer->correlation_size, 3);
    assert_memory_equal(answer->correlation, "a\0b", 3);
    assert_string_equal(text_of(0, "source"), "dispatch-a");
    assert_true(json_number_value(json_object_get(answer->json, "readback")) == 50.0);
    assert_true(json_integer_value(json_object_get(answer->json, "ts")) >= message.utc_ms);
    assert_non_null(strstr(answer->line, "\"user_source\":\"gateway\""));
    assert_null(strstr(answer->payload, "gateway"));
    assert_no_more(1);
    assert_int_equal(stage.health.commands, 2);
    assert_int_equal(stage.health.outcomes[OUTCOME_CONFIRMED], 1);
    stage_end();
}

static void test_what_a_poller_tells_is_one_outcome(void **state)
{
    (void)state;
    const struct {
        enum outcome_kind outcome;
        const char *word;
    } rows[] = {{OUTCOME_CONFIRMED, "confirmed"}, {OUTCOME_MISMATCH, "mismatch"},
                {OUTCOME_FAILED, "failed"},       {OUTCOME_REFUSED, "refused"},
                {OUTCOME_UNKNOWN, "unknown"},     {OUTCOME_CONFIRMED, "confirmed"}};
    const unsigned n = sizeof rows / sizeof *rows;
    stage_begin("");
    for (unsigned i = 0; i < n; i++) {
        char id[8];
        snprintf(id, sizeof id, "d-%u", i);
        ask(id, 50);
        struct command order = take();
        tell(&order, rows[i].outcome);
        wait_answers(i + 1);
        assert_string_equal(text_of(i, "id"), id);
        assert_string_equal(text_of(i, "outcome"), rows[i].word);
    }
    assert_no_more(n);
    stage_end();
}

/* ---- refused on arrival ---- */

static void test_every_refusal_is_one_outcome_and_no_order(void **state)
{
    (void)state;
    const char *const good = "{\"id\":\"d\",\"value\":50}";
    const struct {
        const char *topic, *payload, *reason;
        bool retained, too_large, has_id, parsed;
    } rows[] = {
        {SETPOINT, good, "retained", true, false, true, true},
        {SETPOINT, good, "too_large", false, true, false, false},
        {SETPOINT, "{\"id\":\"d\"}", "malformed", false, false, true, false},
        {SETPOINT, "50", "malformed", false, false, false, false},
        {SETPOINT, "", "malformed", false, false, false, false},
        {"flux/demo/nobody/set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo/site-bess-01/set/target_power", good, "unknown_device", false, false, true,
         true},
        {"flux/demo/bridge/set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo//set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/nothing", good, "unknown_point", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/", good, "unknown_point", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/target_power/x", good, "unknown_point", false, false, true,
         true},
        {"flux/demo/Site-BESS-01/set/soe", good, "not_writable", false, false, true, true},
        {"flux/demo/Grid-Meter/set/voltage_l1_n", good, "not_writable", false, false, true, true},
        {SETPOINT, "{\"id\":\"e\",\"value\":1,\"issued_at\":1000,\"ttl_s\":5}", "expired", false,
         false, true, true},
        {SETPOINT, "{\"id\":\"f\",\"value\":1,\"issued_at\":8999999999999,\"ttl_s\":5}",
         "future_dated", false, false, true, true},
        {SETPOINT, "{\"id\":\"g\",\"value\":251}", "out_of_range", false, false, true, true},
        {SETPOINT, "{\"id\":\"h\",\"value\":50.5}", "off_step", false, false, true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        stage_begin("");
        struct inbox_message message = message_of(rows[i].topic, rows[i].payload);
        message.retained = rows[i].retained;
        message.too_large = rows[i].too_large;
        send_message(&message);
        wait_answers(1);
        assert_string_equal(text_of(0, "outcome"), "refused");
        assert_string_equal(text_of(0, "reason"), rows[i].reason);
        const json_t *json = stage.answers[0].json;
        assert_int_equal(json_is_string(json_object_get(json, "id")), rows[i].has_id);
        assert_int_equal(json_is_number(json_object_get(json, "value")), rows[i].parsed);
        assert_int_equal(json_is_null(json_object_get(json, "id")), !rows[i].has_id);
        assert_int_equal(json_is_null(json_object_get(json, "value")), !rows[i].parsed);
        /* To the result topic of the device that the topic names. */
        char result[200];
        const char *end = strstr(rows[i].topic, "/set/");
        snprintf(result, sizeof result, "%.*s/result", (int)(end - rows[i].topic), rows[i].topic);
        assert_string_equal(stage.answers[0].topic, result);
        assert_no_more(1);
        stage_end();
    }
}

static void test_without_an_audit_log_only_zero_passes(void **state)
{
    (void)state;
    stage_begin("");
    pthread_mutex_lock(&stage.mutex);
    stage.audit_unavailable = true;
    pthread_mutex_unlock(&stage.mutex);
    ask("d-1", 50);
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "audit_unavailable");
    ask("d-2", 0);
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(1, "d-2", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

static void test_what_is_no_command_topic_is_passed_over(void **state)
{
    (void)state;
    stage_begin("");
    send_to("flux/demo/Site-BESS-01/state", "{\"id\":\"d\",\"value\":50}");
    send_to("flux/other/Site-BESS-01/set/target_power", "{\"id\":\"d\",\"value\":50}");
    send_to("", "");
    assert_no_more(0);
    assert_int_equal(stage.health.commands, 1);
    stage_end();
}

static void test_a_bare_number_where_it_is_allowed(void **state)
{
    (void)state;
    stage_begin("allow_bare = true;");
    send_to(SETPOINT, "-50");
    struct command order = take();
    assert_true(order.value == -50.0);
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_true(json_is_null(json_object_get(stage.answers[0].json, "id")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[0].json, "value")), -50);
    send_to(SETPOINT, "-50"); /* no id, so no duplicate */
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_no_more(2);
    stage_end();
}

static void test_min_interval_counts_from_the_last_write(void **state)
{
    (void)state;
    stage_begin("min_interval = \"60s\";");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_REFUSED); /* not written */
    wait_answers(1);
    ask("d-2", 50);
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    ask("d-3", 51);
    wait_answers(3);
    assert_answer(2, "d-3", "refused", "rate_limited");
    ask("d-4", 0);
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(4);
    assert_no_more(4);
    stage_end();
}

/* Intervals are measured on the clock that nobody sets. */
static void test_utc_set_back_does_not_make_rate_limited_last(void **state)
{
    (void)state;
    stage_begin("min_interval = \"60s\";");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    const int hours[] = {-5, 5};
    for (unsigned i = 0; i < 2; i++) {
        for (int64_t late = 0; late < 2; late++) {
            struct inbox_message message = message_of(
                SETPOINT, late ? "{\"id\":\"e\",\"value\":51}" : "{\"id\":\"f\",\"value\":51}");
            message.payload[7] = (char)('g' + 2 * i + (unsigned)late); /* an id of its own */
            message.utc_ms += hours[i] * INT64_C(3600000);
            message.mono_ns += late * 61 * CLOCK_NS_PER_S;
            send_message(&message);
            if (late) {
                order = take();
                tell(&order, OUTCOME_REFUSED); /* not written: the interval runs on */
            }
            wait_answers(2 + 2 * i + (unsigned)late);
            assert_string_equal(text_of(1 + 2 * i + (unsigned)late, "reason"),
                                late ? "none" : "rate_limited");
        }
    }
    assert_no_more(5);
    stage_end();
}

/* ---- many ---- */

/* It decides nothing: what replaces what is the battery's business. */
static void test_all_are_handed_on_in_their_order(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 10);
    ask("d-2", 0);
    ask("d-3", 30);
    const double values[] = {10, 0, 30};
    for (unsigned i = 0; i < 3; i++) {
        struct command order = take();
        assert_true(order.value == values[i]);
        assert_int_equal(order.stop, i == 1);
        tell(&order, i == 0 ? OUTCOME_SUPERSEDED : OUTCOME_CONFIRMED);
    }
    wait_answers(3);
    assert_answer(0, "d-1", "superseded", "");
    assert_answer(1, "d-2", "confirmed", "");
    assert_answer(2, "d-3", "confirmed", "");
    assert_no_more(3);
    stage_end();
}

/* A poller that takes nothing: no more than can be kept, but every stop. */
static void test_more_than_can_be_kept(void **state)
{
    (void)state;
    enum { STOPS = 100 };
    stage_begin("");
    char id[16];
    for (unsigned i = 0; i <= MAILBOX_COMMANDS; i++) {
        snprintf(id, sizeof id, "s%u", i);
        ask(id, 10);
    }
    wait_answers(1);
    snprintf(id, sizeof id, "s%u", MAILBOX_COMMANDS);
    assert_answer(0, id, "refused", "rate_limited");
    for (unsigned i = 0; i < STOPS; i++) {
        snprintf(id, sizeof id, "z%u", i);
        ask(id, 0);
    }
    /* In their places: first of the setpoints, then of the oldest stops. */
    const unsigned n = 1 + STOPS + MAILBOX_COMMANDS - MAILBOX_PLACES;
    wait_answers(n);
    for (unsigned i = 1; i < n; i++)
        assert_string_equal(text_of(i, "outcome"),
                            i <= MAILBOX_COMMANDS ? "superseded" : "unknown");
    assert_string_equal(text_of(n - 1, "id"), "z51");
    ask("z51", 0); /* answered, and no more under way */
    wait_answers(n + 1);
    assert_true(json_is_true(json_object_get(stage.answers[n].json, "duplicate")));
    for (unsigned i = STOPS - MAILBOX_PLACES; i < STOPS; i++) {
        struct command order = take();
        snprintf(id, sizeof id, "z%u", i);
        assert_string_equal(order.id, id);
        tell(&order, OUTCOME_CONFIRMED);
    }
    wait_answers(n + 1 + MAILBOX_PLACES);
    assert_no_more(n + 1 + MAILBOX_PLACES);
    stage_end();
}

/* One that came another way than as JSON passes the same door. */
static void test_a_ready_command_is_taken_like_any_other(void **state)
{
    (void)state;
    stage_begin("");
    struct command ready = {.author = AUTHOR_DISPATCHER,
                            .device_name = "Site-BESS-01",
                            .point_name = "target_power",
                            .id = "r-1",
                            .source = "elsewhere",
                            .has_value = true,
                            .value = 50,
                            .mono_ns = clock_mono_ns(),
                            .utc_ms = clock_utc_ms()};
    assert_true(inbox_put_command(stage.inbox, &ready));
    struct command order = take();
    assert_string_equal(order.id, "r-1");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_answer(0, "r-1", "confirmed", "");
    assert_true(inbox_put_command(stage.inbox, &ready)); /* the same id again */
    wait_answers(2);
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "duplicate")));
    ready.has_value = false;
    strcpy(ready.id, "r-2");
    assert_true(inbox_put_command(stage.inbox, &ready));
    wait_answers(3);
    assert_answer(2, "r-2", "refused", "malformed");
    assert_no_more(3);
    stage_end();
}

static void test_another_point_replaces_nothing(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 10);
    send_to("flux/demo/Site-BESS-01/set/command_source", "{\"id\":\"d-2\",\"value\":5}");
    struct command first = take();
    struct command second = take();
    tell(&first, OUTCOME_CONFIRMED);
    tell(&second, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(0, "d-1", "confirmed", "");
    assert_answer(1, "d-2", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

enum { BURST = 900 };

/* Carries out commands as fast as they come. */
static void *fast_poller(void *argument)
{
    struct command order;
    (void)argument;
    while (bed_take(stage.mailbox, &order))
        tell(&order, OUTCOME_CONFIRMED);
    return NULL;
}

static void test_a_burst_has_one_outcome_each(void **state)
{
    (void)state;
    static unsigned seen[BURST];
    memset(seen, 0, sizeof seen);
    stage_open("");
    stage.conf.devices.devices[0].control.max_kw = BURST;
    for (unsigned i = 0; i < BURST; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        ask(id, i);
    }
    pthread_t poller;
    pthread_create(&poller, NULL, fast_poller, NULL);
    stage_start();
    wait_answers(BURST);
    mailbox_stop(stage.mailbox);
    pthread_join(poller, NULL);
    for (unsigned i = 0; i < BURST; i++) {
        bool confirmed = strcmp(text_of(i, "outcome"), "confirmed") == 0;
        assert_true(confirmed || strcmp(text_of(i, "reason"), "rate_limited") == 0);
        unsigned id = (unsigned)atoi(text_of(i, "id"));
        assert_true(id < BURST);
        seen[id]++;
    }
    for (unsigned i = 0; i < BURST; i++)
        assert_int_equal(seen[i], 1);
    assert_no_more(BURST);
    stage_end();
}

/* ---- the same id again ---- */

static void test_a_repeated_id_is_not_executed_again(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    ask("d-1", 60); /* still under way */
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "duplicate");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    ask("d-1", 70);
    wait_answers(3);
    /* The first outcome, marked. */
    assert_string_equal(text_of(2, "outcome"), "confirmed");
    assert_true(json_is_true(json_object_get(stage.answers[2].json, "duplicate")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[2].json, "value")), 50);
    /* Zero is no exception, and a refused id is used up as well. */
    ask("d-1", 0);
    ask("d-2", 251);
    ask("d-2", 50);
    wait_answers(6);
    assert_true(json_is_true(json_object_get(stage.answers[3].json, "duplicate")));
    assert_answer(5, "d-2", "refused", "out_of_range");
    assert_true(json_is_true(json_object_get(stage.answers[5].json, "duplicate")));
    assert_no_more(6);
    stage_end();
}

/* Neither is what its id is remembered by: it may come again, put right. */
static void test_what_is_no_outcome_of_its_id(void **state)
{
    (void)state;
    stage_begin("");
    send_to(SETPOINT, "{\"id\":\"d-1\",\"value\":\"fifty\"}");
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "malformed"); /* whose it is, is told */
    ask("d-1", 50);
    struct command order = take();
    ask("d-1", 50);
    wait_answers(2);
    assert_answer(1, "d-1", "refused", "duplicate"); /* no outcome of it either */
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_answer(2, "d-1", "confirmed", "");
    ask("d-1", 50);
    wait_answers(4);
    assert_answer(3, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[3].json, "duplicate")));
    assert_no_more(4);
    stage_end();
}

/* Under way at the same time, answered each, and remembered each for itself. */
static void test_the_same_id_on_two_devices_is_two_commands(void **state)
{
    (void)state;
    static const char other[] = "flux/demo/Site-BESS-02/set/target_power";
    stage_begin("");
    ask("d-1", 50);
    struct command first = take();
    send_to(other, "{\"id\":\"d-1\",\"value\":60}");
    struct command second = take();
    assert_int_equal(first.device, 0);
    assert_int_equal(second.device, 1);
    tell(&second, OUTCOME_MISMATCH);
    wait_answers(1);
    ask("d-1", 50); /* the first is under way all the same */
    wait_answers(2);
    assert_answer(1, "d-1", "refused", "duplicate");
    tell(&first, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_string_equal(text_of(0, "device"), "Site-BESS-02");
    assert_string_equal(text_of(2, "device"), "Site-BESS-01");
    ask("d-1", 50);
    send_to(other, "{\"id\":\"d-1\",\"value\":60}");
    wait_answers(5);
    assert_answer(3, "d-1", "confirmed", "");
    assert_answer(4, "d-1", "mismatch", "");
    assert_no_more(5);
    stage_end();
}

static void test_an_id_of_an_earlier_run_is_known(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":1763791200000,\"latency_ms\":1.0,\"received\":1}",
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"mismatch\",\"ts\":1763791200500,\"latency_ms\":1.0,\"received\":1,"
        "\"correction\":true}",
        "{\"id\":\"twice\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"refused\",\"reason\":\"duplicate\",\"ts\":1763791200500,\"received\":1}",
        "no JSON",
        "{\"id\":\"other\",\"device\":\"gone\",\"outcome\":\"confirmed\",\"ts\":1763791200000}",
        NULL,
    };
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("old", 50);
    wait_answers(1);
    assert_answer(0, "old", "confirmed", ""); /* its first outcome */
    assert_true(json_is_true(json_object_get(stage.answers[0].json, "duplicate")));
    const char *const others[] = {"other", "twice"}; /* of another device; none at all */
    for (unsigned i = 0; i < 2; i++) {
        ask(others[i], 50);
        struct command order = take();
        tell(&order, OUTCOME_CONFIRMED);
        wait_answers(2 + i);
        assert_answer(1 + i, others[i], "confirmed", "");
    }
    assert_no_more(3);
    stage_end();
}

/* Written before the clock was set back: it is no younger than what follows it. */
static void test_a_line_of_the_future_is_as_old_as_the_next(void **state)
{
    (void)state;
    enum { LINES = ANSWERED_LAST + 1 };
    static char text[LINES][160];
    static const char *lines[LINES + 1];
    for (unsigned i = 0; i < LINES; i++) {
        snprintf(text[i], sizeof text[i],
                 "{\"id\":\"n-%u\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                 "\"value\":1,\"outcome\":\"confirmed\",\"ts\":%lld}",
                 i,
                 i == 0           ? 9000000000000LL
                 : i == LINES - 1 ? (long long)clock_utc_ms()
                                  : 1763791200000LL);
        lines[i] = text[i];
    }
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("n-0", 50); /* not among the last thousand, and not of the last minutes */
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_null(json_object_get(stage.answers[0].json, "duplicate"));
    ask("n-1000", 50);
    wait_answers(2);
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "duplicate")));
    stage_end();
}

/* With nothing behind it nobody knows how old it is: it counts as new. */
static void test_a_last_line_of_the_future_is_known(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"next\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":9000000000000}",
        NULL,
    };
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("next", 50);
    wait_answers(1);
    assert_true(json_is_true(json_object_get(stage.answers[0].json, "duplicate")));
    stage_end();
}

static void test_a_later_poll_corrects_an_unknown_outcome(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_UNKNOWN);
    wait_answers(1);
    inbox_put_outcome(stage.inbox, &(struct outcome){.command = order,
                                                     .kind = OUTCOME_CONFIRMED,
                                                     .correction = true,
                                                     .has_readback = true,
                                                     .readback = 50,
                                                     .written_ns = 1,
                                                     .done_ns = clock_mono_ns()});
    wait_answers(2);
    assert_answer(0, "d-1", "unknown", "");
    assert_answer(1, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "correction")));
    assert_int_equal(stage.health.outcomes[OUTCOME_CONFIRMED], 0); /* one command, one count */
    ask("d-1", 50); /* the first outcome is what it is remembered by */
    wait_answers(3);
    assert_answer(2, "d-1", "unknown", "");
    assert_no_more(3);
    stage_end();
}

/* ---- the end ---- */

static void test_while_it_drains_it_refuses_and_still_answers(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    subscriber_drain(stage.subscriber);
    ask("d-2", 0);
    wait_answers(1);
    assert_answer(0, "d-2", "refused", "shutting_down");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(1, "d-1", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

/* ---- schedules ---- */

#define SCHEDULE "flux/demo/Site-BESS-01/schedule/set"

static const char *schedule_of(const char *more, const char *entries)
{
    static char payload[2000];
    snprintf(payload, sizeof payload,
             "{\"id\":\"day\",\"revision\":7,\"valid_until\":%lld,\"entries\":[%s]%s}",
             (long long)clock_utc_ms() + 100000, entries, more);
    return payload;
}

static void test_a_schedule_goes_to_its_poller(void **state)
{
    (void)state;
    stage_begin("");
    /* An id that a command has, too. */
    ask("day", 50);
    const struct command order = take();
    send_to(SCHEDULE, schedule_of("", "{\"start\":1,\"end\":2,\"value\":250}"));
    struct command offer = take();
    assert_true(offer.offers);
    assert_int_equal(offer.device, 0);
    assert_int_equal(offer.revision, 7);
    assert_int_equal(offer.timetable->n, 1);
    schedule_json_free(offer.timetable);
    offer.timetable = NULL;
    tell(&offer, OUTCOME_ACCEPTED);
    wait_answers(1);
    assert_answer(0, "day", "accepted", "");
    assert_string_equal(text_of(0, "point"), "schedule");
    assert_int_equal(json_integer_value(json_object_get(stage.answers[0].json, "revision")), 7);
    assert_string_equal(stage.answers[0].topic, "flux/demo/Site-BESS-01/result");
    /* The command of that id is still under way, and a schedule is no command's outcome. */
    ask("day", 50);
    wait_answers(2);
    assert_answer(1, "day", "refused", "duplicate");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_answer(2, "day", "confirmed", "");
    assert_no_more(3);
    stage_end();
}

static void test_a_schedules_refusals(void **state)
{
    (void)state;
    const struct {
        const char *topic, *more, *entries, *reason;
        bool retained, too_large, unrecorded, unsynchronised;
    } rows[] = {
        {SCHEDULE, "", "7", "retained", .retained = true},
        {SCHEDULE, "", "", "too_large", .too_large = true},
        {SCHEDULE, "", "7", "malformed", .unrecorded = true},
        {SCHEDULE, ",\"x\":1", "", "malformed", .unrecorded = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":3,\"value\":1},{\"start\":2,\"end\":4,\"value\":1}",
         "overlap", .unrecorded = true},
        {"flux/demo/nobody/schedule/set", "", "", "unknown_device", .unrecorded = true},
        {"flux/demo/Grid-Meter/schedule/set", "", "", "not_writable", .unrecorded = true},
        {SCHEDULE, ",\"issued_at\":9000000000000", "", "future_dated", .unrecorded = true},
        {SCHEDULE, ",\"valid_until\":1763791200000", "", "malformed",
         .unrecorded = false}, /* twice */
        {SCHEDULE, "", "", "audit_unavailable", .unrecorded = true, .unsynchronised = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":251}", "clock_unsynchronised",
         .unsynchronised = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":1},{\"start\":2,\"end\":3,\"value\":251}",
         "out_of_range", .retained = false},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":1.5}", "off_step", .retained = false},
    };
    stage_begin("");
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct inbox_message message =
            message_of(rows[i].topic, schedule_of(rows[i].more, rows[i].entries));
        message.retained = rows[i].retained;
        message.too_large = rows[i].too_large;
        pthread_mutex_lock(&stage.mutex);
        stage.audit_unavailable = rows[i].unrecorded;
        pthread_mutex_unlock(&stage.mutex);
        stage.health.unsynchronised_ns =
            rows[i].unsynchronised ? message.mono_ns - 3600 * CLOCK_NS_PER_S : 0;
        send_message(&message);
        wait_answers(i + 1);
        if (strcmp(text_of(i, "reason"), rows[i].reason) != 0)
            fail_msg("%u: %s", i, stage.answers[i].payload);
        assert_string_equal(text_of(i, "outcome"), "refused");
        assert_string_equal(text_of(i, "point"), "schedule");
    }
    stage.audit_unavailable = false;
    send_to(SCHEDULE, "{\"id\":\"day\",\"revision\":7,\"valid_until\":1763791200,"
                      "\"entries\":[]}");
    wait_answers(sizeof rows / sizeof *rows + 1);
    assert_answer(sizeof rows / sizeof *rows, "day", "refused", "expired");
    assert_non_null(strstr(text_of(sizeof rows / sizeof *rows, "detail"), "looks like seconds"));
    assert_no_more(sizeof rows / sizeof *rows + 1);
    stage_end();
}

/* What nobody takes any more is answered and freed. */
static void test_schedules_that_a_stop_takes_the_place_of(void **state)
{
    (void)state;
    stage_begin("");
    for (int i = 0; i < MAILBOX_COMMANDS; i++)
        send_to(SCHEDULE, schedule_of("", ""));
    send_to(SCHEDULE, schedule_of("", ""));
    wait_answers(1);
    assert_answer(0, "day", "refused", "rate_limited");
    for (int i = 0; i <= MAILBOX_PLACES - MAILBOX_COMMANDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "stop-%d", i);
        ask(id, 0);
    }
    wait_answers(2);
    assert_answer(1, "day", "superseded", "");
    stage_end(); /* the others with the mailbox */
}

static void test_stopping_answers_what_is_left(void **state)
{
    (void)state;
    enum { LEFT = 50 };
    stage_open("");
    for (unsigned i = 0; i < LEFT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        ask(id, 251);
    }
    stage_start();
    subscriber_stop(stage.subscriber);
    stage.subscriber = NULL;
    assert_int_equal(stage.n_answers, LEFT);
    for (unsigned i = 0; i < LEFT; i++)
        assert_int_equal(atoi(text_of(i, "id")), i);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_goes_to_its_poller_and_comes_back),
        cmocka_unit_test(test_what_a_poller_tells_is_one_outcome),
        cmocka_unit_test(test_every_refusal_is_one_outcome_and_no_order),
        cmocka_unit_test(test_without_an_audit_log_only_zero_passes),
        cmocka_unit_test(test_what_is_no_command_topic_is_passed_over),
        cmocka_unit_test(test_a_bare_number_where_it_is_allowed),
        cmocka_unit_test(test_min_interval_counts_from_the_last_write),
        cmocka_unit_test(test_utc_set_back_does_not_make_rate_limited_last),
        cmocka_unit_test(test_all_are_handed_on_in_their_order),
        cmocka_unit_test(test_more_than_can_be_kept),
        cmocka_unit_test(test_a_ready_command_is_taken_like_any_other),
        cmocka_unit_test(test_another_point_replaces_nothing),
        cmocka_unit_test(test_a_burst_has_one_outcome_each),
        cmocka_unit_test(test_a_repeated_id_is_not_executed_again),
        cmocka_unit_test(test_what_is_no_outcome_of_its_id),
        cmocka_unit_test(test_the_same_id_on_two_devices_is_two_commands),
        cmocka_unit_test(test_an_id_of_an_earlier_run_is_known),
        cmocka_unit_test(test_a_line_of_the_future_is_as_old_as_the_next),
        cmocka_unit_test(test_a_last_line_of_the_future_is_known),
        cmocka_unit_test(test_a_later_poll_corrects_an_unknown_outcome),
        cmocka_unit_test(test_while_it_drains_it_refuses_and_still_answers),
        cmocka_unit_test(test_a_schedule_goes_to_its_poller),
        cmocka_unit_test(test_a_schedules_refusals),
        cmocka_unit_test(test_schedules_that_a_stop_takes_the_place_of),
        cmocka_unit_test(test_stopping_answers_what_is_left),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
