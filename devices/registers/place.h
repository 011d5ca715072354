/* place: where a device is reached, and how one talks there.
 *
 * The group `modbus` of a device, as plain data. Reading it refuses whatever
 * could not work as it is written: a key that has no meaning on this kind of
 * line, a host that no look-up could find.
 */
#ifndef DEVICES_REGISTERS_PLACE_H
#define DEVICES_REGISTERS_PLACE_H

#include "devices/registers/cfg.h"
#include "devices/registers/point.h"

enum { DEVICE_HOST_MAX = 255, DEVICE_PATH_MAX = 255 };

enum device_parity { DEVICE_PARITY_NONE, DEVICE_PARITY_EVEN, DEVICE_PARITY_ODD };
enum device_framing { DEVICE_TCP, DEVICE_RTU, DEVICE_ASCII };
enum device_transport { DEVICE_STREAM, DEVICE_DATAGRAM };

/* Devices of the same host, port and transport, or of the same serial line, share one link. */
struct device_modbus {
    char host[DEVICE_HOST_MAX + 1];    /* name, IPv4 or IPv6; "" = serial */
    int64_t port;                      /* 502; 802 with TLS */
    char serial[DEVICE_HOST_MAX + 1];  /* "/dev/ttyUSB0"; "" = host */
    int framing;                       /* enum device_framing */
    int transport;                     /* enum device_transport, of a host */
    int64_t baud;                      /* 9600 */
    int parity;                        /* enum device_parity */
    int64_t data_bits, stop_bits;      /* 8, 1 */
    int64_t address;                   /* unit id, 1..247; 0..255 in TCP frames */
    int64_t timeout_ns;                /* "5s": for connecting, and for one whole answer */
    int64_t retry_count;               /* 3: attempts of a read, the documented loop */
    int64_t request_gap_ns;            /* 0: least pause before a request */
    int64_t connect_delay_ns;          /* 0: pause between connecting and the first request */
    int word_order;                    /* enum point_order, in place of the type's; -1 = none */
    int64_t address_shift;             /* 0: added to every address of the type */
    bool loose_transaction_id;         /* answers do not bear the id of their request */
    bool echo;                         /* what is sent comes back in front of the answer */
    bool tls;                          /* Modbus/TCP Security */
    char ca_file[DEVICE_PATH_MAX + 1]; /* "" = the system's */
    char cert_file[DEVICE_PATH_MAX + 1], key_file[DEVICE_PATH_MAX + 1]; /* "" = none */
};

/* Reads the group `modbus`. False after a problem, which has been reported. */
bool place_read(struct cfg *cfg, const struct cfg_setting *group, struct device_modbus *place);

/* What is wrong with a text as the host of a device, or NULL. */
const char *place_host_problem(const char *host);

/* Makes it a simulated device's: plain Modbus TCP at that host and port, whatever it
 * was before. Unit id, timeout, attempts and pauses stay. */
void place_redirect(struct device_modbus *place, const char *host, uint16_t port);

/* Whether it is a rate of serial lines. */
bool place_is_baud(int64_t baud);

/* Whether both are reached by the same link; */
bool place_is_same_link(const struct device_modbus *a, const struct device_modbus *b);
/* and if so, the first key in which they differ and must not, or NULL. */
const char *place_difference(const struct device_modbus *a, const struct device_modbus *b);

/* Whether an answer bears the number of its request, so that a late one can
 * be told from the one that is waited for. */
bool place_has_ids(const struct device_modbus *place);

#endif
