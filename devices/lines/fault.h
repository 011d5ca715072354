/* fault: why a value could not be read or written.
 *
 * The closed list of everything that can go wrong between the bridge and a
 * register. The words are the ones published in a sample's `errors` and in a
 * failed command's `reason` (topics.md). Errors are values: nothing in
 * devices/ logs.
 */
#ifndef DEVICES_LINES_FAULT_H
#define DEVICES_LINES_FAULT_H

#include <stdbool.h>

enum fault {
    FAULT_NONE = 0,
    /* Exception codes as they stand on the wire
     * (MODBUS Application Protocol V1.1b3, section 7). */
    FAULT_ILLEGAL_FUNCTION = 0x01,
    FAULT_ILLEGAL_ADDRESS = 0x02,
    FAULT_ILLEGAL_VALUE = 0x03,
    FAULT_DEVICE_FAILURE = 0x04,
    FAULT_ACKNOWLEDGE = 0x05,
    FAULT_BUSY = 0x06,
    FAULT_GATEWAY_PATH = 0x0a,
    FAULT_GATEWAY_TARGET = 0x0b,
    /* What the bridge finds by itself. */
    FAULT_TIMEOUT,     /* no whole answer in time */
    FAULT_CONNECTION,  /* could not connect, or the connection broke */
    FAULT_BAD_REPLY,   /* an answer, but not to this request */
    FAULT_NOT_FINITE,  /* the register holds NaN or infinity */
    FAULT_IMPLAUSIBLE, /* the register holds what this point cannot be
                          (devices/registers/plausible.h) */
    FAULT_COUNT
};

/* The published word, e.g. "illegal_address"; "ok" for FAULT_NONE. Never NULL. */
const char *fault_word(enum fault fault);

/* The fault for an exception code from the wire. A code outside the list is
 * FAULT_DEVICE_FAILURE: the device answered, and its answer is no. */
enum fault fault_from_exception(unsigned code);

/* True when the device or its gateway answered in a valid frame: the
 * connection is in step and stays open. */
bool fault_is_exception(enum fault fault);

/* True when nobody can tell whether a device behind the link is alive or has
 * acted: no answer, a broken answer, or a gateway that got none. */
bool fault_is_silence(enum fault fault);

#endif
