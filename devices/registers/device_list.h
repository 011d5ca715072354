/* device_list: the devices of a site, and which of them share a link and a thread.
 *
 * The `devices` group of the configuration. Read once, before a thread starts; threads
 * share it read-only.
 */
#ifndef DEVICES_REGISTERS_DEVICE_LIST_H
#define DEVICES_REGISTERS_DEVICE_LIST_H

#include "devices/registers/device.h"

struct device_list {
    unsigned n_devices;
    struct device *devices;
    unsigned n_profiles;
    struct profile **profiles;
    unsigned n_links;
    unsigned n_pollers;
    unsigned shared; /* the poller of all links without one of their own; UINT_MAX: none */
};

/* Reads the `devices` group: both lists, profiles, overrides, every limit and
 * clash. Problems are reported through `cfg`. Call device_list_free() also
 * after a false return. */
bool device_list_read(struct cfg *cfg, const struct cfg_setting *group,
                      const char *const *directories, struct device_list *list);
void device_list_free(struct device_list *list);

/* The first place from `index` on that holds a device, or n_devices. */
static inline unsigned device_next(const struct device_list *list, unsigned index)
{
    while (index < list->n_devices && !device_is_there(&list->devices[index]))
        index++;
    return index;
}

/* Whether its link has a thread of its own for its sake: it has to be waited for on the spot,
 * because it is a serial line, or a command must find nothing in its way. */
bool device_wants_thread(const struct device *device);

/* Whether this is the first device of its link. */
bool device_is_first(const struct device_list *list, unsigned index);

#endif
