"""No message can stop the flow: brokers that take less than others, or end the session."""

import json
import re
import threading

import flux
from hostile_broker import (CLOSE, MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RECEIVE_MAXIMUM,
                            RESPONSE_TOPIC, RETAIN_AVAILABLE, SERVER_KEEP_ALIVE,
                            WILDCARDS_AVAILABLE, Disconnect, HostileBroker, property_u8,
                            property_u16, property_u32, text)

BATTERY, METER = "flux/demo/Site-BESS-01", "flux/demo/Grid-Meter"
SMALL = 750  # bytes: the health, a battery's sample and its outcome fit, a large meter's do not
LARGE = 450  # bytes: a battery's sample and its outcome are no larger, its info and a meter's are


class Rig(flux.Test):
    def rig(self, broker, mqtt=None, meter="acuvim2-vendor", **more):
        """A battery, a meter and the bridge, at that broker."""
        self.broker = broker
        self.addCleanup(broker.close)
        self.battery = flux.battery_unit()
        words = [word for _ in range(80) for word in flux.float_words(50.0)]
        self.meter = flux.Unit({**flux.registers(0x4000, words), **flux.meter_unit().registers})
        self.server = self.modbus({1: self.battery, 2: self.meter})
        self.flux = self.bridge(flux.config(
            broker, [flux.battery(self.server, poll="100ms")],
            [flux.meter(self.server, type=meter, poll="100ms")] if meter else [],
            mqtt=mqtt, **more))

    def wait_count(self, topic, count, timeout_s=None):
        self.broker.wait(lambda: len(self.broker.on(topic)) >= count, timeout_s,
                         lambda: "%d on %s, there are %d:\n%s" % (
                             count, topic, len(self.broker.on(topic)), self.flux.log()))
        return self.broker.on(topic)

    def flows_on(self, topic=BATTERY + "/state"):
        self.wait_count(topic, len(self.broker.on(topic)) + 10)

    def set_aside(self):
        return self.broker_health()["set_aside"]

    def broker_health(self):
        """The next one."""
        n = len(self.broker.on("flux/demo/bridge/health"))
        return json.loads(self.wait_count("flux/demo/bridge/health", n + 1, 25)[-1].payload)

    def count_log(self, pattern):
        return len(re.findall(pattern, self.flux.log(), re.M))

    def told(self, leaf="state"):
        return {json.loads(m.payload)["seq"] for m in self.broker.on("%s/%s" % (BATTERY, leaf))}

    def ask(self, id):
        """Its outcome, once it is there."""
        self.broker.bridges()[-1].deliver(BATTERY + "/set/target_power",
                                          '{"id":"%s","value":10}' % id)
        self.broker.wait(lambda: any(json.loads(m.payload)["id"] == id
                                     for m in self.broker.on(BATTERY + "/result")), None,
                         lambda: "an outcome of %s:\n%s" % (id, self.flux.log()))


