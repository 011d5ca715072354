/* cfg_lexer: a configuration file made safe for libconfig.
 *
 * libconfig ends the process when an include is a directory, waits for ever on a
 * pipe, and, in version 1.5, cuts whole numbers to 32 bits without a word. So it is
 * not given files but one text: the words of the file and of its includes, a line
 * each, whole numbers with the L that gives them 64 bits, and in place of each @name@
 * what @let has set for it. Its line numbers are then
 * numbers of words, and each word knows where it stands.
 *
 * What is here knows words, not grammar. It stops at the first that is none.
 *
 * Owned by one reader.
 */
#ifndef DEVICES_REGISTERS_CFG_LEXER_H
#define DEVICES_REGISTERS_CFG_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "devices/registers/cfg_values.h"

enum {
    CFG_INCLUDE_DEPTH = 10,        /* files within each other, as libconfig has it */
    CFG_BYTES_MAX = 4 << 20,       /* in all: more is no configuration, but a mistake */
    CFG_NESTING_MAX = 64,          /* brackets: libconfig frees its tree by recursion */
    CFG_SETTINGS_MAX = 1000,       /* in a group: libconfig goes through all of them for each */
    CFG_LEXER_ERROR_MAX = 512 + 80 /* a path, and what is wrong with it */
};

/* A file that was read. */
struct cfg_source {
    struct cfg_source *next;        /* read before this one */
    const struct cfg_source *outer; /* the one that includes it; NULL: the outermost */
    unsigned outer_line;
    char *name;
    char *text;       /* ends with NUL */
    const char *kept; /* up to here it is in `whole` */
    const char *at;   /* how far it is read */
    unsigned line;    /* of `at` */
};

enum { CFG_WORD_END = 0, CFG_WORD_NAME = 'a', CFG_WORD_TEXT = '"', CFG_WORD_NUMBER = '0' };

struct cfg_word {
    const struct cfg_source *source;
    const char *at; /* as it stands in there */
    unsigned size, line;
    unsigned open; /* 1 + the word that is the innermost bracket open here; 0: none is */
    int kind;      /* CFG_WORD_..., or one of = : ; , { } ( ) [ ] itself */
};

struct cfg_lexer {
    struct cfg_source *sources;
    struct cfg_word *words; /* the last is the end, or where there is no going on */
    unsigned n_words;
    char *text;   /* for libconfig; line n is words[n - 1] */
    bool stopped; /* before the end */
    bool lacks;   /* for want of memory or descriptors, or of a disk that reads */
    char error[CFG_LEXER_ERROR_MAX]; /* why; empty when the last word says it all */
    char *whole;                     /* the files as they were read, each include in its place */
    size_t whole_size;
    struct cfg_values *values; /* what @let has set so far */
    /* private */
    const char *path;
    FILE *out;  /* becomes the text */
    FILE *keep; /* becomes `whole` */
    size_t text_size;
    off_t n_bytes;
    unsigned words_room, depth, open;       /* brackets, and the innermost as in a word */
    unsigned settings[CFG_NESTING_MAX + 1]; /* so far, in each that is open */
    bool placed;                            /* the word where it stopped is there */
};

/* Reads the file at `path`; includes are relative to its directory, and their paths
 * have no escapes. False, with lexer->error, when there is no place to tell.
 * Ends with cfg_lexer_free() in any case. */
bool cfg_lexer_read(struct cfg_lexer *lexer, const char *path);
void cfg_lexer_free(struct cfg_lexer *lexer);

#endif
