/* plant: the physics behind the simulated devices of one site.
 *
 * Pure: time is an argument, randomness comes from a seed, so the same seed and
 * the same steps give the same values. All devices of a configuration stand on
 * one site and share its voltages and frequency:
 *
 *   battery  every device of devices.bess. + discharges. Power follows the
 *            setpoint in under a second, within the inverter blocks it has
 *            (250 kW in blocks of kw_per_block, 50 kW unless configured), and
 *            the state of energy follows power. The capacity is one hour of the
 *            configured limits within the documented 100-500 kWh, or 200 kWh.
 *            Empty or full, it stops, and `status` leaves the ready value
 *            until the setpoint asks for something possible again.
 *   grid     the first meter that is no PV meter. + imports: loads - generation -
 *            discharge.
 *   PV       a meter with "PV" in its name. + generates; counted as import,
 *            as a meter wired towards the panels does.
 *   load     any further meter. + consumes.
 *
 * Points are known by their names (those of the types that come with the
 * program) and given in the unit of the point. A point of any other name gets a
 * believable, slowly varying value by its limits or unit; writable ones hold
 * what is written. Not thread-safe.
 */
#ifndef DEVICES_SIMULATOR_PLANT_H
#define DEVICES_SIMULATOR_PLANT_H

#include "devices/registers/device_list.h"

struct plant;

/* A plant of all devices of `list`, which must outlive it, at time 0. NULL when
 * out of memory. */
struct plant *plant_new(const struct device_list *list, uint64_t seed);
void plant_free(struct plant *plant);

/* Moves on to `now_s`, seconds since plant_new(). A step may be of any length:
 * ramps and energies are exact. Time standing still or going back does nothing. */
void plant_step(struct plant *plant, double now_s);

/* What a point measures now, in its unit. */
double plant_read(const struct plant *plant, unsigned device, unsigned point);

/* The battery is told what to do, in kW, whatever its registers are. */
void plant_steer(struct plant *plant, unsigned device, double kw);

/* A point was written: a setpoint steers its battery, anything else is without
 * effect on the physics. */
void plant_write(struct plant *plant, unsigned device, unsigned point, double number);

#endif
