#include "bridge/wire/topic.h"

#include <stdio.h>
#include <string.h>

bool topic_make(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *node,
                const char *leaf)
{
    int length =
        snprintf(topic, TOPIC_MAX + 1, "%s/%s/%s/%s", conf->mqtt.prefix, conf->site, node, leaf);
    return length >= 0 && length <= TOPIC_MAX;
}

bool topic_command_filter(char topic[TOPIC_MAX + 1], const struct conf *conf)
{
    return topic_make(topic, conf, "+", "set/#");
}

bool topic_parse(const struct conf *conf, const char *topic, char device[TOPIC_MAX + 1],
                 char point[TOPIC_MAX + 1])
{
    char base[TOPIC_MAX + 1];
    int length = snprintf(base, sizeof(base), "%s/%s/", conf->mqtt.prefix, conf->site);
    if (length < 0 || strncmp(topic, base, (size_t)length) != 0)
        return false;
    const char *node = topic + length;
    const char *end = strchr(node, '/');
    /* The filter <base>/+/set/# takes in <base>/<device>/set: no point is named. */
    bool bare = end != NULL && strcmp(end, "/set") == 0;
    if (end == NULL || (!bare && strncmp(end, "/set/", 5) != 0))
        return false;
    (void)snprintf(device, TOPIC_MAX + 1, "%.*s", (int)(end - node), node);
    (void)snprintf(point, TOPIC_MAX + 1, "%s", bare ? "" : end + strlen("/set/"));
    return true;
}

/* What follows `levels`, e.g. flux/demo, in a topic that begins with them: "" or
 * "/…"; else NULL. */
static const char *behind(const char *topic, const char *levels)
{
    size_t length = strlen(levels);
    bool below =
        strncmp(topic, levels, length) == 0 && (topic[length] == '/' || topic[length] == '\0');
    return below ? topic + length : NULL;
}

/* Whether a topic, by what follows <base>, is the bridge's, a device's or a
 * command's. */
static bool is_ours(const struct conf *conf, const char *rest)
{
    if (*rest == '\0' || behind(rest, "/bridge") != NULL)
        return true;
    const char *leaf = strchr(rest + 1, '/');
    bool ours = leaf != NULL && behind(leaf, "/set") != NULL;
    for (unsigned i = 0; i < conf->devices.n_devices && !ours; i++)
        ours = behind(rest + 1, conf->devices.devices[i].name) != NULL;
    return ours;
}

bool topic_may_answer(const struct conf *conf, const char *topic)
{
    char base[TOPIC_MAX + 1];
    int length = snprintf(base, sizeof(base), "%s/%s", conf->mqtt.prefix, conf->site);
    if (length < 0 || topic[0] == '$' ||
        (conf->ha_enabled && behind(topic, conf->ha_prefix) != NULL))
        return false;
    const char *rest = behind(topic, base);
    return rest == NULL || !is_ours(conf, rest);
}
