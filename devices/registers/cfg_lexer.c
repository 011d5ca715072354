#include "devices/registers/cfg_lexer.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/registers/cfg_value.h"

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
static const char MARKS[] = "=:;,{}()[]";

static bool fail(struct cfg_lexer *lexer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says why there is no going on. The first reason stands. */
static bool fail(struct cfg_lexer *lexer, const char *format, ...)
{
    va_list arguments;
    lexer->stopped = true;
    if (*lexer->error)
        return false;
    va_start(arguments, format);
    vsnprintf(lexer->error, sizeof lexer->error, format, arguments);
    va_end(arguments);
    return false;
}

static bool fail_memory(struct cfg_lexer *lexer)
{
    lexer->lacks = true;
    return fail(lexer, "out of memory");
}

/* What errno says; and whether that may be better in a moment. */
static const char *words_of_errno(struct cfg_lexer *lexer)
{
    lexer->lacks = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO;
    return strerror(errno);
}

/* The word at source->at, which is left behind, and its line for libconfig; after a
 * stop the word alone. */
static bool push(struct cfg_lexer *lexer, struct cfg_source *source, int kind, size_t size,
                 const char *line)
{
    if (lexer->n_words == lexer->words_room) {
        unsigned room = 2 * lexer->words_room + 64;
        struct cfg_word *words = realloc(lexer->words, room * sizeof *words);
        if (!words)
            return fail_memory(lexer);
        lexer->words = words;
        lexer->words_room = room;
    }
    lexer->words[lexer->n_words++] = (struct cfg_word){
        .source = source,
        .at = source->at,
        .size = (unsigned)size,
        .line = source->line,
        .open = lexer->open,
        .kind = kind,
    };
    if (!lexer->stopped)
        fprintf(lexer->out, "%.*s\n", line ? (int)strlen(line) : (int)size,
                line ? line : source->at);
    lexer->placed = lexer->stopped;
    source->at += size;
    return !lexer->stopped;
}

static bool take_mark(struct cfg_lexer *lexer, struct cfg_source *source)
{
    char mark = *source->at;
    if (strchr("{([", mark) && lexer->depth == CFG_NESTING_MAX)
        return fail(lexer, "brackets are nested deeper than %d", CFG_NESTING_MAX);
    if (strchr("=:", mark) && ++lexer->settings[lexer->depth] > CFG_SETTINGS_MAX)
        return fail(lexer, "there are more than %d settings in one group", CFG_SETTINGS_MAX);
    /* libconfig 1.7 takes a comma before the end of a list, 1.5 does not. */
    const unsigned n = lexer->n_words;
    if (strchr(")]", mark) && n > 2 && lexer->words[n - 1].kind == ',' &&
        !strchr("([,", lexer->words[n - 2].kind) && fseek(lexer->out, -2, SEEK_CUR) == 0)
        fputs(" \n", lexer->out);
    if (!push(lexer, source, mark, 1, NULL))
        return false;
    if (strchr("{([", mark)) {
        lexer->open = lexer->n_words;
        lexer->settings[++lexer->depth] = 0;
    } else if (strchr("})]", mark) && lexer->depth > 0) {
        lexer->open = lexer->words[lexer->open - 1].open;
        lexer->depth--;
    }
    return true;
}

/* ---- files ---- */

/* Reads all of a plain file. Returns what is wrong, or NULL. */
static const char *read_whole(struct cfg_lexer *lexer, struct cfg_source *source)
{
    struct stat status = {0};
    const char *wrong = NULL;
    ssize_t got = 0;
    /* Not to wait for whoever writes into a pipe. */
    int file = open(source->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, &status) != 0)
        wrong = words_of_errno(lexer);
    else if (!S_ISREG(status.st_mode))
        wrong = S_ISDIR(status.st_mode) ? strerror(EISDIR) : "it is no plain file";
    else if (status.st_size > CFG_BYTES_MAX - lexer->n_bytes)
        wrong = "it is too large for a configuration";
    else if (!(source->text = calloc(1, (size_t)status.st_size + 1)))
        wrong = words_of_errno(lexer);
    else if ((got = read(file, source->text, (size_t)status.st_size)) < 0)
        wrong = words_of_errno(lexer);
    else if (got != status.st_size)
        wrong = "it changes while it is read";
    else if (strlen(source->text) != (size_t)got)
        wrong = strspn(source->text, "\xff\xfe") > 0 || strlen(source->text) < 2
                    ? "it is UTF-16: save it as UTF-8, without a byte order mark"
                    : "there is a NUL byte in it: it is no text file";
    lexer->n_bytes += got;
    source->at = source->kept = source->text;
    if (file >= 0)
        close(file);
    return wrong;
}

