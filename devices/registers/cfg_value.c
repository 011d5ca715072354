#include "devices/registers/cfg_value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct cfg_unit CFG_PLAIN[] = {{"", 1}, {NULL, 0}};
const struct cfg_unit CFG_DURATION_UNITS[] = {
    {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {NULL, 0}};
const struct cfg_unit CFG_SIZE_UNITS[] = {
    {"", 1}, {"KiB", 1024}, {"MiB", 1024.0 * 1024}, {"GiB", 1024.0 * 1024 * 1024}, {NULL, 0}};

/* Plain decimals only: strtod would also take signs, spaces, hexadecimals and the
 * locale's comma. */
bool cfg_value_amount(const char *text, const struct cfg_unit *units, double *amount)
{
    size_t whole = strspn(text, "0123456789");
    size_t fraction = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    if (whole == 0 || (text[whole] == '.' && fraction == 0))
        return false;
    double digits = 0, divisor = 1;
    for (size_t i = 0; i < whole; i++)
        digits = digits * 10 + (text[i] - '0');
    for (size_t i = 1; i <= fraction; i++, divisor *= 10)
        digits = digits * 10 + (text[whole + i] - '0');
    text += whole + (fraction ? fraction + 1 : 0);
    for (; units->suffix; units++) {
        if (strcmp(text, units->suffix) == 0) {
            *amount = digits / divisor * units->factor;
            return true;
        }
    }
    return false;
}

const char *cfg_value_print(double amount, const struct cfg_unit *units, char text[32])
{
    const struct cfg_unit *best = units;
    for (const struct cfg_unit *unit = units; unit->suffix; unit++)
        if (fabs(amount) >= unit->factor && fmod(amount, unit->factor) == 0)
            best = unit;
    snprintf(text, 32, "%.15g%s", amount / best->factor, best->suffix);
    return text;
}

bool cfg_value_whole(const char *text, uint64_t *magnitude, bool *negative, bool *fits)
{
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    bool sign = *text == '-' || *text == '+';
    const char *digits = text + sign;
    char *end;
    if (hexadecimal ? !isxdigit((unsigned char)digits[2]) : !isdigit((unsigned char)*digits))
        return false; /* strtoull() would take more */
    errno = 0;
    *magnitude = strtoull(digits, &end, hexadecimal ? 16 : 10);
    *negative = *text == '-';
    *fits = errno != ERANGE && (!*negative || *magnitude <= UINT64_C(1) << 63);
    end += *end == 'L';
    end += *end == 'L';
    return *end == '\0';
}

bool cfg_value_is_real(const char *text)
{
    char *end; /* strtod() would also take words and hexadecimals */
    strtod(text, &end);
    return end != text && *end == '\0' && text[strspn(text, "0123456789+-.eE")] == '\0';
}

bool cfg_value_is_text(const char *text)
{
    static const uint32_t least[] = {0x20, 0x80, 0x800, 0x10000}; /* by bytes that follow */
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        unsigned more = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        if (*at == 0x7f || (*at >= 0x80 && *at < 0xc0) || *at >= 0xf8)
            return false;
        uint32_t code = more ? *at & (0x3fu >> more) : *at;
        at++;
        for (unsigned i = 0; i < more; i++, at++) {
            if ((*at & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*at & 0x3f);
        }
        if (code < least[more] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
            return false;
    }
    return true;
}
