#include "devices/registers/cfg_lexer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char DIGITS[] = "0123456789";
static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char MARKS[] = "=:;,{}()[]";

/* ---- memory ---- */

struct cfg_chunk {
    struct cfg_chunk *next;
    max_align_t bytes[];
};

void *cfg_memory_take(struct cfg_memory *memory, size_t size)
{
    struct cfg_chunk *chunk = calloc(1, sizeof *chunk + size);
    if (!chunk)
        return NULL;
    chunk->next = memory->chunks;
    memory->chunks = chunk;
    return chunk->bytes;
}

void cfg_memory_free(struct cfg_memory *memory)
{
    while (memory->chunks) {
        struct cfg_chunk *chunk = memory->chunks;
        memory->chunks = chunk->next;
        free(chunk);
    }
}

/* ---- files ---- */

struct cfg_source {
    struct cfg_source *outer;
    char *name;
    unsigned line; /* of `at` */
    unsigned depth;
    dev_t device; /* which file it is, whatever it is called */
    ino_t inode;
    const char *at;
    char *text; /* ends with NUL */
    size_t size;
};

static bool fail(struct cfg_lexer *lexer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool fail(struct cfg_lexer *lexer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(lexer->error, sizeof lexer->error, format, arguments);
    va_end(arguments);
    return false;
}

static char *copy(struct cfg_lexer *lexer, const char *text, size_t size)
{
    char *to = cfg_memory_take(lexer->memory, size + 1);
    if (to)
        memcpy(to, text, size);
    else
        fail(lexer, "out of memory");
    return to;
}

/* Reads all of a plain file. Returns what is wrong, or NULL. */
static const char *read_whole(struct cfg_lexer *lexer, struct cfg_source *source)
{
    struct stat status;
    const char *wrong = NULL;
    /* Not to wait for whoever writes into a pipe. */
    int file = open(source->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, &status) != 0) {
        wrong = strerror(errno);
        goto done;
    }
    source->device = status.st_dev;
    source->inode = status.st_ino;
    if (!S_ISREG(status.st_mode)) {
        wrong = S_ISDIR(status.st_mode) ? strerror(EISDIR) : "it is no plain file";
        goto done;
    }
    if (status.st_size > CFG_BYTES_MAX - (off_t)lexer->n_bytes) {
        wrong = "it is too large for a configuration";
        goto done;
    }
    size_t size = (size_t)status.st_size;
    source->text = cfg_memory_take(lexer->memory, size + 1);
    if (!source->text) {
        wrong = "out of memory";
        goto done;
    }
    ssize_t got = 1;
    while (source->size < size && got > 0) {
        got = read(file, source->text + source->size, size - source->size);
        source->size += got > 0 ? (size_t)got : 0;
    }
    if (got < 0)
        wrong = strerror(errno);
    lexer->n_bytes += (unsigned)source->size;
done:
    if (file >= 0)
        close(file);
    return wrong;
}

/* What no editor for plain text leaves at the beginning of a file, or within it. */
static const char *judge_bytes(const struct cfg_source *source)
{
    const char *text = source->text;
    if (strncmp(text, "\xff\xfe", 2) == 0 || strncmp(text, "\xfe\xff", 2) == 0)
        return "this is UTF-16: save the file as UTF-8, without a byte order mark";
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
        return "a byte order mark (BOM) stands before the text: save the file as UTF-8 without it";
    if (strlen(text) != source->size)
        return "a NUL byte in the text: this is no text file";
    return NULL;
}

/* Goes on within the file at `path`, told with the place where it is named. */
static bool enter(struct cfg_lexer *lexer, const char *path)
{
    struct cfg_source *source = cfg_memory_take(lexer->memory, sizeof *source);
    if (!source || !(source->name = copy(lexer, path, strlen(path))))
        return fail(lexer, "out of memory");
    source->outer = lexer->source;
    source->depth = lexer->source ? lexer->source->depth + 1 : 1;
    if (source->depth > CFG_INCLUDE_DEPTH)
        return fail(lexer, "includes are nested deeper than %d files", CFG_INCLUDE_DEPTH);
    if (++lexer->n_files > CFG_INCLUDES_MAX)
        return fail(lexer, "more than %d files are included", CFG_INCLUDES_MAX);
    const char *wrong = read_whole(lexer, source);
    if (wrong)
        return fail(lexer, "cannot read %.400s: %s", path, wrong);
    for (const struct cfg_source *outer = source->outer; outer; outer = outer->outer)
        if (outer->device == source->device && outer->inode == source->inode)
            return fail(lexer, "%.400s is included by itself", path);
    source->at = source->text;
    source->line = 1;
    lexer->source = source;
    wrong = judge_bytes(source);
    return wrong ? fail(lexer, "%s", wrong) : true;
}

