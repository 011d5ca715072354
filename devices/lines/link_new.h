/* link_new: the right kind of link for where a device is. */
#ifndef DEVICES_LINES_LINK_NEW_H
#define DEVICES_LINES_LINK_NEW_H

#include "devices/lines/link.h"

/* TCP by its host, RTU by its serial line. Not yet open; free with
 * link_free(). NULL when out of memory. */
struct link *link_new(const struct device_modbus *modbus);

#endif
