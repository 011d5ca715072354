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
#include "bridge/commands/subscriber.h"
#include "site.h"

enum { ANSWERS_MOST = 1000 };

struct answer {
    char *topic, *payload, *line, *response_topic;
    size_t correlation_size;
    unsigned char correlation[INBOX_CORRELATION_MAX];
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

void audit_replay(const char *path, void (*line)(void *context, const char *text), void *context)
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
        "bess = ( " SITE_BATTERY(
            "b1", "Site-BESS-01", "1",
            SITE_DISCHARGE
            "%s") ");"
                  "meters = ( { id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\"; modbus: { "
                  "host = \"127.0.0.1\"; port = 1502; address = 2; timeout = \"5s\"; }; } );",
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
        .run = "5f3a9c1e",
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

static void command(const char *id, double value)
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

static struct order take_order(void)
{
    struct order order;
    assert_true(bed_wait(stage.mailbox));
    assert_true(mailbox_take(stage.mailbox, &order));
    return order;
}

static void assert_no_order_until(int64_t until_ns)
{
    struct pollfd wanted = {.fd = mailbox_fd(stage.mailbox), .events = POLLIN};
    eventfd_t count;
    for (int64_t now_ns; (now_ns = clock_mono_ns()) < until_ns;) {
        if (poll(&wanted, 1, (int)((until_ns - now_ns) / CLOCK_NS_PER_MS) + 1) > 0)
            eventfd_read(wanted.fd, &count);
        assert_int_equal(mailbox_waiting(stage.mailbox), 0);
    }
}

static void report(const struct order *order, enum outcome_kind outcome)
{
    struct report report = {.order = *order, .outcome = outcome, .done_ns = clock_mono_ns()};
    if (outcome == OUTCOME_CONFIRMED) {
        report.has_readback = true;
        report.readback = order->value;
    }
    if (outcome != OUTCOME_REFUSED)
        report.written_ns = report.done_ns;
    inbox_put_report(stage.inbox, &report);
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
    struct order order;
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
    strcpy(message.response_topic, "dispatch/answers");
    message.correlation_size = 3;
    memcpy(message.correlation, "a\0b", 3);
    strcpy(message.user_source, "gateway");
    send_message(&message);

    struct order order = take_order();
    assert_int_equal(order.device, 0);
    assert_int_equal(order.point, stage.conf.devices.devices[0].control.setpoint);
    assert_true(order.value == 50.0);
    assert_int_equal(order.expires_ns, message.mono_ns + 4 * CLOCK_NS_PER_S);
    assert_false(order.own);
    report(&order, OUTCOME_CONFIRMED);
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

static void test_every_report_is_one_outcome(void **state)
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
        command(id, 50);
        struct order order = take_order();
        report(&order, rows[i].outcome);
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
        bool retained, too_large, parsed;
    } rows[] = {
        {SETPOINT, good, "retained", true, false, true},
        {SETPOINT, good, "too_large", false, true, false},
        {SETPOINT, "{\"id\":\"d\"}", "malformed", false, false, false},
        {SETPOINT, "50", "malformed", false, false, false},
        {SETPOINT, "", "malformed", false, false, false},
        {"flux/demo/nobody/set/target_power", good, "unknown_device", false, false, true},
        {"flux/demo/site-bess-01/set/target_power", good, "unknown_device", false, false, true},
        {"flux/demo/bridge/set/target_power", good, "unknown_device", false, false, true},
        {"flux/demo//set/target_power", good, "unknown_device", false, false, true},
        {"flux/demo/Site-BESS-01/set/nothing", good, "unknown_point", false, false, true},
        {"flux/demo/Site-BESS-01/set/", good, "unknown_point", false, false, true},
        {"flux/demo/Site-BESS-01/set/target_power/x", good, "unknown_point", false, false, true},
        {"flux/demo/Site-BESS-01/set/soe", good, "not_writable", false, false, true},
        {"flux/demo/Grid-Meter/set/voltage_l1_n", good, "not_writable", false, false, true},
        {SETPOINT, "{\"id\":\"e\",\"value\":1,\"issued_at\":1000,\"ttl_s\":5}", "expired", false,
         false, true},
        {SETPOINT, "{\"id\":\"f\",\"value\":1,\"issued_at\":8999999999999,\"ttl_s\":5}",
         "future_dated", false, false, true},
        {SETPOINT, "{\"id\":\"g\",\"value\":251}", "out_of_range", false, false, true},
        {SETPOINT, "{\"id\":\"h\",\"value\":50.5}", "off_step", false, false, true},
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
        assert_int_equal(json_is_string(json_object_get(json, "id")), rows[i].parsed);
        assert_int_equal(json_is_number(json_object_get(json, "value")), rows[i].parsed);
        assert_int_equal(json_is_null(json_object_get(json, "id")), !rows[i].parsed);
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
    command("d-1", 50);
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "audit_unavailable");
    command("d-2", 0);
    struct order order = take_order();
    report(&order, OUTCOME_CONFIRMED);
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
    struct order order = take_order();
    assert_true(order.value == -50.0);
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_true(json_is_null(json_object_get(stage.answers[0].json, "id")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[0].json, "value")), -50);
    send_to(SETPOINT, "-50"); /* no id, so no duplicate */
    order = take_order();
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_no_more(2);
    stage_end();
}

