#include "bridge/ops/metrics.h"

#include <inttypes.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP fluxbridge_%s %s\n# TYPE fluxbridge_%s %s\n", name, help, name, type);
}

static void put_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    put_head(out, name, type, help);
    fprintf(out, "fluxbridge_%s %" PRIu64 "\n", name, value);
}

static const char *name_of(const struct view *view, unsigned device)
{
    return view->conf->devices.devices[device].name;
}

static void put_bridge(FILE *out, const struct view *view)
{
    const struct health *health = view->health;
    const struct outbox_depth depth = outbox_depth(view->outbox);
    put_head(out, "info", "gauge", "What runs.");
    fprintf(out, "fluxbridge_info{version=\"%s\",site=\"%s\",run=\"%s\"} 1\n", FLUXBRIDGE_VERSION,
            view->conf->site, view->run);
    put_one(out, "mqtt_up", "gauge", "Whether the broker is connected.",
            publisher_down_since_ns(view->publisher) == 0);
    put_one(out, "mqtt_reconnects_total", "counter", "Connections after the first.",
            health_get(&health->reconnects));
    put_one(out, "publishes_total", "counter", "Messages acknowledged by the broker.",
            health_get(&health->publishes));
    put_one(out, "samples_total", "counter", "Samples taken.", health_get(&health->samples));
    put_one(out, "samples_bad_total", "counter", "Samples in which nothing was read.",
            health_get(&health->samples_bad));
    put_one(out, "samples_dropped_total", "counter", "Samples given up for want of room.",
            depth.dropped);
    put_one(out, "set_aside_total", "counter", "Messages that the broker does not take.",
            depth.set_aside + health_get(&health->set_aside));
    put_one(out, "sparkplug_samples_dropped_total", "counter",
            "Samples that no Sparkplug host gets any more.", health_get(&health->not_told));
    put_one(out, "missed_ticks_total", "counter", "Scans that fell due while the link was busy.",
            health_get(&health->missed_ticks));
    put_one(out, "spool_depth", "gauge", "Samples that wait for the broker, on disk and in memory.",
            depth.backlog);
    put_one(out, "oldest_unacked_seconds", "gauge",
            "How long the oldest sample or outcome has waited to be acknowledged.",
            (uint64_t)(depth.oldest_ms / 1000));
    put_head(out, "config_info", "gauge", "SHA-256 of the configuration in force.");
    fprintf(out, "fluxbridge_config_info{checksum=\"%s\"} 1\n", view->conf->sha256);
    put_one(out, "certificate_end_seconds", "gauge",
            "When the first certificate of the session with the broker ends, as UTC; 0 = none.",
            (uint64_t)(atomic_load(&health->certificate_end_ms) / 1000));
    put_one(out, "deadman_firing", "gauge", "Batteries whose fallback is not yet confirmed.",
            health_get(&health->deadman_firing));
    put_one(out, "audit_up", "gauge", "Whether outcomes can be written to the audit log.",
            audit_was_available(view->audit));
    put_one(out, "clock_synchronised", "gauge", "Whether the kernel calls UTC synchronised.",
            atomic_load(&health->unsynchronised_ns) == 0);
    put_one(out, "disk_silent", "gauge", "Whether the disk does not answer.",
            atomic_load(&health->disk_silent));
    put_one(out, "clock_jumps_total", "counter", "Jumps of UTC.", health_get(&health->clock_jumps));
    put_one(out, "log_lost_total", "counter", "Lines of the log that nobody took.", log_lost());
}

static void put_commands(FILE *out, const struct view *view)
{
    const struct health *health = view->health;
    put_one(out, "commands_total", "counter", "Messages on command topics.",
            health_get(&health->commands));
    put_head(out, "outcomes_total", "counter", "Commands by outcome.");
    for (int i = 0; i < OUTCOME_COUNT; i++)
        fprintf(out, "fluxbridge_outcomes_total{outcome=\"%s\"} %" PRIu64 "\n",
                outcome_word((enum outcome_kind)i), health_get(&health->outcomes[i]));
    put_head(out, "refusals_total", "counter", "Refused commands by reason.");
    for (int i = REASON_NONE + 1; i < REASON_COUNT; i++)
        fprintf(out, "fluxbridge_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
                reason_word((enum reason)i), health_get(&health->refusals[i]));
}

static void put_duration(FILE *out, const char *device, const struct health_device *counters)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < HEALTH_CLASSES; i++) {
        sum += health_get(&counters->durations[i]);
        fprintf(out, "fluxbridge_scan_seconds_bucket{device=\"%s\",le=\"%g\"} %" PRIu64 "\n",
                device, health_class_us[i] / 1e6, sum);
    }
    sum += health_get(&counters->durations[HEALTH_CLASSES]);
    fprintf(out,
            "fluxbridge_scan_seconds_bucket{device=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
            "fluxbridge_scan_seconds_sum{device=\"%s\"} %.6f\n"
            "fluxbridge_scan_seconds_count{device=\"%s\"} %" PRIu64 "\n",
            device, sum, device, (double)health_get(&counters->duration_us) / 1e6, device, sum);
}

