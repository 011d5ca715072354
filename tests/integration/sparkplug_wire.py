"""Sparkplug B as a host sees it, by the specification's field numbers and not by the bridge's
schema: payloads, and what goes over an MQTT connection.
"""

import asyncio
import collections
import struct
import threading

import flux
from hostile_broker import Reader

INT32, INT64, DOUBLE, BOOLEAN, STRING = 3, 4, 10, 11, 12
KINDS = ("NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA")

# ---- protobuf, by hand -----------------------------------------------------------------------


def varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at


def fields(data):
    """(number, value) in order; a length-delimited value as bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        yield key >> 3, value


def properties(data):
    keys, values = [], []
    for number, value in fields(data):
        if number == 1:
            keys.append(value.decode())
        else:
            body = dict(fields(value))
            text = body.get(8)
            values.append((body[1], body[3] if text is None else text.decode()))
    return keys, values


class Metric:
    def __init__(self, data):
        body = dict(fields(data))
        self.name = body[1].decode() if 1 in body else None
        self.alias, self.timestamp, self.datatype = body.get(2), body.get(3), body.get(4)
        self.historical, self.is_null = bool(body.get(5)), bool(body.get(7))
        keys, values = properties(body[9]) if 9 in body else ([], [])
        self.property_sizes = (len(keys), len(values))
        self.properties = dict(zip(keys, values))
        self.value = None
        self.fields = [n for n in body if n >= 10]
        for number in self.fields:
            value = body[number]
            if number == 11 and value >= 1 << 63:
                value -= 1 << 64
            self.value = value.decode() if number == 15 else bool(value) if number == 14 else value


class Payload:
    def __init__(self, data):
        rows = list(fields(data))
        body = dict(rows)
        self.timestamp, self.seq = body.get(1), body.get(3)
        self.metrics = [Metric(value) for number, value in rows if number == 2]

    def __getitem__(self, name):
        return {metric.name: metric for metric in self.metrics}[name]

    def by_alias(self):
        return {metric.alias: metric for metric in self.metrics}


def number(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def block(field, data):
    return number(field << 3 | 2) + number(len(data)) + data


def command(*metrics, timestamp=None):
    """A command's payload; a metric is a dictionary of name or alias, and a value."""
    out = number(1 << 3) + number(timestamp or flux.utc_ms())
    for metric in metrics:
        body = b""
        if "name" in metric:
            body += block(1, metric["name"].encode())
        if "alias" in metric:
            body += number(2 << 3) + number(metric["alias"])
        if metric.get("timestamp", True):
            body += number(3 << 3) + number(timestamp or flux.utc_ms())
        value = metric["value"]
        if isinstance(value, bool):
            body += number(14 << 3) + number(int(value))
        elif isinstance(value, float):
            body += number(13 << 3 | 1) + struct.pack("<d", value)
        elif isinstance(value, int):
            body += number(11 << 3) + number(value % (1 << 64))
        else:
            body += block(15, value.encode())
        out += block(2, body)
    return out


REBIRTH = command({"name": "Node Control/Rebirth", "value": True})


# ---- MQTT, as far as a witness needs it ------------------------------------------------------

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14

Connect = collections.namedtuple(
    "Connect", "version client_id clean will_qos will_retain will_topic will expiry_s")
Publish = collections.namedtuple("Publish", "topic qos retain payload")
Subscribe = collections.namedtuple("Subscribe", "filters")  # filter -> QoS
Disconnect = collections.namedtuple("Disconnect", "reason")


def connect_properties(reader):
    """As far as we send any: identifier -> number."""
    end = reader.length() + reader.at
    found = {}
    while reader.at < end:
        identifier = reader.take(1)[0]
        found[identifier] = reader.number(
            {0x11: 4, 0x27: 4, 0x21: 2, 0x22: 2, 0x19: 1, 0x17: 1, 0x18: 4, 0x01: 1,
             0x02: 4}[identifier])
    return found


def parse(packet, version):
    """One packet of a client's, or None."""
    kind, flags = packet[0] >> 4, packet[0] & 15
    reader = Reader(packet)
    reader.take(1)
    reader.length()
    if kind == CONNECT:
        reader.block()
        version, flags, _ = reader.number(1), reader.number(1), reader.number(2)
        properties = connect_properties(reader) if version >= 5 else {}
        client_id = reader.block().decode()
        topic = will = None
        if flags & 4:
            if version >= 5:
                connect_properties(reader)
            topic, will = reader.block().decode(), reader.block()
        return Connect(version, client_id, bool(flags & 2), flags >> 3 & 3, bool(flags & 32),
                       topic, will, properties.get(0x11, 0))
    if kind == PUBLISH:
        topic = reader.block().decode()
        qos = flags >> 1 & 3
        reader.take(2 if qos else 0)
        if version >= 5:
            reader.take(reader.length())
        return Publish(topic, qos, bool(flags & 1), packet[reader.at:])
    if kind == SUBSCRIBE:
        reader.take(2)
        if version >= 5:
            reader.take(reader.length())
        filters = {}
        while reader.at < len(packet):
            name = reader.block().decode()
            filters[name] = reader.number(1) & 3
        return Subscribe(filters)
    if kind == DISCONNECT:
        return Disconnect(packet[reader.at] if reader.at < len(packet) else 0)
    return None


class Session:
    """One connection of a client's, and all that it has said in it."""

    def __init__(self):
        self.said = []

    @property
    def connect(self):
        return next((p for p in self.said if isinstance(p, Connect)), None)

    def of(self, kind):
        return [p for p in self.said if isinstance(p, kind)]

    def own(self, *kinds):
        """The Sparkplug messages in order: (type, device or None, payload, publish)."""
        found = []
        for publish in self.of(Publish):
            parts = publish.topic.split("/")
            if parts[0] == "spBv1.0" and parts[2] in (kinds or KINDS):
                found.append((parts[2], parts[4] if len(parts) > 4 else None,
                              Payload(publish.payload), publish))
        return found


