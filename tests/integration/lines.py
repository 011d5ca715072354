"""Every framing on everything that carries it, against pymodbus: the same battery, the
same values, and a setpoint that is read back; and gateways with habits of their own."""

import itertools
import os
import select
import socket
import threading
import time
import tty

import flux
from mqtt_faults import Certificates


def is_good(message):
    return message.json["quality"] == "good"


class LinesTest(flux.Test):
    def assert_serves(self, modbus, server, unit, address=1):
        """Values come, and a setpoint arrives."""
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        text = flux.config(mosquitto, bess=[flux.battery(server, address=address, modbus=modbus)])
        self.bridge(text)
        self.assertEqual(mqtt.wait("Site-BESS-01/state", is_good).json["data"]["soe"], 61)
        mqtt.wait_text("bridge/status", "online")
        outcome = mqtt.ask(-70, "c1")
        self.assertEqual((outcome["outcome"], outcome["readback"]), ("confirmed", -70))
        self.assertEqual(unit.registers[flux.TARGET], 0x10000 - 70)
        return text


class Lines(LinesTest):
    def test_ascii_on_a_serial_line(self):
        line, unit = self.serial_line(), flux.battery_unit(soe=61)
        self.modbus({1: unit}, line.ours, framing="ascii")
        self.assert_serves({"serial": line.theirs, "framing": "ascii"}, None, unit)

    def test_rtu_over_tcp(self):
        unit = flux.battery_unit(soe=61)
        server = self.modbus({1: unit}, framing="rtu")
        self.assert_serves({"framing": "rtu"}, server, unit)

    def test_ascii_over_tcp(self):
        unit = flux.battery_unit(soe=61)
        server = self.modbus({1: unit}, framing="ascii")
        self.assert_serves({"framing": "ascii"}, server, unit)

    def test_udp(self):
        unit = flux.battery_unit(soe=61)
        server = self.modbus({1: unit}, udp=True)
        self.assert_serves({"transport": "udp"}, server, unit)

    def test_rtu_over_udp(self):
        unit = flux.battery_unit(soe=61)
        server = self.modbus({1: unit}, udp=True, framing="rtu")
        self.assert_serves({"transport": "udp", "framing": "rtu"}, server, unit)

    def test_unit_255(self):
        unit = flux.battery_unit(soe=61)
        self.assert_serves({}, self.modbus({255: unit}), unit, address=255)

    def test_unit_0_is_read(self):
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        server = self.modbus({0: flux.meter_unit(voltage=231.5)})
        self.bridge(flux.config(mosquitto, meters=[flux.meter(server, address=0)]))
        data = mqtt.wait("Grid-Meter/state", is_good).json["data"]
        self.assertEqual(data["voltage_l1_n"], 231.5)


class Tls(LinesTest):
    def setUp(self):
        super().setUp()
        self.certificates = Certificates(self.directory, "site")
        self.unit = flux.battery_unit(soe=61)

    def tls(self, **more):
        return {"tls": {"ca_file": self.certificates.ca, **more}}

    def serve(self, name):
        return self.modbus({1: self.unit}, tls=self.certificates.sign("device", name))

    def test_with_a_certificate_of_our_own(self):
        certificate, key = self.certificates.sign("bridge", "DNS:bridge")
        text = self.assert_serves(self.tls(cert_file=certificate, key_file=key),
                                  self.serve("IP:127.0.0.1"), self.unit)
        path = os.path.join(self.directory, "check.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.assertEqual(self.run_tool("check", "-c", path)[0], 0)
        os.remove(key)
        code, out, _ = self.run_tool("check", "-c", path)
        self.assertEqual(code, 1)
        self.assertIn("key_file: %s: No such file or directory" % key, out)

    def read(self, server, modbus):
        path = os.path.join(self.directory, "read.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(flux.config(self.broker(), bess=[
                flux.battery(server, modbus={"timeout": "20s", **modbus})]))
        return self.run_tool("read", "-c", path, "Site-BESS-01", "soe")

    def test_another_device(self):
        code, _, err = self.read(self.serve("DNS:elsewhere"), self.tls())
        self.assertEqual(code, 1)
        self.assertRegex(err, "mismatch")

    def test_an_unknown_authority(self):
        code, _, err = self.read(self.serve("IP:127.0.0.1"), {"tls": {}})
        self.assertEqual(code, 1)
        self.assertRegex(err, "unable to get local issuer|self.signed")

    def test_no_tls_at_all(self):
        code, _, err = self.read(self.modbus({1: self.unit}), {**self.tls(), "timeout": "500ms"})
        self.assertEqual(code, 1)
        self.assertRegex(err, "TLS")

    def test_a_pipe_for_an_authority(self):
        """It is not waited for, and so no other device of the same thread waits."""
        server = self.serve("IP:127.0.0.1")
        pipe = os.path.join(self.directory, "pipe")
        os.mkfifo(pipe)
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        other = self.modbus({2: flux.meter_unit()})
        meters = [flux.meter(server, "Piped", modbus={"tls": {"ca_file": pipe}}),
                  flux.meter(other, address=2)]
        bridge = self.bridge(flux.config(mosquitto, meters=meters))
        bridge.wait_log("%s: it is no regular file" % pipe)
        since = mqtt.mark()
        mqtt.wait("Grid-Meter/state", is_good, since=since)


