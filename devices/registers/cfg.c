#include "devices/registers/cfg.h"

/* libconfig's setting is a struct cfg_setting, so that no other file sees libconfig. */
#define config_setting_t cfg_setting
#include <libconfig.h>
#include <math.h>
/* EVP_Digest() would set up all of the library: 1.5 MiB for one sum. */
#define OPENSSL_API_COMPAT 0x10100000L
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/cfg_hint.h"
#include "devices/registers/cfg_lexer.h"
#include "devices/registers/cfg_value.h"

/* What a root's hook points to. */
struct tree {
    config_t config;
    struct cfg_lexer lexer;
};

/* ---- problems ---- */

static void report(struct cfg *cfg, const struct cfg_setting *where, const char *kind,
                   const char *format, va_list arguments) __attribute__((format(printf, 4, 0)));

/* The word that a setting begins with; NULL for the root, which has none. */
static const struct cfg_word *place_of(const struct cfg_setting *setting)
{
    const struct cfg_setting *root = setting;
    while (!config_setting_is_root(root))
        root = config_setting_parent(root);
    const struct tree *tree = config_setting_get_hook(root);
    if (setting == root)
        return NULL;
    const struct cfg_word *word = &tree->lexer.words[config_setting_source_line(setting) - 1];
    /* libconfig reads one on to see an element's end. */
    return cfg_text(setting) && !cfg_name(setting) && word->kind != CFG_WORD_TEXT ? word - 1 : word;
}

static void report(struct cfg *cfg, const struct cfg_setting *where, const char *kind,
                   const char *format, va_list arguments)
{
    if (!cfg->out)
        return;
    const struct cfg_word *word = where ? place_of(where) : NULL;
    fprintf(cfg->out, "%s:%u: %s", word ? word->source->name : cfg->file, word ? word->line : 1,
            kind);
    vfprintf(cfg->out, format, arguments);
    fputc('\n', cfg->out);
}

void cfg_problem(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report(cfg, where, "", format, arguments);
    va_end(arguments);
    cfg->problems++;
}

void cfg_warning(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report(cfg, where, "warning: ", format, arguments);
    va_end(arguments);
    cfg->warnings++;
}

void cfg_no_memory(struct cfg *cfg, const struct cfg_setting *where)
{
    cfg_problem(cfg, where, "out of memory");
    cfg->lacks = true;
}

static void refuse(struct cfg *cfg, const struct cfg_word *word, const char *what)
{
    if (cfg->out)
        fprintf(cfg->out, "%s:%u: %s\n", word->source->name, word->line, what);
    cfg->problems++;
}

/* Says what is wrong at the word that libconfig stumbled over. */
static void explain(struct cfg *cfg, const struct cfg_lexer *lexer, unsigned at)
{
    char text[CFG_HINT_MAX];
    if (!cfg_hint_doubled(lexer, at)) {
        at = cfg_hint(lexer, at, text);
        refuse(cfg, &lexer->words[at], text);
        return;
    }
    for (at = 0; at < lexer->n_words; at++) { /* of these, all */
        const struct cfg_word *word = &lexer->words[at], *first = cfg_hint_doubled(lexer, at);
        if (!first)
            continue;
        snprintf(text, sizeof text, "'%.*s' stands here twice: it is in %.250s:%u already",
                 word->size < 100 ? (int)word->size : 100, word->at, first->source->name,
                 first->line);
        refuse(cfg, word, text);
    }
}

/* ---- the tree ---- */

static void free_tree(struct tree *tree)
{
    config_destroy(&tree->config);
    cfg_lexer_free(&tree->lexer);
    free(tree);
}

/* libconfig does not look whether it got memory for what it copies: then a key or a text is
 * not there, and what would follow from that is nothing the file says. */
static bool is_whole(const struct cfg_setting *setting)
{
    const bool is_group = config_setting_type(setting) == CONFIG_TYPE_GROUP;
    bool whole = config_setting_type(setting) != CONFIG_TYPE_STRING ||
                 config_setting_get_string(setting) != NULL;
    for (int i = 0; whole && i < config_setting_length(setting); i++) {
        const struct cfg_setting *member = config_setting_get_elem(setting, (unsigned)i);
        whole = (!is_group || config_setting_name(member) != NULL) && is_whole(member);
    }
    return whole;
}

const struct cfg_setting *cfg_open(struct cfg *cfg, const char *path)
{
    struct tree *tree = calloc(1, sizeof *tree);
    if (!tree) {
        cfg_no_memory(cfg, NULL);
        return NULL;
    }
    struct cfg_lexer *lexer = &tree->lexer;
    config_init(&tree->config);
    if (!cfg_lexer_read(lexer, path)) {
        cfg_problem(cfg, NULL, "%s", lexer->error);
    } else if (!config_read_string(&tree->config, lexer->text)) {
        unsigned line = (unsigned)config_error_line(&tree->config);
        explain(cfg, lexer, line < lexer->n_words ? line - 1 : lexer->n_words - 1);
    } else if (lexer->stopped) {
        explain(cfg, lexer, lexer->n_words - 1);
    } else if (!is_whole(config_root_setting(&tree->config))) {
        cfg_no_memory(cfg, NULL);
    } else {
        config_setting_set_hook(config_root_setting(&tree->config), tree);
        return config_root_setting(&tree->config);
    }
    cfg->lacks = cfg->lacks || lexer->lacks;
    free_tree(tree);
    return NULL;
}

