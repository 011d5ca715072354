/* The whole judgement and the whole sequence against an independent model.
 *
 * A seeded generator makes sites, device states, commands, clock steps and
 * faults; the model below says from the written rules alone (topics.md) what
 * must come of each: outcome, reason, what was written and how often. It uses
 * none of the functions it checks. FLUXBRIDGE_SEED and FLUXBRIDGE_STEPS
 * override the seed, which is printed, and the length.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "bridge/battery/control.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/topic.h"
#include "tests/unit/fake_clock.h"
#include "tests/unit/fake_link.h"
#include "tests/unit/site.h"

enum { STEPS = 40000, STEPS_PER_SITE = 500 };

/* ---- the generator ---- */

static uint64_t random_state;

/* splitmix64 */
static uint64_t draw(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static int between(int low, int high)
{
    return low + (int)(draw() % (uint64_t)(high - low + 1));
}

static bool one_in(int n)
{
    return between(1, n) == 1;
}

/* What a site says of its battery; NAN and 0 as "not given". */
struct site {
    int soe_min, soe_max;
    int kw_per_block, max_step, min_interval_s, skew_s, ttl_s;
    int sign;
};

enum trouble {
    NONE,
    NO_CONNECTION,
    STATE_SILENT,   /* the read of the state gets no answer */
    STATUS_REFUSED, /* and SOE_REFUSED: an exception that spans the block */
    SOE_REFUSED,
    SLOW,          /* each call takes SLOW_MS */
    WRITE_LOST,    /* no reply to the write, but the register took it */
    WRITE_GONE,    /* no reply, and it did not */
    WRITE_DARK,    /* no reply, and nothing can be read any more */
    WRITE_REFUSED, /* an exception */
    WRITE_IGNORED, /* a good reply, but the register did not take it */
    WRITE_LATE,    /* the register takes it at the n-th read-back */
    TROUBLES
};

enum { SLOW_MS = 400, READ_BACKS_MOST = 45, READ_BACKS_TOO_MANY = 70 };

struct step {
    bool retained, too_large, malformed, shutting_down, audit_down;
    double value;
    bool dated;
    int64_t issued_at_ms, ttl_ms;
    int64_t utc_ms;
    int status, soe, blocks;
    enum trouble trouble;
    enum fault exception;
    unsigned takes_at;
};

static struct site draw_site(void)
{
    return (struct site){
        .soe_min = between(0, 20),
        .soe_max = between(80, 100),
        .kw_per_block = one_in(2) ? 50 : 0,
        .max_step = one_in(2) ? between(1, 200) : 0,
        .min_interval_s = one_in(2) ? between(1, 5) : 0,
        .skew_s = between(0, 3),
        .ttl_s = between(1, 20),
        .sign = one_in(2) ? 1 : -1,
    };
}

static double draw_value(void)
{
    static const double edges[] = {0.0,  -0.0,  1.0,    -1.0,   250.0,      -250.0, 251.0,
                                   -251, 1e300, -32768, 32768., 50.0000001, 49.5,   249.999999};
    if (one_in(4))
        return edges[between(0, (int)(sizeof edges / sizeof *edges) - 1)];
    if (one_in(12))
        return between(-5000, 5000) / 10.0;
    return between(-250, 250);
}

static struct step draw_step(const struct site *site, int64_t utc_ms)
{
    static const int statuses[] = {1, 1, 1, 1, 1, 7, 0, 2, 65535};
    static const enum fault exceptions[] = {FAULT_ILLEGAL_FUNCTION, FAULT_ILLEGAL_ADDRESS,
                                            FAULT_ILLEGAL_VALUE,    FAULT_DEVICE_FAILURE,
                                            FAULT_ACKNOWLEDGE,      FAULT_BUSY,
                                            FAULT_GATEWAY_PATH,     FAULT_GATEWAY_TARGET};
    struct step step = {
        .retained = one_in(40),
        .too_large = one_in(40),
        .malformed = one_in(40),
        .shutting_down = one_in(40),
        .audit_down = one_in(15),
        .value = draw_value(),
        .dated = one_in(2),
        .utc_ms = utc_ms,
        .status = statuses[between(0, 8)],
        .soe = one_in(30)  ? 65535
               : one_in(3) ? between(0, 100)
                           : between(30, 70),
        .blocks = between(0, 6),
        .trouble = one_in(2) ? NONE : (enum trouble)between(NONE, TROUBLES - 1),
        .exception = exceptions[between(0, 7)],
        .takes_at = (unsigned)(one_in(2) ? between(1, READ_BACKS_MOST) : READ_BACKS_TOO_MANY),
    };
    if (one_in(5)) /* at a limit, or one beside it */
        step.soe = (one_in(2) ? site->soe_min : site->soe_max) + between(-1, 1);
    step.soe = step.soe < 0 ? 0 : step.soe;
    step.ttl_ms = between(1, 30) * 100;
    step.issued_at_ms = utc_ms + (one_in(3)   ? site->skew_s * 1000 + between(-1, 1)
                                  : one_in(2) ? -step.ttl_ms + between(-1, 1)
                                              : -between(0, 1000));
    return step;
}

/* ---- the model ---- */

struct expectation {
    enum outcome_kind outcome;
    enum reason reason;
    enum fault fault;
    unsigned writes;
    int target; /* kW in the register afterwards */
};

static struct expectation refusal(enum reason reason, int target)
{
    return (struct expectation){.outcome = OUTCOME_REFUSED, .reason = reason, .target = target};
}

/* What follows from the write itself, with `target` kW in the register before. */
static struct expectation model_write(const struct step *step, int target)
{
    const int wanted = (int)step->value;
    struct expectation end = {.outcome = OUTCOME_CONFIRMED, .writes = 1, .target = wanted};
    switch (step->trouble) {
    case WRITE_GONE:
    case WRITE_IGNORED:
        end.outcome = target == wanted ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH;
        end.target = target;
        break;
    case WRITE_DARK:
        end.outcome = OUTCOME_UNKNOWN;
        end.target = target;
        break;
    case WRITE_REFUSED:
        end.outcome = OUTCOME_FAILED;
        end.fault = step->exception;
        end.target = target;
        /* These do not say that nothing was written: the register decides. */
        if (target == wanted &&
            (step->exception == FAULT_ACKNOWLEDGE || step->exception == FAULT_GATEWAY_PATH ||
             step->exception == FAULT_GATEWAY_TARGET))
            end.outcome = OUTCOME_CONFIRMED;
        break;
    case WRITE_LATE:
        if (step->takes_at == READ_BACKS_TOO_MANY && target != wanted) {
            end.outcome = OUTCOME_MISMATCH;
            end.target = target;
        }
        break;
    default:
        break;
    }
    return end;
}

/* The checks on the state that is read for this command. */
static enum reason model_state(const struct site *site, const struct step *step, int target)
{
    const bool discharge = step->value > 0;
    if (step->trouble == NO_CONNECTION || step->trouble == STATE_SILENT ||
        step->trouble == STATUS_REFUSED || step->trouble == SOE_REFUSED)
        return REASON_DEVICE_OFFLINE;
    if (step->status != 1 && step->status != 7)
        return REASON_NOT_READY;
    if (discharge && (step->soe <= site->soe_min || step->soe > 100))
        return REASON_SOE_LOW;
    if (!discharge && (step->soe >= site->soe_max || step->soe > 100))
        return REASON_SOE_HIGH;
    if (site->kw_per_block != 0 && fabs(step->value) > site->kw_per_block * step->blocks)
        return REASON_BLOCKS;
    if (site->max_step != 0 && fabs(step->value - target) > site->max_step)
        return REASON_STEP_TOO_LARGE;
    return REASON_NONE;
}

static struct expectation model(const struct site *site, const struct step *step, int target,
                                int64_t since_write_ns)
{
    const bool stop = step->value == 0;
    int64_t life_ms = site->ttl_s * 1000;
    if (step->retained)
        return refusal(REASON_RETAINED, target);
    if (step->too_large)
        return refusal(REASON_TOO_LARGE, target);
    if (step->malformed)
        return refusal(REASON_MALFORMED, target);
    if (step->dated) {
        if (step->issued_at_ms > step->utc_ms + site->skew_s * 1000)
            return refusal(REASON_FUTURE_DATED, target);
        life_ms = step->issued_at_ms + step->ttl_ms - step->utc_ms;
        if (life_ms <= 0)
            return refusal(REASON_EXPIRED, target);
    }
    if (step->shutting_down)
        return refusal(REASON_SHUTTING_DOWN, target);
    if (step->audit_down && !stop)
        return refusal(REASON_AUDIT_UNAVAILABLE, target);
    if (!stop && since_write_ns >= 0 && since_write_ns < site->min_interval_s * CLOCK_NS_PER_S)
        return refusal(REASON_RATE_LIMITED, target);
    if (step->value < -250 || step->value > 250)
        return refusal(REASON_OUT_OF_RANGE, target);
    if (step->value != floor(step->value))
        return refusal(REASON_OFF_STEP, target);
    if (!stop) {
        enum reason reason = model_state(site, step, target);
        if (reason != REASON_NONE)
            return refusal(reason, target);
    } else if (step->trouble == NO_CONNECTION) {
        return refusal(REASON_DEVICE_OFFLINE, target);
    }
    /* Opening and reading the state take a call each; a stop only opens. */
    if (step->trouble == SLOW && life_ms <= (stop ? 1 : 2) * SLOW_MS)
        return refusal(REASON_EXPIRED, target);
    return model_write(step, target);
}

/* ---- the real thing ---- */

static void make_site(const struct site *site, struct conf *conf)
{
    char text[2048];
    char rules[512] = "";
    size_t used = 0;
    if (site->kw_per_block != 0)
        used += (size_t)snprintf(rules + used, sizeof rules - used, "kw_per_block = %d; ",
                                 site->kw_per_block);
    if (site->max_step != 0)
        used += (size_t)snprintf(rules + used, sizeof rules - used, "max_step_kw = %d; ",
                                 site->max_step);
    snprintf(rules + used, sizeof rules - used,
             "min_interval = \"%ds\"; max_clock_skew = \"%ds\"; ttl = \"%ds\"; soe_min = %d; "
             "soe_max = %d; positive_is = \"%s\"; ",
             site->min_interval_s, site->skew_s, site->ttl_s, site->soe_min, site->soe_max,
             site->sign > 0 ? "discharge" : "charge");
    snprintf(text, sizeof text,
             "bess = ( { id = \"b1\"; name = \"Site-BESS-01\"; type = \"powerpack\"; modbus: { "
             "host = \"127.0.0.1\"; address = 1; }; control: { ready_status = [ 1, 7 ]; "
             "min_kw = -250; max_kw = 250; %s }; } );",
             rules);
    site_read(conf, text);
}

/* From the write on nothing can be read any more. */
static void go_dark(struct fake_link *fake, const struct fake_call *call)
{
    (void)call;
    if (fake->n_writes == 1 && fake->n_rules == 1)
        fake_rule_add(fake, (struct fake_rule){
                                .function = FAKE_READ, .address = TARGET, .fault = FAULT_TIMEOUT});
}

static void lay_traps(struct fake_link *fake, const struct step *step)
{
    struct fake_rule write = {.function = FAKE_WRITE, .address = TARGET};
    fake->before = NULL;
    fake->n_rules = 0;
    fake->late_reads = 0;
    fake->cost_ns = step->trouble == SLOW ? SLOW_MS * CLOCK_NS_PER_MS : 0;
    switch (step->trouble) {
    case NO_CONNECTION:
        fake_rule_add(fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_CONNECTION});
        break;
    case STATE_SILENT:
        fake_rule_add(fake, (struct fake_rule){
                                .function = FAKE_READ, .address = STATUS, .fault = FAULT_TIMEOUT});
        break;
    case STATUS_REFUSED:
    case SOE_REFUSED:
        fake_rule_add(fake,
                      (struct fake_rule){.function = FAKE_READ,
                                         .address = step->trouble == SOE_REFUSED ? SOE : STATUS,
                                         .fault = FAULT_BUSY});
        break;
    case WRITE_LOST:
    case WRITE_GONE:
    case WRITE_DARK:
        write.fault = one_in(2) ? FAULT_TIMEOUT : one_in(2) ? FAULT_BAD_REPLY : FAULT_CONNECTION;
        write.ignores = step->trouble != WRITE_LOST;
        fake_rule_add(fake, write);
        if (step->trouble == WRITE_DARK)
            fake->before = go_dark;
        break;
    case WRITE_REFUSED:
        write.fault = step->exception;
        fake_rule_add(fake, write);
        break;
    case WRITE_IGNORED:
        write.ignores = true;
        fake_rule_add(fake, write);
        break;
    case WRITE_LATE:
        write.takes_at = step->takes_at;
        fake_rule_add(fake, write);
        break;
    default:
        break;
    }
}

