/* latest: the last sample of each device, the lease of its setpoint and where its
 * schedule stands, for whoever asks: page, publisher.
 *
 * Room is made once, so that putting allocates nothing. One lock, held for as long
 * as a sample takes to copy. Pollers put, any thread gets.
 */
#ifndef BRIDGE_TELEMETRY_LATEST_H
#define BRIDGE_TELEMETRY_LATEST_H

#include "bridge/model/lease.h"
#include "bridge/model/sample.h"
#include "bridge/model/timetable.h"
#include "devices/registers/device_list.h"

struct latest;

/* Room for one sample of every device. NULL when out of memory. */
struct latest *latest_new(const struct device_list *list);
void latest_free(struct latest *latest);

/* The device at this place is another one from now on, and has no sample yet; the number
 * of its next one follows `seq`. While no poller puts its samples. False when out of
 * memory. */
bool latest_renew(struct latest *latest, unsigned index, const struct device *device, uint64_t seq);

/* Takes a copy of it as it was packed, a fifth of what its values would take; its layout
 * has to be a kept one. */
void latest_put(struct latest *latest, unsigned device, int64_t taken_ns,
                const struct sample *sample, const unsigned char *packed, size_t size);

/* Copies out the last sample and when it was taken (monotonic); `values` has room
 * for the device's points. False when there is none yet. */
bool latest_get(struct latest *latest, unsigned device, struct sample *sample, struct value *values,
                int64_t *taken_ns);

/* The number of a device's last sample, 0 before the first: cheap to ask often. */
uint64_t latest_seq(struct latest *latest, unsigned device);

/* What the battery last said of its lease. */
void latest_put_lease(struct latest *latest, unsigned device, const struct lease *lease);
struct lease latest_lease(struct latest *latest, unsigned device);

/* Where its schedule stands; and how often any has changed: cheap to ask often. */
void latest_put_schedule(struct latest *latest, unsigned device,
                         const struct schedule_status *status);
struct schedule_status latest_schedule(struct latest *latest, unsigned device);
uint64_t latest_schedules(const struct latest *latest);

#endif
