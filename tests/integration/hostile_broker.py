"""A broker of the tests' own that does what the test says, MQTT 5 and 3.1.1.

    class Narrow(HostileBroker):
        def connack(self, session):
            return 0, property_u32(MAXIMUM_PACKET_SIZE, 700)

        def puback(self, session, message):
            return 0x97  # or None = no acknowledgement, CLOSE, Disconnect(0x95)

It hands nothing on: what arrives is in `messages`, what a bridge hears is sent by
deliver().
"""

import collections
import signal
import socket
import struct
import threading

import flux

MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RETAIN_AVAILABLE = 0x27, 0x24, 0x25
RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE, WILDCARDS_AVAILABLE = 0x21, 0x13, 0x28
RESPONSE_TOPIC = 0x08

CLOSE = object()  # end the connection without a word
Disconnect = collections.namedtuple("Disconnect", "reason")
Message = collections.namedtuple("Message", "topic payload qos retain size mid session")


def property_u8(number, value):
    return bytes([number, value])


def property_u16(number, value):
    return struct.pack(">BH", number, value)


def property_u32(number, value):
    return struct.pack(">BI", number, value)


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def user_property(name, value):
    return b"\x26" + text(name) + text(value)


def length(number):
    """As a variable byte integer."""
    out = b""
    while True:
        number, digit = number >> 7, number & 0x7F
        out += bytes([digit | (0x80 if number else 0)])
        if not number:
            return out


