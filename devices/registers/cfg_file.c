#include "devices/registers/cfg_file.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "devices/registers/cfg_lexer.h"

enum { NESTING_MAX = 64 }; /* groups within groups: more is a mistake, and the stack is finite */

struct cfg_setting {
    enum { GROUP, LIST, ARRAY, TEXT, INTEGER, REAL, BOOLEAN } type;
    bool negative, boolean;
    const char *name, *file;
    unsigned line, n;
    uint64_t magnitude;
    double real;
    const char *text;
    struct cfg_setting *first, *last, *next;
};

/* A tree and what it is made of: the root is its first member. */
struct tree {
    struct cfg_setting root;
    struct cfg_memory memory;
};

/* ---- problems ---- */

static void report(struct cfg *cfg, const struct cfg_setting *where, const char *kind,
                   const char *format, va_list arguments) __attribute__((format(printf, 4, 0)));

static void report(struct cfg *cfg, const struct cfg_setting *where, const char *kind,
                   const char *format, va_list arguments)
{
    if (!cfg->out)
        return;
    fprintf(cfg->out, "%s:%u: %s", where ? where->file : cfg->file, where ? where->line : 1, kind);
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

/* ---- grammar ---- */

struct parser {
    struct cfg *cfg;
    struct cfg_memory *memory;
    struct cfg_lexer lexer;
    struct cfg_word word; /* the one that is looked at */
    unsigned depth;
};

/* A problem at the word that is looked at, once: nothing is understood after it. */
static bool refuse(struct parser *parser, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct parser *parser, const char *format, ...)
{
    const struct cfg_word *word = &parser->word;
    char text[640], from[320] = "";
    va_list arguments;
    unsigned line = 0;
    const char *includer = cfg_lexer_includer(&parser->lexer, &line);
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (includer)
        snprintf(from, sizeof from, " (included at %.250s:%u)", includer, line);
    const struct cfg_setting where = {.file = word->file, .line = word->line};
    cfg_problem(parser->cfg, &where, "%s%s", text, from);
    return false;
}

static bool advance(struct parser *parser)
{
    cfg_lexer_next(&parser->lexer, &parser->word);
    return parser->word.kind == CFG_WORD_BAD ? refuse(parser, "%s", parser->lexer.error) : true;
}

static bool is_mark(const struct parser *parser, const char *marks)
{
    return parser->word.kind == CFG_WORD_MARK && strchr(marks, parser->word.mark);
}

/* The word as it may stand in a message. */
static const char *show(const struct cfg_word *word, char text[40])
{
    if (word->kind == CFG_WORD_END)
        return "the end of the file";
    if (word->kind == CFG_WORD_MARK)
        snprintf(text, 40, "%c", word->mark);
    else if (word->kind == CFG_WORD_NAME)
        snprintf(text, 40, "'%.30s'", word->text);
    else if (word->kind == CFG_WORD_TEXT)
        snprintf(text, 40, "\"%.30s\"", word->text);
    else
        return word->kind == CFG_WORD_BOOLEAN ? "a boolean" : "a number";
    return text;
}

static struct cfg_setting *append(struct parser *parser, struct cfg_setting *parent,
                                  const char *name)
{
    struct cfg_setting *setting = cfg_memory_take(parser->memory, sizeof *setting);
    if (!setting) {
        refuse(parser, "out of memory");
        return NULL;
    }
    *setting =
        (struct cfg_setting){.name = name, .file = parser->word.file, .line = parser->word.line};
    *(parent->last ? &parent->last->next : &parent->first) = setting;
    parent->last = setting;
    parent->n++;
    return setting;
}

static bool parse_value(struct parser *parser, struct cfg_setting *setting);

/* "one" "two": texts side by side are one. */
static bool parse_text(struct parser *parser, struct cfg_setting *setting)
{
    setting->type = TEXT;
    setting->text = parser->word.text;
    while (advance(parser)) {
        if (parser->word.kind != CFG_WORD_TEXT)
            return true;
        size_t size = strlen(setting->text) + strlen(parser->word.text) + 1;
        char *text = cfg_memory_take(parser->memory, size);
        if (!text)
            return refuse(parser, "out of memory");
        snprintf(text, size, "%s%s", setting->text, parser->word.text);
        setting->text = text;
    }
    return false;
}

/* What stands where a closing bracket should. */
static bool refuse_open(struct parser *parser, const struct cfg_setting *opened, char closing)
{
    char word[40];
    const char *what = show(&parser->word, word);
    if (parser->word.kind == CFG_WORD_END || is_mark(parser, "})]"))
        return refuse(parser, "%s comes before the %c that closes %s%s%s of %s:%u", what, closing,
                      opened->name ? "'" : "", opened->name ? opened->name : "what begins",
                      opened->name ? "'" : "", opened->file, opened->line);
    if (is_mark(parser, ";"))
        return refuse(parser, "; within a list: its elements are separated by a comma");
    return refuse(parser, "%s stands where a comma or %c should", what, closing);
}

static bool parse_elements(struct parser *parser, struct cfg_setting *setting, char closing)
{
    const char end[] = {closing, '\0'};
    if (!advance(parser))
        return false;
    while (!is_mark(parser, end)) {
        struct cfg_setting *element = append(parser, setting, NULL);
        if (parser->word.kind == CFG_WORD_END)
            return refuse_open(parser, setting, closing);
        if (!element || !parse_value(parser, element))
            return false;
        if (setting->type == ARRAY && element->type < TEXT)
            return refuse(parser, "an array [ ] holds no lists and groups: write ( )");
        if (is_mark(parser, ",")) {
            if (!advance(parser))
                return false;
        } else if (!is_mark(parser, end)) {
            return refuse_open(parser, setting, closing);
        }
    }
    return advance(parser);
}

/* What stands where a setting's name should. */
static bool refuse_setting(struct parser *parser)
{
    char word[40];
    const char *what = show(&parser->word, word);
    if (parser->word.kind == CFG_WORD_TEXT)
        return refuse(parser,
                      "%s stands where a name should: this looks like JSON, and a name has "
                      "no quotes: name = value; or a bracket or ; is missing before it",
                      what);
    if (is_mark(parser, "{") && parser->depth == 0)
        return refuse(parser, "{ before any name: this looks like JSON; the outermost settings "
                              "stand in no braces, and names in no quotes: name = value;");
    if (is_mark(parser, "["))
        return refuse(parser, "[ before any name: this looks like INI or TOML; a group is "
                              "name: { key = value; };");
    if (is_mark(parser, "})]"))
        return refuse(parser, "%s closes what was not opened", what);
    return refuse(parser, "%s stands where a name should: a setting is name = value;", what);
}

static bool parse_setting(struct parser *parser, struct cfg_setting *group)
{
    char word[40];
    if (parser->word.kind != CFG_WORD_NAME)
        return refuse_setting(parser);
    const char *name = parser->word.text;
    const struct cfg_setting *first = cfg_member(group, name);
    if (first)
        refuse(parser, "'%s' stands here twice: it is in %s:%u already", name, first->file,
               first->line);
    struct cfg_setting *setting = append(parser, group, name);
    if (!setting || !advance(parser))
        return false;
    if (!is_mark(parser, "=:"))
        return refuse(parser, "%s stands where = or : should, after '%s'",
                      show(&parser->word, word), name);
    if (!advance(parser) || !parse_value(parser, setting))
        return false;
    return is_mark(parser, ";,") ? advance(parser) : true;
}

static bool parse_group(struct parser *parser, struct cfg_setting *setting)
{
    if (!advance(parser))
        return false;
    while (!is_mark(parser, "}")) {
        if (parser->word.kind == CFG_WORD_END || is_mark(parser, ")]"))
            return refuse_open(parser, setting, '}');
        if (!parse_setting(parser, setting))
            return false;
    }
    return advance(parser);
}

static bool parse_value(struct parser *parser, struct cfg_setting *setting)
{
    const struct cfg_word *word = &parser->word;
    char shown[40];
    bool good;
    if (is_mark(parser, "{([")) {
        if (++parser->depth > NESTING_MAX)
            return refuse(parser, "brackets are nested deeper than %d", NESTING_MAX);
        setting->type = word->mark == '{' ? GROUP : word->mark == '(' ? LIST : ARRAY;
        good = setting->type == GROUP
                   ? parse_group(parser, setting)
                   : parse_elements(parser, setting, setting->type == LIST ? ')' : ']');
        parser->depth--;
        return good;
    }
    switch (word->kind) {
    case CFG_WORD_TEXT:
        return parse_text(parser, setting);
    case CFG_WORD_INTEGER:
        setting->type = INTEGER;
        setting->magnitude = word->magnitude;
        setting->negative = word->negative;
        return advance(parser);
    case CFG_WORD_REAL:
        setting->type = REAL;
        setting->real = word->real;
        return advance(parser);
    case CFG_WORD_BOOLEAN:
        setting->type = BOOLEAN;
        setting->boolean = word->boolean;
        return advance(parser);
    case CFG_WORD_NAME:
        return refuse(parser, "%s stands where a value should: a text needs quotes, \"%.100s\"",
                      show(word, shown), word->text);
    default:
        return refuse(parser, "%s stands where a value should", show(word, shown));
    }
}

static bool parse(struct parser *parser, struct cfg_setting *root)
{
    const unsigned before = parser->cfg->problems;
    if (!advance(parser))
        return false;
    root->file = parser->word.file;
    while (parser->word.kind != CFG_WORD_END)
        if (!parse_setting(parser, root))
            return false;
    return parser->cfg->problems == before;
}

const struct cfg_setting *cfg_open(struct cfg *cfg, const char *path)
{
    struct cfg_memory memory = {0};
    struct tree *tree = cfg_memory_take(&memory, sizeof *tree);
    struct parser parser = {.cfg = cfg, .memory = &memory};
    bool good = false;
    if (!tree) {
        cfg_problem(cfg, NULL, "out of memory");
        return NULL;
    }
    tree->root = (struct cfg_setting){.type = GROUP, .line = 1};
    if (cfg_lexer_begin(&parser.lexer, &memory, path))
        good = parse(&parser, &tree->root);
    else
        cfg_problem(cfg, NULL, "%s", parser.lexer.error);
    if (!good) {
        cfg_memory_free(&memory);
        return NULL;
    }
    tree->memory = memory;
    return &tree->root;
}

void cfg_close(const struct cfg_setting *root)
{
    if (!root)
        return;
    struct cfg_memory memory = ((const struct tree *)root)->memory; /* the tree is in there */
    cfg_memory_free(&memory);
}

/* ---- the tree ---- */

const struct cfg_setting *cfg_member(const struct cfg_setting *group, const char *name)
{
    const struct cfg_setting *setting = cfg_is_group(group) ? group->first : NULL;
    while (setting && strcmp(setting->name, name) != 0)
        setting = setting->next;
    return setting;
}

const struct cfg_setting *cfg_lookup(const struct cfg_setting *group, const char *path)
{
    while (group && *path) {
        char name[64];
        size_t size = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)size, path);
        group = cfg_member(group, name);
        path += size + (path[size] == '.');
    }
    return group;
}

