/* server: the simulated devices on their TCP ports and serial lines.
 *
 * One thread and one epoll set for all devices, cheap enough for hundreds.
 * Devices that share a link in the configuration share a listener here and are
 * told apart by unit id. TCP: any number of connections; requests may come in
 * pieces or several at once, in TCP framing, or RTU or ASCII if the device has
 * that; broken frames close the connection; an unknown unit is exception 0B
 * (gateway target) in TCP framing, else silence. Serial: RTU; a bad CRC or
 * another unit is met with silence.
 *
 * Errors are values: nothing is logged in here.
 */
#ifndef DEVICES_SIMULATOR_SERVER_H
#define DEVICES_SIMULATOR_SERVER_H

#include "devices/registers/device_list.h"

enum { SERVER_ERROR_MAX = 400 };

struct server;

struct server_options {
    const bool *served; /* by device; NULL = all. The others exist in the plant only. */
    uint64_t seed;      /* of the plant */
    double speed;       /* seconds of the plant per second, > 0 */
};

/* Listens for every device of `list`, which must outlive the server. NULL on
 * failure, with the reason in `error`: "127.0.0.1:1502: Address already in use". */
struct server *server_new(const struct device_list *list, const struct server_options *options,
                          char error[SERVER_ERROR_MAX]);
void server_free(struct server *server);

/* The TCP port of a served device: the configured one, or the one that the
 * system chose for port 0. 0 for a serial line. */
uint16_t server_port(const struct server *server, unsigned device);

/* Serves until `stop_fd` is readable. False, with the reason in `error`, when
 * waiting for events fails or a serial line breaks. */
bool server_run(struct server *server, int stop_fd, char error[SERVER_ERROR_MAX]);

#endif
