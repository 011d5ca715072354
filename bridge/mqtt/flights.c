#include "bridge/mqtt/flights.h"

void flights_init(struct flights *flights, void *owner)
{
    *flights = (struct flights){.window = FLIGHTS_MAX};
    for (unsigned i = 0; i < FLIGHTS_MAX; i++)
        flights->list[i].owner = owner;
}

unsigned flights_room(const struct flights *flights)
{
    if (flights->n >= flights->window || (flights->wants_alone && flights->n > 0))
        return 0;
    return flights->window - flights->n;
}

struct flight *flights_take_off(struct flights *flights, const struct limits_packet *packet,
                                char *topic, uint64_t ticket, bool alone, int64_t now_ns)
{
    if (alone)
        flights->wants_alone = true;
    if (flights_room(flights) == 0)
        return NULL;
    flights->wants_alone = alone;
    struct flight *flight = flights->list;
    while (flight->topic != NULL)
        flight++;
    *flight = (struct flight){.owner = flight->owner,
                              .topic = topic,
                              .ticket = ticket,
                              .size = packet->size,
                              .foreign = packet->foreign,
                              .plain = packet->plain,
                              .alone = alone,
                              .sent_ns = now_ns};
    if (flights->n++ == 0)
        flights->moved_ns = now_ns;
    return flight;
}

char *flights_land(struct flights *flights, struct flight *flight, int64_t now_ns)
{
    char *topic = flight->topic;
    if (topic == NULL)
        return NULL;
    flight->topic = NULL;
    flights->n--;
    flights->moved_ns = now_ns;
    return topic;
}

int64_t flights_late_ns(struct flights *flights, int64_t now_ns)
{
    if (flights->n == 0)
        return INT64_MAX;
    if (now_ns < flights->look_ns)
        return flights->look_ns;
    int64_t oldest_ns = now_ns;
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        if (flights->list[i].topic != NULL && flights->list[i].sent_ns < oldest_ns)
            oldest_ns = flights->list[i].sent_ns;
    }
    flights->look_ns = oldest_ns + FLIGHTS_LATE_NS;
    return flights->look_ns;
}
