#include "devices/lines/claim.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int claim_take(const struct device_modbus *modbus)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[2 * DEVICE_HOST_MAX];
    const bool serial = modbus->serial[0] != '\0';

    int length = snprintf(name, sizeof(name), "fluxbridge/%d/%d/%s", (int)modbus->address,
                          serial ? 0 : (int)modbus->port, serial ? modbus->serial : modbus->host);
    /* Longer host names than an address can hold share its beginning: a claim
     * too many is safe. Host names know no case. */
    size_t size = (size_t)length < sizeof(address.sun_path) - 1 ? (size_t)length
                                                                : sizeof(address.sun_path) - 1;
    for (size_t i = 0; i < size; i++)
        address.sun_path[1 + i] = (char)(serial ? name[i] : tolower((unsigned char)name[i]));

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t whole = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, whole) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}