void cfg_close(const struct cfg_setting *root)
{
    if (root)
        free_tree(config_setting_get_hook(root));
}

void cfg_warn_unused(struct cfg *cfg, const struct cfg_setting *root)
{
    const struct tree *tree = config_setting_get_hook(root);
    const struct cfg_values *value = tree->lexer.values;
    for (; value; value = value->next) {
        if (value->is_used)
            continue;
        if (cfg->out)
            fprintf(cfg->out, "%s:%u: warning: @%s@ is used nowhere: is another name meant?\n",
                    value->source->name, value->line, value->name);
        cfg->warnings++;
    }
}

const struct cfg_setting *cfg_member(const struct cfg_setting *group, const char *name)
{
    return cfg_is_group(group) ? config_setting_get_member(group, name) : NULL;
}

const struct cfg_setting *cfg_lookup(const struct cfg_setting *group, const char *path)
{
    return cfg_is_group(group) ? config_setting_lookup((struct cfg_setting *)group, path) : NULL;
}

unsigned cfg_length(const struct cfg_setting *setting)
{
    return cfg_is_group(setting) || cfg_is_row(setting) ? (unsigned)config_setting_length(setting)
                                                        : 0;
}

const struct cfg_setting *cfg_element(const struct cfg_setting *setting, unsigned index)
{
    return index < cfg_length(setting) ? config_setting_get_elem(setting, index) : NULL;
}

const struct cfg_setting *cfg_first(const struct cfg_setting *setting)
{
    return cfg_element(setting, 0);
}

const struct cfg_setting *cfg_next(const struct cfg_setting *setting)
{
    return cfg_element(config_setting_parent(setting), (unsigned)config_setting_index(setting) + 1);
}

static int type_of(const struct cfg_setting *setting)
{
    return setting ? config_setting_type(setting) : CONFIG_TYPE_NONE;
}

bool cfg_is_group(const struct cfg_setting *setting)
{
    return type_of(setting) == CONFIG_TYPE_GROUP;
}

bool cfg_is_list(const struct cfg_setting *setting)
{
    return type_of(setting) == CONFIG_TYPE_LIST;
}

bool cfg_is_row(const struct cfg_setting *setting)
{
    return cfg_is_list(setting) || type_of(setting) == CONFIG_TYPE_ARRAY;
}

const char *cfg_name(const struct cfg_setting *setting)
{
    return config_setting_name(setting);
}

void cfg_sha256(const struct cfg_setting *root, char text[CFG_SHA256_MAX + 1])
{
    const struct tree *tree = config_setting_get_hook(root);
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX sum;
    SHA256_Init(&sum);
    SHA256_Update(&sum, tree->lexer.whole, tree->lexer.whole_size);
    SHA256_Final(digest, &sum);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (const unsigned char *at = bytes; size > 0; at++, size--)
        hash = (hash ^ *at) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return text ? hash_bytes(hash, text, strlen(text) + 1) : hash;
}

/* Settings are nested no deeper than CFG_NESTING_MAX. */
static uint64_t hash_setting(uint64_t hash, const struct cfg_setting *setting)
{
    const int type = config_setting_type(setting);
    const int64_t whole = config_setting_get_int64(setting);
    const double real = config_setting_get_float(setting);
    const int boolean = config_setting_get_bool(setting);
    hash = hash_text(hash_bytes(hash, &type, sizeof type), cfg_name(setting));
    hash = hash_text(hash, cfg_text(setting));
    hash = hash_bytes(hash, &whole, sizeof whole);
    hash = hash_bytes(hash, &real, sizeof real);
    hash = hash_bytes(hash, &boolean, sizeof boolean);
    for (unsigned i = 0; i < cfg_length(setting); i++)
        hash = hash_setting(hash, cfg_element(setting, i));
    const char end = ')';
    return hash_bytes(hash, &end, sizeof end);
}

uint64_t cfg_hash(const struct cfg_setting *setting)
{
    return setting ? hash_setting(UINT64_C(0xcbf29ce484222325), setting) : 0;
}

const char *cfg_text(const struct cfg_setting *setting)
{
    return type_of(setting) == CONFIG_TYPE_STRING ? config_setting_get_string(setting) : NULL;
}

bool cfg_boolean(const struct cfg_setting *setting, bool *boolean)
{
    if (type_of(setting) != CONFIG_TYPE_BOOL)
        return false;
    *boolean = config_setting_get_bool(setting);
    return true;
}

