"""Which way the bridge goes to its broker: each address of the name, and with which files."""

import os
import shutil
import signal
import ssl

import flux
from hostile_broker import CLOSE, Disconnect, HostileBroker
from mqtt_faults import Certificates

SOURCE = r"""
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* broker.test has three addresses, of which the last one is right; or others. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    char others[64] = "::1 127.0.0.2 127.0.0.1", *rest = others;
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    if (!name || strcmp(name, "broker.test") != 0)
        return real(name, service, hints, result);
    struct addrinfo **end = result;
    *result = NULL;
    if (getenv("BROKER_ADDRESSES") != NULL)
        strncpy(others, getenv("BROKER_ADDRESSES"), sizeof others - 1);
    for (const char *address; (address = strsep(&rest, " ")) != NULL;) {
        if (real(address, service, hints, end) != 0)
            continue;
        while (*end)
            end = &(*end)->ai_next;
    }
    return *result ? 0 : EAI_NONAME;
}
"""


class Secure(HostileBroker):
    """Speaks TLS with this certificate, and notes who does not like it, and how."""

    def __init__(self, address, certificate, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.refused = []
        super().__init__(address)

    def greet(self, connection):
        peer = connection.getpeername()
        try:
            return self.context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError) as error:
            connection.close()
            with self.changed:
                self.refused.append((peer, str(error)))
                self.changed.notify_all()
            return None


