"""What no broker may send: nothing ends the bridge, stops its flow, loses a sample without
counting it, or has a command carried out twice."""

import json
import signal

import flux
from hostile_broker import (RECEIVE_MAXIMUM, RESPONSE_TOPIC, SERVER_KEEP_ALIVE, HostileBroker,
                            length, property_u8, property_u16, property_u32, text,
                            user_property)
from mqtt_addresses import Secure
from mqtt_faults import Certificates

BATTERY = "flux/demo/Site-BESS-01"
SET, COMMANDS = BATTERY + "/set/target_power", "flux/demo/+/set/#"
COMMAND = b'{"id":"%s","value":%d}'

# Packet types with their flags, as they stand in the first byte.
CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ = 0x10, 0x82, 0xA2, 0xC0
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBACK, UNSUBACK, PINGRESP, DISCONNECT, AUTH = 0x90, 0xB0, 0xD0, 0xE0, 0xF0
QOS_1, QOS_2, DUP = 0x02, 0x04, 0x08

# Properties of CONNACK that ask for nothing.
SESSION_EXPIRY, ASSIGNED_ID, REASON, TOPIC_ALIAS_MAXIMUM = 0x11, 0x12, 0x1F, 0x22
RESPONSE_INFORMATION, SERVER_REFERENCE, SUBSCRIPTION_IDS, SHARED = 0x1A, 0x1C, 0x29, 0x2A

TOPIC_ALIAS = 0x23  # of PUBLISH

# A library to be loaded before all others: who has handed over a message comes back late.
HAND_OVER_SLOWLY = r"""
#include <dlfcn.h>
#include <time.h>

int MQTTAsync_sendMessage(void *handle, const char *topic, const void *message, void *options)
{
    int (*real)(void *, const char *, const void *, void *);
    *(void **)&real = dlsym(RTLD_NEXT, "MQTTAsync_sendMessage");
    int code = real(handle, topic, message, options);
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    return code;
}
"""


def raw(kind, body=b""):
    return bytes([kind]) + length(len(body)) + body


class Rig(flux.Test):
    def rig(self, broker=None, sparkplug=False, env=None, **mqtt):
        self.broker = broker or HostileBroker()
        self.addCleanup(self.broker.close)
        self.unit = flux.battery_unit()
        self.server = self.modbus({1: self.unit})
        self.version = mqtt.get("version", 5)
        self.flux = self.bridge(flux.config(
            self.broker, [flux.battery(self.server, poll="100ms")],
            mqtt={"device_wills": False, **mqtt},
            **({"sparkplug": {"enabled": True}} if sparkplug else {})), env)
        self.asked = 0

    def wait(self, predicate, what):
        return self.broker.wait(predicate, None, lambda: "%s:\n%s" % (what, self.flux.log()))

    def ready(self):
        """The bridge's session that hears commands."""
        self.wait(lambda: self.broker.bridges() and COMMANDS in self.broker.bridges()[-1].filters,
                  "a session that hears commands")
        return self.broker.bridges()[-1]

    def publish(self, topic, payload, flags=QOS_1, properties=b"", mid=b"\x12\x34"):
        """The body of one, with its first byte."""
        body = len(topic).to_bytes(2, "big") + topic + (mid if flags & 6 else b"")
        if self.version == 5:
            body += length(len(properties)) + properties
        return PUBLISH | flags, body + payload

    def outcomes(self, id):
        """First ones."""
        told = [json.loads(m.payload) for m in self.broker.on(BATTERY + "/result")]
        return [t for t in told if t["id"] == id and "duplicate" not in t]

    def ask(self):
        """A command, sent again in each new session until it has an outcome."""
        self.asked += 1
        id = "ask-%d" % self.asked
        while not self.outcomes(id):
            session = self.ready()
            session.send(*self.publish(SET.encode(), COMMAND % (id.encode(), self.asked)))
            self.wait(lambda s=session: self.outcomes(id) or
                      self.broker.bridges()[-1] is not s, "an outcome of " + id)
        self.assertEqual([o["outcome"] for o in self.outcomes(id)], ["confirmed"])

    def told(self):
        return {json.loads(m.payload)["seq"] for leaf in ("state", "backfill")
                for m in self.broker.on("%s/%s" % (BATTERY, leaf))}

    def check(self):
        """All goes on, and nothing is missing of what was before."""
        self.ask()
        self.wait(self.told, "a sample")
        last = max(self.told())
        self.wait(lambda: max(self.told()) >= last + 5, "the flow")
        self.wait(lambda: set(range(1, last + 6)) <= self.told(), "every sample")
        written = [w.values[0] for w in self.unit.writes if w.address == flux.TARGET]
        self.assertEqual(written, list(range(1, self.asked + 1)))
        self.assertNotIn("refuses a topic", self.flux.log())

    def after(self, *packets):
        session = self.ready()
        for kind, body in packets:
            session.send(kind, body)
        self.check()

    def wait_wrong(self, what):
        self.flux.wait_log("no session with the broker: it sends what no broker may: " + what)


