/* poller_stage: the poller's own thread over a fake link and a fake clock.
 *
 * Waiting takes no time and everything happens in one order. The script runs in
 * that thread, before each call on the link and at each sample. */
#ifndef TESTS_UNIT_POLLER_STAGE_H
#define TESTS_UNIT_POLLER_STAGE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/log.h"
#include "bridge/telemetry/poller.h"
#include "bridge/wire/sample_json.h"
#include "devices/lines/link_new.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "poller_quiet.h"
#include "site.h"

enum { SAMPLES_MOST = 2000, OUTCOMES_MOST = 2000 };

/* What the poller said, in order. */
struct seen {
    unsigned device;
    int64_t taken_ns;
    int online; /* said of the device after it: -1 = nothing */
    char text[1024];
};

static struct stage {
    struct conf conf;
    struct fake_link *fake;
    struct mailbox *mailbox;
    struct inbox *inbox;
    struct layouts *layouts;
    struct latest *latest;
    struct health health;
    struct seen samples[SAMPLES_MOST];
    unsigned n_samples;
    struct outcome outcomes[OUTCOMES_MOST];
    unsigned n_outcomes;
    /* The end of the script. */
    unsigned until_samples, of_device;
    int64_t until_ns;
    bool until_left; /* it has said that it has, too */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool ended;
    /* A command to be put before the n-th call of a function to an address. */
    struct command command;
    int64_t put_ns;
    struct fake_rule put_before;
    unsigned n_before;
} stage = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* ---- what the poller uses instead of the real thing ---- */

struct link *link_new(const struct device_modbus *modbus)
{
    (void)modbus;
    return &stage.fake->link;
}

static inline void end_script(void)
{
    mailbox_stop(stage.mailbox);
    pthread_mutex_lock(&stage.mutex);
    stage.ended = true;
    pthread_cond_signal(&stage.cond);
    pthread_mutex_unlock(&stage.mutex);
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size)
{
    (void)outbox;
    if (stage.n_samples == SAMPLES_MOST)
        abort();
    struct seen *sample = &stage.samples[stage.n_samples++];
    *sample = (struct seen){.device = device, .taken_ns = taken_ns, .online = -1};
    size = sample_json_of_packed(layout, packed, size, sample->text, sizeof sample->text - 1);
    if (size == 0)
        abort();
}

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    (void)outbox;
    unsigned of_device = 0;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        of_device += stage.samples[i].device == stage.of_device;
        if (stage.samples[i].device == device && i + 1 == stage.n_samples)
            stage.samples[i].online = online;
    }
    if (of_device >= stage.until_samples || fake_now_ns - FAKE_MONO_NS >= stage.until_ns ||
        (stage.until_left && mailbox_wait_left(stage.mailbox, 0)))
        end_script();
}

static inline void before_call(struct fake_link *fake, const struct fake_call *call)
{
    const struct fake_rule *at = &stage.put_before;
    struct command replaced;
    (void)fake;
    if (at->function == 0 || call->function != at->function || call->address != at->address ||
        ++stage.n_before != at->from)
        return;
    stage.put_ns = fake_now_ns;
    mailbox_put(stage.mailbox, &stage.command, &replaced);
}

/* ---- the stage ---- */

#define METER(more)                                                                                \
    "{ id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\"; poll = \"1s\"; modbus: { "          \
    "host = \"127.0.0.1\"; port = 1502; address = 2; timeout = \"5s\"; " more " }; }"
#define ONE_BATTERY SITE_ONE(SITE_DISCHARGE)
#define BOTH        SITE_ONE(SITE_DISCHARGE) " meters = ( " METER("") " );"

static inline void stage_begin(const char *devices)
{
    fake_clock_reset();
    site_read(&stage.conf, devices);
    stage.fake = fake_link_new();
    stage.fake->clock_ns = &fake_now_ns;
    stage.fake->cost_ns = CLOCK_NS_PER_MS;
    stage.fake->before = before_call;
    uint16_t *registers = stage.fake->registers[1];
    registers[STATUS] = 1;
    registers[TARGET] = 20;
    registers[SOURCE] = 2;
    registers[SOE] = 54;
    registers[BLOCKS] = 10;
    stage.fake->registers[2][0] = 0x4366; /* 230 V */
    stage.mailbox = mailbox_new(4);
    stage.inbox = inbox_new();
    stage.layouts = layouts_new();
    stage.latest = latest_new(&stage.conf.devices);
    memset(&stage.health, 0, sizeof stage.health);
    assert_true(health_init(&stage.health, stage.conf.devices.n_devices));
    stage.n_samples = stage.n_outcomes = stage.n_before = 0;
    stage.put_before = (struct fake_rule){0};
    stage.command =
        (struct command){.id = "d-1",
                         .value = 50,
                         .expires_ns = CLOCK_NEVER,
                         .point = (unsigned)stage.conf.devices.devices[0].control.setpoint};
    stage.put_ns = -1;
    stage.until_ns = INT64_MAX;
    stage.until_left = false;
    stage.of_device = 0;
    stage.ended = false;
}

/* Runs the poller until `device` has had `samples`. */
static inline void stage_run(unsigned device, unsigned samples)
{
    static struct inbox_message message;
    stage.of_device = device;
    stage.until_samples = samples;
    struct poller *poller = poller_start(&(struct poller_setup){
        .conf = &stage.conf,
        .mailbox = stage.mailbox,
        .inbox = stage.inbox,
        .layouts = stage.layouts,
        .latest = stage.latest,
        .health = &stage.health,
        .run = "5f3a9c1e",
        .origin_ns = FAKE_MONO_NS,
    });
    assert_non_null(poller);
    pthread_mutex_lock(&stage.mutex);
    while (!stage.ended)
        pthread_cond_wait(&stage.cond, &stage.mutex);
    pthread_mutex_unlock(&stage.mutex);
    poller_stop(poller);
    while (inbox_take(stage.inbox, 0, &message, &stage.outcomes[stage.n_outcomes]) == INBOX_OUTCOME)
        assert_true(++stage.n_outcomes < OUTCOMES_MOST);
}

static inline void stage_end(void)
{
    mailbox_free(stage.mailbox);
    inbox_free(stage.inbox);
    latest_free(stage.latest);
    layouts_free(stage.layouts);
    health_free(&stage.health);
    conf_free(&stage.conf);
    free(stage.fake);
}

#endif