static void test_min_interval_counts_from_the_last_write(void **state)
{
    (void)state;
    stage_begin("min_interval = \"60s\";");
    command("d-1", 50);
    struct order order = take_order();
    report(&order, OUTCOME_REFUSED); /* not written */
    wait_answers(1);
    command("d-2", 50);
    order = take_order();
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    command("d-3", 51);
    wait_answers(3);
    assert_answer(2, "d-3", "refused", "rate_limited");
    command("d-4", 0);
    order = take_order();
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(4);
    assert_no_more(4);
    stage_end();
}

/* ---- one replaces another ---- */

static void test_a_newer_setpoint_replaces_the_waiting_one(void **state)
{
    (void)state;
    stage_begin("");
    command("d-1", 10);
    struct order first = take_order(); /* under way: it is not replaced */
    command("d-2", 20);
    command("d-3", 30);
    wait_answers(1);
    assert_answer(0, "d-2", "superseded", "");
    command("d-4", 40);
    wait_answers(2);
    assert_answer(1, "d-3", "superseded", "");
    report(&first, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_answer(2, "d-1", "confirmed", "");
    struct order last = take_order();
    assert_true(last.value == 40.0);
    report(&last, OUTCOME_CONFIRMED);
    wait_answers(4);
    assert_answer(3, "d-4", "confirmed", "");
    assert_no_more(4);
    stage_end();
}

static void test_another_point_replaces_nothing(void **state)
{
    (void)state;
    stage_begin("");
    command("d-1", 10);
    send_to("flux/demo/Site-BESS-01/set/command_source", "{\"id\":\"d-2\",\"value\":5}");
    struct order first = take_order();
    struct order second = take_order();
    report(&first, OUTCOME_CONFIRMED);
    report(&second, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(0, "d-1", "confirmed", "");
    assert_answer(1, "d-2", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

enum { BURST = 900 };

/* Carries out orders as fast as they come, until the last of the burst. */
static void *fast_poller(void *argument)
{
    (void)argument;
    while (bed_wait(stage.mailbox)) {
        struct order order;
        if (!mailbox_take(stage.mailbox, &order))
            continue;
        report(&order, OUTCOME_CONFIRMED);
        if (order.value == (double)BURST - 1)
            break;
    }
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
        command(id, i);
    }
    pthread_t poller;
    pthread_create(&poller, NULL, fast_poller, NULL);
    stage_start();
    pthread_join(poller, NULL);
    wait_answers(BURST);
    for (unsigned i = 0; i < BURST; i++) {
        bool confirmed = strcmp(text_of(i, "outcome"), "confirmed") == 0;
        assert_true(confirmed || strcmp(text_of(i, "outcome"), "superseded") == 0);
        unsigned id = (unsigned)atoi(text_of(i, "id"));
        assert_true(id < BURST);
        seen[id]++;
        if (id == BURST - 1)
            assert_true(confirmed);
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
    command("d-1", 50);
    struct order order = take_order();
    command("d-1", 60); /* still under way */
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "duplicate");
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    command("d-1", 70);
    wait_answers(3);
    /* The first outcome, marked. */
    assert_string_equal(text_of(2, "outcome"), "confirmed");
    assert_true(json_is_true(json_object_get(stage.answers[2].json, "duplicate")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[2].json, "value")), 50);
    /* Zero is no exception, and a refused id is used up as well. */
    command("d-1", 0);
    command("d-2", 251);
    command("d-2", 50);
    wait_answers(6);
    assert_true(json_is_true(json_object_get(stage.answers[3].json, "duplicate")));
    assert_answer(5, "d-2", "refused", "out_of_range");
    assert_true(json_is_true(json_object_get(stage.answers[5].json, "duplicate")));
    assert_no_more(6);
    stage_end();
}

static void test_an_id_of_an_earlier_run_is_known(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":1763791200000,\"latency_ms\":1.0,\"received\":1}",
        "no JSON",
        "{\"id\":\"other\",\"device\":\"gone\",\"outcome\":\"confirmed\",\"ts\":1763791200000}",
        NULL,
    };
    stage_open("");
    stage.replayed = lines;
    stage_start();
    command("old", 50);
    wait_answers(1);
    assert_true(json_is_true(json_object_get(stage.answers[0].json, "duplicate")));
    command("other", 50); /* of another device */
    struct order order = take_order();
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_no_more(2);
    stage_end();
}

static void test_a_later_poll_corrects_an_unknown_outcome(void **state)
{
    (void)state;
    stage_begin("");
    command("d-1", 50);
    struct order order = take_order();
    report(&order, OUTCOME_UNKNOWN);
    wait_answers(1);
    inbox_put_report(stage.inbox, &(struct report){.kind = REPORT_CORRECTION,
                                                   .order = order,
                                                   .outcome = OUTCOME_CONFIRMED,
                                                   .has_readback = true,
                                                   .readback = 50,
                                                   .written_ns = 1,
                                                   .done_ns = clock_mono_ns()});
    wait_answers(2);
    assert_answer(0, "d-1", "unknown", "");
    assert_answer(1, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "correction")));
    assert_int_equal(stage.health.outcomes[OUTCOME_CONFIRMED], 0); /* one command, one count */
    assert_no_more(2);
    stage_end();
}

