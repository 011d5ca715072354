#include "devices/simulator/rtu.h"

#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

static speed_t speed_of(int64_t baud)
{
    static const struct {
        int64_t baud;
        speed_t speed;
    } speeds[] = {
        {1200, B1200},   {2400, B2400},   {4800, B4800},     {9600, B9600},     {19200, B19200},
        {38400, B38400}, {57600, B57600}, {115200, B115200}, {230400, B230400},
    };
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
        if (speeds[i].baud == baud)
            return speeds[i].speed;
    return B0;
}

static bool line_configure(int fd, const struct device_modbus *modbus)
{
    static const tcflag_t parities[] = {
        [DEVICE_PARITY_NONE] = 0,
        [DEVICE_PARITY_EVEN] = PARENB,
        [DEVICE_PARITY_ODD] = PARENB | PARODD,
    };
    struct termios line;
    speed_t speed = speed_of(modbus->baud);
    if (speed == B0) {
        errno = EINVAL;
        return false;
    }
    if (tcgetattr(fd, &line) < 0)
        return false;
    cfmakeraw(&line);
    line.c_cflag &= ~(tcflag_t)(CSIZE | PARENB | PARODD | CSTOPB | CRTSCTS);
    line.c_cflag |= CLOCAL | CREAD | parities[modbus->parity];
    line.c_cflag |= modbus->data_bits == 7 ? CS7 : CS8;
    line.c_cflag |= modbus->stop_bits == 2 ? CSTOPB : 0;
    cfsetispeed(&line, speed);
    cfsetospeed(&line, speed);
    return tcsetattr(fd, TCSANOW, &line) == 0;
}

int rtu_open(const struct device_modbus *modbus)
{
    int fd = open(modbus->serial, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && !line_configure(fd, modbus)) {
        int saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    return fd;
}

size_t rtu_request_size(const uint8_t *frame, size_t n)
{
    if (n >= 2 && frame[1] >= 0x01 && frame[1] <= 0x06)
        return 8;
    if (n >= 7 && (frame[1] == 0x0f || frame[1] == 0x10) && frame[6] <= RTU_SIZE_MAX - 9)
        return 9u + frame[6];
    return RTU_SIZE_MAX;
}

static uint16_t crc16(const uint8_t *bytes, size_t n)
{
    uint16_t crc = 0xffff;
    while (n-- > 0) {
        crc ^= *bytes++;
        for (int i = 0; i < 8; i++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
    }
    return crc;
}

bool rtu_is_whole(const uint8_t *frame, size_t n)
{
    return n >= RTU_SIZE_MIN && crc16(frame, n) == 0; /* a CRC over itself leaves 0 */
}

size_t rtu_seal(uint8_t *frame, size_t n)
{
    uint16_t crc = crc16(frame, n);
    frame[n] = (uint8_t)crc;
    frame[n + 1] = (uint8_t)(crc >> 8);
    return n + RTU_CRC_SIZE;
}