bool cfg_lexer_begin(struct cfg_lexer *lexer, struct cfg_memory *memory, const char *path)
{
    const char *slash = strrchr(path, '/');
    *lexer = (struct cfg_lexer){.memory = memory};
    lexer->directory = copy(lexer, path, slash ? (size_t)(slash - path) + 1 : 0);
    return lexer->directory && enter(lexer, path);
}

const char *cfg_lexer_includer(const struct cfg_lexer *lexer, unsigned *line)
{
    const struct cfg_source *outer = lexer->source ? lexer->source->outer : NULL;
    if (outer)
        *line = outer->line;
    return outer ? outer->name : NULL;
}

/* ---- words ---- */

/* Past blanks and comments. False when a comment has no end. */
static bool skip(struct cfg_lexer *lexer)
{
    struct cfg_source *source = lexer->source;
    for (;;) {
        const char *at = source->at;
        if (*at == '\n') {
            source->line++;
            source->at++;
        } else if (*at && strchr(" \t\r\f", *at)) {
            source->at++;
        } else if (*at == '#' || (at[0] == '/' && at[1] == '/')) {
            source->at += strcspn(at, "\n");
        } else if (at[0] == '/' && at[1] == '*') {
            const char *end = strstr(at + 2, "*/");
            if (!end)
                return fail(lexer, "the comment that begins here has no */");
            for (; at < end; at++)
                source->line += *at == '\n';
            source->at = end + 2;
        } else {
            return true;
        }
    }
}

