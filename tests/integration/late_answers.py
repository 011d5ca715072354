"""An interlock never passes on an answer that was asked for before the command.

A battery on a line whose answers bear no number is asked by a poll how full it is. It
answers when the poll has long been given up: it was full then, and is empty now. Meanwhile
a discharge is commanded, and what the command asks for looks like what the poll asked for."""

import os
import select
import socket
import threading
import tty

import flux
from lines import crc

SOE, SETPOINT, STATUS = 2026, 2008, 2000
A_LITTLE_S = 0.02 * flux.PATIENCE


class Battery:
    """Does what it is asked one after the other. Once, on `stall`, it answers what was asked
    when it was full only after it was asked `later` times more, of which it loses all but
    the last; and that it answers a little after."""

    def __init__(self, later, mbap):
        self.registers = {STATUS: 1, SETPOINT: 0, 2010: 0, SOE: 54, 2028: 4}
        self.later, self.mbap = later, mbap
        self.stall, self.empty = threading.Event(), threading.Event()
        self.held, self.lost, self.writes = None, 0, []

    def _requests(self, data):
        """The whole requests, (head, PDU) each, and what is left."""
        found = []
        while len(data) >= (12 if self.mbap else 8):
            size = 6 + data[5] if self.mbap else 8
            frame, data = data[:size], data[size:]
            found.append((frame[6:7], frame[7:]) if self.mbap else (frame[:1], frame[1:6]))
        return found, data

    def _frame(self, unit, pdu):
        if self.mbap:  # a gateway that does not repeat the id
            return b"\0\0\0\0" + (1 + len(pdu)).to_bytes(2, "big") + unit + pdu
        return unit + pdu + crc(unit + pdu)

    def _answer(self, pdu):
        first, count = (int.from_bytes(pdu[at:at + 2], "big") for at in (1, 3))
        if pdu[0] == 6:
            self.writes.append((first, count))
            self.registers[first] = count
            return pdu
        known = [self.registers.get(first + i) for i in range(count)]
        if pdu[0] != 3 or None in known[:1]:
            return bytes((pdu[0] | 0x80, 1 if pdu[0] != 3 else 2))
        return bytes((3, 2 * count)) + b"".join((n or 0).to_bytes(2, "big") for n in known)

    def take(self, data):
        """What it says to these bytes at once, and after a little, and those that it does
        not understand yet."""
        late = said = b""
        requests, data = self._requests(data)
        for unit, pdu in requests:
            first, count = (int.from_bytes(pdu[at:at + 2], "big") for at in (1, 3))
            if self.stall.is_set() and self.held is None:
                if pdu[0] == 3 and first <= SOE < first + count:
                    self.held = self._frame(unit, self._answer(pdu))
                    self.registers[SOE] = 5
                    self.empty.set()
                    continue
            elif self.held and self.lost < self.later - 1:
                self.lost += 1
                continue
            elif self.held:
                late, self.held = self.held, b""
            said += self._frame(unit, self._answer(pdu))
        return (late, said, data) if late else (said, b"", data)


class Served:
    """A battery on a serial line, or behind a port."""

    def __init__(self, battery, file=None, listener=None):
        self.battery, self.file, self.listener = battery, file, listener
        self.stop, self._stopped = os.pipe()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        data = then = b""
        while True:
            ready, _, _ = select.select(
                [f for f in (self.stop, self.listener, self.file) if f is not None], [], [],
                A_LITTLE_S if then else None)
            if self.stop in ready:
                return
            try:
                if self.listener in ready:
                    self._let_go()
                    self.file, data = self.listener.accept()[0].detach(), b""
                elif self.file in ready:
                    came = os.read(self.file, 256)
                    if not came:
                        self._let_go()
                    now, later, data = self.battery.take(data + came)
                    if self.file is not None:
                        os.write(self.file, then + now)
                    then = later
                elif then:
                    os.write(self.file, then)
                    then = b""
            except OSError:
                self._let_go()

    def _let_go(self):
        if self.file is not None:
            os.close(self.file)
        self.file = None

    def close(self):
        os.write(self._stopped, b"x")
        self.thread.join()
        self._let_go()
        for file in (self.stop, self._stopped):
            os.close(file)
        if self.listener:
            self.listener.close()


class LateInterlocks(flux.Test):
    def serve(self, battery, serial):
        if serial:
            line = self.serial_line()
            file = os.open(line.ours, os.O_RDWR | os.O_NOCTTY)
            tty.setraw(file)
            served, place = Served(battery, file=file), {"serial": line.theirs}
        else:
            place = self.place()
            served = Served(battery, listener=socket.create_server((place.host, place.port)))
            place = {"host": place.host, "port": place.port}
        self.addCleanup(served.close)
        return place

    def assert_refused(self, later, serial=False, mbap=False, **modbus):
        battery = Battery(later, mbap)
        place = self.serve(battery, serial)
        mosquitto = self.broker()
        mqtt = self.client(mosquitto)
        server = None if serial else type("", (), place)
        if serial:
            modbus.update(place)
        # With this rule a command asks for the same registers as a poll.
        self.bridge(flux.config(mosquitto, bess=[flux.battery(
            server, poll="%dms" % (100 * flux.PATIENCE), control={"kw_per_block": 100.0}, modbus={
                "timeout": "%dms" % (250 * flux.PATIENCE), **modbus})]))
        mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["soe"] == 54)
        mqtt.wait_text("bridge/status", "online")
        battery.stall.set()
        self.assertTrue(battery.empty.wait(flux.DEADLINE_S))
        outcome = mqtt.ask(100, "c1")
        self.assertEqual(outcome["outcome"], "refused")
        self.assertIn(outcome["reason"], ("soe_low", "state_unknown", "device_offline"))
        self.assertEqual(battery.writes, [])
        mqtt.wait("Site-BESS-01/state", lambda m: m.json["data"]["soe"] == 5)
        for n in range(20):  # on a busy machine it may miss a timeout as short as that
            reason = mqtt.ask(100, "c2-%d" % n)["reason"]
            if reason not in ("state_unknown", "device_offline"):
                break
        self.assertEqual(reason, "soe_low")
        self.assertEqual(battery.writes, [])

    def test_on_a_serial_line(self):
        for later in (1, 2, 3):
            with self.subTest(later=later):
                self.assert_refused(later, serial=True)

    def test_rtu_over_tcp(self):
        for later in (1, 2, 3):
            with self.subTest(later=later):
                self.assert_refused(later, framing="rtu")

    def test_a_gateway_that_does_not_repeat_the_id(self):
        for later in (1, 2, 3):
            with self.subTest(later=later):
                self.assert_refused(later, mbap=True, loose_transaction_id=True)


if __name__ == "__main__":
    flux.main()
