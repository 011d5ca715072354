#include "bridge/site/change.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 64, SENTENCE_MAX = 256 };

/* ---- places ---- */

bool change_make_room(struct conf *conf)
{
    struct device_list *list = &conf->devices;
    const unsigned more = list->n_devices / 2 > ROOM_MIN ? list->n_devices / 2 : ROOM_MIN;
    struct device *devices = realloc(list->devices, (list->n_devices + more) * sizeof(*devices));
    if (devices == NULL)
        return false;
    memset(&devices[list->n_devices], 0, more * sizeof(*devices));
    for (unsigned i = list->n_devices; i < list->n_devices + more; i++)
        devices[i].link = devices[i].poller = UINT_MAX;
    list->devices = devices;
    list->n_devices += more;
    return true;
}

/* A device of the list of before, by its name. */
struct named {
    const char *name;
    unsigned place;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Those that are there, sorted. */
static unsigned list_names(const struct device_list *list, struct named *names)
{
    unsigned n = 0;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1))
        names[n++] = (struct named){list->devices[i].name, i};
    qsort(names, n, sizeof(*names), compare_names);
    return n;
}

/* The first place from `from` on that is empty in both, or n_devices. */
static unsigned find_place(const struct device_list *before, const struct device *devices,
                           unsigned from)
{
    while (from < before->n_devices &&
           (device_is_there(&before->devices[from]) || device_is_there(&devices[from])))
        from++;
    return from;
}

/* Puts every device of `after` at its place: first those that were there, so that nobody takes
 * their places. Returns how many there is no place for. */
static unsigned fill_places(const struct device_list *before, const struct device_list *after,
                            struct named *names, struct device *devices)
{
    const unsigned n_names = list_names(before, names);
    unsigned place = 0, n_left = 0;
    for (unsigned is_new = 0; is_new < 2; is_new++) {
        for (unsigned i = 0; i < after->n_devices; i++) {
            const struct named wanted = {after->devices[i].name, 0};
            const struct named *old =
                bsearch(&wanted, names, n_names, sizeof(*names), compare_names);
            if ((old == NULL) != is_new)
                continue;
            place = old != NULL ? old->place : find_place(before, devices, place);
            if (place < before->n_devices)
                devices[place] = after->devices[i];
            else
                n_left++;
        }
        place = 0;
    }
    return n_left;
}

/* Into a list as long as that of `before`. */
static bool put_in_places(const struct device_list *before, struct device_list *after,
                          char why[CHANGE_WHY_MAX])
{
    struct device *devices = calloc(before->n_devices, sizeof(*devices));
    struct named *names = calloc(before->n_devices, sizeof(*names));
    bool good = devices != NULL && names != NULL;
    if (!good) {
        (void)snprintf(why, CHANGE_WHY_MAX, "out of memory");
        goto done;
    }
    for (unsigned i = 0; i < before->n_devices; i++)
        devices[i].link = devices[i].poller = UINT_MAX;
    const unsigned n_left = fill_places(before, after, names, devices);
    good = n_left == 0; /* else the list of `after` has all of them still */
    if (!good) {
        (void)snprintf(why, CHANGE_WHY_MAX,
                       "needs a restart: there are %u devices more than this run has room for",
                       n_left);
        goto done;
    }
    free(after->devices);
    after->devices = devices;
    after->n_devices = before->n_devices;
    devices = NULL;
done:
    free(names);
    free(devices);
    return good;
}

/* ---- links and pollers ---- */

/* A link of `after`. */
struct strand {
    bool is_apart;
    const struct device *kept; /* of `before`: the link of that goes on; NULL = it is new */
    unsigned number, poller;
};

/* Numbers that are given, and the first that may be free. */
struct numbers {
    bool *given;
    unsigned first;
};

static unsigned next_number(struct numbers *numbers)
{
    while (numbers->given[numbers->first])
        numbers->first++;
    numbers->given[numbers->first] = true;
    return numbers->first;
}