class Limits(Rig):
    # ---- what CONNACK says ----

    def test_our_own_limit_is_announced(self):
        self.rig(HostileBroker(), meter=None)
        self.wait_count(BATTERY + "/status", 1)
        self.wait_count(BATTERY + "/state", 1)
        for session in self.broker.sessions:
            self.assertIn(property_u32(MAXIMUM_PACKET_SIZE, 65536), session.properties)

    def test_a_maximum_packet_size_is_kept(self):
        class Narrow(HostileBroker):
            def connack(self, session):
                return 0, property_u32(MAXIMUM_PACKET_SIZE, SMALL)

        self.rig(Narrow())
        self.flux.wait_log("the broker has limits max_packet_size=%d$" % SMALL)
        self.flux.wait_log("a topic: [0-9]+ bytes are more than its Maximum Packet Size of %d "
                           "topic=%s/state$" % (SMALL, METER))
        self.wait_count(BATTERY + "/state", 20)
        self.assertLessEqual(max(m.size for m in self.broker.messages), SMALL)
        self.assertEqual(len(self.broker.bridges()), 1)
        self.assertEqual(self.count_log("topic=%s/state$" % METER), 1)
        self.assertGreater(self.set_aside(), 0)

    def test_maximum_qos_0(self):
        class Loose(HostileBroker):
            def connack(self, session):
                return 0, property_u8(MAXIMUM_QOS, 0)

        self.rig(Loose(), meter=None)
        self.wait_count(BATTERY + "/state", 20)
        self.wait_count(BATTERY + "/info", 1)
        self.assertEqual({m.qos for m in self.broker.messages}, {0})

    def test_retain_unavailable(self):
        class Forgetful(HostileBroker):
            def connack(self, session):
                return 0, property_u8(RETAIN_AVAILABLE, 0)

        self.rig(Forgetful(), meter=None)
        self.wait_count(BATTERY + "/state", 20)
        self.assertEqual({m.retain for m in self.broker.messages}, {False})

    def test_a_receive_maximum_is_kept_and_the_status_goes_first(self):
        """Two places and slow acknowledgements: samples wait, the status does not."""
        class Slow(HostileBroker):
            def connack(self, session):
                return 0, property_u16(RECEIVE_MAXIMUM, 4)

            def puback(self, session, message):
                if session.is_bridge:
                    threading.Timer(0.3, session.acknowledge, [message]).start()
                    return None
                return 0

        self.rig(Slow(), mqtt={"device_wills": False})
        self.wait_count(METER + "/state", 3)
        status = BATTERY + "/status"
        self.broker.wait(lambda: self.broker.on(status)[-1:] and
                         self.broker.on(status)[-1].payload == b"online")
        self.battery.silent = True
        n = len(self.broker.messages)
        self.flux.wait_log("device offline .*Site-BESS-01")
        self.broker.wait(lambda: self.broker.on(status)[-1].payload == b"offline", 3)
        self.assertGreater(len(self.broker.messages), n)
        self.assertLessEqual(max(s.most_unacknowledged for s in self.broker.bridges()), 4)

    def test_no_wildcards(self):
        class Plain(HostileBroker):
            def connack(self, session):
                return 0, property_u8(WILDCARDS_AVAILABLE, 0)

            def suback(self, session, topic_filter):
                return 0xA2 if "+" in topic_filter or "#" in topic_filter else 1

        self.rig(Plain(), meter=None)
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        bridge = self.broker.bridges()[0]
        self.broker.wait(lambda: {BATTERY + "/set/target_power", BATTERY + "/schedule/set",
                                  "flux/demo/bridge/status"} <= set(bridge.filters))
        # Commands by all means; what others do to our topics is not worth a queue in a cluster.
        self.assertEqual({f for f, qos in bridge.qos.items() if qos == 1},
                         {f for f in bridge.filters if "/set" in f})
        bridge.deliver(BATTERY + "/set/target_power", '{"id":"w","value":10}')
        outcome = self.wait_count(BATTERY + "/result", 1)[0]
        self.assertEqual(json.loads(outcome.payload)["outcome"], "confirmed")

    def test_a_subscription_that_is_refused_for_now(self):
        """As by a cluster of which a node is gone: commands are heard once it takes it."""
        class Limping(HostileBroker):
            asked = 0

            def suback(self, session, topic_filter):
                if topic_filter == "flux/demo/+/set/#":
                    self.asked += 1
                    return 0x80 if self.asked == 1 else 1
                return 1

        for version in (4, 5):
            with self.subTest(version=version):
                broker = Limping()
                self.rig(broker, meter=None, mqtt={"version": version})
                broker.wait(lambda b=broker: b.asked == 2)
                self.flux.wait_log("the broker refuses a topic: .* topic=flux/demo/./set/#")
                self.flux.wait_log("takes the subscription now topic=flux/demo/./set/#")
                broker.bridges()[0].deliver(BATTERY + "/set/target_power", '{"id":"w","value":10}')
                outcome = self.wait_count(BATTERY + "/result", 1)[0]
                self.assertEqual(json.loads(outcome.payload)["outcome"], "confirmed")
                self.assertEqual(len(broker.bridges()), 1)

    def test_a_shorter_keepalive(self):
        class Nervous(HostileBroker):
            def connack(self, session):
                return 0, property_u16(SERVER_KEEP_ALIVE, 1) if session.keepalive > 1 else b""

        self.rig(Nervous(), meter=None, mqtt={"device_wills": False})
        self.flows_on()
        self.assertEqual([s.keepalive for s in self.broker.bridges()], [15, 1])
        self.flux.wait_log("the broker has limits keepalive_s=1$")

    def test_a_lesser_will(self):
        class Strict(HostileBroker):
            def connack(self, session):
                qos, retained = session.will[2:]
                return 0x9B if qos else 0x9A if retained else 0, b""

        self.rig(Strict(), meter=None)
        self.flows_on()
        self.assertEqual([s.will[2:] for s in self.broker.bridges()],
                         [(1, True), (0, True), (0, False)])
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status"))
        self.flux.wait_log("wants less of a session: the broker refuses the login: qoS not")
        self.flux.wait_log("the broker has limits will_qos=0 will_retain=no$")

    # ---- what PUBACK says ----

    def test_a_final_no_is_set_aside(self):
        class Choosy(HostileBroker):
            def puback(self, session, message):
                return 0x99 if message.topic == METER + "/state" else 0

        self.rig(Choosy(), meter="acuvim2")
        self.flux.wait_log("refuses a topic: payload format invalid topic=%s/state" % METER)
        self.flows_on()
        self.assertGreater(self.set_aside(), 0)
        self.assertEqual(len(self.broker.bridges()), 1)

    def test_a_transient_no_is_tried_again(self):
        for reason in (0x97, 0x80, 0x83):
            with self.subTest(reason=reason):
                self.transient(reason)

    def transient(self, reason):
        class Full(HostileBroker):
            refused = {}

            def puback(self, session, message):
                key = message.payload
                self.refused.setdefault(message.topic, key)
                first = self.refused[message.topic] == key and not any(
                    m.payload == key for m in self.messages[:-1])
                return reason if first else 0

        self.rig(Full(), meter=None)
        self.broker.refused = {}
        state, info = BATTERY + "/state", BATTERY + "/info"
        for topic in (state, info):
            first = self.wait_count(topic, 1)[0]
            self.broker.wait(lambda t=topic, f=first: sum(
                m.payload == f.payload for m in self.broker.on(t)) == 2)
        payloads = [m.payload for m in self.broker.on(state)]
        self.assertGreater(payloads.index(payloads[0], 1), 3)  # others went meanwhile
        self.assertEqual(len(self.broker.bridges()), 1)
        self.assertEqual(self.count_log("refuses a topic"), 0)
        self.flux.stop()

    # ---- the session ends on a message ----

    def ends_on_large(self, ending, version):
        class Fragile(HostileBroker):
            def puback(self, session, message):
                return ending if message.size > LARGE and session.is_bridge else 0

        self.rig(Fragile(), mqtt={"version": version})
        self.flux.wait_log("no session with the broker: the broker ends the session on a message "
                           "of [0-9]+ bytes to flux/demo/")
        self.flux.wait_log("refuses a topic: two sessions in a row have ended on it topic=")
        self.flux.wait_log("refuses a topic: [0-9]+ bytes, and one of [0-9]+ bytes has ended "
                           "sessions topic=%s/state" % METER)
        for _ in range(8):  # each size and kind that is too large is found once
            n = len(self.broker.bridges())
            self.flows_on()
            self.flows_on()
            if len(self.broker.bridges()) == n:
                break
        self.assertEqual(len(self.broker.bridges()), n)  # it stays up now
        self.assertLess(n, 14)
        self.assertEqual(self.count_log("client id"), 0)

    def test_a_session_that_ends_on_large_messages_3_1_1(self):
        self.ends_on_large(CLOSE, 4)

    def test_a_session_that_ends_on_large_messages_5(self):
        self.ends_on_large(Disconnect(0x95), 5)

    def test_a_broker_that_takes_nothing_costs_nothing(self):
        """As a node whose cluster is broken: each session ends on the first message, whichever
        it is. Once it is well again it gets all of them."""
        class Ailing(HostileBroker):
            is_well = False

            def puback(self, session, message):
                if not self.is_well:
                    return CLOSE
                if message.topic.startswith(BATTERY + "/"):
                    taken.append(message)
                return 0

        for version in (4, 5):
            with self.subTest(version=version):
                taken, broker = [], Ailing()
                self.rig(broker, meter=None, mqtt={"version": version, "device_wills": False})
                broker.wait(lambda b=broker: len(b.bridges()) >= 4, 60)
                broker.is_well = True
                broker.wait(lambda t=taken: self.seqs(t, "state"), 60)
                first = min(self.seqs(taken, "state"))
                broker.wait(lambda t=taken, n=first:
                            set(range(1, n)) <= self.seqs(t, "state") | self.seqs(t, "backfill"))
                self.assertEqual(self.set_aside(), 0)
                self.assertEqual(self.count_log("refuses a topic"), 0)

    @staticmethod
    def seqs(messages, leaf):
        return {json.loads(m.payload)["seq"] for m in list(messages)
                if m.topic == "%s/%s" % (BATTERY, leaf)}

    def test_a_response_topic_that_ends_sessions(self):
        class Picky(HostileBroker):
            def puback(self, session, message):
                return Disconnect(0x82) if message.topic.startswith("reply/") else 0

        self.rig(Picky(), meter="acuvim2")
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        self.broker.bridges()[0].deliver(
            BATTERY + "/set/target_power", '{"id":"w","value":10}',
            bytes([RESPONSE_TOPIC]) + text("reply/here"))
        self.flux.wait_log("the broker ends the session on a message of [0-9]+ bytes to reply/here")
        self.assertEqual(len(self.broker.on("reply/here")), 2)
        self.flux.wait_log("the broker is back")
        self.flows_on()
        self.flows_on(METER + "/state")  # larger ones, too
        self.assertEqual(json.loads(self.wait_count(BATTERY + "/result", 1)[0].payload)["id"], "w")
        self.assertEqual(len(self.broker.bridges()), 3)
        self.assertEqual(self.set_aside(), 1)
        self.broker.bridges()[-1].deliver(
            BATTERY + "/set/target_power", '{"id":"x","value":10}',
            bytes([RESPONSE_TOPIC]) + text("reply/here"))
        self.broker.wait(lambda: any(json.loads(m.payload)["id"] == "x"
                                     for m in self.broker.on(BATTERY + "/result")))
        self.assertEqual(len(self.broker.on("reply/here")), 2)

    def test_a_session_that_ends_for_no_message_costs_none(self):
        class Leaving(HostileBroker):
            n = 0

            def puback(self, session, message):
                self.n += message.topic.endswith("/state")
                leaves = message.topic.endswith("/state") and self.n in (5, 10)
                return Disconnect(0x8B) if leaves else 0

        self.rig(Leaving(), meter=None)
        self.wait_count("flux/demo/bridge/info", 3)

        def told(*leaves):
            return {json.loads(m.payload)["seq"] for leaf in leaves
                    for m in self.broker.on("%s/%s" % (BATTERY, leaf))}

        last = max(told("state"))
        self.broker.wait(lambda: set(range(1, last + 1)) <= told("state", "backfill"))
        self.assertEqual(self.count_log("refuses a topic"), 0)

    # ---- the end ----

    def test_the_will_speaks_when_the_last_word_is_not_taken(self):
        class Deaf(HostileBroker):
            ends = False  # a device is offline at first, too

            def puback(self, session, message):
                return None if self.ends and message.payload == b"offline" else 0

        self.rig(Deaf(), meter=None)
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        self.broker.ends = True
        self.flux.stop()
        self.broker.wait(lambda: all(s.left_with for s in self.broker.sessions))
        self.assertEqual({s.left_with for s in self.broker.sessions}, {4})

    def test_a_broker_that_takes_the_last_words_slowly_gets_them_all(self):
        """A few at a time, in all longer than one that takes none is waited for."""
        class Slow(HostileBroker):
            def connack(self, session):
                return 0, property_u16(RECEIVE_MAXIMUM, 4)

            def puback(self, session, message):
                if message.payload == b"offline" and "Meter" in message.topic:
                    threading.Timer(0.15, session.acknowledge, [message]).start()
                    return None
                return 0

        self.broker = Slow()
        self.addCleanup(self.broker.close)
        self.server = self.modbus({unit: flux.meter_unit() for unit in range(1, 13)})
        meters = [flux.meter(self.server, "Meter-%d" % unit, address=unit)
                  for unit in range(1, 13)]
        self.flux = self.bridge(flux.config(self.broker, meters=meters,
                                            mqtt={"device_wills": False}))
        topics = ["flux/demo/%s/status" % name for name in
                  ["bridge", *("Meter-%d" % unit for unit in range(1, 13))]]
        self.broker.wait(lambda: all(self.broker.on(topic) and
                                     self.broker.on(topic)[-1].payload == b"online"
                                     for topic in topics))
        self.flux.stop()
        self.broker.wait(lambda: all(s.left_with is not None for s in self.broker.sessions))
        self.assertEqual([topic for topic in topics
                          if self.broker.on(topic)[-1].payload != b"offline"], [])
        self.assertIn(self.broker.sessions[0].left_with, (0, "nothing"))

    def test_a_broker_that_takes_outcomes_slowly_gets_them_all(self):
        """One at a time, in all longer than one that takes none is waited for."""
        class Slow(HostileBroker):
            def connack(self, session):
                return 0, property_u16(RECEIVE_MAXIMUM, 1)

            def puback(self, session, message):
                if message.topic == BATTERY + "/result":
                    threading.Timer(0.15, session.acknowledge, [message]).start()
                    return None
                return 0

        self.rig(Slow(), meter=None)
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        bridge = self.broker.bridges()[-1]
        ids = ["c-%d" % n for n in range(8)]
        for id in ids:
            bridge.deliver(BATTERY + "/set/target_power", '{"id":"%s","value":999}' % id)
        self.broker.wait(lambda: len(bridge.acknowledged) == len(ids))
        self.flux.stop()
        self.broker.wait(lambda: bridge.left_with is not None)
        self.assertEqual([json.loads(m.payload)["id"]
                          for m in self.broker.on(BATTERY + "/result")], ids)

    def test_a_command_at_the_very_end_has_an_outcome(self):
        """The bridge acknowledges it, and has ended its subscription already."""
        class Late(HostileBroker):
            def unsuback(self, session, topic_filter):
                if topic_filter == "flux/demo/+/set/#":
                    session.deliver(BATTERY + "/set/target_power", '{"id":"late","value":10}')

        self.rig(Late(), meter=None)
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        self.flux.stop()
        outcome = json.loads(self.wait_count(BATTERY + "/result", 1)[0].payload)
        self.assertEqual((outcome["id"], outcome["reason"]), ("late", "shutting_down"))

    def test_a_command_that_comes_later_is_not_acknowledged(self):
        """Of a broker with a queue of its own, or one that does not heed UNSUBSCRIBE: nobody
        answers it any more, so whoever sent it is not to think that it was heard."""
        class Later(HostileBroker):
            def puback(self, session, message):
                if message.topic == "flux/demo/bridge/status" and message.payload == b"offline":
                    for n in range(20):
                        session.deliver(BATTERY + "/set/target_power",
                                        '{"id":"later-%d","value":10}' % n)
                return 0

        for version in (5, 4):
            with self.subTest(version=version):
                self.rig(Later(), meter=None, mqtt={"version": version})
                self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                                 self.broker.on(BATTERY + "/status")[-1].payload == b"online")
                bridge = self.broker.bridges()[-1]
                bridge.deliver(BATTERY + "/set/target_power", '{"id":"first","value":10}')
                self.wait_count(BATTERY + "/result", 1)
                self.broker.wait(lambda session=bridge: session.acknowledged)
                self.flux.stop()
                self.broker.wait(lambda session=bridge: session.left_with is not None)
                self.assertEqual(len(bridge.acknowledged), 1)
                self.assertEqual(len(self.broker.on(BATTERY + "/result")), 1)

    def test_no_will_when_it_is(self):
        self.rig(HostileBroker(), meter=None)
        self.broker.wait(lambda: self.broker.on(BATTERY + "/status") and
                         self.broker.on(BATTERY + "/status")[-1].payload == b"online")
        with self.broker.changed:
            for session in self.broker.sessions:
                session.left_with = None
        self.flux.stop()
        for session in self.broker.sessions:
            self.broker.wait(lambda s=session: s.left_with is not None)
            self.assertIn(session.left_with, (0, "nothing"))


