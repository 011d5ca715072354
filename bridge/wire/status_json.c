#include "bridge/wire/status_json.h"

#include <math.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/wire/json_text.h"

char *status_json_bridge(const struct conf *conf, const char *run, int64_t started_ms)
{
    json_t *root = json_object();
    json_t *devices = json_array(), *ids = json_array();
    const struct device_list *list = &conf->devices;
    json_object_set_new(root, "version", json_string(FLUXBRIDGE_VERSION));
    json_object_set_new(root, "site", json_string(conf->site));
    json_object_set_new(root, "run", json_string(run));
    json_object_set_new(root, "started", json_integer(started_ms));
    json_object_set_new(root, "config_sha256", json_string(conf->sha256));
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        json_array_append_new(devices, json_string(list->devices[i].name));
        json_array_append_new(ids, json_string(list->devices[i].id));
    }
    json_object_set_new(root, "devices", devices);
    json_object_set_new(root, "ids", ids);
    return json_text_dump(root);
}

static json_t *point_info(const struct device *device, unsigned index)
{
    const struct point *point = &device->points[index];
    const bool writable = device_may_write(device, index);
    const bool setpoint = writable && (int)index == device->control.setpoint;
    const double min = setpoint ? device->control.min_kw : point->min;
    const double max = setpoint ? device->control.max_kw : point->max;
    json_t *info = json_object();

    json_object_set_new(info, "name", json_string(point->name));
    json_object_set_new(info, "unit",
                        point->unit[0] != '\0' ? json_string(point->unit) : json_null());
    json_object_set_new(info, "type", json_string(point_type_word(point->type)));
    json_object_set_new(info, "access", json_string(writable ? "rw" : "r"));
    if (writable && !isnan(min))
        json_object_set_new(info, "min", json_text_number(min));
    if (writable && !isnan(max))
        json_object_set_new(info, "max", json_text_number(max));
    return info;
}

char *status_json_device(const struct device *device)
{
    json_t *root = json_object();
    json_t *points = json_array();
    json_object_set_new(root, "id", json_string(device->id));
    json_object_set_new(root, "name", json_string(device->name));
    json_object_set_new(root, "type", json_string(device->profile->type));
    json_object_set_new(root, "manufacturer", json_string(device->profile->manufacturer));
    json_object_set_new(root, "model", json_string(device->profile->model));
    for (unsigned i = 0; i < device->n_points; i++)
        json_array_append_new(points, point_info(device, i));
    json_object_set_new(root, "points", points);
    return json_text_dump(root);
}

char *status_json_control(const struct lease *lease, int64_t now_ns, int64_t utc_ms,
                          bool taken_over, const char *last)
{
    json_t *root = json_object();
    json_t *held = lease->runs ? json_object() : json_null();
    json_t *outcome = last != NULL ? json_loads(last, 0, NULL) : NULL;
    if (lease->runs) {
        json_object_set_new(held, "value",
                            isnan(lease->value) ? json_null() : json_text_number(lease->value));
        json_object_set_new(held, "until",
                            json_integer(utc_ms + (lease->end_ns - now_ns) / CLOCK_NS_PER_MS));
    }
    json_object_set_new(root, "lease", held);
    json_object_set_new(root, "taken_over", json_boolean(taken_over));
    json_object_set_new(root, "last", outcome != NULL ? outcome : json_null());
    return json_text_dump(root);
}

static json_t *counter(const atomic_uint_fast64_t *value)
{
    return json_integer((json_int_t)health_get(value));
}

static json_t *command_counters(const struct health *health)
{
    json_t *commands = json_object();
    json_t *refused = json_object();
    json_object_set_new(commands, "received", counter(&health->commands));
    for (int i = 0; i < OUTCOME_COUNT; i++)
        json_object_set_new(commands, outcome_word((enum outcome_kind)i),
                            counter(&health->outcomes[i]));
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
        if (health_get(&health->refusals[i]) > 0)
            json_object_set_new(refused, reason_word((enum reason)i),
                                counter(&health->refusals[i]));
    }
    json_object_set_new(commands, "refused_by_reason", refused);
    return commands;
}

/* Those that have lost samples, by their names. */
static json_t *drops_by_device(const struct device_list *list, const uint64_t *drops)
{
    json_t *devices = json_object();
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        if (drops[i] > 0)
            json_object_set_new(devices, list->devices[i].name, json_integer((json_int_t)drops[i]));
    }
    return devices;
}

