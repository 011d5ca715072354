#include "devices/lines/link_rtu.h"

#include <errno.h>
#include <modbus.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

#include "devices/registers/bustime.h"

enum { AT_UNIT = 0, AT_PDU = 1, CRC = 2 };

struct link_modbus {
    struct link link;
    modbus_t *context;
    char line[DEVICE_HOST_MAX + 1];
    int64_t baud;
    int64_t gap_ns;      /* silence between two frames */
    int64_t quiet_at_ns; /* the gap after the last frame is over */
    uint8_t late_unit;   /* still owes an answer; 0 = nobody */
    int64_t late_at_ns;  /* it will not come after this */
};

/* libmodbus takes 9600 for a speed that it does not know. */
static bool speed_is_set(int fd, int64_t baud)
{
    struct termios now;
    return tcgetattr(fd, &now) == 0 && (cfgetospeed(&now) == B9600) == (baud == 9600);
}

static enum fault rtu_open(struct link *link, int64_t timeout_ns)
{
    (void)timeout_ns; /* nothing here waits */
    struct link_modbus *rtu = (struct link_modbus *)link;
    if (modbus_connect(rtu->context) == -1)
        return link_fail(link, FAULT_CONNECTION, "open %s: %m", rtu->line);

    enum fault fault = FAULT_NONE;
    int fd = modbus_get_socket(rtu->context);
    if (fd >= FD_SETSIZE) /* libmodbus waits with select() */
        fault =
            link_fail(link, FAULT_CONNECTION, "open %s: descriptor %d: more than %d files are open",
                      rtu->line, fd, FD_SETSIZE);
    else if (flock(fd, LOCK_EX | LOCK_NB) == -1)
        fault = link_fail(link, FAULT_CONNECTION, "open %s: in use by another process", rtu->line);
    else if (!speed_is_set(fd, rtu->baud))
        fault = link_fail(link, FAULT_CONNECTION, "open %s: cannot run at %lld baud", rtu->line,
                          (long long)rtu->baud);
    if (fault == FAULT_NONE)
        link_note_peer(link, fd);
    else
        modbus_close(rtu->context);
    return fault;
}

static void rtu_close(struct link *link)
{
    struct link_modbus *rtu = (struct link_modbus *)link;
    modbus_flush(rtu->context); /* or closing would wait until a stalled line has sent it all */
    modbus_close(rtu->context);
}

/* Waits for the silence that must precede a request, and drops what comes in
 * meanwhile. RTU answers carry no number: one that comes too late could pass
 * for the answer to the same question asked again, so a unit that has just
 * failed to answer is given time to finish first. Its neighbours need not
 * wait for that, their answers bear another unit. */
static enum fault await_silence(struct link_modbus *rtu, uint8_t unit, int64_t deadline_ns)
{
    int fd = modbus_get_socket(rtu->context);
    int64_t until_ns = rtu->quiet_at_ns;
    if (unit == rtu->late_unit && rtu->late_at_ns > until_ns)
        until_ns = rtu->late_at_ns;
    while (link_wait(&rtu->link, fd, POLLIN, until_ns < deadline_ns ? until_ns : deadline_ns)) {
        uint8_t dropped[MODBUS_RTU_MAX_ADU_LENGTH];
        ssize_t n = read(fd, dropped, sizeof dropped);
        if (n == 0 || (n == -1 && errno != EAGAIN))
            return link_fail(&rtu->link, FAULT_CONNECTION, "%s: the line is gone", rtu->line);
        int64_t quiet_at_ns = link_now_ns() + rtu->gap_ns;
        if (quiet_at_ns > deadline_ns)
            return link_fail(&rtu->link, FAULT_BAD_REPLY, "%s: the line does not fall silent",
                             rtu->line);
        if (quiet_at_ns > until_ns)
            until_ns = quiet_at_ns;
    }
    if (unit == rtu->late_unit)
        rtu->late_unit = 0;
    return FAULT_NONE;
}

