#include "devices/registers/cfg_hint.h"

#include <stdio.h>
#include <string.h>

enum expected { NAME, ASSIGNMENT, VALUE, SEPARATOR };

static bool is_one_of(int kind, const char *kinds)
{
    return kind && strchr(kinds, kind);
}

static bool is_boolean(const struct cfg_word *word)
{
    return word->kind == CFG_WORD_NAME &&
           ((word->size == 4 && strncasecmp(word->at, "true", 4) == 0) ||
            (word->size == 5 && strncasecmp(word->at, "false", 5) == 0));
}

static bool is_switch(const struct cfg_word *word)
{
    static const char *const words[] = {"yes", "no", "on", "off"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strlen(words[i]) == word->size && strncasecmp(word->at, words[i], word->size) == 0)
            return true;
    return false;
}

/* The bracket that a word stands in; the whole file is a group. */
static int bracket_of(const struct cfg_lexer *lexer, const struct cfg_word *word)
{
    return word->open ? lexer->words[word->open - 1].kind : '{';
}

/* What libconfig looks for at a word, by those before it. */
static enum expected due_at(const struct cfg_lexer *lexer, unsigned at)
{
    const struct cfg_word *word = &lexer->words[at];
    int open = bracket_of(lexer, word), before = at > 0 ? word[-1].kind : ';';
    if (is_one_of(before, "=:"))
        return VALUE;
    if (open != '{')
        return before == open || before == ',' ? VALUE : SEPARATOR;
    bool named = before == CFG_WORD_NAME && !(at > 1 && is_one_of(word[-2].kind, "=:"));
    return named ? ASSIGNMENT : NAME;
}

/* The word as it may stand in a message. */
static const char *show(const struct cfg_word *word, char text[40])
{
    if (word->kind == CFG_WORD_END)
        return "the end of the file";
    const char *quote = is_one_of(word->kind, "a0") ? "'" : "";
    snprintf(text, 40, "%s%.*s%s", quote, word->size < 30 ? (int)word->size : 30, word->at, quote);
    return text;
}

/* What stands where a bracket should be closed, or go on. */
static const char *hint_open(const struct cfg_lexer *lexer, const struct cfg_word *word, char *text)
{
    const struct cfg_word *place = &lexer->words[word->open - 1];
    int closing = place->kind == '{' ? '}' : place->kind == '(' ? ')' : ']';
    bool named = word->open > 2 && is_one_of(place[-1].kind, "=:");
    const char *around = named ? "'" : "the ", *behind = named ? "'" : "";
    place -= named ? 2 : 0;
    if (word->kind == ';')
        return " within a list: its elements are separated by a comma";
    if (word->kind != CFG_WORD_END && !is_one_of(word->kind, "})]"))
        snprintf(text, CFG_HINT_MAX, " stands where a comma or %c should", closing);
    else
        snprintf(text, CFG_HINT_MAX, " comes before the %c that closes %s%.*s%s of %.250s:%u",
                 closing, around, (int)place->size, place->at, behind, place->source->name,
                 place->line);
    return text;
}

static const char *hint_name(const struct cfg_lexer *lexer, const struct cfg_word *word, char *text)
{
    if (word->open && (word->kind == CFG_WORD_END || is_one_of(word->kind, ")]")))
        return hint_open(lexer, word, text);
    if (word->kind == CFG_WORD_TEXT)
        return " stands where a name should: this looks like JSON, and a name has no quotes: "
               "name = value; or a bracket or ; is missing before it";
    if (word->kind == '{' && !word->open)
        return " before any name: this looks like JSON; the outermost settings stand in no "
               "braces, and names in no quotes: name = value;";
    if (word->kind == '[')
        return " before any name: this looks like INI or TOML; a group is name: { key = value; };";
    if (word->kind == CFG_WORD_NUMBER && word - lexer->words >= 2 && word[-1].kind == ',' &&
        word[-2].kind == CFG_WORD_NUMBER)
        return " stands where a name should: decimals stand behind a point, not a comma";
    if (word->kind == ';')
        return " stands where a name should: there is one too many, or it begins a comment, "
               "which # or // does here";
    return is_one_of(word->kind, "})]") ? " closes what was not opened"
                                        : " stands where a name should: a setting is name = value;";
}

