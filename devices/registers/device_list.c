#include "devices/registers/device_list.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "devices/registers/device_control.h"
#include "devices/registers/device_points.h"

#define FIELD(structure, member) .offset = offsetof(struct structure, member)

static const struct cfg_field LISTS[] = {
    {.key = "bess", .kind = CFG_OTHER},
    {.key = "meters", .kind = CFG_OTHER},
    CFG_END,
};

/* The texts and numbers of a device's own group. */
struct device_keys {
    char id[DEVICE_ID_MAX + 1], name[DEVICE_NAME_MAX + 1], type[POINT_NAME_MAX + 1];
    int64_t poll_ns, longest_silence_ns;
};

static const struct cfg_field HEAD[] = {
    {"id", CFG_TEXT, FIELD(device_keys, id), .size = DEVICE_ID_MAX + 1, .required = true, .min = 1},
    {"name", CFG_TEXT, FIELD(device_keys, name), .size = DEVICE_NAME_MAX + 1, .required = true,
     .min = 1},
    {"type", CFG_TEXT, FIELD(device_keys, type), .size = POINT_NAME_MAX + 1, .required = true,
     .min = 1},
    {"poll", CFG_DURATION, FIELD(device_keys, poll_ns), .min = 0.001, .max = 3600},
    {"longest_silence", CFG_DURATION, FIELD(device_keys, longest_silence_ns), .min = 0.01,
     .max = 86400},
    {.key = "modbus", .kind = CFG_OTHER, .required = true},
    {.key = "control", .kind = CFG_OTHER},
    {.key = "points", .kind = CFG_OTHER},
    {.key = "writable", .kind = CFG_OTHER},
    CFG_END,
};

/* The profile of a type, read once. A type that could not be read is kept as
 * an empty one, so that its problems are told once. */
static const struct profile *find_profile(struct cfg *cfg, const struct cfg_setting *where,
                                          const char *const *directories, const char *type,
                                          struct device_list *list)
{
    for (unsigned i = 0; i < list->n_profiles; i++)
        if (strcmp(list->profiles[i]->type, type) == 0)
            return list->profiles[i];

    struct profile **more =
        realloc(list->profiles, (list->n_profiles + 1) * sizeof(struct profile *));
    if (more)
        list->profiles = more;
    struct profile *profile = more ? profile_read(cfg, where, directories, type) : NULL;
    if (!profile)
        profile = calloc(1, sizeof *profile);
    if (!more || !profile) {
        cfg_no_memory(cfg, where);
        free(profile);
        return NULL;
    }
    strcpy(profile->type, type);
    list->profiles[list->n_profiles++] = profile;
    return profile;
}

/* What no two devices share by chance, unless they share the text: each is compared with all
 * before it, and those may be thousands. */
struct traits {
    uint32_t name, id, place;
};

static uint32_t trait(uint32_t of, const char *text)
{
    for (; *text != '\0'; text++) /* FNV-1a, letter case aside */
        of = (of ^ (uint32_t)tolower((unsigned char)*text)) * 16777619;
    return of;
}

static struct traits traits_of(const struct device *device)
{
    const struct device_modbus *modbus = &device->modbus;
    const uint32_t host = trait(2166136261 ^ (uint32_t)modbus->port, modbus->host);
    return (struct traits){
        .name = trait(2166136261, device->name),
        .id = trait(2166136261, device->id),
        .place = modbus->serial[0] != '\0' ? trait(0, modbus->serial) : host,
    };
}

