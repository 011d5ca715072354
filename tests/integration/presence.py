"""The devices' own sessions, which carry their Wills."""

import re
import ssl
import threading

import flux
from hostile_broker import CLOSE, SERVER_KEEP_ALIVE, HostileBroker, property_u16
from mqtt_faults import Certificates

BATTERY, METER = "Site-BESS-01", "Grid-Meter"
STATUS = BATTERY + "/status"

# Reason codes of MQTT 5.
TAKEN_OVER, NOT_AUTHORIZED = 0x8E, 0x87


class Presence(flux.Test):
    """Before a broker that is as it should be to the bridge's own session, and does what
    the test says to those of the devices."""

    def rig(self, broker, mqtt=None, meter=False):
        self.broker = broker
        self.addCleanup(broker.close)
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.flux = self.bridge(flux.config(
            broker, [flux.battery(self.server)], [flux.meter(self.server)] if meter else [],
            mqtt=mqtt))

    def wait_session(self, number, device=BATTERY, timeout_s=None):
        """The n-th session of the device, once it has said CONNECT."""
        self.broker.wait(lambda: len(self.broker.of_device(device)) >= number, timeout_s,
                         lambda: "session %d of %s:\n%s" % (number, device, self.flux.log()))
        return self.broker.of_device(device)[number - 1]

    def wait_status(self, text, session):
        self.broker.wait(lambda: any(
            m.payload.decode() == text and m.session is session
            for m in self.broker.messages if m.topic == "flux/demo/" + STATUS))

    def count_log(self, pattern):
        return len(re.findall(pattern, self.flux.log(), re.M))

    # ---- what it asks for ----

    def check_connect(self, version):
        self.rig(HostileBroker(), mqtt={"version": version})
        session = self.wait_session(1)
        self.assertEqual(session.version, version)
        self.assertEqual(session.keepalive, 15)
        self.assertEqual(session.will, ("flux/demo/" + STATUS, b"offline", 1, True))
        self.wait_status("online", session)
        message = [m for m in self.broker.messages if m.session is session][-1]
        self.assertEqual((message.qos, message.retain), (1, True))

    def test_version_5(self):
        self.check_connect(5)

    def test_version_3_1_1(self):
        self.check_connect(4)

    def test_a_keepalive_that_the_library_does_not_take(self):
        self.rig(HostileBroker(), mqtt={"keepalive": "1s"})
        self.assertEqual(self.wait_session(1).keepalive, 5)
        self.broker.wait(lambda: self.broker.bridges()[0].keepalive == 1)

    def test_it_pings_as_often_as_the_broker_wants(self):
        class Nervous(HostileBroker):
            def connack(self, session):
                return 0, b"" if session.is_bridge else property_u16(SERVER_KEEP_ALIVE, 1)

        self.rig(Nervous())
        session = self.wait_session(1)
        self.broker.wait(lambda: session.pings >= 3)
        self.assertEqual(len(self.broker.of_device(BATTERY)), 1)

    # ---- how it ends, and comes again ----

    def test_a_ping_without_an_answer_ends_it(self):
        class Frozen(HostileBroker):
            frozen = True

            def connack(self, session):
                return 0, b"" if session.is_bridge else property_u16(SERVER_KEEP_ALIVE, 1)

            def pingresp(self, session):
                return not self.frozen

        self.rig(Frozen())
        session = self.wait_session(1)
        self.broker.wait(lambda: session.left_with)
        self.assertGreater(session.pings, 0)
        self.broker.frozen = False
        self.wait_status("online", self.wait_session(2))

    def test_connect_without_an_answer_is_tried_again(self):
        class Silent(HostileBroker):
            silent = True

            def connack(self, session):
                return None if self.silent and not session.is_bridge else (0, b"")

        self.rig(Silent())
        self.wait_session(1)
        self.flux.wait_log("no MQTT session for some devices: no answer within 10 s down=1 of=1$",
                           30)
        self.broker.silent = False
        self.flux.wait_log("every device has its MQTT session again count=1$", 60)
        self.assertEqual(self.count_log("no MQTT session for"), 1)

    def test_a_refusal_is_named(self):
        class Refusing(HostileBroker):
            refusing = True

            def connack(self, session):
                return (NOT_AUTHORIZED if self.refusing and not session.is_bridge else 0), b""

        self.rig(Refusing())
        self.flux.wait_log("no MQTT session for some devices: the broker refuses the login: "
                           "not authorized down=1 of=1$")
        self.broker.refusing = False
        self.flux.wait_log("every device has its MQTT session again count=1$", 60)
        self.assertEqual(self.count_log("no MQTT session for"), 1)

    def test_who_takes_it_over_is_named(self):
        self.rig(HostileBroker(), meter=True)
        session, other = self.wait_session(1), self.wait_session(1, METER)
        self.wait_status("online", session)
        session.end(TAKEN_OVER)
        self.flux.wait_log("no MQTT session for some devices: another client uses the client id "
                           r"fluxbridge-demo-%s \(we are at 127.0.0.1\) down=\d of=2$" % BATTERY)
        again = self.wait_session(2)
        self.wait_status("online", again)
        self.assertIsNone(other.left_with)

    def test_a_status_that_ends_sessions_holds_up_nothing(self):
        class Picky(HostileBroker):
            picky = True

            def puback(self, session, message):
                return CLOSE if self.picky and message.topic == "flux/demo/" + STATUS else 0

        self.rig(Picky())
        self.wait_session(3, timeout_s=60)
        n = len(self.broker.on("flux/demo/%s/state" % BATTERY))
        self.broker.wait(lambda: len(self.broker.on("flux/demo/%s/state" % BATTERY)) > n + 5)
        # Taken by the next session, or by one that is up and whose status waits for its second.
        self.broker.picky = False
        n = len(self.broker.on("flux/demo/" + STATUS))
        self.broker.wait(lambda: len(self.broker.on("flux/demo/" + STATUS)) > n, 60)
        self.assertEqual(len(self.broker.bridges()), 1)

    def test_a_status_that_is_not_acknowledged_ends_it(self):
        class Deaf(HostileBroker):
            def puback(self, session, message):
                deaf = message.topic == "flux/demo/" + STATUS and session.version == 5 and \
                    session is self.of_device(BATTERY)[0]
                return None if deaf else 0

        self.rig(Deaf())
        session = self.wait_session(1)
        self.broker.wait(lambda: session.left_with, 60)
        self.assertEqual(session.left_with, 4)  # with its Will
        self.wait_status("online", self.wait_session(2, timeout_s=60))

    # ---- whom it believes ----

    def check_impostor(self, authority, certificate):
        """The broker is itself to the first that comes, the bridge, and somebody else to
        all others."""
        refused = threading.Event()
        contexts = []
        for files in (authority.sign("server", "IP:127.0.0.1"), certificate):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*files)
            contexts.append(context)

        class Impostor(HostileBroker):
            def greet(self, connection):
                try:
                    return contexts[min(len(self.sessions), 1)].wrap_socket(connection,
                                                                            server_side=True)
                except ssl.SSLError as error:
                    if "ALERT" in str(error).upper():
                        refused.set()
                    connection.close()
                    return None

        broker = Impostor()
        self.rig(broker, mqtt={"url": "mqtts://127.0.0.1:%d" % broker.port,
                               "tls": {"ca_file": authority.ca}})
        self.flux.wait_log("no MQTT session for some devices: TLS handshake failed down=1 of=1$")
        self.assertTrue(refused.wait(flux.patient(60)))
        self.assertEqual(broker.of_device(BATTERY), [])

    def test_a_certificate_of_another_authority(self):
        stranger = Certificates(self.directory, "stranger")
        self.check_impostor(Certificates(self.directory, "site"),
                            stranger.sign("impostor", "IP:127.0.0.1"))

    def test_a_certificate_for_another_host(self):
        authority = Certificates(self.directory, "site")
        self.check_impostor(authority, authority.sign("impostor", "IP:127.0.0.2"))


if __name__ == "__main__":
    flux.main()