/* What is of batteries alone. */
static void put_control(FILE *out, const struct view *view)
{
    const struct health_device *devices = view->health->devices;
    const unsigned n = view->conf->devices.n_devices;

    put_head(out, "control_state", "gauge", "1 for the state that the battery's control is in.");
    for (unsigned i = 0; i < n; i++) {
        const int state = atomic_load(&devices[i].control);
        for (int other = CONTROL_NONE + 1; other < CONTROL_STATES && state != CONTROL_NONE; other++)
            fprintf(out, "fluxbridge_control_state{device=\"%s\",state=\"%s\"} %d\n",
                    name_of(view, i), control_state_word((enum control_state)other),
                    other == state);
    }
    put_head(out, "beats_late_total", "counter", "Keepalives sent half a period late, or later.");
    for (unsigned i = 0; i < n; i++) {
        if (atomic_load(&devices[i].control) != CONTROL_NONE)
            fprintf(out, "fluxbridge_beats_late_total{device=\"%s\"} %" PRIu64 "\n",
                    name_of(view, i), health_get(&devices[i].beats_late));
    }
    put_head(out, "schedule_revision", "gauge", "Revision of the schedule, where there is one.");
    for (unsigned i = 0; i < n; i++) {
        const int64_t next = atomic_load(&devices[i].schedule);
        if (next > 0)
            fprintf(out, "fluxbridge_schedule_revision{device=\"%s\"} %" PRId64 "\n",
                    name_of(view, i), next - 1);
    }
}

static void put_devices(FILE *out, const struct view *view)
{
    const struct health_device *devices = view->health->devices;
    const struct device_list *list = &view->conf->devices;
    const unsigned n = list->n_devices;
    const int64_t now_ns = clock_mono_ns();

    put_head(out, "polls_total", "counter", "Attempts at a scan.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1))
        fprintf(out, "fluxbridge_polls_total{device=\"%s\"} %" PRIu64 "\n", name_of(view, i),
                health_get(&devices[i].polls));
    put_head(out, "device_samples_dropped_total", "counter",
             "Of samples_dropped_total: those of each device.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1))
        fprintf(out, "fluxbridge_device_samples_dropped_total{device=\"%s\"} %" PRIu64 "\n",
                name_of(view, i), outbox_dropped(view->outbox, i));
    put_head(out, "point_errors_total", "counter", "Points without a value, by the word for it.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1)) {
        for (int fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
            uint64_t errors = health_get(&devices[i].errors[fault]);
            if (errors > 0)
                fprintf(out,
                        "fluxbridge_point_errors_total{device=\"%s\",error=\"%s\"} %" PRIu64 "\n",
                        name_of(view, i), fault_word((enum fault)fault), errors);
        }
    }
    put_head(out, "scan_seconds", "histogram", "How long a whole scan took.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1))
        put_duration(out, name_of(view, i), &devices[i]);
    put_head(out, "up", "gauge", "Whether the device is online.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1))
        fprintf(out, "fluxbridge_up{device=\"%s\"} %d\n", name_of(view, i),
                outbox_is_online(view->outbox, i));
    put_head(out, "answered", "gauge", "Whether the device has answered since the start.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1))
        fprintf(out, "fluxbridge_answered{device=\"%s\"} %d\n", name_of(view, i),
                atomic_load_explicit(&devices[i].last_good_ns, memory_order_relaxed) != 0);
    put_head(out, "last_good_age_seconds", "gauge",
             "Age of the last sample with a value; before the first, of the bridge.");
    for (unsigned i = device_next(list, 0); i < n; i = device_next(list, i + 1)) {
        int64_t good_ns = atomic_load_explicit(&devices[i].last_good_ns, memory_order_relaxed);
        fprintf(out, "fluxbridge_last_good_age_seconds{device=\"%s\"} %.3f\n", name_of(view, i),
                (double)(now_ns - (good_ns != 0 ? good_ns : view->started_ns)) /
                    (double)CLOCK_NS_PER_S);
    }
}

void metrics_put(FILE *out, const struct view *view)
{
    put_bridge(out, view);
    put_commands(out, view);
    put_devices(out, view);
    put_control(out, view);
}

bool metrics_are_healthy(const struct view *view)
{
    return !atomic_load(&view->health->stuck);
}

void metrics_put_health(FILE *out, const struct view *view)
{
    fprintf(out, "%s\nmqtt %s\n", metrics_are_healthy(view) ? "ok" : "a thread has stopped moving",
            publisher_down_since_ns(view->publisher) == 0 ? "up" : "down");
}