class Tap:
    """Stands between a client and the broker, and hears what the client says."""

    def __init__(self, broker):
        self.host, self._to = "127.0.0.1", broker
        self.sessions = []
        self.changed = threading.Condition()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(flux.DEADLINE_S)

    async def _start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(self._to.host, self._to.port)
        except OSError:
            writer.transport.abort()
            return
        session = Session()
        with self.changed:
            self.sessions.append(session)
        pumps = [self.loop.create_task(self._pump(reader, far_writer, session)),
                 self.loop.create_task(self._pump(far_reader, writer, None))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.close()
            far_writer.close()

    async def _pump(self, reader, writer, session):
        data = b""
        try:
            while more := await reader.read(65536):
                if session:
                    data = self._hear(session, data + more)
                writer.write(more)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass

    def _hear(self, session, data):
        while (size := packet_size(data)) and size <= len(data):
            version = session.connect.version if session.connect else 5
            packet = parse(data[:size], version)
            with self.changed:
                session.said.append(packet)
                self.changed.notify_all()
            data = data[size:]
        return data

    def of(self, ending):
        """The sessions whose client id ends so."""
        with self.changed:
            return [s for s in self.sessions if s.connect and s.connect.client_id.endswith(ending)]

    def close(self):
        async def stop():
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
        self._call(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def packet_size(data):
    """Of the first packet; None when even that is not there."""
    length = 0
    for i, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return 2 + i + length
    return None


# ---- a host ----------------------------------------------------------------------------------


class Host:
    """Keeps the picture that a Sparkplug host has of one node, from its messages in order, and
    objects to whatever a host would trip over: `objections`."""

    def __init__(self):
        self.objections = []
        self.online, self.bdseq, self.seq = False, None, None
        self.names = {}  # (device, alias) -> (name, datatype) of the present births
        self.devices = {}  # device -> {name: (value, quality, timestamp)}, those that are born
        # (device, name) -> [(timestamp, value)]: all that was ever told, and of what came late
        # one such list for each birth
        self.history = collections.defaultdict(list)
        self.told_late = collections.defaultdict(list)
        self.deaf = False

    def object(self, text, *arguments):
        self.objections.append(text % arguments)

    def restart(self):
        """What it knew of the node is gone, and so is all that comes before the next birth."""
        self.online, self.deaf = False, True
        self.names, self.devices = {}, {}

    def hear(self, kind, device, payload):
        self.deaf = self.deaf and kind != "NBIRTH"
        if self.deaf:
            return
        getattr(self, "_" + kind.lower())(device, payload)

    def _next(self, kind, payload):
        if payload.seq is None:
            self.object("%s without seq", kind)
        elif not self.online:
            self.object("%s before NBIRTH", kind)
        elif payload.seq != (self.seq + 1) % 256:
            self.object("%s with seq %s after %s", kind, payload.seq, self.seq)
        self.seq = payload.seq

    def _nbirth(self, _, payload):
        if payload.seq != 0:
            self.object("NBIRTH with seq %s", payload.seq)
        self.online, self.seq = True, payload.seq
        self.bdseq = payload["bdSeq"].value
        self.names, self.devices = {}, {}

    def _ndeath(self, _, payload):
        if payload.metrics[0].value == self.bdseq:
            self.online, self.devices = False, {}

    def _dbirth(self, device, payload):
        self._next("DBIRTH", payload)
        self.names = {key: row for key, row in self.names.items() if key[0] != device}
        taken = {alias for _, alias in self.names}
        self.devices[device] = {}
        for metric in payload.metrics:
            if metric.alias in taken:
                self.object("alias %s twice", metric.alias)
            taken.add(metric.alias)
            self.names[device, metric.alias] = (metric.name, metric.datatype)
            self.told_late[device, metric.name].append([])
            self._take(device, metric.name, metric, "DBIRTH")

    def _take(self, device, name, metric, kind):
        if metric.timestamp is None:
            self.object("%s of %s: %s without a timestamp", kind, device, name)
        if metric.is_null != (metric.value is None):
            self.object("%s of %s: %s is null and has a value, or neither", kind, device, name)
        self.history[device, name].append((metric.timestamp, metric.value))
        if metric.historical:
            self.told_late[device, name][-1].append((metric.timestamp, metric.value))
            return
        before = self.devices[device].get(name, (None, 192, 0))
        quality = metric.properties.get("Quality", (None, before[1]))[1]
        self.devices[device][name] = (metric.value, quality, metric.timestamp)

    def _ddata(self, device, payload):
        self._next("DDATA", payload)
        if device not in self.devices:
            self.object("DDATA of %s, which is not born", device)
            return
        if len({metric.historical for metric in payload.metrics}) > 1:
            self.object("DDATA of %s: history and live data in one payload", device)
        for metric in payload.metrics:
            if (device, metric.alias) not in self.names:
                self.object("DDATA of %s: alias %s is in no birth", device, metric.alias)
                continue
            if metric.name is not None or metric.datatype is not None:
                self.object("DDATA of %s: a name or a datatype beside an alias", device)
            self._take(device, self.names[device, metric.alias][0], metric, "DDATA")

    def _ddeath(self, device, payload):
        self._next("DDEATH", payload)
        if device not in self.devices:
            self.object("DDEATH of %s, which is not born", device)
        self.devices.pop(device, None)

    def _ndata(self, _, payload):
        self._next("NDATA", payload)
