#include "devices/lines/serial.h"

#include <errno.h>
#include <modbus.h>
#include <stdlib.h>
#include <sys/file.h>
#include <termios.h>

struct serial {
    struct link *link;
    modbus_t *context;
    const char *path; /* of the link's own settings */
    int64_t baud;
};

/* libmodbus takes 9600 for a speed that it does not know; and as it leaves the line,
 * one that has nothing to read looks like one that is gone. */
static bool set_up(int fd, int64_t baud)
{
    struct termios now;
    if (tcgetattr(fd, &now) != 0 || (cfgetospeed(&now) == B9600) != (baud == 9600))
        return false;
    now.c_cc[VMIN] = 1;
    return tcsetattr(fd, TCSANOW, &now) == 0;
}

enum fault serial_open(struct serial *serial)
{
    if (modbus_connect(serial->context) == -1)
        return link_fail(serial->link, FAULT_CONNECTION, "open %s: %m", serial->path);

    enum fault fault = FAULT_NONE;
    int fd = modbus_get_socket(serial->context);
    if (flock(fd, LOCK_EX | LOCK_NB) == -1)
        fault = link_fail(serial->link, FAULT_CONNECTION, "open %s: in use by another process",
                          serial->path);
    else if (!set_up(fd, serial->baud))
        fault = link_fail(serial->link, FAULT_CONNECTION, "open %s: cannot run at %lld baud",
                          serial->path, (long long)serial->baud);
    else if (!link_watch(serial->link, fd))
        fault = link_fail(serial->link, FAULT_CONNECTION, "open %s: %m", serial->path);
    if (fault == FAULT_NONE)
        link_note_peer(serial->link, fd);
    else
        modbus_close(serial->context);
    return fault;
}

int serial_fd(const struct serial *serial)
{
    return modbus_get_socket(serial->context);
}

void serial_close(struct serial *serial)
{
    modbus_flush(serial->context);
    modbus_close(serial->context);
}

struct serial *serial_new(struct link *link, const struct device_modbus *modbus)
{
    static const char parities[] = {
        [DEVICE_PARITY_NONE] = 'N', [DEVICE_PARITY_EVEN] = 'E', [DEVICE_PARITY_ODD] = 'O'};
    struct serial *serial = calloc(1, sizeof *serial);
    if (serial == NULL)
        return NULL;
    serial->link = link;
    serial->path = modbus->serial;
    serial->baud = modbus->baud;
    serial->context = modbus_new_rtu(modbus->serial, (int)modbus->baud, parities[modbus->parity],
                                     (int)modbus->data_bits, (int)modbus->stop_bits);
    if (serial->context == NULL) {
        free(serial);
        return NULL;
    }
    return serial;
}

void serial_free(struct serial *serial)
{
    if (serial == NULL)
        return;
    modbus_free(serial->context);
    free(serial);
}
