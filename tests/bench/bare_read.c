/* bare_read: how many reads a second libmodbus makes with nothing around it.
 *
 *     bare_read MODBUS_PORT
 *
 * Reads one register again and again until it is ended; the fleet counts.
 */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: bare_read MODBUS_PORT\n");
        return 2;
    }
    modbus_t *device = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    uint16_t word;
    if (device == NULL || modbus_connect(device) != 0)
        bench_die("connect to the device");
    while (modbus_read_registers(device, 0, 1, &word) == 1) {
    }
    bench_die("read");
}