/* The revisions of their schedules, by their names. */
static json_t *schedules(const struct device_list *list, const struct health *health)
{
    json_t *devices = json_object();
    for (unsigned i = 0; health->devices != NULL && i < list->n_devices; i++) {
        const int64_t next = atomic_load(&health->devices[i].schedule);
        if (next > 0)
            json_object_set_new(devices, list->devices[i].name, json_integer(next - 1));
    }
    return devices;
}

/* Whether the batteries are held whose types say how they are commanded. */
static json_t *control_states(const struct device_list *list, const struct health *health)
{
    json_t *states = json_object();
    for (unsigned i = 0; i < list->n_devices; i++) {
        const int state =
            health->devices != NULL ? atomic_load(&health->devices[i].control) : CONTROL_NONE;
        if (state != CONTROL_NONE)
            json_object_set_new(states, list->devices[i].name,
                                json_string(control_state_word((enum control_state)state)));
    }
    return states;
}

static uint64_t beats_late(const struct device_list *list, const struct health *health)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < list->n_devices && health->devices != NULL; i++)
        sum += health_get(&health->devices[i].beats_late);
    return sum;
}

/* Whole days until the first certificate ends; negative when it has. */
static json_t *certificate_days(const struct health *health, int64_t ts_ms)
{
    const int64_t end_ms = atomic_load(&health->certificate_end_ms), day_ms = 86400000;
    const int64_t left_ms = end_ms - ts_ms;
    if (end_ms == 0)
        return json_null();
    return json_integer(left_ms / day_ms - (left_ms % day_ms < 0));
}

static json_t *last_error(void)
{
    char text[LOG_TEXT_MAX + 1];
    return log_last_error(text) ? json_string_nocheck(text) : json_null();
}

char *status_json_health(const struct conf *conf, const struct health *health,
                         const struct outbox_depth *depth, const uint64_t *drops, int64_t ts_ms,
                         int64_t uptime_ms)
{
    json_t *root = json_object();
    json_object_set_new(root, "ts", json_integer(ts_ms));
    json_object_set_new(root, "uptime_s", json_integer(uptime_ms / 1000));
    json_object_set_new(root, "samples", counter(&health->samples));
    json_object_set_new(root, "samples_bad", counter(&health->samples_bad));
    json_object_set_new(root, "missed_ticks", counter(&health->missed_ticks));
    json_object_set_new(root, "publishes", counter(&health->publishes));
    json_object_set_new(root, "drops", json_integer((json_int_t)depth->dropped));
    json_object_set_new(root, "drops_by_device", drops_by_device(&conf->devices, drops));
    json_object_set_new(
        root, "set_aside",
        json_integer((json_int_t)depth->set_aside + (json_int_t)health_get(&health->set_aside)));
    json_object_set_new(root, "sparkplug_drops", counter(&health->not_told));
    json_object_set_new(root, "spool_depth", json_integer((json_int_t)depth->backlog));
    json_object_set_new(root, "reconnects", counter(&health->reconnects));
    json_object_set_new(root, "commands", command_counters(health));
    json_object_set_new(root, "clock_jumps", counter(&health->clock_jumps));
    json_object_set_new(root, "deadman_firing", counter(&health->deadman_firing));
    json_object_set_new(root, "clock",
                        json_string(atomic_load(&health->unsynchronised_ns) == 0
                                        ? "synchronised"
                                        : "unsynchronised"));
    json_object_set_new(root, "disk",
                        json_string(atomic_load(&health->disk_silent) ? "silent" : "good"));
    json_object_set_new(root, "schedules", schedules(&conf->devices, health));
    json_object_set_new(root, "control", control_states(&conf->devices, health));
    json_object_set_new(root, "beats_late",
                        json_integer((json_int_t)beats_late(&conf->devices, health)));
    json_object_set_new(root, "oldest_unacked_s", json_integer(depth->oldest_ms / 1000));
    json_object_set_new(root, "certificate_days", certificate_days(health, ts_ms));
    json_object_set_new(root, "last_error", last_error());
    json_object_set_new(root, "log_lost", json_integer((json_int_t)log_lost()));
    return json_text_dump(root);
}
