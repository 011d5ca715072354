#include "bridge/cli/address_range.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number of digits alone, up to `most`; moves on behind it. */
static bool parse_number(const char **text, unsigned long most, unsigned long *number)
{
    const size_t digits = strspn(*text, "0123456789");
    if (digits == 0 || digits > 5)
        return false;
    *number = strtoul(*text, NULL, 10);
    *text += digits;
    return *number <= most;
}

const char *address_range_parse(const char *text, struct address_range *range)
{
    char address[RANGE_TEXT_MAX];
    const size_t length = strcspn(text, "/");
    struct in_addr parsed;
    unsigned long prefix = 32;

    if (length >= sizeof(address))
        return "is no IPv4 address";
    memcpy(address, text, length);
    address[length] = '\0';
    if (inet_pton(AF_INET, address, &parsed) != 1)
        return "is no IPv4 address";
    if (text[length] == '/') {
        const char *rest = text + length + 1;
        if (!parse_number(&rest, 32, &prefix) || *rest != '\0')
            return "has no prefix from 16 to 32 behind its slash";
    }
    const uint64_t count = UINT64_C(1) << (32 - prefix);
    if (count > RANGE_ADDRESSES_MAX)
        return "has more than 65536 addresses: scan it in parts";
    range->first = ntohl(parsed.s_addr) & ~(uint32_t)(count - 1);
    range->last = range->first + (uint32_t)(count - 1);
    return NULL;
}

void address_range_print(uint32_t address, char text[RANGE_TEXT_MAX])
{
    const struct in_addr parsed = {.s_addr = htonl(address)};
    (void)inet_ntop(AF_INET, &parsed, text, RANGE_TEXT_MAX);
}

/* False when there is no room for it. */
static bool add(struct address_range_numbers *numbers, uint16_t number)
{
    for (unsigned i = 0; i < numbers->n; i++)
        if (numbers->items[i] == number)
            return true;
    if (numbers->n == RANGE_NUMBERS_MAX)
        return false;
    numbers->items[numbers->n++] = number;
    return true;
}

bool address_range_parse_numbers(const char *text, uint16_t least, uint16_t most,
                                 struct address_range_numbers *numbers)
{
    struct address_range_numbers read = {0};
    for (;; text++) {
        unsigned long first, last;
        if (!parse_number(&text, most, &first))
            return false;
        last = first;
        if (*text == '-') {
            text++;
            if (!parse_number(&text, most, &last))
                return false;
        }
        if (first < least || last < first)
            return false;
        for (; first <= last; first++)
            if (!add(&read, (uint16_t)first))
                return false;
        if (*text == '\0')
            break;
        if (*text != ',')
            return false;
    }
    *numbers = read;
    return true;
}