/* Room for those of `before`, and for one more for each link, and the shared poller. */
static bool begin_numbers(const struct device_list *before, unsigned n_links, bool of_pollers,
                          struct numbers *numbers)
{
    const unsigned shared = of_pollers && before->shared != UINT_MAX ? before->shared : 0;
    unsigned most = shared;
    for (unsigned i = device_next(before, 0); i < before->n_devices;
         i = device_next(before, i + 1)) {
        const struct device *device = &before->devices[i];
        const unsigned number = of_pollers ? device->poller : device->link;
        most = number > most ? number : most;
    }
    *numbers = (struct numbers){.given = calloc(most + n_links + 3UL, sizeof(bool))};
    if (numbers->given == NULL)
        return false;
    for (unsigned i = device_next(before, 0); i < before->n_devices;
         i = device_next(before, i + 1)) {
        const struct device *device = &before->devices[i];
        numbers->given[of_pollers ? device->poller : device->link] = true;
    }
    if (of_pollers && before->shared != UINT_MAX)
        numbers->given[before->shared] = true;
    return true;
}

/* The numbers that it has, or free ones: the lowest that no device has, neither of the one list
 * nor, as far as they are numbered, of the other. */
static void number_strand(struct device_list *after, struct strand *strand, struct numbers *links,
                          struct numbers *pollers)
{
    if (strand->kept != NULL) {
        strand->number = strand->kept->link;
        strand->poller = strand->kept->poller;
        return;
    }
    strand->number = next_number(links);
    if (strand->is_apart) {
        strand->poller = next_number(pollers);
        return;
    }
    if (after->shared == UINT_MAX)
        after->shared = next_number(pollers);
    strand->poller = after->shared;
}

static bool number_strands(const struct device_list *before, struct device_list *after,
                           struct strand *strands)
{
    struct numbers links = {.given = NULL}, pollers = {.given = NULL};
    const bool good = begin_numbers(before, after->n_links, false, &links) &&
                      begin_numbers(before, after->n_links, true, &pollers);
    after->shared = before->shared;
    after->n_pollers = before->n_pollers;
    for (unsigned link = 0; good && link < after->n_links; link++)
        number_strand(after, &strands[link], &links, &pollers);
    for (unsigned i = device_next(after, 0); good && i < after->n_devices;
         i = device_next(after, i + 1)) {
        struct device *device = &after->devices[i];
        const struct strand *strand = &strands[device->link];
        device->link = strand->number;
        device->poller = strand->poller;
        if (device->poller >= after->n_pollers)
            after->n_pollers = device->poller + 1;
    }
    free(links.given);
    free(pollers.given);
    return good;
}

/* ---- what has become of each ---- */

static enum change_kind kind_of(const struct device_list *before, const struct device *old,
                                const struct device *new, const struct strand *strands)
{
    if (!device_is_there(old))
        return device_is_there(new) ? CHANGE_NEW : CHANGE_NONE;
    if (!device_is_there(new))
        return CHANGE_GONE;
    if (old->hash != new->hash || old->battery != new->battery)
        return CHANGE_ALTERED;
    return old->poller == before->shared && strands[new->link].is_apart ? CHANGE_MOVED
                                                                        : CHANGE_NONE;
}

/* What becomes of each device, and what goes on of each link. */
static void compare_devices(const struct device_list *before, const struct device_list *after,
                            struct change *change, struct strand *strands)
{
    for (unsigned i = device_next(after, 0); i < after->n_devices; i = device_next(after, i + 1))
        if (device_wants_thread(&after->devices[i]))
            strands[after->devices[i].link].is_apart = true;
    for (unsigned i = 0; i < after->n_devices; i++) {
        const struct device *old = &before->devices[i], *new = &after->devices[i];
        change->devices[i] = kind_of(before, old, new, strands);
        if (device_is_there(new) && change->devices[i] == CHANGE_NONE &&
            strands[new->link].kept == NULL)
            strands[new->link].kept = old;
    }
}

/* ---- all of it ---- */