class Addresses(flux.Test):
    def rig(self, url, settings="", tls=None, name="broker.test", addresses=None, **more):
        self.server = self.modbus({1: flux.battery_unit()})
        self.mosquitto = self.broker("user root\n" + settings)
        mqtt = {"url": "%s://%s:%d" % (url, name, self.mosquitto.port)}
        if tls:
            mqtt["tls"] = tls
        self.text = flux.config(self.mosquitto, [flux.battery(self.server)], mqtt=mqtt, **more)
        self.env = self.preload(SOURCE)
        if addresses:
            self.env["BROKER_ADDRESSES"] = addresses

    def rig_tls(self, addresses, **more):
        """The broker is as it should be, and so is what this returns for another address."""
        self.authority = Certificates(self.directory, "site")
        files = self.authority.sign("server", "DNS:broker.test")
        self.rig("mqtts", "cafile %s\ncertfile %s\nkeyfile %s\n" % (self.authority.ca, *files),
                 {"ca_file": self.authority.ca}, addresses=addresses, **more)
        return files

    def secure(self, host, files):
        broker = Secure((host, self.mosquitto.port), *files)
        self.addCleanup(broker.close)
        return broker

    def start(self):
        self.flux = self.bridge(self.text, self.env)

    def wait_online(self, address="127.0.0.1", more=()):
        """All sessions, as the broker's log has it."""
        for session in ("fluxbridge-demo ", "fluxbridge-demo-Site-BESS-01 ", *more):
            # The pauses between attempts grow to a minute.
            self.mosquitto.program.wait_log("New client connected from .* as " + session, 100)
        self.flux.wait_log(
            "(connected to the broker|the broker is back) .* address=%s$" % address)

    def test_each_in_turn(self):
        self.rig("mqtt")
        self.start()
        self.wait_online()
        self.assertNotIn("no session", self.flux.log())

    def test_the_broker_says_to_use_another(self):
        """The next address is tried at once, and is said to be the one."""

        class Elsewhere(HostileBroker):
            def connack(self, session):
                return 0x9C, b""  # use another server

        self.rig("mqtt")
        other = Elsewhere(("127.0.0.2", self.mosquitto.port))
        self.addCleanup(other.close)
        self.start()
        self.wait_online()
        self.assertEqual(len(other.sessions), 1)
        self.assertNotIn("no session", self.flux.log())

    def test_none_of_them(self):
        self.rig("mqtt")
        self.mosquitto.stop()
        self.start()
        self.flux.wait_log("no session with the broker: cannot connect: Connection refused "
                           "url=mqtt://broker.test:[0-9]+ address=127.0.0.1$")
        self.assertEqual(self.flux.log().count("no session"), 1)
        self.mosquitto.start()
        self.wait_online()

    def test_each_in_turn_with_tls(self):
        """The certificate is still compared with the name."""
        self.rig_tls(None)
        self.start()
        self.wait_online()

    def test_an_impostor_among_them(self):
        """It gets no CONNECT, with whatever password is in there; the next one does, of all
        sessions."""
        self.rig_tls("::1 127.0.0.2 127.0.0.1", sparkplug={"enabled": True})
        stranger = Certificates(self.directory, "stranger")
        impostor = self.secure("127.0.0.2", stranger.sign("impostor", "DNS:broker.test"))
        self.start()
        self.wait_online(more=["fluxbridge-demo-sparkplug "])
        self.assertNotIn("no session", self.flux.log())
        self.assertEqual(len(impostor.refused), 1, (impostor.refused, self.flux.log()))
        self.assertIn("alert", impostor.refused[0][1].lower())
        self.assertEqual(impostor.sessions, [])

    def test_only_an_impostor(self):
        self.rig_tls("127.0.0.2")
        stranger = Certificates(self.directory, "stranger")
        impostor = self.secure("127.0.0.2", stranger.sign("impostor", "DNS:broker.test"))
        self.start()
        self.flux.wait_log("no session with the broker: certificate verify failed: .* "
                           "url=mqtts://broker.test:[0-9]+ address=127.0.0.2$")
        self.assertEqual(impostor.sessions, [])

    def check_is_left(self, answer):
        """One that lets everybody in and takes nothing, as a node that is cut off from its
        cluster: the next address has its turn, though that one answers first each time."""

        class CutOff(HostileBroker):
            def puback(self, session, message):
                return answer

        self.rig("mqtt", addresses="127.0.0.2 127.0.0.1")
        other = CutOff(("127.0.0.2", self.mosquitto.port))
        self.addCleanup(other.close)
        self.start()
        self.flux.wait_log("no session with the broker: .* address=127.0.0.2$")
        self.wait_online()

    def test_one_that_hangs_up_on_everything(self):
        self.check_is_left(CLOSE)

    def test_one_that_says_why(self):
        self.check_is_left(Disconnect(0x98))  # administrative action

    def test_an_ipv6_one_with_tls(self):
        """Behind an IPv4 one where nobody listens."""
        self.rig_tls("127.0.0.2 ::1")
        self.mosquitto.stop()
        with open(self.mosquitto.config) as file:
            text = file.read().replace("%d 127.0.0.1" % self.mosquitto.port,
                                       "%d ::1" % self.mosquitto.port)
        with open(self.mosquitto.config, "w") as file:
            file.write(text)
        self.mosquitto.start()
        self.start()
        self.wait_online("::1")

    def check_leaves(self, first):
        """The one that they were at goes away: all sessions are at the next."""
        self.start()
        first.wait(lambda: first.of_device("Site-BESS-01") and any(
            s.client_id == "fluxbridge-demo-sparkplug" for s in first.sessions))
        first.close()
        self.wait_online(more=["fluxbridge-demo-sparkplug "])

    def test_the_one_in_use_goes_away(self):
        self.rig("mqtt", addresses="127.0.0.2 127.0.0.1", sparkplug={"enabled": True})
        self.check_leaves(HostileBroker(("127.0.0.2", self.mosquitto.port)))

    def test_the_one_in_use_goes_away_with_tls(self):
        files = self.rig_tls("127.0.0.2 127.0.0.1", sparkplug={"enabled": True})
        self.check_leaves(Secure(("127.0.0.2", self.mosquitto.port), *files))

    def test_another_name_with_tls(self):
        authority = Certificates(self.directory, "site")
        certificate, key = authority.sign("server", "DNS:elsewhere.test")
        self.rig("mqtts", "cafile %s\ncertfile %s\nkeyfile %s\n" % (authority.ca, certificate, key),
                 {"ca_file": authority.ca})
        self.start()
        self.flux.wait_log("no session with the broker: certificate verify failed: "
                           "hostname mismatch url=.* address=127.0.0.1")

    def test_a_name_without_an_address(self):
        self.rig("mqtt", name="nowhere.invalid")
        self.start()
        self.flux.wait_log("no session with the broker: cannot resolve the host name: ")


