"""What the bridge does when the broker is gone, refuses, or is not who it should be."""

import datetime
import os
import re
import selectors
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import types

import paho.mqtt.client as mqtt

import flux
from preloaded import REAL

DEVICE = "Site-BESS-01"


# Notes in the file $WIPED each password that a library is given, and that it was wiped.
WIPES = REAL + r"""
#include <MQTTAsync.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mosquitto;
static __thread const char *given;

static void note(const char *what)
{
    FILE *file = fopen(getenv("WIPED"), "a");
    fprintf(file, "%s\n", what);
    fclose(file);
}

int MQTTAsync_connect(MQTTAsync handle, const MQTTAsync_connectOptions *options)
{
    given = options->password;
    note("given");
    return REAL(int, "MQTTAsync_connect", MQTTAsync, const MQTTAsync_connectOptions *)(handle,
                                                                                      options);
}

int mosquitto_username_pw_set(struct mosquitto *handle, const char *user, const char *password)
{
    given = password;
    note("given");
    return REAL(int, "mosquitto_username_pw_set", struct mosquitto *, const char *,
                const char *)(handle, user, password);
}

static void wipe(char *bytes, size_t size)
{
    const char *end = bytes + size;
    if (given >= (const char *)bytes && given < end)
        note("wiped");
    memset(bytes, 0, size);
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

void explicit_bzero(void *bytes, size_t size)
{
    wipe(bytes, size);
}

void __explicit_bzero_chk(void *bytes, size_t size, size_t most)
{
    (void)most;
    wipe(bytes, size);
}
"""