bool change_find(const struct conf *before, struct conf *after, struct change *change,
                 char why[CHANGE_WHY_MAX])
{
    const unsigned n = before->devices.n_devices;
    *change = (struct change){.n_devices = n, .devices = calloc(n, sizeof(*change->devices))};
    (void)snprintf(why, CHANGE_WHY_MAX, "out of memory");
    for (unsigned group = 0; group < CONF_GROUPS; group++)
        change->groups[group] = before->hashes[group] != after->hashes[group];
    change->sessions = change->groups[CONF_MQTT] || change->groups[CONF_SITE];
    struct strand *strands = calloc(after->devices.n_links, sizeof(*strands));
    bool good = change->devices != NULL && strands != NULL &&
                put_in_places(&before->devices, &after->devices, why);
    if (good) {
        compare_devices(&before->devices, &after->devices, change, strands);
        good = number_strands(&before->devices, &after->devices, strands);
    }
    free(strands);
    return good;
}

void change_free(struct change *change)
{
    free(change->devices);
    change->devices = NULL;
}

bool change_is_any(const struct change *change)
{
    bool any = false;
    for (unsigned group = 0; group < CONF_DEVICES; group++)
        any = any || (change->groups[group] && group != CONF_LOG);
    for (unsigned i = 0; i < change->n_devices; i++)
        any = any || change_is_of(change, i);
    return any;
}

static const char *tell_of_sparkplug(const struct conf_sparkplug *before,
                                     const struct conf_sparkplug *after)
{
    if (before->enabled && after->enabled)
        return "sparkplug is changed: the node dies, and is born anew";
    if (before->enabled)
        return "sparkplug is off: the node dies";
    return after->enabled ? "sparkplug is on: the node is born" : "sparkplug is changed";
}

static const char *tell_of_spool(const struct conf *before, const struct conf *after)
{
    if (after->spool_path[0] == '\0')
        return "spool is off: what waits in its file is sent, then that is removed; what follows "
               "is kept in memory only";
    if (before->spool_path[0] == '\0')
        return "spool is on: what waits is kept in the file";
    return strcmp(before->spool_path, after->spool_path) != 0
               ? "spool is changed: what waits goes to the new file, and that of before is removed"
               : "spool is changed: beyond its size the oldest samples are dropped";
}

static const char *tell_of_audit(const struct conf *before, const struct conf *after)
{
    if (after->audit_path[0] == '\0')
        return "audit is off: what follows is written nowhere";
    return before->audit_path[0] == '\0'
               ? "audit is on: what follows is written to the file"
               : "audit is changed: what follows is written to the new file";
}

void change_tell(const struct conf *before, const struct conf *after, const struct change *change,
                 void (*tell)(void *context, const char *sentence), void *context)
{
    static const char another_site[] =
        "site is changed: the sessions with the broker end and begin anew under the new name, "
        "what was retained under the old one is cleared";
    const char *const groups[CONF_GROUPS] = {
        [CONF_HOME_ASSISTANT] =
            "home_assistant is changed: its documents are cleared, and sent anew",
        [CONF_SPARKPLUG] = tell_of_sparkplug(&before->sparkplug, &after->sparkplug),
        [CONF_SITE] = another_site,
        [CONF_SPOOL] = tell_of_spool(before, after),
        [CONF_AUDIT] = tell_of_audit(before, after),
        [CONF_MQTT] = "mqtt is changed: the sessions with the broker end and begin anew",
        [CONF_HTTP] = "http is changed: it listens anew",
        [CONF_LOG] = "log is changed",
    };
    static const char *const kinds[] = {
        [CHANGE_NEW] = "is added",
        [CHANGE_GONE] = "is removed: on_exit is carried out, and its topics are cleared",
        [CHANGE_ALTERED] = "is changed: on_exit is carried out, and it begins anew",
        [CHANGE_MOVED] = "gets a thread of its own: it begins anew",
    };
    char sentence[SENTENCE_MAX];
    for (unsigned group = 0; group < CONF_GROUPS; group++) {
        if (change->groups[group] && groups[group] != NULL)
            tell(context, groups[group]);
    }
    for (unsigned i = 0; i < change->n_devices; i++) {
        if (!change_is_of(change, i))
            continue;
        const bool gone = change->devices[i] == CHANGE_GONE;
        (void)snprintf(sentence, sizeof(sentence), "device %s %s",
                       (gone ? before : after)->devices.devices[i].name, kinds[change->devices[i]]);
        tell(context, sentence);
    }
}