unsigned cfg_length(const struct cfg_setting *setting)
{
    return setting ? setting->n : 0;
}

const struct cfg_setting *cfg_first(const struct cfg_setting *setting)
{
    return setting ? setting->first : NULL;
}

const struct cfg_setting *cfg_next(const struct cfg_setting *setting)
{
    return setting->next;
}

const struct cfg_setting *cfg_element(const struct cfg_setting *setting, unsigned index)
{
    const struct cfg_setting *element = cfg_first(setting);
    while (element && index-- > 0)
        element = element->next;
    return element;
}

bool cfg_is_group(const struct cfg_setting *setting)
{
    return setting && setting->type == GROUP;
}

bool cfg_is_list(const struct cfg_setting *setting)
{
    return setting && setting->type == LIST;
}

bool cfg_is_row(const struct cfg_setting *setting)
{
    return setting && (setting->type == LIST || setting->type == ARRAY);
}

const char *cfg_name(const struct cfg_setting *setting)
{
    return setting->name;
}

const char *cfg_text(const struct cfg_setting *setting)
{
    return setting && setting->type == TEXT ? setting->text : NULL;
}

bool cfg_boolean(const struct cfg_setting *setting, bool *boolean)
{
    if (setting->type != BOOLEAN)
        return false;
    *boolean = setting->boolean;
    return true;
}

