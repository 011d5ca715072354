"""A Modbus TCP server of its own, written from the specification, that lies on purpose.

What its registers hold is a function of time, so whoever sees a value knows when
the server held it. Every reply that a client must not believe (late, cut, for
another request, unit, function or of another length) carries values of a minute
ago: should one of them ever be published, it shows.
"""

import asyncio
import collections
import random
import socket
import struct
import threading
import time

SLOTS_PER_S = 100  # values change so often
STALE_S = 60.0

EXCEPTIONS = [1, 2, 3, 4, 5, 6, 0x0A, 0x0B]
FAULTS = ["late", "drop", "cut", "trickle", "trickle_late", "tid", "unit", "function", "length",
          "short", "double", "close", "slow"] + ["exception_%d" % code for code in EXCEPTIONS]


def slot_at(t):
    return int(t * SLOTS_PER_S) % 10_000_000  # exact in a float32


def _float(value):
    return struct.unpack(">HH", struct.pack(">f", float(value)))


def battery_registers(slot):
    return {2000: 1, 2010: 0, 2026: 20 + slot // 50 % 60, 2028: slot % 60000}


def meter_registers(slot):
    words = {}
    for address, value in ((0x0000, slot), (0x0010, slot % 1000), (0x0040, slot % 5000),
                           (0x0100, slot)):
        words[address], words[address + 1] = _float(value)
    return words


def direct_registers(slot):
    """Of a PowerPack's direct interface, written down here and nowhere read."""
    words = dict.fromkeys([*range(139, 219), *range(1000, 1028)], 0)
    for address, value in ((139, 250000), (141, 250000), (145, 500000), (201, slot % 30000),
                           (205, 1000000), (207, 200000 + slot % 600000)):
        words[address], words[address + 1] = value >> 16, value & 0xFFFF
    return {**words, 218: slot % 60000}


# What a sample shows of a slot, in the units of the profiles.
BATTERY_VALUES = {"soe": lambda s: 20 + s // 50 % 60, "available_blocks": lambda s: s % 60000}
METER_VALUES = {"voltage_l1_n": lambda s: s, "current_l1": lambda s: s % 1000,
                "active_power_total": lambda s: s % 5000 * 1000, "energy_import": lambda s: s}

DIRECT_VALUES = {"accepted_power": lambda s: s % 30000,
                 "energy_remaining": lambda s: 200000 + s % 600000,
                 "available_blocks": lambda s: s % 60000}

Write = collections.namedtuple("Write", "time address value")


class Unit:
    """`values`: what a sample shows of a slot, by the names of the points."""

    def __init__(self, registers, values=None, writable=()):
        self.registers = registers
        self.values = values or {}
        self.writes = []
        self.held = {address: [Write(0.0, address, 0)] for address in writable}

    def words(self, address, count, at):
        found = self.registers(slot_at(at))
        for own in self.held:
            found[own] = self.held[own][-1].value
        try:
            return [found[address + i] for i in range(count)]
        except KeyError:
            return None

    def write(self, address, values):
        for i, value in enumerate(values):
            write = Write(time.time(), address + i, value)
            self.writes.append(write)
            self.held[address + i].append(write)


class Server:
    """`units`: unit id -> Unit. `odds` is how likely a request meets one of `faults`."""

    def __init__(self, units, timeout_s, seed):
        self.units = units
        self.timeout_s = timeout_s
        self.random = random.Random(seed)
        self.odds = 0.0
        self.faults = FAULTS
        self.dead_units = set()
        self.injected = collections.Counter()
        self.writers = set()
        self.host, self.port = "127.0.0.1", 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self):
        self.server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self):
        async def stop():
            self.server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _choose(self):
        if self.random.random() >= self.odds:
            return None
        return self.random.choice(self.faults)

    async def _serve(self, reader, writer):
        self.writers.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._choose() == "close":
                self.injected["close_after_accept"] += 1
                return
            while True:
                header = await reader.readexactly(7)
                tid, _, length, unit = struct.unpack(">HHHB", header)
                pdu = await reader.readexactly(length - 1)
                if not await self._answer(writer, tid, unit, pdu):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def _pdu(self, unit, pdu, at):
        """The response to a request as it would have been at a time."""
        function = pdu[0]
        address, value = struct.unpack(">HH", pdu[1:5])
        if function in (6, 16):
            return pdu[:5]
        words = unit.words(address, value, at) if function in (3, 4) else None
        if words is None:
            return bytes([function | 0x80, 2])
        return struct.pack(">BB%dH" % value, function, 2 * value, *words)

    async def _answer(self, writer, tid, unit_id, pdu):
        """False: the connection is to end."""
        fault = self._choose()
        unit = self.units.get(unit_id)
        if fault:
            self.injected[fault] += 1
        if unit_id in self.dead_units:
            return True
        if fault and fault.startswith("exception_"):
            code = int(fault.split("_")[1])
            writer.write(frame(tid, unit_id, bytes([pdu[0] | 0x80, code])))
            return True
        now = time.time()
        # A request that is not answered in order was carried out, or was not.
        if pdu[0] in (6, 16) and unit and not (fault == "drop" and self.random.random() < 0.5):
            unit.write(*written(pdu))
        good = frame(tid, unit_id, self._pdu(unit, pdu, now)) if unit else \
            frame(tid, unit_id, bytes([pdu[0] | 0x80, 0x0B]))
        if not fault:
            writer.write(good)
            return True
        stale = self._pdu(unit, pdu, now - STALE_S) if unit else bytes([pdu[0] | 0x80, 0x0B])
        return await self._misbehave(fault, writer, tid, unit_id, good, stale)

    async def _misbehave(self, fault, writer, tid, unit_id, good, stale):
        lie = frame(tid, unit_id, stale)
        if fault == "slow":
            await asyncio.sleep(0.3 * self.timeout_s * self.random.random())
            writer.write(good)
        elif fault == "late":
            self.loop.call_later((1.5 + self.random.random()) * self.timeout_s, _send, writer, lie)
        elif fault == "cut":
            writer.write(lie[:self.random.randrange(1, len(lie))])
            return False
        elif fault in ("trickle", "trickle_late"):
            whole, total = (good, 0.3) if fault == "trickle" else (lie, 2.0)
            for byte in whole:
                writer.write(bytes([byte]))
                await asyncio.sleep(total * self.timeout_s / len(whole))
        elif fault == "tid":
            writer.write(frame(tid - 1 & 0xFFFF, unit_id, stale))
        elif fault == "unit":
            writer.write(frame(tid, unit_id + 1, stale))
        elif fault == "function":
            writer.write(frame(tid, unit_id, bytes([stale[0] ^ 7]) + stale[1:]))
        elif fault == "length":
            writer.write(frame(tid, unit_id, stale + b"\0\0"))
        elif fault == "short":
            writer.write(frame(tid, unit_id, stale[:-2]))
        elif fault == "double":
            writer.write(good + lie)
        return fault != "close"


def written(pdu):
    """The address and the values of a request that writes."""
    if pdu[0] == 6:
        address, value = struct.unpack(">HH", pdu[1:])
        return address, [value]
    address, count, _ = struct.unpack(">HHB", pdu[1:6])
    return address, struct.unpack(">%dH" % count, pdu[6:])


def frame(tid, unit, pdu):
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def _send(writer, data):
    if not writer.is_closing():
        writer.write(data)