bool cfg_content(const struct cfg_setting *setting, uint64_t *content, bool *negative)
{
    uint64_t magnitude;
    bool minus, fits;
    double real;
    switch (type_of(setting)) {
    case CONFIG_TYPE_INT64:
        *content = (uint64_t)config_setting_get_int64(setting);
        /* The lexer writes as hexadecimal what is above INT64_MAX. */
        *negative = *content > INT64_MAX && config_setting_get_format(setting) != CONFIG_FORMAT_HEX;
        return true;
    case CONFIG_TYPE_STRING:
        if (!cfg_value_whole(cfg_text(setting), &magnitude, &minus, &fits) || !fits)
            return false;
        *content = minus ? 0 - magnitude : magnitude;
        *negative = minus && magnitude > 0;
        return true;
    case CONFIG_TYPE_FLOAT:
        real = config_setting_get_float(setting);
        if (trunc(real) != real || fabs(real) > 0x1p53)
            return false;
        *content = (uint64_t)(int64_t)real;
        *negative = real < 0;
        return true;
    default:
        return false;
    }
}

bool cfg_integer(const struct cfg_setting *setting, int64_t *integer)
{
    uint64_t content;
    bool negative;
    if (!cfg_content(setting, &content, &negative) || (!negative && content > INT64_MAX))
        return false;
    *integer = (int64_t)content;
    return true;
}

bool cfg_number(const struct cfg_setting *setting, double *number)
{
    uint64_t content;
    bool negative;
    if (type_of(setting) == CONFIG_TYPE_FLOAT)
        *number = config_setting_get_float(setting);
    else if (type_of(setting) == CONFIG_TYPE_INT64 && cfg_content(setting, &content, &negative))
        *number = negative ? (double)(int64_t)content : (double)content;
    else
        return false;
    return true;
}

/* ---- groups by table ---- */

bool cfg_is_name(const char *name)
{
    size_t length =
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    return length >= 1 && length <= 64 && name[length] == '\0';
}

static bool in_range(struct cfg *cfg, const struct cfg_setting *setting,
                     const struct cfg_field *field, double amount, const struct cfg_unit *units)
{
    double factor = units == CFG_DURATION_UNITS ? 1e9 : 1;
    double low = field->min * factor, high = field->max * factor;
    bool bounded = field->min != 0 || field->max != 0;
    if (isfinite(amount) && (!bounded || (amount >= low && amount <= high)))
        return true;

    char is[32], from[32], to[32];
    cfg_value_print(amount, units, is);
    if (!bounded)
        cfg_problem(cfg, setting, "%s must be a finite number, not %s", field->key, is);
    else if (low == high)
        cfg_problem(cfg, setting, "%s must be %s, not %s", field->key,
                    cfg_value_print(low, units, to), is);
    else
        cfg_problem(cfg, setting, "%s must be from %s to %s, not %s", field->key,
                    cfg_value_print(low, units, from), cfg_value_print(high, units, to), is);
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
    else if (!cfg_value_is_text(text))
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
    else if (in_range(cfg, setting, field, (double)integer, CFG_PLAIN))
        *into = integer;
}

static void read_number(struct cfg *cfg, const struct cfg_setting *setting,
                        const struct cfg_field *field, double *into)
{
    double number;
    if (!cfg_number(setting, &number))
        cfg_problem(cfg, setting, "%s must be a number", field->key);
    else if (in_range(cfg, setting, field, number, CFG_PLAIN))
        *into = number;
}

static void read_amount(struct cfg *cfg, const struct cfg_setting *setting,
                        const struct cfg_field *field, int64_t *into)
{
    bool duration = field->kind == CFG_DURATION;
    const struct cfg_unit *units = duration ? CFG_DURATION_UNITS : CFG_SIZE_UNITS;
    const char *text = cfg_text(setting);
    double amount;
    bool good =
        text ? cfg_value_amount(text, units, &amount) : !duration && cfg_number(setting, &amount);
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
        if (!cfg_boolean(setting, target))
            cfg_problem(cfg, setting, "%s must be true or false", field->key);
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

static void tell_unknown(struct cfg *cfg, const struct cfg_setting *setting,
                         const struct cfg_field *fields)
{
    const char *key = cfg_name(setting);
    const struct cfg_field *field = fields;
    while (field->key && !cfg_hint_is_slip(key, field->key))
        field++;
    if (field->key)
        cfg_problem(cfg, setting, "unknown key '%s': is '%s' meant?", key, field->key);
    else
        cfg_problem(cfg, setting, "unknown key '%s'", key);
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
            tell_unknown(cfg, setting, fields);
    }
    for (const struct cfg_field *field = fields; field->key; field++)
        if (field->required && !cfg_member(group, field->key))
            cfg_problem(cfg, group, "missing key '%s'", field->key);
    return cfg->problems == before;
}
