#include "devices/registers/cfg.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A suffix and what it multiplies by; smallest first. */
struct unit {
    const char *suffix;
    double factor;
};
static const struct unit PLAIN[] = {{"", 1}, {NULL, 0}};
static const struct unit DURATION[] = {
    {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {NULL, 0}};
static const struct unit SIZE[] = {
    {"", 1}, {"KiB", 1024}, {"MiB", 1024.0 * 1024}, {"GiB", 1024.0 * 1024 * 1024}, {NULL, 0}};

bool cfg_is_name(const char *name)
{
    size_t length =
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    return length >= 1 && length <= 64 && name[length] == '\0';
}

/* Whatever text is configured ends up in JSON: UTF-8 without control
 * characters (RFC 3629, sections 3 and 4). */
static bool is_text(const char *text)
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

/* "1.5s" into 1.5e9 by a table of units. Plain decimals only: strtod would
 * also take signs, spaces, hexadecimals and the locale's comma. */
static bool parse_amount(const char *text, const struct unit *units, double *amount)
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

/* The amount in the largest unit that leaves a whole number. */
static const char *print_amount(double amount, const struct unit *units, char text[32])
{
    const struct unit *best = units;
    for (const struct unit *unit = units; unit->suffix; unit++)
        if (fabs(amount) >= unit->factor && fmod(amount, unit->factor) == 0)
            best = unit;
    snprintf(text, 32, "%.15g%s", amount / best->factor, best->suffix);
    return text;
}

static bool in_range(struct cfg *cfg, const struct cfg_setting *setting,
                     const struct cfg_field *field, double amount, const struct unit *units)
{
    double factor = units == DURATION ? 1e9 : 1;
    double low = field->min * factor, high = field->max * factor;
    bool bounded = field->min != 0 || field->max != 0;
    if (isfinite(amount) && (!bounded || (amount >= low && amount <= high)))
        return true;

    char is[32], from[32], to[32];
    print_amount(amount, units, is);
    if (!bounded)
        cfg_problem(cfg, setting, "%s must be a finite number, not %s", field->key, is);
    else if (low == high)
        cfg_problem(cfg, setting, "%s must be %s, not %s", field->key, print_amount(low, units, to),
                    is);
    else
        cfg_problem(cfg, setting, "%s must be from %s to %s, not %s", field->key,
                    print_amount(low, units, from), print_amount(high, units, to), is);
    return false;
}

static void read_text(struct cfg *cfg, const struct cfg_setting *setting,
                      const struct cfg_field *field, char *into)
{
    const char *text = cfg_text(setting);
    if (!text)
        cfg_problem(cfg, setting, "%s must be a text in quotes", field->key);
    else if ((double)strlen(text) < field->min)
        cfg_problem(cfg, setting, "%s must not be empty", field->key);
    else if (!is_text(text))
        cfg_problem(cfg, setting, "%s must be UTF-8 without control characters", field->key);
    else if (strlen(text) >= field->size)
        cfg_problem(cfg, setting, "%s is longer than %zu bytes", field->key, field->size - 1);
    else
        strcpy(into, text);
}

static void read_integer(struct cfg *cfg, const struct cfg_setting *setting,
                         const struct cfg_field *field, int64_t *into)
{
    int64_t integer;
    if (!cfg_integer(setting, &integer))
        cfg_problem(cfg, setting, "%s must be a whole number", field->key);
    else if (in_range(cfg, setting, field, (double)integer, PLAIN))
        *into = integer;
}

static void read_number(struct cfg *cfg, const struct cfg_setting *setting,
                        const struct cfg_field *field, double *into)
{
    double number;
    if (!cfg_number(setting, &number))
        cfg_problem(cfg, setting, "%s must be a number", field->key);
    else if (in_range(cfg, setting, field, number, PLAIN))
        *into = number;
}

static void read_boolean(struct cfg *cfg, const struct cfg_setting *setting,
                         const struct cfg_field *field, bool *into)
{
    if (!cfg_boolean(setting, into))
        cfg_problem(cfg, setting, "%s must be true or false", field->key);
}

static void read_amount(struct cfg *cfg, const struct cfg_setting *setting,
                        const struct cfg_field *field, int64_t *into)
{
    bool duration = field->kind == CFG_DURATION;
    const struct unit *units = duration ? DURATION : SIZE;
    const char *text = cfg_text(setting);
    double amount;
    bool good =
        text ? parse_amount(text, units, &amount) : !duration && cfg_number(setting, &amount);
    if (!good)
        cfg_problem(cfg, setting, "%s must be a %s", field->key,
                    duration ? "duration with its unit, such as \"500ms\", \"5s\", \"1m\" or \"2h\""
                             : "size, such as \"64KiB\", \"256MiB\" or \"2GiB\"");
    else if (in_range(cfg, setting, field, amount, units) && amount < 0x1p63)
        *into = (int64_t)round(amount);
}

static void read_choice(struct cfg *cfg, const struct cfg_setting *setting,
                        const struct cfg_field *field, int *into)
{
    const char *text = cfg_text(setting);
    char known[320] = "";
    for (int i = 0; field->choices[i]; i++) {
        if (text && strcmp(text, field->choices[i]) == 0) {
            *into = i;
            return;
        }
        size_t used = strlen(known);
        const char *comma = i == 0 ? "" : field->choices[i + 1] ? ", " : " or ";
        snprintf(known + used, sizeof known - used, "%s\"%s\"", comma, field->choices[i]);
    }
    cfg_problem(cfg, setting, "%s must be %s", field->key, known);
}

static void read_field(struct cfg *cfg, const struct cfg_setting *setting,
                       const struct cfg_field *field, void *into)
{
    void *target = (char *)into + field->offset;
    switch (field->kind) {
    case CFG_TEXT:
        read_text(cfg, setting, field, target);
        break;
    case CFG_NUMBER:
        read_number(cfg, setting, field, target);
        break;
    case CFG_INTEGER:
        read_integer(cfg, setting, field, target);
        break;
    case CFG_BOOLEAN:
        read_boolean(cfg, setting, field, target);
        break;
    case CFG_DURATION:
    case CFG_SIZE:
        read_amount(cfg, setting, field, target);
        break;
    case CFG_CHOICE:
        read_choice(cfg, setting, field, target);
        break;
    case CFG_OTHER:
        break;
    }
}

bool cfg_read(struct cfg *cfg, const struct cfg_setting *group, const struct cfg_field *fields,
              void *into)
{
    unsigned before = cfg->problems;
    if (!cfg_is_group(group)) {
        const char *name = cfg_name(group);
        cfg_problem(cfg, group, "%s must be a group: { key = value; ... }",
                    name ? name : "this element");
        return false;
    }
    for (const struct cfg_setting *setting = cfg_first(group); setting;
         setting = cfg_next(setting)) {
        const char *key = cfg_name(setting);
        const struct cfg_field *field = fields;
        while (field->key && strcmp(field->key, key) != 0)
            field++;
        if (field->key)
            read_field(cfg, setting, field, into);
        else
            cfg_problem(cfg, setting, "unknown key '%s'", key);
    }
    for (const struct cfg_field *field = fields; field->key; field++)
        if (field->required && !cfg_member(group, field->key))
            cfg_problem(cfg, group, "missing key '%s'", field->key);
    return cfg->problems == before;
}