/* Receives one frame from `unit`. What other units say is passed over while
 * the time for this answer runs on (MODBUS over Serial Line V1.02, 2.4.1). */
static enum fault receive(struct link_modbus *rtu, uint8_t unit, uint8_t *frame, int *size,
                          int64_t deadline_ns)
{
    do {
        int64_t left_us = (deadline_ns - link_now_ns()) / 1000;
        if (left_us <= 0) {
            *size = -1;
            errno = ETIMEDOUT;
            break;
        }
        modbus_set_response_timeout(rtu->context, (uint32_t)(left_us / 1000000),
                                    (uint32_t)(left_us % 1000000));
        *size = modbus_receive_confirmation(rtu->context, frame);
    } while (*size == 0 || (*size > 0 && frame[AT_UNIT] != unit));
    rtu->quiet_at_ns = link_now_ns() + rtu->gap_ns;
    if (*size > 0)
        return FAULT_NONE;
    if (errno == ETIMEDOUT)
        return link_fail(&rtu->link, FAULT_TIMEOUT, "%s unit %u: no whole answer in time",
                         rtu->line, unit);
    return link_fail(&rtu->link, errno >= MODBUS_ENOBASE ? FAULT_BAD_REPLY : FAULT_CONNECTION,
                     "%s unit %u: %s", rtu->line, unit, modbus_strerror(errno));
}

static enum fault rtu_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                               size_t request_size, uint8_t *reply, size_t *reply_size,
                               int64_t timeout_ns)
{
    struct link_modbus *rtu = (struct link_modbus *)link;
    int64_t start_ns = link_now_ns();
    enum fault fault = await_silence(rtu, unit, start_ns + timeout_ns / 2);
    if (fault != FAULT_NONE)
        return fault;

    uint8_t frame[MODBUS_RTU_MAX_ADU_LENGTH];
    frame[AT_UNIT] = unit;
    memcpy(frame + AT_PDU, request, request_size);
    if (modbus_set_slave(rtu->context, unit) == -1 ||
        modbus_send_raw_request(rtu->context, frame, (int)(AT_PDU + request_size)) == -1)
        return link_fail(link, FAULT_CONNECTION, "%s unit %u: send: %s", rtu->line, unit,
                         modbus_strerror(errno));

    int size;
    fault = receive(rtu, unit, frame, &size, start_ns + timeout_ns);
    if (fault == FAULT_NONE) {
        *reply_size = (size_t)size - AT_PDU - CRC;
        memcpy(reply, frame + AT_PDU, *reply_size);
    } else if (fault == FAULT_TIMEOUT) {
        rtu->late_unit = unit;
        rtu->late_at_ns = start_ns + timeout_ns + timeout_ns / 2;
    }
    return fault;
}

static void rtu_free(struct link *link)
{
    struct link_modbus *rtu = (struct link_modbus *)link;
    modbus_free(rtu->context);
    free(rtu);
}

struct link *link_rtu_new(const struct device_modbus *modbus)
{
    static const struct link_ops ops = {
        .open = rtu_open,
        .exchange = rtu_exchange,
        .close = rtu_close,
        .free = rtu_free,
    };
    static const char parities[] = {
        [DEVICE_PARITY_NONE] = 'N', [DEVICE_PARITY_EVEN] = 'E', [DEVICE_PARITY_ODD] = 'O'};
    struct link_modbus *rtu = calloc(1, sizeof *rtu);
    if (rtu == NULL)
        return NULL;
    link_init(&rtu->link, &ops);
    rtu->context = modbus_new_rtu(modbus->serial, (int)modbus->baud, parities[modbus->parity],
                                  (int)modbus->data_bits, (int)modbus->stop_bits);
    if (rtu->context == NULL) {
        free(rtu);
        return NULL;
    }
    modbus_set_byte_timeout(rtu->context, 0, 0); /* so the response timeout bounds it all */
    memcpy(rtu->line, modbus->serial, sizeof rtu->line);
    rtu->baud = modbus->baud;
    rtu->gap_ns = bustime_gap_ns(modbus);
    return &rtu->link;
}