class Gateway:
    """Modbus TCP with habits: each answer of `unit`s in `silent` is missing; it has
    `slots` connections, and one that is closed is held for ever."""

    def __init__(self, place, units, silent=(), slots=4, loose=False):
        self.place, self.units, self.silent, self.loose = place, units, set(silent), loose
        self.host, self.port = place.host, place.port
        self.slots = slots
        self.accepted = 0
        self.listener = socket.create_server((self.host, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.accepted > self.slots:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _exactly(self, connection, n):
        data = b""
        while len(data) < n:
            more = connection.recv(n - len(data))
            if not more:
                raise OSError("closed")
            data += more
        return data

    def _serve(self, connection):
        with connection:
            try:
                while True:
                    head = self._exactly(connection, 7)
                    pdu = self._exactly(connection, int.from_bytes(head[4:6], "big") - 1)
                    if head[6] not in self.silent:
                        connection.sendall(self._answer(head, pdu))
            except OSError:
                pass

    def _answer(self, head, pdu):
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        registers = self.units[head[6]]
        if pdu[0] != 3 or any(a not in registers for a in range(address, address + count)):
            reply = bytes((pdu[0] | 0x80, 2 if pdu[0] == 3 else 1))
        else:
            words = b"".join((registers[a] & 0xFFFF).to_bytes(2, "big")
                             for a in range(address, address + count))
            reply = bytes((3, len(words))) + words
        id_ = b"\0\0" if self.loose else head[:2]
        return id_ + b"\0\0" + (len(reply) + 1).to_bytes(2, "big") + head[6:7] + reply

    def close(self):
        self.listener.close()


class Gateways(flux.Test):
    def rig(self, gateway, names, **modbus):
        self.addCleanup(gateway.close)
        mosquitto = self.broker()
        self.mqtt = self.client(mosquitto)
        meters = [flux.meter(gateway, name, address=unit, poll="200ms",
                             modbus={"timeout": flux.patient(0.3), **modbus})
                  for unit, name in names.items()]
        self.bridge(flux.config(mosquitto, meters=meters))

    def test_a_silent_unit_costs_no_connection(self):
        """The gateway gives a slot away once and for all: who closes the connection for
        each answer that is missing soon has none."""
        units = {n: flux.meter_unit().registers for n in range(1, 6)}
        gateway = Gateway(self.place(), units, silent=[3, 4, 5])
        self.rig(gateway, {n: "Meter-%d" % n for n in units})
        self.mqtt.wait("Meter-3/state")
        since = self.mqtt.mark()
        self.mqtt.wait_count("Meter-3/state", 6, since=since)
        since = self.mqtt.mark()
        for name in ("Meter-1", "Meter-2"):
            self.mqtt.wait(name + "/state", is_good, since=since)
        self.assertLessEqual(gateway.accepted, 4)  # the silent ones may have been asked first

    def test_one_that_does_not_repeat_the_id(self):
        units = {1: flux.meter_unit(voltage=231.5).registers}
        gateway = Gateway(self.place(), units, slots=1, loose=True)
        self.rig(gateway, {1: "Meter-1"}, loose_transaction_id=True)
        since = self.mqtt.mark()
        for message in self.mqtt.wait_count("Meter-1/state", 5, since=since):
            self.assertEqual(message.json["data"]["voltage_l1_n"], 231.5)
        self.assertEqual(gateway.accepted, 1)


def crc(data):
    """MODBUS over Serial Line V1.02, 6.2.2."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class LateDevice:
    """An RTU device that does one thing after the other, and takes `late_s` for each
    seventh. Asked while it is busy, it does that next, or with `drops` never."""

    def __init__(self, line, registers, drops, late_s):
        self.registers, self.drops, self.late_s = registers, drops, late_s
        self.n, self.busy_until = 0, 0
        self.file = os.open(line, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.file)
        self.stop, self._stopped = os.pipe()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _wait(self, seconds):
        """Until there is something to read; None at the end."""
        ready, _, _ = select.select([self.file, self.stop], [], [], seconds)
        return None if self.stop in ready else bool(ready)

    def _run(self):
        answers, data = [], b""
        while True:
            now = time.monotonic()
            while answers and answers[0][0] <= now:
                os.write(self.file, answers.pop(0)[1])
            ready = self._wait(max(0, answers[0][0] - now) if answers else None)
            if ready is None:
                return
            if not ready:
                continue
            data += os.read(self.file, 256)
            while len(data) >= 8:
                request, data = data[:8], data[8:]
                answers += self._take(request)

    def _take(self, request):
        now = time.monotonic()
        if self.drops and now < self.busy_until:
            return []
        self.n += 1
        took = next(self.late_s) if self.n % 7 == 0 else 0.005
        self.busy_until = max(now, self.busy_until) + took
        answer = request[:1] + bytes((request[1] | 0x80, 1))
        if request[1] == 3:
            first, count = (int.from_bytes(request[at:at + 2], "big") for at in (2, 4))
            answer = request[:2] + bytes((2 * count,)) + b"".join(
                self.registers.get(first + i, 0).to_bytes(2, "big") for i in range(count))
        return [(self.busy_until, answer + crc(answer))]

    def close(self):
        os.write(self._stopped, b"x")
        self.thread.join()
        for file in (self.file, self.stop, self._stopped):
            os.close(file)


THREE_ROWS = """max_gap = 0;
points = (
  { name = "first"; address = 0; type = "uint16"; },
  { name = "second"; address = 500; type = "uint16"; },
  { name = "third"; address = 1000; type = "uint16"; }
);
"""


class LateAnswers(flux.Test):
    """Three registers in three reads that look alike, and an answer that comes when the
    next question has long been asked: 300 to 480 ms at a timeout of 200 ms."""

    def assert_never_wrong(self, drops):
        line = self.serial_line()
        held = {"first": 77, "second": 222, "third": 333}
        delays = itertools.cycle(ms * flux.PATIENCE / 1000 for ms in range(300, 481, 12))
        device = LateDevice(line.ours, {0: 77, 500: 222, 1000: 333}, drops, delays)
        self.addCleanup(device.close)
        with open(os.path.join(self.directory, "three.cfg"), "w", encoding="utf-8") as file:
            file.write(THREE_ROWS)
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        self.bridge(flux.config(mosquitto, meters=[flux.meter(
            None, type="three", address=1, poll="%dms" % (300 * flux.PATIENCE), modbus={
                "serial": line.theirs, "timeout": "%dms" % (200 * flux.PATIENCE)})]),
            env={"FLUXBRIDGE_PROFILES": self.directory})
        known = 0
        for message in mqtt.wait_count("Grid-Meter/state", 25, timeout_s=4 * flux.DEADLINE_S):
            for name, value in message.json["data"].items():
                self.assertIn(value, (held[name], None), message.json)
                known += value is not None
        self.assertGreater(known, 25)  # of 75

    def test_a_device_that_queues(self):
        self.assert_never_wrong(drops=False)

    def test_a_device_that_drops(self):
        self.assert_never_wrong(drops=True)


if __name__ == "__main__":
    flux.main()