/* ---- the end ---- */

static void test_while_it_drains_it_refuses_and_still_answers(void **state)
{
    (void)state;
    stage_begin("");
    command("d-1", 50);
    struct order order = take_order();
    subscriber_drain(stage.subscriber);
    command("d-2", 0);
    wait_answers(1);
    assert_answer(0, "d-2", "refused", "shutting_down");
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(1, "d-1", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

static void *drain(void *argument)
{
    subscriber_drain(argument);
    return NULL;
}

static void test_on_exit_it_writes_the_fallback(void **state)
{
    (void)state;
    stage_begin("on_exit = \"fallback\";");
    command("d-1", 50);
    struct order replaced = take_order();
    report(&replaced, OUTCOME_CONFIRMED);
    wait_answers(1);
    pthread_t thread;
    pthread_create(&thread, NULL, drain, stage.subscriber);
    struct order order = take_order();
    assert_true(order.own);
    assert_true(order.value == 0.0);
    assert_int_equal(order.expires_ns, CLOCK_NEVER);
    report(&order, OUTCOME_CONFIRMED);
    pthread_join(thread, NULL); /* it waited for that */
    wait_answers(2);
    assert_string_equal(text_of(1, "outcome"), "confirmed");
    assert_string_equal(text_of(1, "source"), "exit");
    assert_string_not_equal(text_of(1, "id"), "");
    stage_end();
}

static void test_stopping_answers_what_is_left(void **state)
{
    (void)state;
    enum { LEFT = 50 };
    stage_open("");
    for (unsigned i = 0; i < LEFT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        command(id, 251);
    }
    stage_start();
    subscriber_stop(stage.subscriber);
    stage.subscriber = NULL;
    assert_int_equal(stage.n_answers, LEFT);
    for (unsigned i = 0; i < LEFT; i++)
        assert_int_equal(atoi(text_of(i, "id")), i);
    stage_end();
}

/* ---- the deadman ---- */

static void test_what_was_found_at_start_has_a_lease(void **state)
{
    (void)state;
    stage_begin("deadman: { timeout = \"100ms\"; value = 5.0; };");
    int64_t found_ns = clock_mono_ns();
    inbox_put_report(stage.inbox, &(struct report){.kind = REPORT_FOUND,
                                                   .has_readback = true,
                                                   .readback = 50,
                                                   .done_ns = found_ns});
    struct order order = take_order();
    assert_true(clock_mono_ns() >= found_ns + 100 * CLOCK_NS_PER_MS);
    assert_true(order.own);
    assert_true(order.value == 5.0);
    /* Not allowed now: zero instead, and at once. */
    struct report refused = {.order = order,
                             .outcome = OUTCOME_REFUSED,
                             .reason = REASON_SOE_LOW,
                             .done_ns = clock_mono_ns()};
    inbox_put_report(stage.inbox, &refused);
    order = take_order();
    assert_true(order.own);
    assert_true(order.value == 0.0);
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(0, text_of(0, "id"), "refused", "soe_low");
    assert_answer(1, text_of(1, "id"), "confirmed", "");
    assert_string_equal(text_of(1, "source"), "deadman");
    assert_string_not_equal(text_of(0, "id"), "");
    assert_string_not_equal(text_of(0, "id"), text_of(1, "id"));
    assert_no_more(2);
    stage_end();
}

static void test_the_fallback_found_at_start_has_none(void **state)
{
    (void)state;
    stage_begin("deadman: { timeout = \"100ms\"; value = 5.0; };");
    inbox_put_report(
        stage.inbox,
        &(struct report){.kind = REPORT_FOUND, .has_readback = true, .readback = 5, .done_ns = 1});
    assert_no_more(0);
    stage_end();
}

static void test_a_confirmed_setpoint_has_a_lease(void **state)
{
    (void)state;
    stage_begin("deadman: { timeout = \"100ms\"; };");
    command("d-1", 50);
    struct order order = take_order();
    int64_t confirmed_ns = clock_mono_ns();
    report(&order, OUTCOME_CONFIRMED);
    order = take_order();
    assert_true(clock_mono_ns() >= confirmed_ns + 100 * CLOCK_NS_PER_MS);
    assert_true(order.own);
    assert_true(order.value == 0.0);
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_string_equal(text_of(1, "source"), "deadman");
    assert_no_more(2);
    stage_end();
}

/* An attempt at it takes longer than the second between two. */
static void test_a_long_attempt_is_followed_at_once(void **state)
{
    (void)state;
    stage_begin("deadman: { timeout = \"100ms\"; };");
    command("d-1", 50);
    struct order order = take_order();
    report(&order, OUTCOME_CONFIRMED);
    struct order first = take_order();
    assert_no_order_until(first.unless_ns + 1200 * CLOCK_NS_PER_MS); /* one at a time */
    report(&first, OUTCOME_MISMATCH);
    order = take_order();
    assert_true(order.own);
    assert_true(order.unless_ns >= first.unless_ns + 1200 * CLOCK_NS_PER_MS);
    assert_true(order.unless_ns < first.unless_ns + 2000 * CLOCK_NS_PER_MS);
    report(&order, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_no_more(3);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_goes_to_its_poller_and_comes_back),
        cmocka_unit_test(test_every_report_is_one_outcome),
        cmocka_unit_test(test_every_refusal_is_one_outcome_and_no_order),
        cmocka_unit_test(test_without_an_audit_log_only_zero_passes),
        cmocka_unit_test(test_what_is_no_command_topic_is_passed_over),
        cmocka_unit_test(test_a_bare_number_where_it_is_allowed),
        cmocka_unit_test(test_min_interval_counts_from_the_last_write),
        cmocka_unit_test(test_a_newer_setpoint_replaces_the_waiting_one),
        cmocka_unit_test(test_another_point_replaces_nothing),
        cmocka_unit_test(test_a_burst_has_one_outcome_each),
        cmocka_unit_test(test_a_repeated_id_is_not_executed_again),
        cmocka_unit_test(test_an_id_of_an_earlier_run_is_known),
        cmocka_unit_test(test_a_later_poll_corrects_an_unknown_outcome),
        cmocka_unit_test(test_while_it_drains_it_refuses_and_still_answers),
        cmocka_unit_test(test_on_exit_it_writes_the_fallback),
        cmocka_unit_test(test_stopping_answers_what_is_left),
        cmocka_unit_test(test_what_was_found_at_start_has_a_lease),
        cmocka_unit_test(test_the_fallback_found_at_start_has_none),
        cmocka_unit_test(test_a_confirmed_setpoint_has_a_lease),
        cmocka_unit_test(test_a_long_attempt_is_followed_at_once),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