/* The file that `outer` includes, or the outermost one. NULL after fail(). */
static struct cfg_source *open_source(struct cfg_lexer *lexer, const char *path, size_t size,
                                      const struct cfg_source *outer)
{
    const char *slash = strrchr(lexer->path, '/'), *wrong = NULL;
    int directory = outer && *path != '/' && slash ? (int)(slash - lexer->path) + 1 : 0;
    struct cfg_source *source = calloc(1, sizeof *source);
    if (!source ||
        asprintf(&source->name, "%.*s%.*s", directory, lexer->path, (int)size, path) < 0) {
        free(source);
        fail_memory(lexer);
        return NULL;
    }
    source->next = lexer->sources;
    lexer->sources = source;
    source->line = 1;
    source->outer = outer;
    source->outer_line = outer ? outer->line : 0;
    unsigned depth = 1;
    /* A loop comes by the same name at the latest in its second round. */
    for (; outer; outer = outer->outer, depth++)
        if (strcmp(outer->name, source->name) == 0)
            fail(lexer, "%.400s is included by itself", source->name);
    if (depth > CFG_INCLUDE_DEPTH)
        fail(lexer, "includes are nested deeper than %d files", CFG_INCLUDE_DEPTH);
    if (!lexer->stopped && (wrong = read_whole(lexer, source)))
        fail(lexer, "cannot read %.400s: %s", source->name, wrong);
    return lexer->stopped ? NULL : source;
}

/* ---- words ---- */

