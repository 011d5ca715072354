/* endpoint: where a device is, and which of its tables one speaks of.
 *
 * Plain data: what a line has to know to reach a device. How it is written in a
 * configuration is devices/registers/place.h.
 */
#ifndef DEVICES_LINES_ENDPOINT_H
#define DEVICES_LINES_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

/* Where a point lives. The value is the function code that reads it. */
enum point_table {
    POINT_COIL = 1,
    POINT_DISCRETE = 2,
    POINT_HOLDING = 3,
    POINT_INPUT = 4,
};

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
    int64_t device_timeout_ns;         /* 0: the type's; without a sign of life the battery stops */
    bool loose_transaction_id;         /* answers do not bear the id of their request */
    bool echo;                         /* what is sent comes back in front of the answer */
    bool tls;                          /* Modbus/TCP Security */
    char ca_file[DEVICE_PATH_MAX + 1]; /* "" = the system's */
    char cert_file[DEVICE_PATH_MAX + 1], key_file[DEVICE_PATH_MAX + 1]; /* "" = none */
};

/* Whether an answer bears the number of its request, so that a late one can
 * be told from the one that is waited for. */
static inline bool endpoint_has_ids(const struct device_modbus *modbus)
{
    return modbus->framing == DEVICE_TCP && !modbus->loose_transaction_id;
}

#endif
