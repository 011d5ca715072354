#include "bridge/wire/topic.h"

#include <stdio.h>
#include <string.h>

enum { ANSWER_LEVELS_MAX = 32 };

bool topic_make(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *node,
                const char *leaf)
{
    const char *const levels[] = {conf->mqtt.prefix, conf->site, node, leaf};
    size_t length = 0;
    bool fits = true;
    for (unsigned i = 0; i < 4; i++) { /* one for each sample: printf takes ten times as long */
        const size_t wanted = strlen(levels[i]), room = TOPIC_MAX - length;
        const size_t size = wanted < room ? wanted : room;
        memcpy(topic + length, levels[i], size);
        length += size;
        if (i < 3 && length < TOPIC_MAX)
            topic[length++] = '/';
        fits = fits && size == wanted; /* no level is empty */
    }
    topic[length] = '\0';
    return fits;
}

bool topic_command_filter(char topic[TOPIC_MAX + 1], const struct conf *conf)
{
    return topic_make(topic, conf, "+", "set/#");
}

bool topic_schedule_filter(char topic[TOPIC_MAX + 1], const struct conf *conf)
{
    return topic_make(topic, conf, "+", TOPIC_SCHEDULE_SET);
}

enum topic_kind topic_parse(const struct conf *conf, const char *topic, char device[TOPIC_MAX + 1],
                            char point[TOPIC_MAX + 1])
{
    char base[TOPIC_MAX + 1];
    int length = snprintf(base, sizeof(base), "%s/%s/", conf->mqtt.prefix, conf->site);
    if (length < 0 || strncmp(topic, base, (size_t)length) != 0)
        return TOPIC_NONE;
    const char *node = topic + length;
    const char *end = strchr(node, '/');
    /* The filter <base>/+/set/# takes in <base>/<device>/set: no point is named. */
    bool bare = end != NULL && strcmp(end, "/set") == 0;
    const bool schedule = end != NULL && strcmp(end, "/" TOPIC_SCHEDULE_SET) == 0;
    if (end == NULL || (!bare && !schedule && strncmp(end, "/set/", 5) != 0))
        return TOPIC_NONE;
    (void)snprintf(device, TOPIC_MAX + 1, "%.*s", (int)(end - node), node);
    (void)snprintf(point, TOPIC_MAX + 1, "%s",
                   schedule ? "schedule"
                   : bare   ? ""
                            : end + strlen("/set/"));
    return schedule ? TOPIC_SCHEDULE : TOPIC_COMMAND;
}

/* Whether a topic begins with these levels, e.g. flux. */
static bool is_below(const char *topic, const char *levels)
{
    size_t length = strlen(levels);
    return strncmp(topic, levels, length) == 0 && (topic[length] == '/' || topic[length] == '\0');
}

bool topic_may_answer(const struct conf *conf, const char *topic)
{
    unsigned levels = 1;
    for (const char *at = topic; *at != '\0'; at++)
        levels += *at == '/';
    return topic[0] != '\0' && topic[0] != '$' && levels <= ANSWER_LEVELS_MAX &&
           !is_below(topic, conf->mqtt.prefix) && !is_below(topic, conf->ha_prefix) &&
           !is_below(topic, "spBv1.0");
}
