#include "bridge/battery/remembered.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"

/* Fields are set apart by tabs, which neither ids nor sources can hold. */

/* Behind the word for what is held. */
enum { TEXT_ROOM = REMEMBERED_TEXT_MAX - 8 };

/* One for nobody has its fields, too: earlier releases look for them. */
static void print_stops(const struct remembered *remembered, char *text)
{
    size_t n = (size_t)snprintf(text, TEXT_ROOM, "stop");
    for (unsigned i = 0; i == 0 || i < remembered->n_stops; i++) {
        const struct remembered_stop *stop = &remembered->stops[i];
        n += (size_t)snprintf(text + n, TEXT_ROOM - n, "\t%s\t%s", stop->id, stop->source);
    }
}

static const char *const holds[] = {
    [REMEMBERED_FREE] = "", [REMEMBERED_HALF] = "half\t", [REMEMBERED_ZERO] = "zero\t"};

static void print_kind(const struct remembered *remembered, char *text)
{
    text[0] = '\0';
    switch (remembered->kind) {
    case REMEMBERED_STOP:
        print_stops(remembered, text);
        break;
    case REMEMBERED_STOPPED:
        (void)snprintf(text, TEXT_ROOM, "stopped");
        break;
    case REMEMBERED_LEASE:
    case REMEMBERED_LEASE_STOPPED:
        (void)snprintf(text, TEXT_ROOM, "%s\t%s\t%" PRId64 "\t%" PRId64,
                       remembered->kind == REMEMBERED_LEASE ? "lease" : "lease-stopped",
                       remembered->boot, remembered->end_ns, remembered->end_utc_ms);
        break;
    case REMEMBERED_NOTHING:
        break;
    }
}

void remembered_print(const struct remembered *remembered, char text[REMEMBERED_TEXT_MAX])
{
    const char *hold = holds[remembered->hold];
    memcpy(text, hold, strlen(hold) + 1);
    print_kind(remembered, text + strlen(hold));
}

/* The next field of a line that is taken apart; "" when there is none. */
static const char *field(char **rest)
{
    const char *text = strsep(rest, "\t");
    return text != NULL ? text : "";
}

void remembered_parse(const char *text, struct remembered *remembered)
{
    char copy[REMEMBERED_TEXT_MAX];
    char *rest = copy;
    *remembered = (struct remembered){.kind = REMEMBERED_NOTHING};
    (void)snprintf(copy, sizeof(copy), "%s", text);
    const char *kind = field(&rest);
    if (strcmp(kind, "half") == 0 || strcmp(kind, "zero") == 0) {
        remembered->hold = strcmp(kind, "half") == 0 ? REMEMBERED_HALF : REMEMBERED_ZERO;
        kind = field(&rest);
    }
    if (strcmp(kind, "stop") == 0) {
        remembered->kind = REMEMBERED_STOP;
        while (rest != NULL && remembered->n_stops < REMEMBERED_STOPS_MAX) {
            struct remembered_stop *stop = &remembered->stops[remembered->n_stops++];
            (void)snprintf(stop->id, sizeof(stop->id), "%s", field(&rest));
            (void)snprintf(stop->source, sizeof(stop->source), "%s", field(&rest));
        }
    } else if (strcmp(kind, "stopped") == 0) {
        remembered->kind = REMEMBERED_STOPPED;
    } else if (strcmp(kind, "lease") == 0 || strcmp(kind, "lease-stopped") == 0) {
        remembered->kind = strcmp(kind, "lease") == 0 ? REMEMBERED_LEASE : REMEMBERED_LEASE_STOPPED;
        (void)snprintf(remembered->boot, sizeof(remembered->boot), "%s", field(&rest));
        remembered->end_ns = strtoll(field(&rest), NULL, 10);
        remembered->end_utc_ms = strtoll(field(&rest), NULL, 10);
    }
}

static void key_of(const char *id, char key[DEVICE_ID_MAX + 16])
{
    (void)snprintf(key, DEVICE_ID_MAX + 16, "battery/%s", id);
}

bool remembered_find(struct state *state, const char *id, struct remembered *remembered)
{
    char key[DEVICE_ID_MAX + 16], text[REMEMBERED_TEXT_MAX];
    key_of(id, key);
    if (state == NULL || !state_get(state, key, text, sizeof(text)))
        return false;
    remembered_parse(text, remembered);
    return true;
}

uint64_t remembered_keep(struct state *state, const char *id, const struct remembered *remembered)
{
    char key[DEVICE_ID_MAX + 16], text[REMEMBERED_TEXT_MAX];
    key_of(id, key);
    remembered_print(remembered, text);
    if (state == NULL)
        return 0;
    (void)state_put(state, key, text[0] != '\0' ? text : NULL);
    return state_mark(state);
}

void remembered_boot(char boot[REMEMBERED_BOOT_MAX + 1])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file == NULL || fgets(boot, REMEMBERED_BOOT_MAX + 1, file) == NULL)
        boot[0] = '\0'; /* where systemd hides it (ProcSubset=pid): see remembered_end_ns() */
    if (file != NULL)
        (void)fclose(file);
}

int64_t remembered_end_ns(const struct remembered *remembered, const char *boot, int64_t now_ns,
                          int64_t utc_ms, int64_t timeout_ns)
{
    const int64_t latest_ns = now_ns + timeout_ns;
    int64_t end_ns = remembered->end_ns;
    if (boot[0] == '\0' || strcmp(remembered->boot, boot) != 0) {
        const int64_t left_ms =
            remembered->end_utc_ms > utc_ms ? remembered->end_utc_ms - utc_ms : 0;
        const int64_t by_utc_ns =
            left_ms < timeout_ns / CLOCK_NS_PER_MS ? now_ns + left_ms * CLOCK_NS_PER_MS : latest_ns;
        /* Without a name it may be the same boot or another: whichever is over first. */
        if (boot[0] != '\0' || by_utc_ns < end_ns)
            end_ns = by_utc_ns;
    }
    if (end_ns < 0) /* the clock has no such time: it is over */
        end_ns = 0;
    return end_ns < latest_ns ? end_ns : latest_ns;
}
