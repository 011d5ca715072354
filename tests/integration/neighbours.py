"""What is wrong with one device is not felt by its neighbours."""

import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chaos"))

import flux  # noqa: E402
import hostile  # noqa: E402

LINKS = 300
TIMEOUT_S = 10  # of one that is silent


class Counter:
    """Waits for samples: `seconds` of a device's own schedule, not of a clock's."""

    def __init__(self, client):
        self.client = client

    def samples(self, device, since=0, quality="good"):
        return [m.json for m in self.client.on(device + "/state", since)
                if m.json["quality"] == quality]

    def wait(self, device, count, since=0, timeout_s=None):
        flux.wait_on(self.client.changed,
                     lambda: len(self.samples(device, since)) >= count, timeout_s,
                     "%d good samples of %s" % (count, device))
        return self.samples(device, since)


class Neighbours(flux.Test):
    def rig(self, **devices):
        self.mosquitto = self.broker()
        self.client_ = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(self.mosquitto, **devices))
        return Counter(self.client_)

    def assert_nothing_waited_for(self, samples, timeout_s):
        """No sample is missing, and none came as late as a timeout would make it."""
        steps = [b["ts"] - a["ts"] for a, b in zip(samples, samples[1:])]
        self.assertLess(max(steps), 1000 * timeout_s / 2, steps)
        numbers = [s["seq"] for s in samples]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))

    def test_a_silent_device_costs_another_link_no_tick(self):
        silent, healthy = flux.battery_unit(), flux.meter_unit()
        one, two = self.modbus({1: silent}), self.modbus({2: healthy})
        silent.silent = True
        seen = self.rig(bess=[flux.battery(one, modbus={"timeout": "%ds" % TIMEOUT_S})],
                        meters=[flux.meter(two, poll="100ms")])
        one.wait(lambda: silent.requests)
        since = self.client_.mark()
        self.assert_nothing_waited_for(seen.wait("Grid-Meter", 40, since), TIMEOUT_S)
        self.assertFalse(seen.samples("Site-BESS-01"))

    def test_one_dead_unit_of_four_on_a_serial_line(self):
        line = self.serial_line()
        units = {n: flux.meter_unit() for n in (1, 2, 3, 4)}
        units[3].silent = True
        self.modbus(units, serial=line.ours)
        meters = [flux.meter(None, "Meter-%d" % n, address=n, poll="1s", modbus={
            "serial": line.theirs, "baud": 9600, "timeout": flux.patient(0.3), "retry_count": 3})
            for n in units]
        seen = self.rig(meters=meters)
        seen.wait("Meter-1", 1)
        since = self.client_.mark()
        first = seen.wait("Meter-1", 11, since, 30)
        span = (first[-1]["ts"] - first[0]["ts"]) / 1000
        for name in ("Meter-1", "Meter-2", "Meter-4"):
            rate = len(seen.wait(name, 9, since)) / span
            self.assertGreaterEqual(rate * flux.PATIENCE, 0.8, name)
        self.assertFalse(seen.samples("Meter-3"))

    def test_a_device_that_takes_one_connection_only(self):
        """It lets a second one wait for ever; two devices behind it share the first."""
        server = Single({1: flux.battery_unit().registers, 2: flux.meter_unit().registers})
        self.addCleanup(server.close)
        seen = self.rig(bess=[flux.battery(server)], meters=[flux.meter(server)])
        seen.wait("Site-BESS-01", 5)
        seen.wait("Grid-Meter", 5)
        self.assertEqual(server.accepted, 1)
        server.drop()
        since = self.client_.mark()
        seen.wait("Site-BESS-01", 3, since)
        seen.wait("Grid-Meter", 3, since)
        self.assertEqual(server.accepted, 2)

    def test_a_connection_that_is_half_open(self):
        """The device was switched off and on: it knows nothing of the connection, and
        whatever comes on it is never answered. A new one works."""
        server = Single({1: flux.battery_unit().registers}, several=True)
        self.addCleanup(server.close)
        seen = self.rig(bess=[flux.battery(server, modbus={"timeout": flux.patient(0.5)})])
        seen.wait("Site-BESS-01", 2)
        since = self.client_.mark()
        server.forget()
        seen.wait("Site-BESS-01", 3, since)
        self.assertEqual(server.accepted, 2)

    def test_300_links_at_once(self):
        mosquitto = self.broker()
        client = self.client(mosquitto, subscribe=("+/state",))
        meters = [flux.meter(self.place(), "Meter-%d" % i, poll="1s", modbus={"timeout": "2s"})
                  for i in range(LINKS)]
        text = flux.config(mosquitto, meters=meters, mqtt={"device_wills": False},
                           log={"level": "info"})
        simulator = self.simulator(text)
        bridge = self.bridge(text)

        def all_seen():
            counts = {}
            for m in client.messages:
                counts[m.topic] = counts.get(m.topic, 0) + (b'"quality":"good"' in m.payload)
            return len(counts) == LINKS and min(counts.values()) >= 3

        flux.wait_on(client.changed, all_seen, 30, lambda: "three good samples of each\n" +
                     simulator.log()[-500:] + bridge.log()[-500:])
        self.assertGreater(len(os.listdir("/proc/%d/fd" % bridge.process.pid)), LINKS)


class Single:
    """A Modbus server that serves one connection at a time and lets others wait."""

    def __init__(self, units, several=False):
        self.units = units
        self.several = several
        self.accepted = 0
        self.forgotten = set()
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self.listener.getsockname()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            self.open.add(connection)
            if self.several:
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()
            else:
                self._serve(connection)

    def _serve(self, connection):
        try:
            with connection:
                while True:
                    head = connection.recv(7, socket.MSG_WAITALL)
                    if len(head) < 7:
                        return
                    pdu = connection.recv(head[5] - 1, socket.MSG_WAITALL)
                    if connection not in self.forgotten:
                        connection.sendall(self._reply(head, pdu))
        except OSError:
            pass
        finally:
            self.open.discard(connection)

    def _reply(self, head, pdu):
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        words = [self.units[head[6]].get(address + i) for i in range(count)]
        if None in words:
            body = bytes([pdu[0] | 0x80, 2])
        else:
            body = bytes([pdu[0], 2 * count]) + b"".join(w.to_bytes(2, "big") for w in words)
        return hostile.frame(int.from_bytes(head[:2], "big"), head[6], body)

    def drop(self):
        for connection in list(self.open):
            connection.shutdown(socket.SHUT_RDWR)

    def forget(self):
        self.forgotten |= set(self.open)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()
        self.thread.join()


if __name__ == "__main__":
    flux.main()