# What a PUBACK or SUBACK may say no with, and what only some brokers do.
TRANSIENT = (0x80, 0x83, 0x88, 0x89, 0x91, 0x93, 0x96, 0x97)
FINAL = tuple(code for code in range(0x81, 0xA3) if code not in TRANSIENT) + (0xFF,)
COMMANDS = "flux/demo/+/set/#"


class Codes(Rig):
    """Every reason code of every answer: nothing is lost without a count, nothing stops."""

    def test_every_no_to_a_sample(self):
        """One that may be a yes later comes again until it is; the others are set aside, and
        all that is between them goes."""
        codes = TRANSIENT + FINAL

        class Moody(HostileBroker):
            def puback(self, session, message):
                if message.topic not in (BATTERY + "/state", BATTERY + "/backfill"):
                    return 0
                seq = json.loads(message.payload)["seq"]
                sent.append(seq)
                if seq in refused or len(refused) == len(codes):
                    return 0
                refused[seq] = codes[len(refused)]
                return refused[seq]

        sent, refused = [], {}
        self.rig(Moody(), meter=None, mqtt={"device_wills": False})
        self.broker.wait(lambda: len(refused) == len(codes), 60)
        again = sorted(seq for seq, code in refused.items() if code in TRANSIENT)
        self.broker.wait(lambda: all(sent.count(seq) == 2 for seq in again))
        self.flows_on()
        self.assertEqual(sorted({seq for seq in sent if sent.count(seq) != 1}), again)
        last = max(refused)
        self.broker.wait(lambda: set(range(1, last + 5)) <= set(sent))
        health = self.broker_health()
        self.assertEqual((health["set_aside"], health["drops"]), (len(FINAL), len(FINAL)))
        self.assertEqual(health["drops_by_device"], {"Site-BESS-01": len(FINAL)})
        self.assertEqual(len(self.broker.bridges()), 1)

    def test_every_no_to_an_outcome(self):
        codes = TRANSIENT + FINAL

        class Moody(HostileBroker):
            seen = []

            def puback(self, session, message):
                if message.topic != BATTERY + "/result":
                    return 0
                id = json.loads(message.payload)["id"]
                self.seen.append(id)
                return codes[int(id)] if self.seen.count(id) == 1 else 0

        broker = Moody()
        broker.seen = []
        self.rig(broker, meter=None, mqtt={"device_wills": False})
        self.broker.wait(lambda: broker.bridges() and COMMANDS in broker.bridges()[-1].filters)
        for number in range(len(codes)):
            self.ask(str(number))
        again = {str(n) for n, code in enumerate(codes) if code in TRANSIENT}
        self.broker.wait(lambda: all(broker.seen.count(id) == 2 for id in again))
        self.flows_on()
        self.assertEqual({id for id in broker.seen if broker.seen.count(id) != 1}, again)
        health = self.broker_health()
        self.assertEqual((health["set_aside"], health["drops"]), (len(FINAL), 0))
        self.assertEqual(len(self.broker.bridges()), 1)

    def test_a_quota_costs_nothing(self):
        """Of a broker that takes no samples for a while all are there in the end; outcomes,
        which it takes, do not wait for that."""
        class Full(HostileBroker):
            is_full, n = True, 0

            def puback(self, session, message):
                if message.topic not in (BATTERY + "/state", BATTERY + "/backfill"):
                    return 0
                self.n += 1
                if self.is_full:
                    return 0x97
                taken.add(json.loads(message.payload)["seq"])
                return 0

        taken, broker = set(), Full()
        self.rig(broker, meter=None, mqtt={"device_wills": False})
        self.broker.wait(lambda: broker.n >= 60 and COMMANDS in broker.bridges()[-1].filters, 60)
        self.ask("meanwhile")
        broker.is_full = False
        self.broker.wait(lambda: taken)
        last = max(taken)
        self.broker.wait(lambda: set(range(1, last + 40)) <= taken)
        health = self.broker_health()
        self.assertEqual((health["set_aside"], health["drops"]), (0, 0))

    def test_every_answer_to_a_subscription(self):
        """What is granted at any QoS is heard; what may be later is asked for again; and of
        what is not to be heard it is said so, and all else goes on."""
        class Moody(HostileBroker):
            code = 0

            def suback(self, session, topic_filter):
                asked = session.filters.count(topic_filter)
                return self.code if topic_filter == COMMANDS and not asked else 1

        broker = Moody()
        self.rig(broker, meter=None, mqtt={"device_wills": False})
        for code in (0, 1, 2) + TRANSIENT + FINAL:
            with self.subTest(code=code):
                broker.wait(lambda: broker.bridges() and COMMANDS in broker.bridges()[-1].filters)
                session = broker.bridges()[-1]
                if broker.code in TRANSIENT:
                    broker.wait(lambda s=session: s.filters.count(COMMANDS) == 2)
                if broker.code in TRANSIENT or broker.code < 0x80:
                    self.ask("c-%d" % broker.code)
                else:
                    self.flux.wait_log("refuses a topic: .* topic=flux/demo/./set/#")
                self.wait_count(BATTERY + "/state", len(self.broker.on(BATTERY + "/state")) + 2)
                self.assertEqual(session.filters.count(COMMANDS),
                                 2 if broker.code in TRANSIENT else 1)
                broker.code = code
                session.end()
                self.broker.try_again(self.flux, lambda s=session: broker.bridges()[-1] is not s)
        self.assertEqual(self.set_aside(), 0)

    def test_every_answer_to_a_login(self):
        """Each is said, and tried again."""
        for version, codes in ((4, (1, 2, 3, 4, 5, 6, 0x80, 0xFF)),
                               (5, tuple(range(0x80, 0xA0)) + (1, 0xFF))):
            with self.subTest(version=version):
                class Closed(HostileBroker):
                    code, answered = codes[0], None

                    def connack(self, session):
                        with self.changed:
                            self.answered = self.code
                            self.changed.notify_all()
                        return self.answered, b""

                broker = Closed()
                self.rig(broker, meter=None,
                         mqtt={"device_wills": False, "version": version})
                broker.wait(lambda b=broker: b.bridges())  # there is somebody to hear a hangup
                for code in codes + (0,):
                    broker.code = code
                    self.broker.try_again(self.flux, lambda b=broker, c=code: b.answered == c)
                self.flux.wait_log("the broker refuses the login")
                broker.wait(lambda: self.told())
                self.flows_on()
                last = max(self.told())
                broker.wait(lambda n=last: set(range(1, n)) <= self.told() | self.told("backfill"))
                self.assertEqual(self.set_aside(), 0)
                self.flux.stop()


