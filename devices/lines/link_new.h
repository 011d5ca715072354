/* link_new: a link of any framing over anything that carries it.
 *
 * Every request has one deadline for the whole answer. In TCP framing each has a
 * number of its own, and a device that is silent costs a shared connection nothing:
 * it stays open as long as another unit answers on it, and what comes too late is
 * known by its number. Otherwise step.h says when an answer can be believed. While it
 * cannot, a read first waits: the unit is asked for something that no old answer looks
 * like, one register of another table or registers in another number, and its answer
 * shows that all before has been answered or lost. Only a unit that answers neither has
 * to be silent for a while. A write does not wait: its answer repeats what was written,
 * and what came of it is read back.
 */
#ifndef DEVICES_LINES_LINK_NEW_H
#define DEVICES_LINES_LINK_NEW_H

#include "devices/lines/link.h"

/* Not yet open; free with link_free(). NULL when out of memory. */
struct link *link_new(const struct device_modbus *modbus);

#endif