class Files(flux.Test):
    def rig(self, **mqtt):
        self.server = self.modbus({1: flux.battery_unit()})
        self.text = self.site(**mqtt)

    def site(self, **mqtt):
        return flux.config(self.mosquitto, [flux.battery(self.server)], mqtt={
            "url": "mqtt://127.0.0.1:%d" % self.mosquitto.port, **mqtt})

    def wait_for_file(self, path, words, bring):
        """It is missing, which is said, and the bridge goes on; then it comes."""
        self.flux = self.bridge(self.text)
        self.flux.wait_log("warning: .*: it is waited for")
        self.flux.wait_log("no session with the broker: %s: No such file or directory file=%s url="
                           % (words, path))
        unit = self.server.units[1]
        self.server.wait(lambda n=unit.requests: unit.requests >= n + 5)
        bring()
        self.flux.wait_log("the broker is back")

    def test_a_password_file_that_comes_late(self):
        self.mosquitto = self.broker()
        path = os.path.join(self.directory, "password")
        self.rig(username="flux", password_file=path)
        code, out, _ = self.run_tool("check", "-c", self.write(self.text))
        self.assertEqual(code, 1)  # the configuration is right
        self.assertIn("password_file: %s: No such file or directory" % path, out)

        def bring():
            with open(path, "w") as file:
                file.write("secret\n")

        self.wait_for_file(path, "password_file", bring)

    def write(self, text):
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_an_authority_that_comes_late(self):
        authority = Certificates(self.directory, "site")
        certificate, key = authority.sign("server", "IP:127.0.0.1")
        self.mosquitto = self.broker("user root\ncafile %s\ncertfile %s\nkeyfile %s\n"
                                     % (authority.ca, certificate, key))
        path = os.path.join(self.directory, "late.pem")
        self.rig(url="mqtts://127.0.0.1:%d" % self.mosquitto.port, tls={"ca_file": path})
        self.wait_for_file(path, "ca_file", lambda: shutil.copy(authority.ca, path))

    def test_an_authority_that_is_a_pipe(self):
        """Nobody waits for whoever writes into it."""
        authority = Certificates(self.directory, "site")
        certificate, key = authority.sign("server", "IP:127.0.0.1")
        self.mosquitto = self.broker("user root\ncafile %s\ncertfile %s\nkeyfile %s\n"
                                     % (authority.ca, certificate, key))
        path = os.path.join(self.directory, "pipe.pem")
        os.mkfifo(path)
        self.rig(url="mqtts://127.0.0.1:%d" % self.mosquitto.port, tls={"ca_file": path})
        code, out, _ = self.run_tool("check", "-c", self.write(self.text))
        self.assertEqual(code, 1)
        self.assertIn("ca_file: %s is no regular file" % path, out)
        self.flux = self.bridge(self.text)
        self.flux.wait_log("no session with the broker: ca_file: it is no regular file file=%s url="
                           % path)
        shutil.copy(authority.ca, path + ".new")
        os.rename(path + ".new", path)
        self.flux.wait_log("the broker is back")

    def test_a_reload_to_the_key_of_another_certificate(self):
        """A session that works is not ended for one that could not begin."""
        authority = Certificates(self.directory, "site")
        certificate, key = authority.sign("server", "IP:127.0.0.1")
        other, _ = authority.sign("other", "DNS:bridge")
        self.mosquitto = self.broker("user root\ncafile %s\ncertfile %s\nkeyfile %s\n"
                                     % (authority.ca, certificate, key))
        where = {"url": "mqtts://127.0.0.1:%d" % self.mosquitto.port}
        self.rig(**where, tls={"ca_file": authority.ca})
        self.flux = self.bridge(self.text)
        self.flux.wait_log("connected to the broker")
        flux.write_whole(self.flux.config, self.site(**where, tls={
            "ca_file": authority.ca, "cert_file": other, "key_file": key}))
        self.flux.signal(signal.SIGHUP)
        self.flux.wait_log("the configuration is not taken over: key_file: key values mismatch$")
        self.assertNotIn("no session", self.flux.log())


if __name__ == "__main__":
    flux.main()
