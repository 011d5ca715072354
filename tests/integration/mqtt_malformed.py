"""What is no packet, or not one that may come now: it ends the session, and nothing else."""

import flux
from hostile_broker import HostileBroker, text
from mqtt_illegal import (AUTH, COMMAND, CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBLISH, PUBREL,
                          QOS_1, SET, SUBACK, UNSUBACK, Rig, raw)

# Properties that say they are longer, or shorter, than they are; that nobody knows; that end
# in the middle; whose length has no end.
PROPERTIES = (b"\x05\x21\0\1", b"\x01\x21\0\1", b"\x02\x7f\0", b"\x03\x1f\0\x09",
              b"\xff\xff\xff\xff\x7f", b"\x40" + 32 * b"\x01\1")


def malformed(version):
    """Packets of every type that are none, each as long as it says, and two that have no
    length. Of what only a client sends the type is enough."""
    for kind in range(0, 0x100, 0x10):
        yield raw(kind | 2, 40 * b"\xff")
        if version == 4 and kind in (CONNACK, PUBLISH, PUBACK, PUBREL & 0xF0, SUBACK, UNSUBACK,
                                     PINGRESP, DISCONNECT):
            yield from (raw(kind | flags) for flags in (0, 2, 15))
            yield raw(kind, b"\0")
    for properties in PROPERTIES if version == 5 else ():
        yield raw(CONNACK, b"\0\0" + properties)
        yield raw(PUBLISH | QOS_1, text(SET) + b"\0\7" + properties)
        yield raw(PUBACK, b"\0\1\0" + properties)
        for kind in (SUBACK, UNSUBACK):
            yield raw(kind, b"\0\1" + properties)
        for kind in (DISCONNECT, AUTH):
            yield raw(kind, b"\x82" + properties)
    yield b"\x30\xff\xff\xff\xff\xff"
    yield b"\x90\x80\x80\x80\x80\x80\x01"


class Malformed(Rig):
    def test_what_is_no_packet(self):
        for version in (4, 5):
            with self.subTest(version=version):
                self.rig(version=version)
                for packet in malformed(version):
                    session = self.ready()
                    session.put(packet)
                    self.asked += 1
                    id = "ask-%d" % self.asked
                    command = self.publish(SET.encode(), COMMAND % (id.encode(), self.asked))
                    while not self.outcomes(id):
                        session = self.ready()
                        session.send(*command)
                        self.wait(lambda s=session: self.outcomes(id) or s.left_with is not None,
                                  "an outcome after " + packet.hex())
                        self.broker.try_again(self.flux, lambda s=session: self.outcomes(id) or
                                       self.broker.bridges()[-1] is not s)
                self.check()
                self.flux.stop()

    def test_what_is_no_packet_to_a_sparkplug_node(self):
        """Its session is another one: nothing is written for it, and it is born again."""
        self.rig(sparkplug=True)

        def node():
            return [s for s in self.broker.sessions
                    if s.client_id == "fluxbridge-demo-sparkplug"][-1:]

        def born(session):
            return any(m.session is session and "/DBIRTH/" in m.topic
                       for m in self.broker.messages)

        for packet in list(malformed(5))[::4]:
            self.wait(lambda: node() and born(node()[0]), "a birth")
            session = node()[0]
            soe = self.unit.registers[2026]
            session.put(packet)
            n = len(self.broker.messages)
            self.unit.registers[2026] = 50 + (soe + 1) % 20
            self.wait(lambda: session.left_with is not None or
                      any(m.session is session for m in self.broker.messages[n:]),
                      "what has changed, after " + packet.hex())
            if session.left_with is not None:
                self.broker.try_again(self.flux, lambda s=session: node()[0] is not s)
        self.check()

    def test_a_packet_that_does_not_end(self):
        """It says 256 MiB. In version 3.1.1 it may: what comes then is a part of it, and so
        nothing is acknowledged, and after 30 s the session ends. In version 5 we have said that
        we take 64 KiB."""
        for version in (4, 5):
            with self.subTest(version=version):
                self.rig(version=version)
                self.ready().put(b"\x30\xff\xff\xff\x7f\0\1a")
                if version == 5:
                    self.wait_wrong("a packet larger than our Maximum Packet Size, of type 3 ")
                self.broker.wait(lambda: len(self.broker.bridges()) > 1, 90, self.flux.log)
                self.check()
                self.flux.stop()

    def test_the_largest_packet(self):
        self.rig()
        kind, body = self.publish(SET.encode(), b"")
        body = body.ljust((1 << 16) - 1 - 3)  # a first byte, and three of the length
        self.after((kind, body))
        self.assertEqual(len(self.broker.bridges()), 1)
        self.after((kind, body + b" "))
        self.wait_wrong("a packet larger than our Maximum Packet Size, of type 3 ")

    def test_a_packet_that_is_shorter_than_it_says(self):
        """Behind its end the library would read on."""
        self.rig()
        for kind, body in ((PUBLISH, text(SET) + b"\x05\x21\0\1"),
                           (PUBLISH | QOS_1, text(SET) + b"\0\7\x01\x21\0\1"),
                           (PUBACK, b"\0\1\0\xff\xff\xff\x7f\1\1"),
                           (SUBACK, b"\0\1\2\x21\0"), (DISCONNECT, b"\x82\3\x1f\0")):
            with self.subTest(kind=kind):
                n = self.flux.log().count(" a malformed packet of type %d " % (kind >> 4))
                session = self.ready()
                session.send(kind, body)
                self.wait(lambda: session.left_with is not None, "its end")
                self.broker.try_again(
                    self.flux, lambda: self.broker.bridges()[-1] is not session)
                self.assertEqual(
                    self.flux.log().count(" a malformed packet of type %d " % (kind >> 4)), n + 1)
        self.check()

    # ---- instead of CONNACK ----

    def attempts(self, beginnings, **rig):
        """Sessions that begin with these bytes in place of CONNACK, each to its end; then all
        goes on in one that begins as it should."""
        class Wrong(HostileBroker):
            def connack(self, session):
                if not session.is_bridge or not beginnings:
                    return 0, b""
                session.put(beginnings.pop(0))
                return None

        n = len(beginnings)
        self.rig(Wrong(), **rig)
        self.wait(self.broker.bridges, "an attempt")
        for i in range(n):
            self.broker.try_again(self.flux, lambda i=i: len(self.broker.bridges()) > i)
            self.wait(lambda i=i: self.broker.bridges()[i].left_with is not None,
                      "the end of attempt %d" % i)
        self.broker.try_again(self.flux, lambda: self.broker.bridges()[-1].filters)
        self.check()

    def test_a_connack_of_another_version(self):
        """As a broker of version 3.1.1 answers: the library would free properties that it has
        not set, and here no memory is empty."""
        self.attempts([raw(CONNACK, body) for body in (b"\0\1", b"\0\0", b"\0", b"")],
                      env={"MALLOC_PERTURB_": "200"})
        self.assertIn("no session with the broker: it speaks MQTT 3.1.1 alone: set version = 4 in "
                      "mqtt ", self.flux.log())

    def test_what_comes_before_connack(self):
        connack = raw(CONNACK, b"\0\0\0")
        self.attempts([raw(PUBLISH, text(SET) + b"\0" + COMMAND % (b"no", 99)) + connack,
                       raw(PINGRESP) + connack, raw(CONNACK, b"\0\0\x05\x21\0\1"),
                       raw(SUBACK, b"\0\1\0\1") + connack, b"\x20\xff\xff\xff\x7f"])
        self.assertFalse(self.outcomes("no"))


if __name__ == "__main__":
    flux.main()
