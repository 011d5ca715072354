/* cfg_lexer: the words of a configuration file, those of its includes among them.
 *
 * The notation is libconfig's (its manual, chapter 3), read here and not by that
 * library: it ends the process when an include is a directory or memory runs out,
 * and it cuts whole numbers to 32 bits without a word. Whole numbers have 64 bits
 * here, with or without L. An include that cannot be read, that is no plain file,
 * that includes itself or nests too deep is one bad word with its place.
 *
 * Owned by one reader. Everything it hands out lives as long as its memory.
 */
#ifndef DEVICES_REGISTERS_CFG_LEXER_H
#define DEVICES_REGISTERS_CFG_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CFG_INCLUDE_DEPTH = 10,        /* files within each other, as libconfig has it */
    CFG_INCLUDES_MAX = 1000,       /* in all */
    CFG_BYTES_MAX = 16 << 20,      /* in all: no configuration, but a mistake */
    CFG_LEXER_ERROR_MAX = 512 + 80 /* a path, and what is wrong with it */
};

/* Memory that is given back as a whole. Zeroed at first. */
struct cfg_memory {
    struct cfg_chunk *chunks;
};
/* NULL when out of memory. */
void *cfg_memory_take(struct cfg_memory *memory, size_t size);
void cfg_memory_free(struct cfg_memory *memory);

enum cfg_word_kind {
    CFG_WORD_END, /* of all */
    CFG_WORD_BAD, /* lexer->error says why */
    CFG_WORD_NAME,
    CFG_WORD_TEXT,    /* one "..." with its escapes resolved */
    CFG_WORD_INTEGER, /* magnitude and sign */
    CFG_WORD_REAL,
    CFG_WORD_BOOLEAN,
    CFG_WORD_MARK, /* one character: = : ; , { } ( ) [ ] */
};

struct cfg_word {
    enum cfg_word_kind kind;
    const char *file;
    unsigned line;
    char mark;
    bool negative, boolean;
    uint64_t magnitude; /* with `negative` at most 2^63 */
    double real;
    char *text; /* of a name or a text */
};

struct cfg_source; /* one open file */

struct cfg_lexer {
    struct cfg_memory *memory;
    struct cfg_source *source; /* the innermost one */
    char *directory;           /* includes are relative to it; "" or with a slash at its end */
    unsigned n_files, n_bytes;
    char error[CFG_LEXER_ERROR_MAX];
};

/* Begins with the file at `path`. False with lexer->error when it cannot be read. */
bool cfg_lexer_begin(struct cfg_lexer *lexer, struct cfg_memory *memory, const char *path);

/* The next word. After CFG_WORD_BAD there is nothing more to ask for. */
void cfg_lexer_next(struct cfg_lexer *lexer, struct cfg_word *word);

/* Where the file that holds the word was included: "site.cfg:7" in the words of a
 * message, or NULL for the outermost file. */
const char *cfg_lexer_includer(const struct cfg_lexer *lexer, unsigned *line);

/* A whole number in decimal or, after 0x, hexadecimal digits, with a sign before
 * decimal ones and L or LL behind: the whole of `text`. *fits is false when it needs
 * more than 64 bits. */
bool cfg_lexer_whole(const char *text, uint64_t *magnitude, bool *negative, bool *fits);

#endif
