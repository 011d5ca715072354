"""Every type that can be written, in every order of its bytes, on every kind of line: what is
asked for stands in the registers, as worked out here, and is read back as it was asked for."""

import os
import struct

import flux
import pymodbus_server
from mqtt_faults import Certificates

ORDERS = ("abcd", "cdab", "badc", "dcba")


def in_order(data, order):
    """Big-endian bytes as a device has them that orders them otherwise."""
    words = [data[i:i + 2] for i in range(0, len(data), 2)]
    if order in ("badc", "dcba"):
        words = [word[::-1] for word in words]
    if order in ("cdab", "dcba"):
        words.reverse()
    return [int.from_bytes(word, "big") for word in words]


def bcd(number, size):
    return bytes.fromhex("%0*d" % (2 * size, number))


def m10k(number, size):
    parts = [number // 10000 ** i % 10000 for i in range(size // 2)]
    return b"".join(part.to_bytes(2, "big") for part in reversed(parts))


# Type, bytes, a value, and its bytes with the high one first.
TYPES = [("int%d" % bits, bits // 8, value, value.to_bytes(bits // 8, "big", signed=True))
         for bits, value in ((16, -12345), (32, -123456789), (48, -123456789012),
                             (64, -1234567890123456))]
TYPES += [("uint%d" % bits, bits // 8, value, value.to_bytes(bits // 8, "big"))
          for bits, value in ((16, 54321), (32, 4123456789), (48, 223456789012345),
                              (64, 8234567890123456))]
TYPES += [("float32", 4, -1.5e6, struct.pack(">f", -1.5e6)),
          ("float64", 8, 0.1, struct.pack(">d", 0.1)),
          ("bcd16", 2, 9371, bcd(9371, 2)), ("bcd32", 4, 12345678, bcd(12345678, 4)),
          ("m10k32", 4, 12345678, m10k(12345678, 4)),
          ("m10k48", 6, 123456789012, m10k(123456789012, 6)),
          ("m10k64", 8, 1234567890123456, m10k(1234567890123456, 8))]

# Each with an order of its own, as far as it has one.
ROWS = [(name, order, size, value, data, 4 * i) for i, (order, (name, size, value, data)) in
        enumerate((order, row) for row in TYPES for order in ORDERS
                  if row[1] > 2 or order in ("abcd", "badc"))]


class Plc(flux.Unit):
    """Has every register, and two coils: one takes function 05, the other 15 alone."""

    def __init__(self):
        super().__init__({address: 0 for address in range(4 * len(ROWS) + 8)})
        self.coils = {0: False, 1: False}

    def answer(self, request):
        if request.function_code == 1:
            return pymodbus_server.read_coils_answer(
                [self.coils.get(request.address + i, False) for i in range(request.count)])
        if request.function_code == 5 and request.address == 0:
            self.coils[0] = request.value
            return pymodbus_server.write_coil_answer(request)
        if request.function_code == 15 and request.address == 1:
            self.coils[1] = request.values[0]
            return pymodbus_server.write_coil_answer(request)
        return super().answer(request)


class Written(flux.Test):
    def assert_all_written(self, place, unit, modbus, address_shift=0):
        rows = ['name = "r%d"; address = %d; type = "%s"; word_order = "%s"; access = "rw"%s'
                % (i, at - address_shift, name, order,
                   "; write_function = 16" if size == 2 and order == "badc" else "")
                for i, (name, order, size, _, _, at) in enumerate(ROWS)]
        rows += ['name = "coil%d"; address = %d; type = "bool"; function = 1; access = "rw"; '
                 'write_function = %d' % (i, i - address_shift, function)
                 for i, function in ((0, 5), (1, 15))]
        with open(os.path.join(self.directory, "mine.cfg"), "w", encoding="utf-8") as file:
            file.write("points = (%s);\n" % ",\n".join("{ %s }" % row for row in rows))
        names = ["r%d" % i for i in range(len(ROWS))] + ["coil0", "coil1"]
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        self.bridge(flux.config(mosquitto, meters=[flux.meter(
            place, "Dev", "mine", address=1, writable=names,
            modbus={**modbus, **({"address_shift": address_shift} if address_shift else {})})]),
            env={"FLUXBRIDGE_PROFILES": self.directory})
        mqtt.wait_text("Dev/status", "online")
        mqtt.wait_text("bridge/status", "online")
        for i, (name, order, size, value, data, at) in enumerate(ROWS):
            outcome = mqtt.ask(value, "c%d" % i, device="Dev", point="r%d" % i)
            self.assertEqual((outcome["outcome"], outcome.get("readback")), ("confirmed", value),
                             (name, order, outcome))
            self.assertEqual([unit.registers[at + k] for k in range(size // 2)],
                             in_order(data, order), (name, order))
        for i in (0, 1):
            self.assertEqual(mqtt.ask(1, "k%d" % i, device="Dev", point="coil%d" % i)["outcome"],
                             "confirmed")
            self.assertTrue(unit.coils[i])

    def test_tcp(self):
        unit = Plc()
        self.assert_all_written(self.modbus({1: unit}), unit, {})

    def test_tcp_with_shifted_addresses(self):
        unit = Plc()
        self.assert_all_written(self.modbus({1: unit}), unit, {}, address_shift=-3)

    def test_tls(self):
        unit, certificates = Plc(), Certificates(self.directory, "site")
        server = self.modbus({1: unit}, tls=certificates.sign("device", "IP:127.0.0.1"))
        self.assert_all_written(server, unit, {"tls": {"ca_file": certificates.ca}})

    def test_datagrams(self):
        for framing in ("tcp", "rtu", "ascii"):
            with self.subTest(framing=framing):
                unit = Plc()
                server = self.modbus({1: unit}, udp=True, framing=framing)
                self.assert_all_written(server, unit, {"transport": "udp", "framing": framing})

    def test_other_framings(self):
        for framing in ("rtu", "ascii"):
            with self.subTest(framing=framing):
                unit = Plc()
                server = self.modbus({1: unit}, framing=framing)
                self.assert_all_written(server, unit, {"framing": framing})

    def test_serial_lines(self):
        for framing in ("rtu", "ascii"):
            with self.subTest(framing=framing):
                unit, line = Plc(), self.serial_line()
                self.modbus({1: unit}, line.ours, framing=framing)
                self.assert_all_written(None, unit, {"serial": line.theirs, "framing": framing,
                                                     "baud": 115200})


if __name__ == "__main__":
    flux.main()