class Mosquitto(flux.Test):
    """The same with a broker of the world, whose limit is in its configuration."""

    def rig(self, version):
        words = [word for _ in range(80) for word in flux.float_words(50.0)]
        self.server = self.modbus({1: flux.battery_unit(),
                                   2: flux.Unit(flux.registers(0x4000, words))})
        self.mosquitto = self.broker("max_packet_size 700\n")
        self.mqtt = self.client(self.mosquitto)
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server, poll="100ms")],
            [flux.meter(self.server, type="acuvim2-vendor", poll="100ms")],
            mqtt={"version": version}))

    def flows(self, version):
        self.rig(version)
        self.flux.wait_log("refuses a topic: .* topic=flux/demo/Grid-Meter/state")
        for _ in range(8):
            since, mark = self.mqtt.mark(), self.flux.mark()
            self.mqtt.wait_count("Site-BESS-01/state", 30, since=since)
            said = "\n".join(self.flux.lines[mark:])
            if "no session" not in said:
                break
        self.assertNotIn("no session", said)
        self.assertEqual(self.mqtt.ask(10.0, "c-1")["outcome"], "confirmed")
        self.assertNotIn("client id", self.flux.log())

    def test_version_5(self):
        self.flows(5)

    def test_version_3_1_1(self):
        self.flows(4)


if __name__ == "__main__":
    flux.main()