bool cfg_number(const struct cfg_setting *setting, double *number)
{
    if (setting->type == REAL)
        *number = setting->real;
    else if (setting->type == INTEGER)
        *number = setting->negative ? -(double)setting->magnitude : (double)setting->magnitude;
    return setting->type == REAL || setting->type == INTEGER;
}

/* Sign and size of a whole number, however it is written. */
static bool whole(const struct cfg_setting *setting, uint64_t *magnitude, bool *negative)
{
    bool fits = true;
    if (setting->type == TEXT)
        return cfg_lexer_whole(setting->text, magnitude, negative, &fits) && fits;
    *negative = setting->type == REAL ? setting->real < 0 : setting->negative;
    *magnitude = setting->magnitude;
    if (setting->type == REAL) {
        if (trunc(setting->real) != setting->real || fabs(setting->real) > 0x1p53)
            return false;
        *magnitude = (uint64_t)fabs(setting->real);
    }
    return setting->type == REAL || setting->type == INTEGER;
}

bool cfg_integer(const struct cfg_setting *setting, int64_t *integer)
{
    uint64_t magnitude;
    bool negative;
    if (!whole(setting, &magnitude, &negative) || (!negative && magnitude > INT64_MAX))
        return false;
    *integer = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

bool cfg_content(const struct cfg_setting *setting, uint64_t *content, bool *negative)
{
    uint64_t magnitude;
    if (!whole(setting, &magnitude, negative))
        return false;
    *content = *negative ? 0 - magnitude : magnitude;
    return true;
}
