#include "devices/lines/link_new.h"

#include "devices/lines/link_rtu.h"
#include "devices/lines/link_tcp.h"

struct link *link_new(const struct device_modbus *modbus)
{
    return modbus->serial[0] != '\0' ? link_rtu_new(modbus)
                                     : link_tcp_new(modbus->host, (uint16_t)modbus->port);
}