static const char *hint_value(const struct cfg_lexer *lexer, const struct cfg_word *word,
                              char *text)
{
    bool element = !is_one_of(word[-1].kind, "=:");
    bool array = element && lexer->words[word->open - 1].kind == '[';
    if (word->kind == CFG_WORD_END && element)
        return hint_open(lexer, word, text);
    if (array && is_one_of(word->kind, "{(["))
        return " in an array [ ], which holds no lists and groups: write ( )";
    if (array && (is_one_of(word->kind, "0\"") || is_boolean(word)))
        return " in an array [ ] of values of another kind: write ( )";
    if (!element && is_one_of(word->kind, "=:"))
        return " stands where a value should: one = or : is enough";
    if (word->kind != CFG_WORD_NAME)
        return " stands where a value should";
    const struct cfg_word *end = lexer->words + lexer->n_words;
    if (word + 1 < end && is_one_of(word[1].kind, "=:"))
        return " stands where a value should: there is none before it, or this looks like YAML, "
               "and a group is name: { key = value; };";
    return is_switch(word) ? " stands where a value should: a switch is true or false"
                           : " stands where a value should: a text needs quotes, \"like this\"";
}

static const char *hint_assignment(const struct cfg_lexer *lexer, const struct cfg_word *word)
{
    bool follows = word - lexer->words > 2 && word[-2].kind == CFG_WORD_NUMBER &&
                   word[-2].line == word[-1].line;
    return follows ? " stands where = or : should: a number has no unit behind it, but in a text, "
                     "such as \"5s\""
                   : " stands where = or : should, after a name";
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

bool cfg_hint_is_slip(const char *name, const char *meant)
{
    enum { LONGEST = 32 };
    const size_t n = strlen(name), m = strlen(meant);
    /* How many steps lead from what is left of the one to what is left of the other. */
    unsigned steps[LONGEST + 2][LONGEST + 2] = {0};
    if (n < 3 || n > LONGEST || m > LONGEST)
        return false;
    for (size_t i = n + 1; i-- > 0;)
        for (size_t j = m + 1; j-- > 0;) {
            unsigned *here = &steps[i][j];
            if (i == n || j == m) {
                *here = (unsigned)(n - i + m - j);
                continue;
            }
            *here = least(steps[i + 1][j + 1] + (name[i] != meant[j]),
                          1 + least(steps[i + 1][j], steps[i][j + 1]));
            if (i + 1 < n && j + 1 < m && name[i] == meant[j + 1] && name[i + 1] == meant[j])
                *here = least(*here, 1 + steps[i + 2][j + 2]);
        }
    return steps[0][0] <= (n < 6 ? 1 : 2);
}

unsigned cfg_hint(const struct cfg_lexer *lexer, unsigned at, char text[CFG_HINT_MAX])
{
    char shown[40], open[CFG_HINT_MAX], from[320] = "";
    const struct cfg_word *word = &lexer->words[at];
    const struct cfg_source *source = word->source;
    const enum expected due = due_at(lexer, at);
    const char *what = show(word, shown), *hint;
    if (at + 1 == lexer->n_words && *lexer->error)
        what = "", hint = lexer->error;
    else if (due == NAME)
        hint = hint_name(lexer, word, open);
    else if (due == VALUE)
        hint = hint_value(lexer, word, open);
    else if (due == ASSIGNMENT)
        hint = hint_assignment(lexer, word);
    else if (bracket_of(lexer, word) == '[' && is_one_of(word->kind, ",]"))
        return cfg_hint(lexer, at - 1, text); /* libconfig reads on to see a text's end */
    else
        hint = hint_open(lexer, word, open);
    if (source->outer)
        snprintf(from, sizeof from, " (included at %.250s:%u)", source->outer->name,
                 source->outer_line);
    snprintf(text, CFG_HINT_MAX, "%s%s%s", what, hint, from);
    return at;
}

static bool names_setting(const struct cfg_lexer *lexer, unsigned at)
{
    return lexer->words[at].kind == CFG_WORD_NAME && due_at(lexer, at) == NAME;
}

const struct cfg_word *cfg_hint_doubled(const struct cfg_lexer *lexer, unsigned at)
{
    const struct cfg_word *word = &lexer->words[at];
    if (!names_setting(lexer, at))
        return NULL;
    for (unsigned i = word->open; i < at; i++) {
        const struct cfg_word *first = &lexer->words[i];
        if (first->open == word->open && first->size == word->size &&
            memcmp(first->at, word->at, word->size) == 0 && names_setting(lexer, i))
            return first;
    }
    return NULL;
}