/* The last device's name and id against the rules and the devices before it. */
static void check_names(struct cfg *cfg, const struct cfg_setting *group,
                        const struct device_list *list, const struct traits *traits)
{
    const struct device *last = &list->devices[list->n_devices - 1];
    const struct traits own = traits[list->n_devices - 1];
    const struct cfg_setting *name = cfg_member(group, "name");
    const struct cfg_setting *id = cfg_member(group, "id");
    if (last->name[0] && !cfg_is_name(last->name))
        cfg_problem(cfg, name, "name '%s' is not 1 to 64 of A-Z a-z 0-9 _ -", last->name);
    if (strcasecmp(last->name, "bridge") == 0)
        cfg_problem(cfg, name,
                    "a device cannot be called 'bridge': that topic is the bridge's own");
    /* Told once of each, however many have it. */
    bool has_name = last->name[0] != '\0', has_id = last->id[0] != '\0';
    for (const struct device *other = list->devices; other < last; other++, traits++) {
        if (traits->name != own.name && traits->id != own.id)
            continue;
        if (has_name && strcasecmp(other->name, last->name) == 0) {
            has_name = false;
            cfg_problem(cfg, name, "name '%s' is taken by another device, letter case aside",
                        last->name);
        }
        if (has_id && strcasecmp(other->id, last->id) == 0) {
            has_id = false;
            cfg_problem(cfg, id, "id '%s' is taken by device '%s'", last->id, other->name);
        }
    }
}

/* Numbers the last device's link, and compares it with its neighbours there. */
static void join_link(struct cfg *cfg, const struct cfg_setting *where, struct device_list *list,
                      const struct traits *traits)
{
    struct device *last = &list->devices[list->n_devices - 1];
    const struct traits own = traits[list->n_devices - 1];
    bool joined = false, alone = true;
    for (struct device *other = list->devices; other < last; other++, traits++) {
        const struct device_modbus *a = &other->modbus, *b = &last->modbus;
        if (traits->place != own.place || !place_is_same_link(a, b))
            continue;
        const char *key = joined ? NULL : place_difference(a, b);
        if (key != NULL)
            cfg_problem(cfg, where, "%s of %s is set otherwise by device '%s': it must be the same",
                        key, b->serial[0] != '\0' ? b->serial : b->host, other->name);
        if (alone && a->address == b->address)
            cfg_warning(cfg, where, "device '%s' has the same link and address %lld", other->name,
                        (long long)b->address);
        alone = alone && a->address != b->address;
        last->link = other->link;
        joined = true;
    }
    if (!joined)
        last->link = list->n_links++;
}

bool device_wants_thread(const struct device *device)
{
    return device->modbus.serial[0] || device_takes_commands(device);
}

/* The first device of the link of this one. */
static const struct device *first_of_link(const struct device_list *list, unsigned index)
{
    const struct device *first = list->devices;
    while (first->link != list->devices[index].link)
        first++;
    return first;
}

bool device_is_first(const struct device_list *list, unsigned index)
{
    return first_of_link(list, index) == &list->devices[index];
}

/* One thread serves all links that have none of their own. False when out of memory. */
static bool assign_pollers(struct device_list *list)
{
    struct {
        bool is_apart, is_known;
        unsigned poller;
    } *links = calloc(list->n_links + 1, sizeof *links), *link;
    list->shared = UINT_MAX;
    if (!links)
        return false;
    for (unsigned i = 0; i < list->n_devices; i++) {
        link = &links[list->devices[i].link];
        link->is_apart = link->is_apart || device_wants_thread(&list->devices[i]);
    }
    for (unsigned i = 0; i < list->n_devices; i++) {
        link = &links[list->devices[i].link];
        if (!link->is_known && link->is_apart) {
            link->poller = list->n_pollers++;
        } else if (!link->is_known) {
            if (list->shared == UINT_MAX)
                list->shared = list->n_pollers++;
            link->poller = list->shared;
        }
        link->is_known = true;
        list->devices[i].poller = link->poller;
    }
    free(links);
    return true;
}

/* What the list is read from, and into. */
struct reader {
    struct cfg *cfg;
    const char *const *directories;
    struct device_list *list;
    struct traits *traits; /* of each device */
};

