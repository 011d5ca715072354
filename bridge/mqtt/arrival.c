#include "bridge/mqtt/arrival.h"

#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/wire/topic.h"

/* Copies at most `size` - 1 bytes and ends them with a NUL. */
static void copy_text(char *to, size_t size, const char *from, size_t from_size)
{
    size_t n = from_size < size - 1 ? from_size : size - 1;
    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
}

/* Where the outcome goes besides the result topic. What cannot be copied whole
 * would be an answer to somebody else; a wildcard in a topic ends the session. */
static void copy_address(const struct mqtt_arrival *arrival, struct inbox_message *message)
{
    const char *topic = arrival->response_topic;
    size_t size = arrival->response_topic_size;
    bool usable = size > 0 && size <= COMMAND_RESPONSE_TOPIC_MAX &&
                  memchr(topic, '+', size) == NULL && memchr(topic, '#', size) == NULL &&
                  memchr(topic, '\0', size) == NULL &&
                  arrival->correlation_size <= COMMAND_CORRELATION_MAX;
    message->address.response_topic[0] = '\0';
    message->address.correlation_size = 0;
    if (!usable)
        return;
    copy_text(message->address.response_topic, sizeof(message->address.response_topic), topic,
              size);
    message->address.correlation_size = arrival->correlation_size;
    if (arrival->correlation_size > 0)
        memcpy(message->address.correlation, arrival->correlation, arrival->correlation_size);
}

/* What a message to this topic may hold: a schedule is larger than a command. */
static size_t payload_max(const char *topic)
{
    static const char schedule[] = "/" TOPIC_SCHEDULE_SET;
    const size_t size = strlen(topic), tail = sizeof(schedule) - 1;
    return size > tail && strcmp(topic + size - tail, schedule) == 0 ? TIMETABLE_PAYLOAD_MAX
                                                                     : COMMAND_PAYLOAD_MAX;
}

/* A topic cut short cannot be mistaken for another: the topics of devices are
 * shorter than that. */
bool arrival_put(const struct mqtt_arrival *arrival, struct inbox *inbox)
{
    struct inbox_message message;
    const size_t most = payload_max(arrival->topic);
    message.mono_ns = clock_mono_ns();
    message.utc_ms = clock_utc_ms();
    copy_text(message.topic, sizeof(message.topic), arrival->topic, strlen(arrival->topic));
    message.retained = arrival->retained;
    message.too_large = arrival->payload_size > most;
    copy_address(arrival, &message);
    copy_text(message.user_source, sizeof(message.user_source), arrival->user_source,
              arrival->user_source_size);
    copy_text(message.user_traceparent, sizeof(message.user_traceparent), arrival->user_traceparent,
              arrival->user_traceparent_size);
    message.payload_size = message.too_large ? most : arrival->payload_size;
    copy_text(message.payload, sizeof(message.payload), arrival->payload, message.payload_size);
    return inbox_put_message(inbox, &message);
}
