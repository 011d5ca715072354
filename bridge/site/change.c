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

static const struct device *find(const struct device_list *list, const char *name)
{
    for (unsigned i = 0; i < list->n_devices; i++)
        if (device_is_there(&list->devices[i]) && strcmp(list->devices[i].name, name) == 0)
            return &list->devices[i];
    return NULL;
}

/* An empty place in both, or n_devices. */
static unsigned find_place(const struct device_list *before, const struct device *devices)
{
    unsigned i = 0;
    while (i < before->n_devices &&
           (device_is_there(&before->devices[i]) || device_is_there(&devices[i])))
        i++;
    return i;
}

/* Puts every device of `after` at its place in a list as long as that of `before`: first
 * those that were there, so that nobody takes their places. */
static bool put_in_places(const struct device_list *before, struct device_list *after,
                          char why[CHANGE_WHY_MAX])
{
    struct device *devices = calloc(before->n_devices, sizeof(*devices));
    unsigned n_left = 0;
    if (devices == NULL) {
        (void)snprintf(why, CHANGE_WHY_MAX, "out of memory");
        return false;
    }
    for (unsigned i = 0; i < before->n_devices; i++)
        devices[i].link = devices[i].poller = UINT_MAX;
    for (unsigned i = 0; i < after->n_devices; i++) {
        const struct device *old = find(before, after->devices[i].name);
        if (old != NULL)
            devices[old - before->devices] = after->devices[i];
    }
    for (unsigned i = 0; i < after->n_devices; i++) {
        if (find(before, after->devices[i].name) != NULL)
            continue;
        const unsigned place = find_place(before, devices);
        if (place < before->n_devices)
            devices[place] = after->devices[i];
        else
            n_left++;
    }
    if (n_left > 0) { /* the list of `after` has all of them still */
        free(devices);
        (void)snprintf(why, CHANGE_WHY_MAX,
                       "needs a restart: there are %u devices more than this run has room for",
                       n_left);
        return false;
    }
    free(after->devices);
    after->devices = devices;
    after->n_devices = before->n_devices;
    return true;
}

/* ---- what has become of each ---- */

static enum change_kind kind_of(const struct device_list *before, const struct device_list *after,
                                unsigned index)
{
    const struct device *old = &before->devices[index], *new = &after->devices[index];
    if (!device_is_there(old))
        return device_is_there(new) ? CHANGE_NEW : CHANGE_NONE;
    if (!device_is_there(new))
        return CHANGE_GONE;
    if (old->hash != new->hash || old->battery != new->battery)
        return CHANGE_ALTERED;
    return old->poller == before->shared && device_is_apart(after, new->link) ? CHANGE_MOVED
                                                                              : CHANGE_NONE;
}

/* ---- links and pollers ---- */

/* The lowest number that no device has, neither of the one list nor, as far as they are
 * numbered, of the other. */
static unsigned free_number(const struct device_list *before, const struct device *numbered,
                            bool of_poller)
{
    if (before->devices == NULL)
        return 0;
    for (unsigned number = 0;; number++) {
        bool taken = of_poller && number == before->shared;
        for (unsigned i = 0; !taken && i < before->n_devices; i++)
            taken = of_poller ? before->devices[i].poller == number || numbered[i].poller == number
                              : before->devices[i].link == number || numbered[i].link == number;
        if (!taken)
            return number;
    }
}

/* The device whose link goes on, of those on this link of `after`; or NULL. */
static const struct device *find_kept(const struct device_list *before,
                                      const struct device_list *after, const struct change *change,
                                      unsigned link)
{
    for (unsigned i = 0; i < after->n_devices; i++)
        if (device_is_there(&after->devices[i]) && after->devices[i].link == link &&
            change->devices[i] == CHANGE_NONE)
            return &before->devices[i];
    return NULL;
}

/* Gives each link of `after` the numbers that it has, or free ones. `numbered` is a copy of
 * the devices, of which those of no link have none yet. */
static void number_link(const struct device_list *before, struct device_list *after,
                        const struct change *change, struct device *numbered, unsigned link)
{
    const struct device *kept = find_kept(before, after, change, link);
    unsigned number, poller;
    if (kept != NULL) {
        number = kept->link;
        poller = kept->poller;
    } else {
        number = free_number(before, numbered, false);
        if (device_is_apart(after, link)) {
            poller = free_number(before, numbered, true);
        } else {
            if (after->shared == UINT_MAX)
                after->shared = free_number(before, numbered, true);
            poller = after->shared;
        }
    }
    for (unsigned i = 0; i < after->n_devices; i++) {
        if (device_is_there(&after->devices[i]) && after->devices[i].link == link) {
            numbered[i].link = number;
            numbered[i].poller = poller;
        }
    }
}

static bool number_links(const struct device_list *before, struct device_list *after,
                         const struct change *change)
{
    struct device *numbered = malloc(after->n_devices * sizeof(*numbered));
    if (numbered == NULL)
        return false;
    memcpy(numbered, after->devices, after->n_devices * sizeof(*numbered));
    for (unsigned i = 0; i < after->n_devices; i++)
        numbered[i].link = numbered[i].poller = UINT_MAX;
    after->shared = before->shared;
    for (unsigned link = 0; link < after->n_links; link++)
        number_link(before, after, change, numbered, link);
    free(after->devices);
    after->devices = numbered;
    after->n_pollers = before->n_pollers;
    for (unsigned i = 0; i < after->n_devices; i++)
        if (device_is_there(&numbered[i]) && numbered[i].poller >= after->n_pollers)
            after->n_pollers = numbered[i].poller + 1;
    return true;
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
    if (change->devices == NULL || !put_in_places(&before->devices, &after->devices, why))
        return false;
    for (unsigned i = 0; i < n; i++)
        change->devices[i] = kind_of(&before->devices, &after->devices, i);
    return number_links(&before->devices, &after->devices, change);
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
