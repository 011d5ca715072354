/* survey: who speaks Modbus TCP in a range of addresses, or on a serial line.
 *
 * A bounded number of threads, each with one connection at a time; no address
 * outside of the range is ever contacted, and nothing is ever written
 * (bridge/cli/recognise.h). One survey per process at a time is meant; its functions
 * are called by one thread.
 */
#ifndef BRIDGE_CLI_SURVEY_H
#define BRIDGE_CLI_SURVEY_H

#include "bridge/cli/address_range.h"
#include "bridge/cli/recognise.h"

enum { SURVEY_THREADS = 64 };

struct survey_setup {
    struct address_range range;
    struct address_range_numbers ports, units;
    const struct device_modbus *serial; /* the line, in place of range and ports; else NULL */
    struct profile *const *profiles;    /* what may be guessed */
    unsigned n_profiles;
};

/* One unit that answers; unit 0: the port is open and none of them does. On a serial line
 * address and port are 0. */
struct finding {
    uint32_t address;
    uint16_t port, unit;
    struct recognised guess;
};

struct survey;

/* Starts with as many threads as there is work for. `setup` must outlive the
 * survey. NULL when out of memory, descriptors or threads. */
struct survey *survey_start(const struct survey_setup *setup);

/* A descriptor that is readable when something was done since the last
 * survey_done(). */
int survey_fd(const struct survey *survey);

/* How many of the addresses and ports (on a serial line: units) are done, `found` of
 * them with an open port (an answer). All are when it equals survey_size(). */
unsigned survey_done(struct survey *survey, unsigned *found);
unsigned survey_size(const struct survey *survey);

/* Ends all threads, early if need be: within the time one answer may take. */
void survey_stop(struct survey *survey);

/* After survey_stop(): what was found, by address, port and unit. False in
 * *whole when some of it was lost for want of memory. */
const struct finding *survey_findings(const struct survey *survey, unsigned *n, bool *whole);
void survey_free(struct survey *survey);

#endif