class Relay:
    """A TCP way to the broker that can be cut and can hold the broker's answers back."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.lock = threading.Lock()
        self.pairs = []
        self.held = False
        self.hushed = None
        self.thread = None
        self.place = flux.Place()
        self.host, self.port = self.place.host, self.place.port
        self.restore()

    def restore(self):
        self.held = False
        self.listener = socket.create_server((self.host, self.port))
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def hold(self):
        """From now on nothing comes back from the broker."""
        self.held = True

    def hush(self):
        """From now on the answer to a subscription is kept back, and what comes behind it."""
        self.hushed = {}

    def release(self):
        """Hands on what hush() has kept back."""
        with self.lock:
            for end, data in self.hushed.items():
                end.sendall(data)
            self.hushed = None

    def _hand_on(self, end, data):
        with self.lock:
            if self.hushed is not None and (end in self.hushed or data[0] == 0x90):  # SUBACK
                self.hushed[end] = self.hushed.get(end, b"") + data
            else:
                end.sendall(data)

    def cut(self):
        """Ends all connections; new ones are refused."""
        if self.thread is None:
            return
        self.wake.close()
        self.thread.join()
        self.thread = None

    def _run(self):
        with selectors.DefaultSelector() as selector:
            other = {}
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.woken:
                        for end in [*other, self.listener, self.woken]:
                            end.close()
                        return
                    if key.fileobj is self.listener:
                        near = self.listener.accept()[0]
                        far = socket.create_connection(self.target)
                        other.update({near: far, far: near})
                        for end in (near, far):
                            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                            selector.register(end, selectors.EVENT_READ,
                                              "broker" if end is far else "bridge")
                        continue
                    self._forward(selector, other, key)

    def _forward(self, selector, other, key):
        end = key.fileobj
        if end not in other:
            return
        try:
            data = end.recv(65536)
            if data and not (self.held and key.data == "broker"):
                self._hand_on(other[end], data)
        except OSError:
            data = b""
        if not data:
            for gone in (end, other[end]):
                selector.unregister(gone)
                gone.close()
                del other[gone]


class Certificates:
    """A certificate authority and what it has signed, made with openssl."""

    def __init__(self, directory, name, days=60):
        self.directory, self.name = directory, name
        self.ca = self.path("ca.pem")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-keyout", self.path("ca.key"), "-out", self.ca,
                      "-subj", "/CN=%s CA" % name, "-days", str(days))

    def path(self, file):
        return os.path.join(self.directory, "%s-%s" % (self.name, file))

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def sign(self, subject, alternative, days=60):
        """(certificate, key) for a name; `alternative` like "IP:127.0.0.1"."""
        certificate, key = self.path(subject + ".pem"), self.path(subject + ".key")
        request, extensions = self.path(subject + ".csr"), self.path(subject + ".ext")
        with open(extensions, "w") as file:
            file.write("subjectAltName=%s\n" % alternative)
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", key, "-out", request, "-subj", "/CN=" + subject)
        sign = ("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"),
                "-CAcreateserial", "-out", certificate, "-extfile", extensions)
        try:
            self._openssl(*sign, "-days", str(days))
        except subprocess.CalledProcessError:  # one of the past: OpenSSL 3.5 takes dates alone
            now = datetime.datetime.now(datetime.timezone.utc)
            dates = [(now + datetime.timedelta(days=d)).strftime("%Y%m%d%H%M%SZ")
                     for d in (days - 1, days)]
            self._openssl(*sign, "-not_before", dates[0], "-not_after", dates[1])
        return certificate, key


class MqttFaults(flux.Test):
    def rig(self, broker_settings="", mqtt=None, port=None, poll="200ms"):
        """Broker, battery and bridge; `port`: where the bridge shall look for the broker."""
        self.unit = flux.battery_unit()
        self.server = self.modbus({1: self.unit})
        # Started by root, mosquitto would become a user who cannot read our files.
        self.mosquitto = self.broker("user root\n" + broker_settings)
        where = types.SimpleNamespace(port=port or self.mosquitto.port)
        self.text = flux.config(where, bess=[flux.battery(self.server, poll=poll)], mqtt=mqtt)

    def start(self, env=None):
        self.flux = self.bridge(self.text, env)

    def relay(self):
        """A relay to the rig's broker; the bridge is told to use it."""
        relay = Relay(self.mosquitto.port)
        self.addCleanup(relay.place.close)
        self.addCleanup(relay.cut)
        self.text = self.text.replace(":%d" % self.mosquitto.port, ":%d" % relay.port)
        return relay

    def count_log(self, pattern):
        return len(re.findall(pattern, self.flux.log()))

    def wait_up(self, client):
        client.wait_text("bridge/status", "online")
        client.wait_text(DEVICE + "/status", "online")
        client.wait(DEVICE + "/state")

    # ---- how it ends ----

    def test_wills_fire_when_the_bridge_dies(self):
        self.rig()
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        mark = client.mark()
        self.flux.kill()
        for topic in ("bridge/status", DEVICE + "/status"):
            self.assertTrue(client.wait_text(topic, "offline", since=mark).retain)

    def test_without_device_wills_the_bridge_session_carries_all(self):
        self.rig(mqtt={"device_wills": False})
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        mark = client.mark()
        self.unit.silent = True
        client.wait_text(DEVICE + "/status", "offline", since=mark)
        mark = client.mark()
        self.unit.silent = False
        client.wait_text(DEVICE + "/status", "online", since=mark)
        self.flux.stop()
        client.wait_text(DEVICE + "/status", "offline", since=mark)
        client.wait_text("bridge/status", "offline", since=mark)

    def test_clean_stop_says_offline_itself(self):
        self.rig("log_type all\n")
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        mark = client.mark()  # a device may have been offline until its first sample
        self.flux.stop()
        log = self.mosquitto.program
        for session, node in (("fluxbridge-demo", "bridge"),
                              ("fluxbridge-demo-" + DEVICE, DEVICE)):
            log.wait_log("Received DISCONNECT from %s$" % session)
            client.publish("behind/" + node, "")
            client.wait("behind/" + node)  # and so is everything before it
            self.assertEqual([m.text for m in client.on(node + "/status", mark)], ["offline"])
            late = self.client(self.mosquitto, subscribe=(node + "/status",))
            self.assertTrue(late.wait_text(node + "/status", "offline").retain)
        self.assertEqual(re.findall("Client (.*) disconnected due to|closed its connection",
                                    log.log()), [])

    def test_stop_does_not_wait_for_a_frozen_broker(self):
        self.rig()
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        self.mosquitto.freeze()
        self.flux.stop()

    def test_stop_while_the_broker_is_away(self):
        self.rig()
        relay = self.relay()
        relay.cut()
        self.start()
        self.flux.wait_log("no session with the broker: cannot connect: Connection refused")
        self.flux.stop()

    def test_a_broker_out_of_reach_holds_up_neither_polls_nor_the_end(self):
        """Nothing answers, not even with a no: as where there is no route."""
        with socket.socket() as hole:
            hole.bind(("127.0.0.1", 0))
            hole.listen(0)
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:  # what comes after these is not answered
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())
                self.addCleanup(filler.close)
            self.rig(port=hole.getsockname()[1])
            self.start()
            self.server.wait(lambda: self.unit.requests >= 40)
            self.assertEqual(self.count_log("stopped moving"), 0)
            self.flux.wait_log("no session with the broker: no answer within 10 s", 30)
            self.server.wait(lambda n=self.unit.requests: self.unit.requests >= n + 20)
            self.flux.stop()

    # ---- the broker goes and comes ----

    def test_everything_retained_is_there_again_after_a_broker_restart(self):
        self.rig()
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        self.mosquitto.stop()
        self.flux.wait_log("no session with the broker: ")
        mark = client.mark()
        self.mosquitto.start()  # remembers nothing
        for topic in ("bridge/info", "bridge/health", DEVICE + "/info", DEVICE + "/state"):
            self.assertTrue(client.wait(topic, since=mark).retain, topic)
        for topic in ("bridge/status", DEVICE + "/status"):
            self.assertTrue(client.wait_text(topic, "online", since=mark).retain, topic)
        self.flux.wait_log(r"the broker is back url=\S+ down_s=\d+\.\d attempts=\d+")
        health = client.wait("bridge/health", lambda m: m.json["reconnects"] == 1, since=mark)
        self.assertEqual(health.json["drops"], 0)

    def lose_and_regain(self, settings):
        """The broker stops answering, then the connection is cut, then it is back.
        Every sample must be told, and the old ones oldest first."""
        self.rig(mqtt=settings, poll="100ms")
        relay = self.relay()
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        relay.hold()
        self.server.wait(lambda n=self.unit.requests: self.unit.requests >= n + 20)
        relay.cut()
        self.flux.wait_log("no session with the broker: connection lost")
        self.flux.wait_log("no session with the broker: cannot connect: Connection refused")
        self.server.wait(lambda n=self.unit.requests: self.unit.requests >= n + 60)
        mark = client.mark()
        relay.restore()
        self.flux.wait_log("the broker is back")

        def told():
            return {m.json["seq"]: m for name in ("state", "backfill")
                    for m in client.on("%s/%s" % (DEVICE, name))}

        def is_whole():
            live = client.on(DEVICE + "/state", since=mark)
            return live and set(range(1, live[-1].json["seq"])) <= set(told())

        flux.wait_on(client.changed, is_whole, None, lambda: "all of %s" % sorted(told()))
        messages = [m for m in client.messages[mark:] if m.topic.endswith(("/state", "/backfill"))]
        self.assertTrue(messages[0].topic.endswith("/state"))
        old = [m for m in messages if m.topic.endswith("/backfill")]
        numbers = [m.json["seq"] for m in old]
        self.assertGreater(len(numbers), 10)
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual({(m.qos, m.retain) for m in old}, {(1, False)})
        # Its health comes with the session, and not when the next one is due.
        health = client.wait("bridge/health", since=mark)
        live = [m for m in client.on(DEVICE + "/state", since=mark) if m.time < health.time]
        self.assertLess(len(live), 50)

    def test_nothing_is_lost_with_version_5(self):
        self.lose_and_regain({"version": 5})

    def test_nothing_is_lost_with_version_3_1_1(self):
        self.lose_and_regain({"version": 4})

    def test_at_qos_0_the_flow_goes_on(self):
        for version in (5, 4):
            with self.subTest(version=version):
                self.rig(mqtt={"qos": 0, "version": version}, poll="100ms")
                relay = self.relay()
                client = self.client(self.mosquitto)
                self.start()
                self.wait_up(client)
                relay.cut()
                self.flux.wait_log("Connection refused")
                relay.restore()
                self.flux.wait_log("the broker is back")
                # More than the window holds: nothing was forgotten in it.
                client.wait_count(DEVICE + "/state", 50, since=client.mark())
                self.flux.stop()

    # ---- what is on the wire ----

    def test_state_expires_with_version_5(self):
        self.rig(poll="500ms")
        client = self.client(self.mosquitto)
        self.start()
        state = client.wait(DEVICE + "/state")
        self.assertTrue(state.retain)
        self.assertEqual(state.properties.MessageExpiryInterval, 2)  # 1.5 s rounded up
        self.assertEqual(state.qos, 1)
        self.assertTrue(client.wait("bridge/health").retain)
        self.assertEqual(client.wait("bridge/health").qos, 0)

    def test_state_is_not_retained_with_version_3_1_1(self):
        self.rig(mqtt={"version": 4})
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        self.assertFalse(client.wait(DEVICE + "/state").retain)
        self.assertTrue(client.wait_text("bridge/status", "online").retain)
        self.assertEqual(client.ask(25.0, "c-1")["outcome"], "confirmed")
        mark = client.mark()
        self.flux.kill()
        client.wait_text("bridge/status", "offline", since=mark)
        client.wait_text(DEVICE + "/status", "offline", since=mark)

    # ---- the broker says no ----

    def test_wrong_password_is_named_once_and_can_be_put_right(self):
        directory = self.directory
        users, password = os.path.join(directory, "users"), os.path.join(directory, "password")
        subprocess.run(["mosquitto_passwd", "-b", "-c", users, "flux", "right"], check=True,
                       capture_output=True)
        with open(password, "w") as file:
            file.write("wrong\n")
        os.chmod(password, 0o600)
        for version in (5, 4):
            with self.subTest(version=version):
                self.rig("allow_anonymous false\npassword_file %s\nlog_type all\n" % users,
                         mqtt={"username": "flux", "password_file": password,
                               "version": version})
                with open(password, "w") as file:
                    file.write("wrong\n")
                self.start()
                self.flux.wait_log(
                    "no session with the broker: the broker refuses the login: not authorized")
                # Two sessions, each with a second try.
                flux.wait_on(self.mosquitto.program.changed, lambda: len(
                    re.findall("disconnected, not authori", self.mosquitto.program.log())) >= 4,
                    None, self.mosquitto.program.log)
                with open(password, "w") as file:
                    file.write("right\n")
                self.flux.wait_log(r"the broker is back .*attempts=\d")
                self.assertEqual(self.count_log("refuses the login"), 1)
                self.flux.stop()

    def test_a_password_is_wiped(self):
        """As soon as a library has it; both sessions read the file for themselves."""
        password, wiped = (os.path.join(self.directory, name) for name in ("password", "wiped"))
        flux.write_whole(password, "secret")
        os.chmod(password, 0o600)
        self.rig(mqtt={"username": "flux", "password_file": password})
        client = self.client(self.mosquitto)
        self.start({**self.preload(WIPES), "WIPED": wiped})
        self.wait_up(client)
        with open(wiped) as file:
            words = file.read().split()
        self.assertGreaterEqual(len(words), 4)
        self.assertEqual(words, len(words) // 2 * ["given", "wiped"])

    def test_a_refused_topic_is_named_once_and_holds_up_nothing(self):
        acl = os.path.join(self.directory, "acl")
        with open(acl, "w") as file:
            file.write("topic readwrite #\ntopic deny flux/demo/%s/state\n" % DEVICE)
        self.rig("acl_file %s\n" % acl, poll="100ms")
        client = self.client(self.mosquitto)
        self.start()
        self.flux.wait_log(
            "the broker refuses a topic: not authorized topic=flux/demo/%s/state$" % DEVICE)
        self.server.wait(lambda n=self.unit.requests: self.unit.requests >= n + 50)
        self.assertEqual(client.ask(10.0, "c-1")["outcome"], "confirmed")
        self.assertEqual(self.count_log("refuses a topic"), 1)

    def test_a_device_is_online_when_commands_to_it_are_heard(self):
        self.rig(poll="50ms")
        relay = self.relay()
        relay.hush()
        client = self.client(self.mosquitto)
        self.start()
        client.wait_count(DEVICE + "/state", 5)
        self.assertNotIn("online", [m.text for m in client.on(DEVICE + "/status")])
        relay.release()
        client.wait_text(DEVICE + "/status", "online")

    def test_who_takes_the_session_over_is_named(self):
        """By a broker that says so; mosquitto 2.0.11 does not."""
        self.rig(mqtt={"device_wills": False})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.text = self.text.replace(":%d" % self.mosquitto.port,
                                          ":%d" % listener.getsockname()[1])
            self.start()
            session = listener.accept()[0]
            with session:
                session.recv(4096)
                session.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK
                told = b"by 192.0.2.7:4711"
                session.sendall(b"\xe0%c\x8e%c\x1f\x00%c%s" %  # DISCONNECT: session taken over
                                (5 + len(told), 3 + len(told), len(told), told))
                # Closed before it is read, the socket would fail the bridge's next
                # write, and the library does not read what it still holds.
                self.flux.wait_log("no session with the broker: "
                                   "another client uses the client id fluxbridge-demo "
                                   r"\(we are at 127.0.0.1\), the broker says: "
                                   "by 192.0.2.7:4711 url=")

    def test_a_rival_with_the_same_client_id_is_suspected(self):
        self.rig(mqtt={"device_wills": False})
        client = self.client(self.mosquitto)
        self.start()
        self.wait_up(client)
        # A later mosquitto (2.0.21) says it by itself.
        told = "|another client uses the client id fluxbridge-demo "
        for words in ("connection lost url=" + told,
                      "does another client use the client id fluxbridge-demo[?] url=" + told):
            mark = self.flux.mark()
            rival = flux.mqtt_client("fluxbridge-demo", protocol=mqtt.MQTTv5)
            rival.connect(self.mosquitto.host, self.mosquitto.port)
            rival.loop_start()
            self.flux.wait_log(words, since=mark)
            rival.disconnect()
            rival.loop_stop()
            self.flux.wait_log("the broker is back", since=mark)

    # ---- TLS ----

    def tls_rig(self, certificates, server, client_ca=None, mqtt=None):
        """A broker with a TLS listener for the bridge and a plain one for the test."""
        settings = "cafile %s\ncertfile %s\nkeyfile %s\n" % (client_ca or certificates.ca, *server)
        if client_ca:
            settings += "require_certificate true\n"
        plain = self.place().port
        self.rig(settings + "listener %d 127.0.0.1\n" % plain)
        text = {"url": "mqtts://127.0.0.1:%d" % self.mosquitto.port, **(mqtt or {})}
        self.text = flux.config(self.mosquitto, bess=[flux.battery(self.server)], mqtt=text)
        return types.SimpleNamespace(host="127.0.0.1", port=plain)

    def test_tls_with_client_certificates(self):
        authority = Certificates(self.directory, "site")
        server = authority.sign("server", "IP:127.0.0.1")
        certificate, key = authority.sign("bridge", "DNS:bridge")
        plain = self.tls_rig(authority, server, authority.ca, {
            "tls": {"ca_file": authority.ca, "cert_file": certificate, "key_file": key}})
        client = self.client(plain)
        self.start()
        self.wait_up(client)
        health = client.wait("bridge/health", lambda m: m.json["certificate_days"] is not None)
        self.assertEqual(health.json["certificate_days"], self.days_left(server[0]))

    def test_the_certificate_that_ends_first_counts(self):
        """The broker's is seen, too: no file here has it."""
        authority = Certificates(self.directory, "site")
        server = authority.sign("server", "IP:127.0.0.1", days=3)
        plain = self.tls_rig(authority, server, None, {"tls": {"ca_file": authority.ca}})
        client = self.client(plain)
        self.start()
        self.wait_up(client)
        health = client.wait("bridge/health", lambda m: m.json["certificate_days"] is not None)
        self.assertEqual(health.json["certificate_days"], self.days_left(server[0]))

    def days_left(self, certificate):
        end = subprocess.run(["openssl", "x509", "-enddate", "-noout", "-in", certificate],
                             capture_output=True, text=True, check=True).stdout
        left = ssl.cert_time_to_seconds(end.strip().split("=")[1]) - time.time()
        return int(left // 86400)

    def assert_tls_refused(self, words):
        self.start()
        self.flux.wait_log("no session with the broker: %s url=mqtts://" % words)
        self.mosquitto.program.wait_log("New connection", since=self.mosquitto.program.mark())
        self.assertEqual(self.count_log("no session with the broker"), 1)
        self.flux.stop()

    def test_a_wrong_authority_is_named(self):
        authority = Certificates(self.directory, "site")
        other = Certificates(self.directory, "other")
        self.tls_rig(authority, authority.sign("server", "IP:127.0.0.1"),
                     mqtt={"tls": {"ca_file": other.ca}})
        self.assert_tls_refused("certificate verify failed: self-signed certificate in certificate chain")

    def test_a_wrong_host_name_is_named(self):
        authority = Certificates(self.directory, "site")
        self.tls_rig(authority, authority.sign("server", "DNS:elsewhere.example"),
                     mqtt={"tls": {"ca_file": authority.ca}})
        self.assert_tls_refused("certificate verify failed: IP address mismatch")

    def test_an_expired_certificate_is_named(self):
        authority = Certificates(self.directory, "site")
        self.tls_rig(authority, authority.sign("server", "IP:127.0.0.1", days=-1),
                     mqtt={"tls": {"ca_file": authority.ca}})
        self.assert_tls_refused("certificate verify failed: certificate has expired")

    def test_certificates_that_were_replaced_are_taken_over_on_hangup(self):
        """The old one has run out: it is said, and the new one needs no restart."""
        authority = Certificates(self.directory, "site")
        server = authority.sign("server", "IP:127.0.0.1")
        old, old_key = authority.sign("old", "DNS:bridge", days=-1)
        new, new_key = authority.sign("new", "DNS:bridge")
        used, used_key = (os.path.join(self.directory, "used." + end) for end in ("crt", "key"))
        shutil.copy(old, used)
        shutil.copy(old_key, used_key)
        plain = self.tls_rig(authority, server, authority.ca, {
            "tls": {"ca_file": authority.ca, "cert_file": used, "key_file": used_key}})
        client = self.client(plain)
        self.start()
        self.flux.wait_log("no session with the broker: .*expired")
        shutil.copy(new, used)
        shutil.copy(new_key, used_key)
        self.flux.signal(signal.SIGHUP)
        self.wait_up(client)
        self.flux.wait_log("the broker is back")

    def test_a_missing_client_certificate_is_named(self):
        authority = Certificates(self.directory, "site")
        self.tls_rig(authority, authority.sign("server", "IP:127.0.0.1"), authority.ca,
                     {"tls": {"ca_file": authority.ca}})
        self.assert_tls_refused("TLS handshake failed: .*certificate required")


if __name__ == "__main__":
    flux.main()
