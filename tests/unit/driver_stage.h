/* driver_stage: batteries whose type says how they are commanded, over a fake link. */
#ifndef TESTS_UNIT_DRIVER_STAGE_H
#define TESTS_UNIT_DRIVER_STAGE_H

#include "tests/unit/battery_bed.h"

#include <math.h>

#include "bridge/base/log.h"

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

/* Where the points of a powerpack-direct are. */
enum {
    REMAINING = 207,
    FULL = 205,
    MODE = 1000,
    ACTIVE = 1001,
    POWER = 1020,
    BEAT = 1022,
    TIMEOUT = 1023,
    UP = 1024,
    DOWN = 1026
};
/* And of the others. */
enum { EMS = 13049, COMMAND = 13050, FORCED = 13051, GRID = 37, NO_CHARGE = 38 };

#define DEVICE(type, modbus, control)                                                              \
    "bess = ( { id = \"b1\"; name = \"Site-BESS-01\"; type = \"" type "\"; modbus: { host = "      \
    "\"127.0.0.1\"; port = 1502; address = 1; timeout = \"1s\"; " modbus " };"                     \
    " control: { min_kw = -20.0; max_kw = 20.0; " control " }; } );"

static struct bed bed;
static unsigned told; /* of the calls */

static inline void begin(const char *devices)
{
    bed_begin_site(&bed, devices);
    uint16_t *registers = bed.fake->registers[1];
    told = 0;
    registers[FULL + 1] = 40000;
    registers[REMAINING + 1] = 20000;
    registers[TIMEOUT] = 60;
    registers[13022] = 500;
    registers[30] = 500;
}

static inline void direct(const char *control)
{
    char devices[1024];
    snprintf(devices, sizeof devices, DEVICE("powerpack-direct", "", "%s"), control);
    begin(devices);
}

/* The writes since the last time, as "1020=000030D4"; those that failed with a '!'. */
static inline const char *writes(void)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (; told < bed.fake->n_calls; told++) {
        const struct fake_call *call = &bed.fake->calls[told];
        if (call->function != FAKE_WRITE && call->function != FAKE_WRITES)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%u=", used ? " " : "",
                                 call->function == FAKE_WRITE ? "06:" : "", call->address);
        for (unsigned i = 0; i < call->count; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%04X", call->words[i]);
        if (call->fault != FAULT_NONE)
            used += (size_t)snprintf(text + used, sizeof text - used, "!");
    }
    return text;
}

static inline void assert_state(enum control_state state)
{
    assert_string_equal(
        control_state_word((enum control_state)atomic_load(&bed.health.devices[0].control)),
        control_state_word(state));
}

/* Of a battery that nobody commands; and of one that may be running. */
#define ENGAGED(beat, power)                                                                       \
    "1024=000186A0 1026=000186A0 1001=0001 1022=" beat " 1020=" power " 1023=000A 1000=0001"

#define ENGAGED_AGAIN(beat, power)                                                                 \
    "1024=000186A0 1026=000186A0 1001=0001 1020=" power " 1022=" beat " 1023=000A 1000=0001"

static inline void held(const char *id, double value)
{
    bed_put(&bed, id, value);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, id, OUTCOME_CONFIRMED);
    assert_state(CONTROL_HELD);
    (void)writes();
}

/* Nobody answers from now on, to be opened neither. */
static inline void cut_the_line(void)
{
    fake_rule_add(bed.fake, (struct fake_rule){.fault = FAULT_TIMEOUT, .ignores = true});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_TIMEOUT});
}

#endif