static int hex_digit(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *at =
        digit ? strchr(digits, digit | ('A' <= digit && digit <= 'F' ? 0x20 : 0)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* One "..." from the opening quote on. */
static bool take_text(struct cfg_lexer *lexer, char **text)
{
    static const char escapes[] = "\\\"nrtf", meanings[] = "\\\"\n\r\t\f";
    const char *at = lexer->source->at + 1;
    size_t n = 0;
    char *to = cfg_memory_take(lexer->memory, strcspn(at, "\n") + 1);
    if (!to)
        return fail(lexer, "out of memory");
    while (*at != '"') {
        if (*at == '\0' || *at == '\n')
            return fail(lexer, "the text that begins here has no closing quote in its line");
        const char *escape = *at == '\\' && at[1] ? strchr(escapes, at[1]) : NULL;
        if (*at != '\\') {
            to[n++] = *at++;
        } else if (escape) {
            to[n++] = meanings[escape - escapes];
            at += 2;
        } else if (at[1] == 'x' && hex_digit(at[2]) >= 0 && hex_digit(at[3]) >= 0) {
            to[n++] = (char)(16 * hex_digit(at[2]) + hex_digit(at[3]));
            at += 4;
            if (to[n - 1] == '\0')
                return fail(lexer, "a text cannot hold \\x00");
        } else {
            return fail(lexer, "a backslash in a text is written twice: \\\\");
        }
    }
    lexer->source->at = at + 1;
    *text = to;
    return true;
}

bool cfg_lexer_whole(const char *text, uint64_t *magnitude, bool *negative, bool *fits)
{
    const char *at = text;
    bool sign = *at == '-' || *at == '+';
    unsigned base = 10;
    uint64_t number = 0;
    *negative = *at == '-';
    *fits = true;
    at += sign;
    if (!sign && at[0] == '0' && (at[1] == 'x' || at[1] == 'X')) {
        base = 16;
        at += 2;
    }
    if (hex_digit(*at) < 0 || hex_digit(*at) >= (int)base)
        return false;
    for (; hex_digit(*at) >= 0 && hex_digit(*at) < (int)base; at++) {
        uint64_t digit = (uint64_t)hex_digit(*at);
        *fits = *fits && number <= (UINT64_MAX - digit) / base;
        number = number * base + digit;
    }
    *fits = *fits && (!*negative || number <= UINT64_C(1) << 63);
    *magnitude = number;
    at += *at == 'L';
    at += *at == 'L';
    return *at == '\0';
}

/* [-+]digits[.digits][e[-+]digits], with at least one digit, and a point or an e. */
static bool is_real(const char *at)
{
    at += *at == '-' || *at == '+';
    size_t whole = strspn(at, DIGITS), fraction = 0;
    bool point = at[whole] == '.';
    at += whole + point;
    if (point)
        at += fraction = strspn(at, DIGITS);
    if (whole + fraction == 0)
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '-' || *at == '+';
        size_t exponent = strspn(at, DIGITS);
        return exponent > 0 && at[exponent] == '\0';
    }
    return point && *at == '\0';
}

static bool take_number(struct cfg_lexer *lexer, struct cfg_word *word)
{
    struct cfg_source *source = lexer->source;
    size_t size = 0;
    while (source->at[size] &&
           (strchr(DIGITS, source->at[size]) || strchr(LETTERS, source->at[size]) ||
            strchr("+-._", source->at[size])))
        size++;
    char *text = copy(lexer, source->at, size);
    bool fits;
    if (!text)
        return false;
    source->at += size;
    if (cfg_lexer_whole(text, &word->magnitude, &word->negative, &fits)) {
        word->kind = CFG_WORD_INTEGER;
        return fits ? true : fail(lexer, "%.100s does not fit 64 bits", text);
    }
    if (!is_real(text)) {
        if (strcmp(text, "-") == 0 || strncmp(text, "---", 3) == 0)
            return fail(lexer,
                        "'%.10s' stands where a setting or a number should: this looks like "
                        "YAML, and a list is ( { key = value; }, { key = value; } )",
                        text);
        return fail(lexer, "'%.100s' is no number; a text needs quotes: \"%.100s\"", text, text);
    }
    word->kind = CFG_WORD_REAL;
    word->real = strtod(text, NULL);
    return true;
}

static bool take_name(struct cfg_lexer *lexer, struct cfg_word *word)
{
    struct cfg_source *source = lexer->source;
    size_t size = 0;
    while (source->at[size] &&
           (strchr(DIGITS, source->at[size]) || strchr(LETTERS, source->at[size]) ||
            strchr("-_*", source->at[size])))
        size++;
    word->text = copy(lexer, source->at, size);
    if (!word->text)
        return false;
    source->at += size;
    word->kind = CFG_WORD_NAME;
    return true;
}

/* What a character that begins no word was likely meant to be. */
static bool fail_character(struct cfg_lexer *lexer)
{
    const char *at = lexer->source->at;
    static const char *const curly[] = {"\xe2\x80\x98", "\xe2\x80\x99", "\xe2\x80\x9a",
                                        "\xe2\x80\x9c", "\xe2\x80\x9d", "\xe2\x80\x9e",
                                        "\xc2\xab",     "\xc2\xbb",     NULL};
    for (unsigned i = 0; curly[i]; i++)
        if (strncmp(at, curly[i], strlen(curly[i])) == 0)
            return fail(lexer, "a curly quote (%s): a text stands in straight ones, \"like this\"",
                        curly[i]);
    if (*at == '\'' || *at == '`')
        return fail(lexer, "a text stands in double quotes, \"like this\", not in %c", *at);
    if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
        return fail(lexer, "a byte 0x%02X stands where a name, a value or a sign should",
                    (unsigned)(unsigned char)*at);
    return fail(lexer, "'%c' stands where a name, a value or a sign should", *at);
}

/* `@include "path"`. */
static bool take_include(struct cfg_lexer *lexer)
{
    struct cfg_source *source = lexer->source;
    static const char verb[] = "@include";
    char *name = NULL;
    if (strncmp(source->at, verb, strlen(verb)) != 0)
        return fail_character(lexer);
    source->at += strlen(verb);
    source->at += strspn(source->at, " \t");
    if (*source->at != '"')
        return fail(lexer, "@include needs a path in quotes");
    if (!take_text(lexer, &name))
        return false;
    size_t size = strlen(lexer->directory) + strlen(name) + 1;
    char *path = cfg_memory_take(lexer->memory, size);
    if (!path)
        return fail(lexer, "out of memory");
    snprintf(path, size, "%s%s", *name == '/' ? "" : lexer->directory, name);
    return enter(lexer, path);
}

static bool take(struct cfg_lexer *lexer, struct cfg_word *word)
{
    const char *at = lexer->source->at;
    if (*at == '"') {
        word->kind = CFG_WORD_TEXT;
        return take_text(lexer, &word->text);
    }
    if (strchr(DIGITS, *at) || strchr("+-.", *at))
        return take_number(lexer, word);
    if (strchr(LETTERS, *at) || *at == '*') {
        if (!take_name(lexer, word))
            return false;
        if (strcasecmp(word->text, "true") == 0 || strcasecmp(word->text, "false") == 0) {
            word->kind = CFG_WORD_BOOLEAN;
            word->boolean = (*word->text | 0x20) == 't';
        }
        return true;
    }
    if (!strchr(MARKS, *at))
        return fail_character(lexer);
    word->kind = CFG_WORD_MARK;
    word->mark = *at;
    lexer->source->at++;
    return true;
}

void cfg_lexer_next(struct cfg_lexer *lexer, struct cfg_word *word)
{
    bool good = true;
    *word = (struct cfg_word){0};
    for (;;) {
        good = skip(lexer);
        word->file = lexer->source->name;
        word->line = lexer->source->line;
        if (good && *lexer->source->at == '@') {
            good = take_include(lexer);
            if (good)
                continue;
        } else if (good && *lexer->source->at == '\0' && lexer->source->outer) {
            lexer->source = lexer->source->outer;
            continue;
        }
        break;
    }
    if (good && *lexer->source->at == '\0')
        return; /* CFG_WORD_END */
    if (!good || !take(lexer, word)) {
        word->kind = CFG_WORD_BAD;
        word->file = lexer->source->name;
        word->line = lexer->source->line;
    }
}
