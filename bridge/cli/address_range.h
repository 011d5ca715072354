/* address_range: what a scan is to look at, as it is written on the command line.
 *
 * Pure. Nothing outside of what the user wrote ever comes out of here.
 */
#ifndef BRIDGE_CLI_ADDRESS_RANGE_H
#define BRIDGE_CLI_ADDRESS_RANGE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RANGE_ADDRESSES_MAX = 65536, /* a larger range is a slip of the finger */
    RANGE_NUMBERS_MAX = 256,
    RANGE_TEXT_MAX = 16, /* "255.255.255.255" */
};

/* IPv4 addresses in host order, both inclusive. */
struct address_range {
    uint32_t first, last;
};

/* Reads "192.168.1.0/24" or a single address. The bits behind the prefix do not
 * count: 192.168.1.7/24 is the same network. Returns NULL, or what is wrong;
 * `range` is untouched then. */
const char *address_range_parse(const char *text, struct address_range *range);

/* The address in dotted form. */
void address_range_print(uint32_t address, char text[RANGE_TEXT_MAX]);

/* A list such as "1-4,255", in its own order, each number once. */
struct address_range_numbers {
    unsigned n;
    uint16_t items[RANGE_NUMBERS_MAX];
};

/* Reads a list of numbers from `least` to `most`. False when it is none, or too
 * long; `numbers` is untouched then. */
bool address_range_parse_numbers(const char *text, uint16_t least, uint16_t most,
                                 struct address_range_numbers *numbers);

#endif