static bool parse(const struct step *step, struct command *command, char detail[DETAIL_MAX])
{
    char payload[512];
    int length = snprintf(payload, sizeof payload, "{\"id\":\"d-1\",\"value\":%.17g%s", step->value,
                          step->malformed ? "" : "}");
    if (step->dated && !step->malformed)
        length = snprintf(payload, sizeof payload,
                          "{\"value\":%.17g,\"ttl_s\":%.3f,\"issued_at\":%lld,\"id\":\"d-1\"}",
                          step->value, (double)step->ttl_ms / 1e3, (long long)step->issued_at_ms);
    return command_json_parse(payload, (size_t)length, false, command, detail);
}

static void carry_out(const struct device *device, struct control *control, struct fake_link *fake,
                      const struct step *step, int64_t *last_write_ns, struct report *report)
{
    struct command command = {0};
    char detail[DETAIL_MAX] = "";
    struct command_scene scene = {
        .device = device,
        .point = device_find_point(device, "target_power"),
        .retained = step->retained,
        .too_large = step->too_large,
        .parsed = parse(step, &command, detail),
        .shutting_down = step->shutting_down,
        .audit_unavailable = step->audit_down,
        .utc_ms = step->utc_ms,
        .mono_ns = clock_mono_ns(),
        .last_write_ns = *last_write_ns,
    };
    struct order order = {.point = (unsigned)scene.point, .value = command.value};

    *report = (struct report){.order = order, .outcome = OUTCOME_REFUSED};
    report->reason = command_judge(&command, &scene, &order.expires_ns, report->detail);
    if (report->reason == REASON_NONE)
        control_run(control, &fake->link, &order, last_write_ns, report);
}