class Reader:
    """Takes a packet apart, from its beginning on."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def block(self):
        return self.take(self.number(2))

    def text(self):
        return self.block().decode(errors="replace")

    def length(self):
        value, shift = 0, 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def rest(self):
        return self.data[self.at:]


class Session:
    """One connection: what CONNECT said, and what has come since."""

    def __init__(self, broker, connection):
        self.broker, self.connection = broker, connection
        self.client_id = self.will = None
        self.filters, self.qos = [], {}
        self.version = self.keepalive = self.left_with = None
        self.properties = b""
        self.acknowledged = []  # identifiers of what was delivered
        self.unacknowledged = 0
        self.most_unacknowledged = 0
        self.pings = 0
        self.is_bridge = False

    def put(self, data):
        """As it is. The other side may have ended the session: left_with says so."""
        try:
            self.connection.sendall(data)
        except OSError:
            pass

    def send(self, kind, body):
        self.put(bytes([kind]) + length(len(body)) + body)

    def end(self, reason=None):
        if reason is not None and self.version == 5:
            self.send(0xE0, bytes([reason, 0]))
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def acknowledge(self, message, reason=0):
        with self.broker.changed:
            self.unacknowledged -= 1
        body = struct.pack(">H", message.mid)
        self.send(0x40, body + bytes([reason, 0]) if reason and self.version == 5 else body)

    def deliver(self, topic, payload, properties=b"", retained=False):
        body = text(topic) + struct.pack(">H", 1)
        if self.version == 5:
            body += length(len(properties)) + properties
        self.send(0x32 | retained, body + payload.encode())


class HostileBroker:
    """Listens on a port of its own from the start. Override greet(), connack(),
    puback(), suback(), unsuback() and pingresp()."""

    def __init__(self, address=("127.0.0.1", 0)):
        self.changed = threading.Condition()
        self.sessions, self.messages = [], []
        self.listener = socket.create_server(address)
        self.host, self.port = self.listener.getsockname()
        self.threads = []
        self._start(self._accept)

    # ---- what a test overrides ----

    def greet(self, connection):
        """What to speak MQTT on, such as TLS on this connection; None: nothing."""
        return connection

    def connack(self, session):
        """(reason code, properties), or None: no answer."""
        return 0, b""

    def puback(self, session, message):
        return 0

    def suback(self, session, topic_filter):
        return 1

    def unsuback(self, session, topic_filter):
        """Just before the answer."""

    def pingresp(self, session):
        """Whether a ping is answered."""
        return True

    # ---- what a test asks ----

    def wait(self, predicate, timeout_s=None, what="the hostile broker"):
        return flux.wait_on(self.changed, predicate, timeout_s, what)

    def try_again(self, bridge, is_there):
        """A hangup ends a pause, and is of no use while an attempt is under way."""
        while not is_there():
            bridge.signal(signal.SIGHUP)
            try:
                self.wait(is_there, 0.1)
            except flux.Timeout:
                if bridge.process.poll() is not None:
                    raise AssertionError(bridge.log()) from None

    def on(self, topic):
        with self.changed:
            return [m for m in self.messages if m.topic == topic]

    def bridges(self):
        """The sessions of the bridge itself so far."""
        with self.changed:
            return [s for s in self.sessions if s.is_bridge]

    def of_device(self, device):
        """Those of that device."""
        with self.changed:
            return [s for s in self.sessions if s.client_id == "fluxbridge-demo-" + device]

    # ---- how it works ----

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.changed:
            sessions = list(self.sessions)
        for session in sessions:
            session.end()
        for thread in self.threads:
            thread.join()
        for session in sessions:
            session.connection.close()

    def _accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self.greet(connection)
            if connection is None:
                continue
            session = Session(self, connection)
            with self.changed:
                self.sessions.append(session)
            self._start(self._serve, session)

    def _serve(self, session):
        data = b""
        while True:
            try:
                more = session.connection.recv(65536)
            except OSError:
                more = b""
            if not more:
                break
            data += more
            while True:
                packet, data = self._split(data)
                if packet is None:
                    break
                if self._handle(session, *packet) is CLOSE:
                    session.end()
                    data = b""
        with self.changed:
            session.left_with = session.left_with or "nothing"
            self.changed.notify_all()

    @staticmethod
    def _split(data):
        """(first byte, body, whole size) and what follows it."""
        size, shift, at = 0, 0, 1
        while at < len(data):
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80:
                break
        else:
            return None, data
        if len(data) < at + size:
            return None, data
        return (data[0], data[at:at + size], at + size), data[at + size:]

    def _handle(self, session, first, body, size):
        kind, reader = first >> 4, Reader(body)
        if kind == 1:
            return self._connect(session, reader)
        if kind == 3:
            return self._publish(session, first, reader, size)
        if kind == 4:
            with self.changed:
                session.acknowledged.append(reader.number(2))
                self.changed.notify_all()
        if kind == 8:
            return self._subscribe(session, reader)
        if kind == 10:
            mid = reader.take(2)
            if session.version == 5:
                reader.take(reader.length())
            self.unsuback(session, reader.text())
            session.send(0xB0, mid + b"\0\0" if session.version == 5 else mid)
        elif kind == 12:
            with self.changed:
                session.pings += 1
                self.changed.notify_all()
            if self.pingresp(session):
                session.send(0xD0, b"")
        elif kind == 14:
            session.left_with = body[0] if body else 0
        return None

    def _connect(self, session, reader):
        reader.text()
        session.version = reader.number(1)
        flags, session.keepalive = reader.number(1), reader.number(2)
        if session.version == 5:
            session.properties = reader.take(reader.length())
        session.client_id = reader.text()
        session.is_bridge = session.client_id == "fluxbridge-demo"
        if flags & 4:
            if session.version == 5:
                reader.take(reader.length())
            session.will = (reader.text(), reader.take(reader.number(2)), flags >> 3 & 3,
                            bool(flags & 0x20))
        with self.changed:
            self.changed.notify_all()
        answer = self.connack(session)
        if answer is None:
            return None
        reason, properties = answer
        body = bytes([0, reason])
        if session.version == 5:
            body += length(len(properties)) + properties
        session.send(0x20, body)
        return CLOSE if reason else None

    def _publish(self, session, first, reader, size):
        qos = first >> 1 & 3
        topic = reader.text()
        mid = reader.number(2) if qos else 0
        if session.version == 5:
            reader.take(reader.length())
        message = Message(topic, reader.rest(), qos, bool(first & 1), size, mid, session)
        with self.changed:
            self.messages.append(message)
            session.unacknowledged += qos
            session.most_unacknowledged = max(session.most_unacknowledged,
                                              session.unacknowledged)
            self.changed.notify_all()
        answer = self.puback(session, message)
        if isinstance(answer, Disconnect):
            session.end(answer.reason)
            return CLOSE
        if answer is CLOSE:
            return CLOSE
        if answer is not None and qos:
            session.acknowledge(message, answer)
        return None

    def _subscribe(self, session, reader):
        mid = reader.take(2)
        if session.version == 5:
            reader.take(reader.length())
        codes = b""
        while reader.rest():
            topic_filter = reader.text()
            qos = reader.number(1) & 3
            answer = self.suback(session, topic_filter)
            if answer is None:
                return None
            codes += bytes([min(answer, qos) if answer < 0x80 else answer])
            with self.changed:
                session.filters.append(topic_filter)
                session.qos[topic_filter] = qos
                self.changed.notify_all()
        session.send(0x90, mid + (b"\0" if session.version == 5 else b"") + codes)
        return None
