#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "bridge/cli/broker.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/terminal.h"
#include "bridge/wire/topic.h"

enum { EXIT_USAGE = 2 };

/* What is to be forgotten. */
struct forgetting {
    const struct conf *conf;
    const char *device; /* or "bridge"; NULL: all, or with a bridge in session what is no more */
    bool running;       /* a bridge of this site is in session */
    bool dry_run;
    json_t *topics;           /* those cleared; NULL: each is printed */
    char base[TOPIC_MAX + 1]; /* <prefix>/<site>/ */
};

/* Whether a bridge in session has it: one of its devices, or itself. */
static bool is_in_use(const struct conf *conf, const char *name, size_t size)
{
    if (size == strlen("bridge") && strncmp(name, "bridge", size) == 0)
        return true;
    for (unsigned i = 0; i < conf->devices.n_devices; i++)
        if (strlen(conf->devices.devices[i].name) == size &&
            strncmp(conf->devices.devices[i].name, name, size) == 0)
            return true;
    return false;
}

/* Whether a device, or "bridge", goes: `name` ends at the next slash. */
static bool goes(const struct forgetting *forgetting, const char *name)
{
    const size_t size = strcspn(name, "/");
    if (forgetting->device != NULL)
        return strlen(forgetting->device) == size && strncmp(forgetting->device, name, size) == 0;
    return !forgetting->running || !is_in_use(forgetting->conf, name, size);
}

/* A document of discovery is its device's by the first topic of ours that is in it. */
static bool is_meant(const struct forgetting *forgetting, const struct broker_message *message)
{
    const size_t size = strlen(forgetting->base);
    if (strncmp(message->topic, forgetting->base, size) == 0)
        return goes(forgetting, message->topic + size);
    for (const char *at = strstr(message->payload, forgetting->base); at != NULL;
         at = strstr(at + 1, forgetting->base))
        if (strncmp(at + size, "bridge/", strlen("bridge/")) != 0)
            return goes(forgetting, at + size);
    return strstr(message->payload, forgetting->base) != NULL && goes(forgetting, "bridge/");
}

/* Subscribes to all that this site may have retained. */
static bool collect(const struct forgetting *forgetting, struct broker *broker,
                    char why[MQTT_WHY_MAX])
{
    char filter[TOPIC_MAX + 1];
    snprintf(filter, sizeof(filter), "%.*s#", TOPIC_MAX - 1, forgetting->base);
    if (!broker_subscribe(broker, filter, true, why))
        return false;
    snprintf(filter, sizeof(filter), "%s/device/+/config", forgetting->conf->ha_prefix);
    return broker_subscribe(broker, filter, true, why);
}

static void tell(const struct forgetting *forgetting, const char *topic)
{
    if (forgetting->topics != NULL)
        json_array_append_new(forgetting->topics, json_string(topic));
    else
        printf("%s %s\n", forgetting->dry_run ? "would clear" : "cleared", topic);
}

static bool clear(const struct forgetting *forgetting, struct broker *broker)
{
    unsigned n, n_cleared = 0;
    const struct broker_message *messages = broker_messages(broker, &n);
    char why[MQTT_WHY_MAX];
    for (unsigned i = 0; i < n; i++) {
        if (!is_meant(forgetting, &messages[i]))
            continue;
        if (!forgetting->dry_run && !broker_retain(broker, messages[i].topic, "", why)) {
            fprintf(stderr, "fluxbridge forget: %s: %s\n", messages[i].topic, why);
            return false;
        }
        tell(forgetting, messages[i].topic);
        n_cleared++;
    }
    if (n_cleared == 0 && forgetting->topics == NULL)
        printf("the broker retains nothing of that\n");
    return true;
}

static int print_json(json_t *topics, bool good, bool dry_run)
{
    json_t *root = json_object();
    json_object_set_new(root, "good", json_boolean(good));
    json_object_set_new(root, "dry_run", json_boolean(dry_run));
    const bool whole = json_object_set(root, "topics", topics) == 0 &&
                       json_dumpf(root, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(root);
    return good && whole ? EXIT_SUCCESS : EXIT_FAILURE;
}

int cli_forget(const struct conf *conf, const char *device, bool dry_run, bool json)
{
    struct forgetting forgetting = {.conf = conf, .device = device, .dry_run = dry_run};
    char id[2 * CONF_TEXT_MAX], why[MQTT_WHY_MAX];
    int code = EXIT_FAILURE;
    if (device != NULL && !cfg_is_name(device)) {
        fprintf(stderr, "fluxbridge forget: '%s' is no name of a device\n", device);
        return EXIT_USAGE;
    }
    forgetting.topics = json ? json_array() : NULL;
    (void)topic_make(forgetting.base, conf, "", "");
    forgetting.base[strlen(forgetting.base) - 1] = '\0'; /* <base>// */
    terminal_progress("asking the broker %s", conf->mqtt.url);
    snprintf(id, sizeof(id), "%s-forget-%d", conf->mqtt.client_id, (int)getpid());
    struct broker *broker = broker_open(conf, id, NULL, why);
    const bool good = broker != NULL && collect(&forgetting, broker, why);
    terminal_progress_end();
    if (!good) {
        fprintf(stderr, "fluxbridge forget: no session with the broker: %s\n", why);
        goto done;
    }
    forgetting.running = broker_has_bridge(broker, conf);
    if (forgetting.running && device != NULL && is_in_use(conf, device, strlen(device))) {
        fprintf(stderr,
                "fluxbridge forget: a bridge is in session that has %s: stop it, or take a "
                "device out of its configuration\n",
                device);
        goto done;
    }
    code = clear(&forgetting, broker) ? EXIT_SUCCESS : EXIT_FAILURE;
done:
    if (json)
        code = print_json(forgetting.topics, code == EXIT_SUCCESS, dry_run);
    json_decref(forgetting.topics);
    broker_close(broker);
    return code;
}
