"""What systemd is told, by the protocol of sd_notify(3)."""

import os
import resource
import signal
import socket

import flux


class Systemd(flux.Test):
    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(name)
        listener.settimeout(flux.DEADLINE_S)
        self.addCleanup(listener.close)
        return listener

    def rig(self, environment, **mqtt):
        server = self.modbus({2: flux.meter_unit()})
        path = os.path.join(self.directory, "systemd.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(flux.config(self.broker(), [], [flux.meter(server)], mqtt))
        bridge = flux.Program("fluxbridge", [flux.program("fluxbridge"), "run", "-c", path],
                              env=environment)
        self.addCleanup(bridge.stop)
        return bridge

    def test_a_service_from_start_to_stop(self):
        path = os.path.join(self.directory, "notify")
        listener = self.listen(path)
        bridge = self.rig({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        self.assertEqual(listener.recv(100), b"READY=1")
        for _ in range(3):
            self.assertEqual(listener.recv(100), b"WATCHDOG=1")
        bridge.signal(signal.SIGTERM)
        word = listener.recv(100)
        while word == b"WATCHDOG=1":
            word = listener.recv(100)
        # Time for a command under way on its device, whose timeout is 2 s.
        self.assertEqual(word, b"STOPPING=1\nEXTEND_TIMEOUT_USEC=42000000")
        self.assertEqual(bridge.wait_end(), 0)

    def test_secrets_are_in_no_core_dump(self):
        path = os.path.join(self.directory, "notify")
        listener = self.listen(path)
        secret = os.path.join(self.directory, "password")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("secret\n")
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        # Sanitizers have none of their own accord.
        sanitizers = {name: os.environ.get(name, "") + ":disable_coredump=0"
                      for name in ("ASAN_OPTIONS", "TSAN_OPTIONS")}
        ours = "unlimited" if most == resource.RLIM_INFINITY else str(most)
        for mqtt, limit in (({}, ours), ({"username": "u", "password_file": secret}, "0")):
            bridge = self.rig({"NOTIFY_SOCKET": path, **sanitizers}, **mqtt)
            self.assertEqual(listener.recv(100), b"READY=1")
            with open("/proc/%d/limits" % bridge.process.pid, encoding="utf-8") as file:
                self.assertIn(["Max", "core", "file", "size", limit],
                              [line.split()[:5] for line in file])
            bridge.stop()
            self.assertTrue(listener.recv(100).startswith(b"STOPPING=1\n"))

    def test_a_name_without_a_file(self):
        name = "fluxbridge-test-%d" % os.getpid()
        listener = self.listen("\0" + name)
        self.rig({"NOTIFY_SOCKET": "@" + name})
        self.assertEqual(listener.recv(100), b"READY=1")

    def test_the_unit_lets_it_ask_for_the_clock(self):
        """By number and in the order of the file, as systemd adds and takes away."""
        allowed = set()
        path = os.path.join(flux.source_dir(), "packaging", "systemd", "fluxbridge.service.in")
        with open(path, encoding="utf-8") as file:
            lines = [line.strip().partition("=") for line in file if not line.startswith("#")]
        for key, _, words in lines:
            self.assertNotEqual((key, words), ("ProtectClock", "yes"))
            if key == "SystemCallFilter" and "@privileged" in words:  # which has @clock in it
                allowed -= {"adjtimex", "clock_adjtime"}
            elif key == "SystemCallFilter":
                allowed |= set(words.split())
        self.assertLessEqual({"adjtimex", "clock_adjtime"}, allowed)
        self.assertIn(["CapabilityBoundingSet", "=", ""], [list(line) for line in lines])

    def test_a_watchdog_for_somebody_else(self):
        path = os.path.join(self.directory, "notify")
        listener = self.listen(path)
        bridge = self.rig({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
        self.assertEqual(listener.recv(100), b"READY=1")
        bridge.stop()
        self.assertTrue(listener.recv(100).startswith(b"STOPPING=1\n"))


if __name__ == "__main__":
    flux.main()
