/* A PowerPack on libmodbus: `libmodbus_server tcp PORT` or `rtu DEVICE`. Says "ready", and
 * each register that is written: "2008=65486". */
#include <errno.h>
#include <modbus.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST = 2000, REGISTERS = 29, UNIT = 1 };

/* One request; false when the connection has ended. */
static bool serve(modbus_t *context, modbus_mapping_t *mapping)
{
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    const int size = modbus_receive(context, request);
    const int at = modbus_get_header_length(context);
    if (size > 0 && modbus_reply(context, request, size, mapping) > 0 && request[at] == 6) {
        const int address = request[at + 1] << 8 | request[at + 2];
        printf("%d=%u\n", address, mapping->tab_registers[address - FIRST]);
    }
    return size >= 0 || (errno != ECONNRESET && errno != EBADF);
}

int main(int n, char **words)
{
    const bool tcp = n == 3 && strcmp(words[1], "tcp") == 0;
    modbus_t *context = tcp ? modbus_new_tcp("127.0.0.1", atoi(words[2]))
                            : modbus_new_rtu(words[2], 9600, 'N', 8, 1);
    modbus_mapping_t *mapping =
        modbus_mapping_new_start_address(0, 0, 0, 0, FIRST, REGISTERS, 0, 0);
    int listener = -1;
    if (context == NULL || mapping == NULL || modbus_set_slave(context, UNIT) == -1)
        return 2;
    mapping->tab_registers[2000 - FIRST] = 1;
    mapping->tab_registers[2026 - FIRST] = 61;
    mapping->tab_registers[2028 - FIRST] = 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (tcp ? (listener = modbus_tcp_listen(context, 1)) == -1 : modbus_connect(context) == -1) {
        fprintf(stderr, "%s: %s\n", words[2], modbus_strerror(errno));
        return 1;
    }
    puts("ready");
    for (bool connected = !tcp;;) {
        if (connected)
            connected = serve(context, mapping) || !tcp;
        else
            connected = modbus_tcp_accept(context, &listener) != -1;
    }
}