class Illegal(Rig):
    # ---- answers to nothing ----

    def test_answers_that_nobody_waits_for(self):
        for version, tail in ((4, b""), (5, b"\0")):
            with self.subTest(version=version):
                self.rig(version=version)
                self.after((PUBACK, b"\x7f\xff"), (PUBACK, b"\x7f\xff" + tail),
                           (PUBREL, b"\x7f\xff"), (SUBACK, b"\x7f\xff" + tail + b"\1"),
                           (UNSUBACK, b"\x7f\xff" + 2 * tail), (PINGRESP, b""))
                self.assertEqual(len(self.broker.bridges()), 1)

    def test_a_second_connack(self):
        """That says yes, or no."""
        for version in (4, 5):
            for code in (0, 5 if version == 4 else 0x87):
                with self.subTest(version=version, code=code):
                    self.rig(version=version)
                    self.after((CONNACK, bytes([0, code]) + (b"\0" if version == 5 else b"")))

    def test_what_only_a_client_sends(self):
        """Or who was sent something at QoS 2: it ends the session, which is said."""
        for version, kinds in ((4, (0x00, CONNECT, PUBREC, PUBCOMP, SUBSCRIBE)),
                               (5, (PUBREC, PUBCOMP, UNSUBSCRIBE, PINGREQ, AUTH))):
            for kind in kinds:
                with self.subTest(version=version, kind=kind):
                    self.rig(version=version)
                    self.after((kind, b"\x7f\xff"))
                    self.wait_wrong("a packet of type %d " % (kind >> 4))
                    self.flux.stop()

    def test_auth(self):
        """Which we have not begun."""
        for body in (b"", b"\x18\0", b"\x19\0", b"\x18\x08\x15\0\5SCRAM"):
            with self.subTest(body=body):
                self.rig()
                self.after((AUTH, body))

    def test_another_kind_of_answer(self):
        """To a message at QoS 1: with it the library would free what is still in use, and be
        ended by that. So it ends the session, which is said."""
        for version, answers in ((4, ((PUBREC, b""), (PUBCOMP, b""), (SUBACK, b"\1"),
                                      (SUBACK, b"\x80"), (UNSUBACK, b""))),
                                 (5, ((PUBREC, b""), (PUBREC, b"\x80\0"), (PUBCOMP, b""),
                                      (SUBACK, b"\0\1"),
                                      (SUBACK, b"\0\x80"), (UNSUBACK, b"\0\0"),
                                      (UNSUBACK, b"\0\x80")))):
            for kind, tail in answers:
                with self.subTest(version=version, kind=kind, tail=tail):
                    class Confused(HostileBroker):
                        def __init__(self):
                            super().__init__()
                            self.states = []

                        def puback(self, session, message):
                            if message.topic != BATTERY + "/state":
                                return 0
                            self.states.append(message)
                            if len(self.states) == 5:
                                session.send(kind, self.states[3].mid.to_bytes(2, "big") + tail)
                            return None if len(self.states) == 4 else 0

                    self.rig(Confused(), version=version)
                    self.check()
                    self.assertIn("no session with the broker: it sends what no broker may: "
                                  "a packet of type %d " % (kind >> 4), self.flux.log())
                    self.flux.stop()

    def test_another_kind_of_answer_that_is_quick(self):
        """Before who has published it knows its identifier."""
        class Quick(HostileBroker):
            states = 0

            def puback(self, session, message):
                self.states += message.topic == BATTERY + "/state"
                if self.states == 5:
                    session.send(SUBACK, message.mid.to_bytes(2, "big") + b"\0\1")
                    self.states += 1
                return 0

        self.rig(Quick(), env=self.preload(HAND_OVER_SLOWLY))
        self.wait_wrong("a packet of type 9 ")
        self.check()

    def test_a_subscription_that_is_answered_without_a_word(self):
        """Without a reason code, which ends the session, or with one too many."""
        class Curt(HostileBroker):
            def suback(self, session, topic_filter):
                session.n = getattr(session, "n", 0) + 1  # the packet identifiers count from 1
                first = session.is_bridge and topic_filter not in session.asked
                session.asked.add(topic_filter)
                codes = {1: b"", 2: b"\1\1"}.get(len(self.bridges()))
                if not first or codes is None:
                    return 1
                body = session.n.to_bytes(2, "big") + (b"\0" if session.version == 5 else b"")
                session.send(SUBACK if codes or session.n % 2 else UNSUBACK, body + codes)
                return None

            def connack(self, session):
                session.asked = set()
                return 0, b""

        for version in (4, 5):
            with self.subTest(version=version):
                self.rig(Curt(), version=version)
                self.wait(self.broker.bridges, "a session")
                first = self.broker.bridges()[0]
                self.wait(lambda: first.left_with is not None, "its end")
                self.wait_wrong("a malformed packet of type 9 ")
                self.broker.try_again(self.flux, lambda: len(self.broker.bridges()) > 1)
                session = self.broker.bridges()[1]
                self.wait(lambda: COMMANDS in session.asked, "what it asks for")
                if version == 4:
                    self.wait(lambda: COMMANDS in session.filters, "what it asks for again")
                session.send(*self.publish(SET.encode(), COMMAND % (b"ask", 1)))
                self.wait(lambda: self.outcomes("ask"), "an outcome")
                self.assertEqual(len(self.broker.bridges()), 2)

    # ---- in one piece ----

    def test_a_command_behind_the_answer_to_a_ping(self):
        """In one TLS record, with nothing after it."""
        class Last(Secure):
            record = None

            def puback(self, session, message):
                if self.record is None:
                    return 0
                session.put(self.record)
                self.record = b""
                return None

            def _handle(self, session, first, body, size):
                if self.record == b"" and first & 0xF0 != PUBLISH:
                    return None
                return super()._handle(session, first, body, size)

        authority = Certificates(self.directory, "site")
        for version in (4, 5):
            with self.subTest(version=version):
                broker = Last(("127.0.0.1", 0), *authority.sign("server", "IP:127.0.0.1"))
                self.rig(broker, version=version, url="mqtts://127.0.0.1:%d" % broker.port,
                         tls={"ca_file": authority.ca})
                self.ready()
                broker.record = raw(PINGRESP) + raw(
                    *self.publish(SET.encode(), COMMAND % (b"ask-1", 1)))
                self.wait(lambda: self.outcomes("ask-1"), "an outcome")
                self.assertEqual(len(broker.bridges()), 1)
                self.flux.stop()

    def test_commands_around_the_answer_to_the_last_word(self):
        """In one TLS record: nobody answers commands any more, so none is acknowledged."""
        class Last(Secure):
            command = None

            def puback(self, session, message):
                if message.topic != "flux/demo/bridge/status" or message.payload != b"offline":
                    return 0
                session.put(2 * raw(*self.command) + raw(PUBACK, message.mid.to_bytes(2, "big")) +
                            raw(*self.command))
                return None

        authority = Certificates(self.directory, "site")
        for version in (4, 5):
            with self.subTest(version=version):
                broker = Last(("127.0.0.1", 0), *authority.sign("server", "IP:127.0.0.1"))
                self.rig(broker, version=version, url="mqtts://127.0.0.1:%d" % broker.port,
                         tls={"ca_file": authority.ca})
                session = self.ready()
                broker.command = self.publish(SET.encode(), COMMAND % (b"last", 1))
                self.flux.stop()
                self.wait(lambda s=session: s.left_with is not None, "the end")
                self.assertEqual((session.left_with, session.acknowledged), ("nothing", []))

    # ---- commands in ways that nobody has asked for ----

    def test_a_command_at_another_qos(self):
        for version in (4, 5):
            with self.subTest(version=version):
                self.rig(version=version)
                session = self.ready()
                self.asked = 2
                session.send(*self.publish(SET.encode(), COMMAND % (b"ask-1", 1), flags=0))
                self.wait(lambda: self.outcomes("ask-1"), "an outcome")
                # Sent again before it is released, released, and released again.
                twice = self.publish(SET.encode(), COMMAND % (b"ask-2", 2), QOS_2, mid=b"\0\7")
                session.send(*twice)
                session.send(twice[0] | DUP, twice[1])
                session.send(PUBREL, b"\0\7")
                session.send(PUBREL, b"\0\7")
                self.wait(lambda: self.outcomes("ask-2"), "an outcome")
                self.check()
                self.assertEqual(len(self.outcomes("ask-2")), 1)
                self.assertEqual(len(self.broker.bridges()), 1)

    def test_topics_that_are_none(self):
        """Nothing is done, and nothing is published under such a name."""
        names = (b"", b"\xff\xfe", b"a\0b", b"+", b"#", b"\xed\xa0\x80", b"x" * 60000)
        for version in (4, 5):
            with self.subTest(version=version):
                self.rig(version=version)
                for name in names:
                    session = self.ready()
                    for topic in (b"flux/demo/" + name + b"/set/target_power",
                                  SET.encode() + name if name else b""):
                        session.send(*self.publish(topic, COMMAND % (b"never", 99)))
                self.check()
                for message in self.broker.messages:
                    self.assertNotRegex(message.topic, "[+#\0]|xxx")

    def test_a_topic_alias(self):
        """Of which we take none: what has no other name is nobody's command. The first may
        be read before the session ends, so there is nothing to do in it."""
        self.rig()
        alias = property_u16(TOPIC_ALIAS, 1)
        self.after(self.publish(SET.encode(), b"{}", properties=2 * alias),
                   self.publish(b"", COMMAND % (b"never", 99), properties=alias))

    def test_properties_that_are_many_or_wrong(self):
        self.rig()
        session = self.ready()
        self.asked = 1
        many = user_property("k" * 20, "v" * 20) * 1000
        session.send(*self.publish(SET.encode(), COMMAND % (b"ask-1", 1), properties=many))
        self.wait(lambda: self.outcomes("ask-1"), "an outcome")
        self.after(self.publish(SET.encode(), b"x" * (1 << 20)))
        for wrong in (b"\x08\xff\xff", b"\x26\0\1", b"\x7f\0\0\0", bytes([RESPONSE_TOPIC]) * 9,
                      2 * (bytes([RESPONSE_TOPIC]) + text("reply/here"))):
            self.after(self.publish(SET.encode(), COMMAND % (b"ask-1", 1), properties=wrong))

    # ---- what CONNACK and DISCONNECT say ----

    def test_what_connack_may_say_besides(self):
        class Talkative(HostileBroker):
            def connack(self, session):
                return 0, (property_u32(SESSION_EXPIRY, 3600) +
                           bytes([ASSIGNED_ID]) + text("another") +
                           bytes([REASON]) + text("because") +
                           property_u16(TOPIC_ALIAS_MAXIMUM, 10) +
                           bytes([RESPONSE_INFORMATION]) + text("answers/here") +
                           bytes([SERVER_REFERENCE]) + text("another.example:1883") +
                           3 * user_property("some", "thing") +
                           property_u8(SUBSCRIPTION_IDS, 0) + property_u8(SHARED, 0))

        self.rig(Talkative(), device_wills=True)
        self.check()
        self.assertEqual(len(self.broker.bridges()), 1)
        self.assertEqual({s.client_id for s in self.broker.sessions},
                         {"fluxbridge-demo", "fluxbridge-demo-Site-BESS-01"})

    def test_another_keepalive(self):
        """None, or a longer one: a broker that takes less from us than it might ends nothing."""
        for keepalive in (0, 3600):
            with self.subTest(keepalive=keepalive):
                class Patient(HostileBroker):
                    def connack(self, session):
                        return 0, property_u16(SERVER_KEEP_ALIVE, keepalive)

                self.rig(Patient(), device_wills=True)
                self.check()
                self.assertEqual([s.keepalive for s in self.broker.sessions], [15, 15])

    def test_a_receive_maximum_of_nothing(self):
        """Said, and tried again: there is nothing that could be sent."""
        class Closed(HostileBroker):
            is_closed = True

            def connack(self, session):
                return 0, property_u16(RECEIVE_MAXIMUM, 0) if self.is_closed else b""

        self.rig(Closed())
        self.flux.wait_log("no session with the broker: it announces a Receive Maximum of 0")
        self.broker.is_closed = False
        self.check()

    def test_every_reason_of_disconnect(self):
        """Those that ask to stay away, or to go elsewhere, are heard until somebody says
        otherwise, by a hangup; the pauses are of unit/test_session."""
        away = (0x89, 0x97, 0x9C, 0x9D, 0x9F)
        for code in (0x00, 0x04, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x87, 0x8B, 0x8D, 0x8E, 0x90, 0x93,
                     0x94, 0x95, 0x96, 0x98, 0x99, 0x9A, 0x9B, 0x9E, 0xA0, 0xA1, 0xA2, 0xFF) + away:
            with self.subTest(code=code):
                self.rig()
                self.ready().end(code)
                self.flux.wait_log("no session with the broker")
                if code in away:
                    self.flux.signal(signal.SIGHUP)
                self.check()
                self.assertIn("no session with the broker", self.flux.log())
                self.flux.stop()


if __name__ == "__main__":
    flux.main()
