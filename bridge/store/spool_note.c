#include "bridge/store/spool_note.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bridge/base/clock.h"
#include "bridge/store/peek.h"

enum { TEXT_MAX = 128 };

#define KEY         "spool"
#define PATIENCE_NS (5 * CLOCK_NS_PER_S)
#define NOTE        "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64
#define NOTE_READ   "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64

static bool parse(const char *text, struct spool_note *note)
{
    return sscanf(text, NOTE_READ, &note->device, &note->inode, &note->least, &note->most,
                  &note->last_row) == 5 &&
           note->least <= note->most && note->most <= SPOOL_COUNT_MAX && note->last_row >= 0 &&
           note->last_row <= SPOOL_ROW_MAX;
}

bool spool_note_find(struct state *state, struct spool_note *note)
{
    char text[TEXT_MAX];
    *note = (struct spool_note){0};
    if (state != NULL && state_get(state, KEY, text, sizeof(text)) && parse(text, note))
        return true;
    *note = (struct spool_note){0};
    return false;
}

bool spool_note_peek(const char *state_path, struct spool_note *note)
{
    char text[TEXT_MAX], why[PEEK_WHY_MAX];
    *note = (struct spool_note){0};
    return state_path[0] != '\0' &&
           peek_text(state_path, KEY, text, sizeof(text), why) == PEEK_FOUND && parse(text, note);
}

bool spool_note_is_of(const struct spool_note *note, const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && note->inode == status.st_ino &&
           note->device == status.st_dev;
}

void spool_note_keep(struct state *state, const char *path, struct spool_note *note, bool wait)
{
    char text[TEXT_MAX];
    struct stat status;
    if (state == NULL)
        return;
    if (stat(path, &status) == 0) {
        note->device = status.st_dev;
        note->inode = status.st_ino;
    }
    (void)snprintf(text, sizeof(text), NOTE, note->device, note->inode, note->least, note->most,
                   note->last_row);
    (void)state_put(state, KEY, text);
    if (wait)
        state_settle(state, state_mark(state), clock_awake_ns() + PATIENCE_NS);
}
