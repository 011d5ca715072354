#include "bridge/publish/node_commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/publish/node_post.h"

enum { WISHES_MAX = 64 }; /* of one command */

bool node_commands_ask_rebirth(const struct mqtt_arrival *arrival)
{
    struct sparkplug_wish wishes[WISHES_MAX];
    unsigned n;
    bool asked = false;
    if (arrival->retained ||
        !sparkplug_decode(arrival->payload, arrival->payload_size, wishes, WISHES_MAX, &n)) {
        log_warning("sparkplug: a node command is no payload, or retained: it is refused");
        return false;
    }
    for (unsigned i = 0; i < n && i < WISHES_MAX; i++) {
        const bool rebirth = strcmp(wishes[i].name, NODE_REBIRTH) == 0;
        if (rebirth && wishes[i].kind == SPARKPLUG_FLAG)
            asked = asked || wishes[i].number != 0.0;
        else
            log_warning("sparkplug: a node command is refused: there is none but " NODE_REBIRTH
                        ", a Boolean metric=\"%s\" alias=%" PRIu64,
                        wishes[i].name, wishes[i].alias);
    }
    return asked;
}

void node_commands_begin(struct node_commands *commands)
{
    atomic_store(&commands->n_put, 0);
}

static struct command command_for(const char *device)
{
    struct command command = {
        .author = AUTHOR_DISPATCHER,
        .mono_ns = clock_mono_ns(),
        .utc_ms = clock_utc_ms(),
    };
    (void)snprintf(command.device_name, sizeof(command.device_name), "%s", device);
    (void)snprintf(command.source, sizeof(command.source), "sparkplug");
    return command;
}

/* Sparkplug gives a command no id: moment, point and value name it, so that the same one
 * sent twice is carried out once. */
static void fill_in(struct command *command, const struct device *device, int point,
                    const struct sparkplug_wish *wish)
{
    const bool is_flag = point < 0 || device->points[point].type == POINT_BOOL;
    command->has_value =
        wish->kind == SPARKPLUG_NUMBER || (wish->kind == SPARKPLUG_FLAG && is_flag);
    command->value = wish->number;
    command->dated = wish->has_ts;
    command->issued_at_ms = wish->ts_ms;
    if (device != NULL)
        command->ttl_ns = device->control.ttl_ns;
    if (point >= 0)
        (void)snprintf(command->point_name, sizeof(command->point_name), "%s",
                       device->points[point].name);
    else if (wish->name[0] != '\0')
        (void)snprintf(command->point_name, sizeof(command->point_name), "%.*s", COMMAND_NAME_MAX,
                       wish->name);
    else
        (void)snprintf(command->point_name, sizeof(command->point_name), "alias %" PRIu64,
                       wish->alias);
    (void)snprintf(command->id, sizeof(command->id), "sparkplug-%" PRId64 "-%s-%.17g",
                   wish->has_ts ? wish->ts_ms : command->mono_ns, command->point_name,
                   wish->number);
}

bool node_commands_take(struct node_commands *commands, const struct mqtt_arrival *arrival)
{
    const struct device_list *list = &commands->conf->devices;
    const char *name = strrchr(arrival->topic, '/') + 1;
    const int index = births_find_device(commands->births, name);
    const struct device *device = index >= 0 ? &list->devices[index] : NULL;
    struct sparkplug_wish wishes[WISHES_MAX];
    struct command command = command_for(name);
    unsigned n = 0;
    if (arrival->payload_size > COMMAND_PAYLOAD_MAX)
        command.flaw = REASON_TOO_LARGE;
    else if (!sparkplug_decode(arrival->payload, arrival->payload_size, wishes, WISHES_MAX, &n))
        command.flaw = REASON_MALFORMED;
    else if (n > WISHES_MAX)
        command.flaw = REASON_TOO_LARGE;
    if (arrival->retained)
        command.flaw = REASON_RETAINED;
    if (n == 0 || n > WISHES_MAX)
        return inbox_put_command(commands->inbox, &command);
    for (unsigned i = atomic_load(&commands->n_put); i < n; i++) {
        const struct sparkplug_wish *wish = &wishes[i];
        const int point =
            device != NULL ? births_find(commands->births, (unsigned)index, wish->alias, wish->name)
                           : -1;
        fill_in(&command, device, point, wish);
        if (!inbox_put_command(commands->inbox, &command)) {
            atomic_store(&commands->n_put, i);
            return false;
        }
    }
    atomic_store(&commands->n_put, 0);
    return true;
}