/* Goes on after a problem, so that one run shows them all. */
static void read_device(const struct reader *reader, const struct cfg_setting *group, bool battery)
{
    struct cfg *cfg = reader->cfg;
    struct device_list *list = reader->list;
    struct device_keys head = {.poll_ns = 1000000000};
    struct traits *traits = &reader->traits[list->n_devices];
    struct device *device = &list->devices[list->n_devices++];
    cfg_read(cfg, group, HEAD, &head);
    if (!cfg_is_group(group))
        return;
    device->battery = battery;
    device->control = device_no_control;
    device->poll_ns = head.poll_ns;
    device->longest_silence_ns = head.longest_silence_ns;
    strcpy(device->id, head.id);
    strcpy(device->name, head.name);
    *traits = traits_of(device);
    check_names(cfg, group, list, reader->traits);

    const struct cfg_setting *modbus = cfg_member(group, "modbus");
    const bool has_place = modbus && place_read(cfg, modbus, &device->modbus);
    *traits = traits_of(device);
    if (has_place)
        join_link(cfg, modbus, list, reader->traits);

    const struct cfg_setting *control = cfg_member(group, "control");
    if (control && !battery)
        cfg_problem(cfg, control, "a meter takes no commands: control is for devices in bess");

    if (head.type[0])
        device->profile =
            find_profile(cfg, cfg_member(group, "type"), reader->directories, head.type, list);
    device->hash = cfg_hash(group) ^ (device->profile ? device->profile->hash : 0);
    if (!device->profile || device->profile->n_points == 0)
        return;
    const struct drive *drive = &device->profile->drive;
    if (device->modbus.device_timeout_ns != 0 && !(drive->given && drive->timeout >= 0))
        cfg_problem(cfg, cfg_member(modbus, "device_timeout"),
                    "type '%s' has no device_timeout that can be set", device->profile->type);
    device_points_read(cfg, group, device);
    if (control && battery && device->points)
        device_control_read(cfg, group, device);
    for (unsigned i = 0; i < device->n_points && modbus && device->modbus.address == 0; i++)
        if (device->points && device_may_write(device, i)) {
            cfg_problem(cfg, cfg_member(modbus, "address"),
                        "address 0 may be the broadcast: nothing is ever written to it");
            break;
        }
}

/* Elements of one of the two lists; 0 when it is absent. */
static unsigned count(struct cfg *cfg, const struct cfg_setting *list)
{
    if (!list || cfg_is_list(list))
        return list ? cfg_length(list) : 0;
    cfg_problem(cfg, list, "%s must be a list: ( { ... }, { ... } )", cfg_name(list));
    return 0;
}

bool device_list_read(struct cfg *cfg, const struct cfg_setting *group,
                      const char *const *directories, struct device_list *list)
{
    unsigned before = cfg->problems;
    *list = (struct device_list){0};
    if (!cfg_read(cfg, group, LISTS, list) && !cfg_is_group(group))
        return false;
    const struct cfg_setting *bess = cfg_member(group, "bess");
    const struct cfg_setting *meters = cfg_member(group, "meters");
    unsigned n_bess = count(cfg, bess), n_meters = count(cfg, meters);
    if (n_bess + n_meters == 0) {
        cfg_problem(cfg, group, "no devices: bess and meters are both empty");
        return false;
    }
    list->devices = calloc(n_bess + n_meters, sizeof *list->devices);
    const struct reader reader = {cfg, directories, list,
                                  calloc(n_bess + n_meters, sizeof(struct traits))};
    if (!list->devices || !reader.traits) {
        cfg_no_memory(cfg, group);
        free(reader.traits);
        return false;
    }
    for (unsigned i = 0; i < n_bess; i++)
        read_device(&reader, cfg_element(bess, i), true);
    for (unsigned i = 0; i < n_meters; i++)
        read_device(&reader, cfg_element(meters, i), false);
    free(reader.traits);
    if (!assign_pollers(list))
        cfg_no_memory(cfg, group);
    return cfg->problems == before;
}

void device_list_free(struct device_list *list)
{
    for (unsigned i = 0; i < list->n_devices; i++) {
        struct device *device = &list->devices[i];
        if (!device->points || device->points == device->profile->points)
            continue;
        for (unsigned k = 0; k < device->n_points; k++)
            if (device->points[k].labels != device->profile->points[k].labels)
                free((void *)device->points[k].labels);
        free(device->points);
    }
    for (unsigned i = 0; i < list->n_profiles; i++)
        profile_free(list->profiles[i]);
    free(list->devices);
    free(list->profiles);
    *list = (struct device_list){0};
}