static void compare(uint64_t n, const struct site *site, const struct step *step,
                    const struct expectation *end, const struct report *report,
                    const struct fake_link *fake)
{
    int16_t held = (int16_t)fake->registers[1][TARGET];
    bool same = report->outcome == end->outcome &&
                (end->outcome != OUTCOME_REFUSED || report->reason == end->reason) &&
                (end->outcome != OUTCOME_FAILED || report->fault == end->fault) &&
                fake->n_writes == end->writes && held == site->sign * end->target;
    if (same)
        return;
    fail_msg("step %llu value=%.17g trouble=%d exception=%d status=%d soe=%d blocks=%d dated=%d "
             "ttl=%lld: expected %s/%s writes=%u target=%d, got %s/%s writes=%u register=%d \"%s\"",
             (unsigned long long)n, step->value, (int)step->trouble, (int)step->exception,
             step->status, step->soe, step->blocks, step->dated, (long long)step->ttl_ms,
             outcome_word(end->outcome), reason_word(end->reason), end->writes, end->target,
             outcome_word(report->outcome), reason_word(report->reason), fake->n_writes, held,
             report->detail);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void run_site(uint64_t first, uint64_t steps, unsigned counts[OUTCOME_COUNT])
{
    struct site site = draw_site();
    struct conf conf;
    struct fake_link *fake = fake_link_new();
    int64_t last_write_ns = INT64_MIN;
    int64_t utc_step_ms = 0;
    int target = 0;

    make_site(&site, &conf);
    const struct device *device = &conf.devices.devices[0];
    struct control *control = control_new(device);
    assert_non_null(control);
    fake->clock_ns = &fake_now_ns;
    for (uint64_t n = first; n < first + steps; n++) {
        if (one_in(50))
            utc_step_ms += between(-3600000, 3600000);
        fake_now_ns += between(0, 3000) * CLOCK_NS_PER_MS;
        struct step step = draw_step(&site, clock_utc_ms() + utc_step_ms);
        struct report report;
        link_close(&fake->link);
        lay_traps(fake, &step);
        fake->n_calls = fake->n_writes = 0;
        fake->registers[1][STATUS] = (uint16_t)step.status;
        fake->registers[1][SOE] = (uint16_t)step.soe;
        fake->registers[1][BLOCKS] = (uint16_t)step.blocks;
        int64_t since_ns = last_write_ns == INT64_MIN ? -1 : clock_mono_ns() - last_write_ns;
        struct expectation end = model(&site, &step, target, since_ns);
        carry_out(device, control, fake, &step, &last_write_ns, &report);
        compare(n, &site, &step, &end, &report, fake);
        target = end.target;
        counts[end.outcome]++;
    }
    control_free(control);
    conf_free(&conf);
    free(fake);
}

static void test_the_model_agrees(void **state)
{
    uint64_t seed = from_environment("FLUXBRIDGE_SEED", (uint64_t)time(NULL));
    uint64_t steps = from_environment("FLUXBRIDGE_STEPS", STEPS);
    unsigned counts[OUTCOME_COUNT] = {0};
    (void)state;
    print_message("seed %llu, %llu steps\n", (unsigned long long)seed, (unsigned long long)steps);
    random_state = seed;
    for (uint64_t n = 0; n < steps; n += STEPS_PER_SITE)
        run_site(n, STEPS_PER_SITE, counts);
    for (int i = 0; i < OUTCOME_COUNT; i++)
        print_message("%s %u\n", outcome_word((enum outcome_kind)i), counts[i]);
    /* A generator that never gets there would prove nothing. */
    for (int i = OUTCOME_CONFIRMED; i <= OUTCOME_REFUSED; i++)
        assert_true(counts[i] > steps / 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_model_agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