/* Past blanks and comments. False when a comment has no end. */
static bool skip(struct cfg_lexer *lexer, struct cfg_source *source)
{
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

/* The bytes of the "..." at `at`, quotes and all; 0 after fail(). */
static size_t measure_text(struct cfg_lexer *lexer, const char *at)
{
    static const char hex[] = DIGITS "ABCDEFabcdef";
    const char *end = at + 1;
    while (*end != '"') {
        if (*end == '\0' || *end == '\n') {
            fail(lexer, "the text that begins here has no closing quote in its line");
            return 0;
        }
        if (*end != '\\') {
            end++;
        } else if (end[1] && strchr("\\\"nrtf", end[1])) {
            end += 2;
        } else if (end[1] != 'x' || strspn(end + 2, hex) < 2) {
            fail(lexer, "a backslash in a text is written twice: \\\\");
            return 0;
        } else if (end[2] == '0' && end[3] == '0') {
            fail(lexer, "a text cannot hold \\x00");
            return 0;
        } else {
            end += 4;
        }
    }
    return (size_t)(end - at) + 1;
}

/* libconfig takes over a text's memory before it looks whether one may stand there,
 * and forgets it when not. */
static bool is_text_due(const struct cfg_lexer *lexer)
{
    const unsigned n = lexer->n_words, open = lexer->open;
    if (n > 0 && lexer->words[n - 1].kind == ',')
        return open && lexer->words[open - 1].kind != '{';
    return n > 0 && strchr("=:([\"", lexer->words[n - 1].kind);
}

/* Malloc'ed, with the values that are set; NULL after fail(). */
static char *fill(struct cfg_lexer *lexer, const char *text, size_t size)
{
    const char *unknown = NULL;
    char *filled = cfg_values_fill(lexer->values, text, size, &unknown);
    if (!filled && unknown)
        fail(lexer, "@%.*s@ is not set: say @let %.*s = \"...\" before it",
             (int)cfg_values_name(unknown), unknown, (int)cfg_values_name(unknown), unknown);
    else if (!filled)
        fail_memory(lexer);
    if (filled && strlen(filled) > size)
        lexer->n_bytes += (off_t)(strlen(filled) - size);
    if (filled && lexer->n_bytes > CFG_BYTES_MAX) {
        fail(lexer, "it is too large for a configuration");
        free(filled);
        return NULL;
    }
    return filled;
}

/* Where nothing is set an @ is like any other sign. */
static char *fill_if_any(struct cfg_lexer *lexer, const char *text, size_t size)
{
    char *copy = NULL;
    if (lexer->values)
        return fill(lexer, text, size);
    if (!(copy = strndup(text, size)))
        fail_memory(lexer);
    return copy;
}

static bool take_text(struct cfg_lexer *lexer, struct cfg_source *source)
{
    size_t size = measure_text(lexer, source->at);
    char *line = size > 0 ? fill_if_any(lexer, source->at, size) : NULL;
    if (line && !is_text_due(lexer))
        lexer->stopped = true;
    bool good = line && push(lexer, source, CFG_WORD_TEXT, size, line);
    free(line);
    return good;
}

/* `text`, which stands for `size` bytes of the source. */
static bool push_number(struct cfg_lexer *lexer, struct cfg_source *source, size_t size,
                        const char *text)
{
    char line[32];
    uint64_t magnitude;
    bool negative, fits;
    if (cfg_value_whole(text, &magnitude, &negative, &fits)) {
        if (!fits)
            return fail(lexer, "%.100s does not fit 64 bits", text);
        /* All have L, as an array's elements are of one type; and what is above
         * INT64_MAX, negative for libconfig, is told by its notation. */
        if (magnitude > INT64_MAX && !negative)
            snprintf(line, sizeof line, "0x%" PRIX64 "L", magnitude);
        else
            snprintf(line, sizeof line, "%s%" PRIu64 "L", negative ? "-" : "", magnitude);
        return push(lexer, source, CFG_WORD_NUMBER, size, line);
    }
    if (strcmp(text, "-") == 0 || strncmp(text, "---", 3) == 0)
        return fail(lexer,
                    "'%.10s' stands where a setting or a number should: this looks like "
                    "YAML, and a list is ( { key = value; }, { key = value; } )",
                    text);
    if (strncmp(text, "--", 2) == 0)
        return fail(lexer, "'%.10s' stands where a number should: a comment begins with # or //",
                    text);
    if (!cfg_value_is_real(text))
        return fail(lexer, "'%.100s' is no number; a text needs quotes: \"%.100s\"", text, text);
    return push(lexer, source, CFG_WORD_NUMBER, size, text);
}

static bool take_number(struct cfg_lexer *lexer, struct cfg_source *source)
{
    char text[128];
    size_t size = strspn(source->at, DIGITS LETTERS "+-._");
    snprintf(text, sizeof text, "%.*s", (int)size, source->at);
    if (size >= sizeof text)
        return fail(lexer, "'%.100s' is no number; a text needs quotes: \"%.100s\"", text, text);
    return push_number(lexer, source, size, text);
}

/* A @name@ that stands for a number, or for true or false. */
static bool take_value(struct cfg_lexer *lexer, struct cfg_source *source)
{
    const size_t size = cfg_values_name(source->at + 1) + 2;
    char *text = fill(lexer, source->at, size);
    bool good = false;
    if (text && (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0))
        good = push(lexer, source, CFG_WORD_NAME, size, text);
    else if (text && *text && strchr(DIGITS "+-.", *text))
        good = push_number(lexer, source, size, text);
    else if (text)
        fail(lexer, "%.*s is no number here: a text stands in quotes, \"%.*s\"", (int)size,
             source->at, (int)size, source->at);
    free(text);
    return good;
}

/* Characters (UTF-8) that look like a space, or like nothing at all. */
static bool is_like_a_space(const char *at)
{
    static const char spaces[] = "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\xaf";
    if (strncmp(at, "\xe2\x80", 2) == 0)
        return at[2] != '\0' && strchr(spaces, at[2]) != NULL;
    return strncmp(at, "\xe2\x81\xa0", 3) == 0 || strncmp(at, "\xe3\x80\x80", 3) == 0;
}

/* What a sign that begins no word is elsewhere. */
static const char *sign_hint(char sign)
{
    switch (sign) {
    case '$':
        return ": variables of the environment are not known: see @let in fluxbridge.conf(5)";
    case '%':
        return ": a number has no unit behind it";
    case '<':
        return ": this looks like XML or HTML, or like what git leaves of a conflict";
    default:
        return "";
    }
}

/* What a character that begins no word was likely meant to be. */
static bool fail_character(struct cfg_lexer *lexer, const char *at)
{
    static const char curly[] = "\xe2\x80\x98\x99\x9a\x9c\x9d\x9e\xc2\xab\xbb"; /* UTF-8 */
    if (strncmp(at, "\xe2\x88\x92", 3) == 0 || (strncmp(at, "\xe2\x80", 2) == 0 && at[2] != '\0' &&
                                                strchr("\x90\x91\x92\x93\x94\x95", at[2])))
        return fail(lexer, "a dash (%.3s) is no minus sign: write -", at);
    if (strspn(at, curly) >= (*at == '\xe2' ? 3 : 2))
        return fail(lexer, "a curly quote (%.*s): a text stands in straight ones, \"like this\"",
                    *at == '\xe2' ? 3 : 2, at);
    if (strncmp(at, "\xef\xbb\xbf", 3) == 0)
        return fail(lexer, "a byte order mark (BOM) stands before the text: save the file as "
                           "UTF-8 without it");
    if (strncmp(at, "\xc2\xa0", 2) == 0)
        return fail(lexer, "a no-break space, as copied from a page: write a plain one");
    if (is_like_a_space(at))
        return fail(lexer, "a space of another kind, or an invisible character, as copied from a "
                           "page: write a plain space or none");
    if (*at == '\'' || *at == '`')
        return fail(lexer, "a text stands in double quotes, \"like this\", not in %c", *at);
    if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
        return fail(lexer, "a byte 0x%02X stands where a name, a value or a sign should",
                    (unsigned)(unsigned char)*at);
    return fail(lexer, "'%c' stands where a name, a value or a sign should%s", *at, sign_hint(*at));
}

static bool take_source(struct cfg_lexer *lexer, struct cfg_source *source);

static void keep(struct cfg_lexer *lexer, struct cfg_source *source)
{
    fwrite(source->kept, 1, (size_t)(source->at - source->kept), lexer->keep);
    source->kept = source->at;
}

/* A directory that cannot be read: what is in it is not to be taken for gone. */
static int is_hidden(const char *path, int error)
{
    (void)path;
    errno = error;
    return error != ENOENT;
}

/* The files that a path with * ? or [ stands for, in the order of their names. */
static bool take_matches(struct cfg_lexer *lexer, struct cfg_source *source, const char *path)
{
    const char *slash = strrchr(lexer->path, '/');
    const int directory = *path != '/' && slash ? (int)(slash - lexer->path) + 1 : 0;
    char *pattern = NULL;
    glob_t found = {0};
    bool good = asprintf(&pattern, "%.*s%s", directory, lexer->path, path) >= 0;
    if (!good)
        return fail_memory(lexer);
    const int code = glob(pattern, 0, is_hidden, &found);
    if (code == GLOB_NOSPACE)
        good = fail_memory(lexer);
    else if (code == GLOB_ABORTED)
        good = fail(lexer, "a directory of @include \"%.300s\" cannot be read: %s", pattern,
                    words_of_errno(lexer));
    else if (code != 0)
        good = fail(lexer, "there is no file for @include \"%.300s\"", pattern);
    for (size_t i = 0; good && i < found.gl_pathc; i++) {
        const char *name = found.gl_pathv[i] + directory;
        struct cfg_source *included = open_source(lexer, name, strlen(name), source);
        good = included && take_source(lexer, included);
    }
    globfree(&found);
    free(pattern);
    return good;
}

/* `@include "path"`: the words of another file, or of several. */
static bool take_include(struct cfg_lexer *lexer, struct cfg_source *source, const char *path)
{
    size_t size = *path == '"' ? strcspn(path + 1, "\"\n") : 0;
    if (*path != '"' || path[1 + size] != '"')
        return fail(lexer, "@include needs a path in quotes");
    char *filled = fill_if_any(lexer, path + 1, size);
    bool good = filled != NULL;
    if (!good)
        return false;
    keep(lexer, source);
    source->kept = path + size + 2;
    if (strpbrk(filled, "*?[")) {
        good = take_matches(lexer, source, filled);
    } else {
        struct cfg_source *included = open_source(lexer, filled, strlen(filled), source);
        good = included && take_source(lexer, included);
    }
    source->at = path + size + 2;
    free(filled);
    return good;
}

static bool set_value(struct cfg_lexer *lexer, const struct cfg_source *source, const char *name,
                      size_t name_size, const char *text, size_t size)
{
    char *filled = fill(lexer, text, size);
    struct cfg_values *value =
        filled ? cfg_values_set(&lexer->values, name, name_size, filled) : NULL;
    if (filled && !value)
        fail_memory(lexer);
    if (value) {
        value->source = source;
        value->line = source->line;
    }
    free(filled);
    return value;
}

/* `@let name = "text"`: what stands for @name@ from here on. */
static bool take_let(struct cfg_lexer *lexer, struct cfg_source *source, const char *name)
{
    const size_t name_size = cfg_values_name(name);
    const char *at = name + name_size;
    at += strspn(at, " \t");
    const bool named = name_size > 0 && *at == '=';
    at += named;
    at += strspn(at, " \t");
    if (!named || *at != '"')
        return fail(lexer, "@let needs a name and a text: @let site = \"north\"");
    const size_t size = measure_text(lexer, at);
    const struct cfg_values *first = cfg_values_find(lexer->values, name, name_size);
    if (size == 0)
        return false;
    if (first && first->source == source)
        return fail(lexer, "@let %s stands in this file twice: it is in line %u already",
                    first->name, first->line);
    if (!first && !set_value(lexer, source, name, name_size, at + 1, size - 2))
        return false;
    source->at = at + size;
    return true;
}

static bool take_directive(struct cfg_lexer *lexer, struct cfg_source *source)
{
    static const char include[] = "@include", let[] = "@let";
    const char *at = source->at;
    const size_t size = cfg_values_name(at + 1);
    if (size > 0 && at[1 + size] == '@')
        return take_value(lexer, source);
    if (strncmp(at, include, strlen(include)) == 0) {
        at += strlen(include);
        return take_include(lexer, source, at + strspn(at, " \t"));
    }
    if (size + 1 == strlen(let) && strncmp(at, let, strlen(let)) == 0) {
        at += strlen(let);
        return take_let(lexer, source, at + strspn(at, " \t"));
    }
    return fail_character(lexer, at);
}

static bool take_word(struct cfg_lexer *lexer, struct cfg_source *source)
{
    const char *at = source->at;
    if (*at == '@')
        return take_directive(lexer, source);
    if (*at == '"')
        return take_text(lexer, source);
    if (strchr(DIGITS "+-.", *at))
        return take_number(lexer, source);
    if (strchr(MARKS, *at))
        return take_mark(lexer, source);
    size_t size = strchr(LETTERS "*", *at) ? strspn(at, DIGITS LETTERS "-_*") : 0;
    if (size == 0)
        return fail_character(lexer, at);
    return push(lexer, source, CFG_WORD_NAME, size, NULL);
}

/* All words of a file. Where there is no going on, a last one marks the place. */
static bool take_source(struct cfg_lexer *lexer, struct cfg_source *source)
{
    bool good = skip(lexer, source);
    while (good && *source->at)
        good = take_word(lexer, source) && skip(lexer, source);
    keep(lexer, source);
    if (!good && !lexer->placed)
        push(lexer, source, CFG_WORD_END, 0, NULL);
    return good;
}

bool cfg_lexer_read(struct cfg_lexer *lexer, const char *path)
{
    *lexer = (struct cfg_lexer){.path = path};
    lexer->out = open_memstream(&lexer->text, &lexer->text_size);
    lexer->keep = open_memstream(&lexer->whole, &lexer->whole_size);
    if (!lexer->out || !lexer->keep)
        return fail_memory(lexer);
    struct cfg_source *source = open_source(lexer, path, strlen(path), NULL);
    if (source && take_source(lexer, source))
        push(lexer, source, CFG_WORD_END, 0, "");
    bool written = !ferror(lexer->out) && !ferror(lexer->keep);
    written = fclose(lexer->out) == 0 && written;
    written = fclose(lexer->keep) == 0 && written;
    lexer->out = lexer->keep = NULL;
    return written ? lexer->n_words > 0 : fail_memory(lexer);
}

void cfg_lexer_free(struct cfg_lexer *lexer)
{
    while (lexer->sources) {
        struct cfg_source *source = lexer->sources;
        lexer->sources = source->next;
        free(source->name);
        free(source->text);
        free(source);
    }
    if (lexer->out)
        fclose(lexer->out);
    if (lexer->keep)
        fclose(lexer->keep);
    free(lexer->words);
    free(lexer->text);
    free(lexer->whole);
    cfg_values_free(lexer->values);
}
