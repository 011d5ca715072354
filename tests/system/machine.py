"""A Debian in qemu with systemd as its first process, and no network but its own loopback."""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

import flux  # noqa: E402

TRACE = "FLUXBRIDGE_TRACE" in os.environ  # everything that is said
BOOT_S = 240  # the most that a boot may take, on a machine that is busy


class Stream:
    """What a command inside says, line by line, and the code it ended with."""

    def __init__(self, machine, number, command):
        self.machine, self.number, self.command = machine, number, command
        self.changed = threading.Condition()
        self.lines = []
        self.code = None

    def take(self, line=None, code=None):
        if TRACE:
            print("%.1f %d %s" % (time.monotonic(), self.number, code if line is None else line),
                  file=sys.stderr, flush=True)
        with self.changed:
            if line is not None:
                self.lines.append(line)
            self.code = code
            self.changed.notify_all()

    def text(self):
        return "\n".join(self.lines)

    def mark(self):
        with self.changed:
            return len(self.lines)

    def wait(self, pattern, since=0, timeout_s=None):
        """The first line that `pattern` is found in, from line number `since` on."""
        return self.wait_for(lambda line: re.search(pattern, line) and line, pattern, since, timeout_s)

    def wait_for(self, look, what, since=0, timeout_s=None):
        """The first that `look` makes of a line and that is true."""

        def found():
            for line in self.lines[since:]:
                if result := look(line):
                    return result
            if self.code is not None:
                raise flux.Timeout("%s ended with %d without %s:\n%s"
                                   % (self.command, self.code, what, self.text()))
            return None

        return flux.wait_on(self.changed, found, timeout_s,
                            lambda: "%s from %s:\n%s" % (what, self.command, self.text()))

    def wait_end(self, timeout_s=None):
        return flux.wait_on(self.changed, lambda: self.code is not None and [self.code], timeout_s,
                            lambda: "the end of %s:\n%s" % (self.command, self.text()))[0]

    def end(self):
        self.machine.say(id=self.number, end=True)


class Topics(Stream):
    """mosquitto_sub on all of the site."""

    def wait_message(self, topic, predicate=lambda payload: True, since=0, timeout_s=None):
        """The payload of the first message on a topic below the site's that it holds for."""

        def look(line):
            message = json.loads(line) if line.startswith("{") else {"topic": ""}
            return (message["topic"].endswith("/" + topic) and predicate(message["payload"])
                    and (message["payload"] or True))

        return self.wait_for(look, "a message on " + topic, since, timeout_s)

    def wait_json(self, topic, predicate=lambda m: True, since=0, timeout_s=None):
        return json.loads(self.wait_message(
            topic, lambda payload: payload and predicate(json.loads(payload)), since, timeout_s))

    def all(self, topic):
        messages = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [json.loads(m["payload"]) for m in messages if m["topic"].endswith("/" + topic)]


class Machine:
    """One disk, which stays when the power is cut: start() boots it again."""

    def __init__(self, image, directory):
        self.image, self.directory = image, directory
        self.disk = os.path.join(directory, "disk")
        self.console = os.path.join(directory, "console")
        self.qemu = None
        subprocess.run(["cp", "--sparse=always", os.path.join(image, "root.ext4"), self.disk],
                       check=True)

    def start(self, files=()):
        """Boots; `files` are on its second disk, a tar archive. Returns when it can be asked."""
        archive = os.path.join(self.directory, "files.tar")
        with tarfile.open(archive, "w") as tar:
            for name, path in dict(files).items():
                tar.add(path, name)
        self.streams, self.n_streams = {}, 0
        self.sent = threading.Lock()
        self.boot = self.streams[0] = Stream(self, 0, "the machine")
        self.qemu = subprocess.Popen([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-accel",
            os.environ["FLUXBRIDGE_SYSTEM_ACCEL"], "-cpu", "max", "-m", "768", "-smp", "2",
            "-display", "none", "-nic", "none",
            "-kernel", os.path.join(self.image, "vmlinuz"),
            "-initrd", os.path.join(self.image, "initrd"),
            "-append", "root=/dev/vda rw console=ttyS0 panic=-1 quiet mitigations=off no_timer_check "
            "systemd.default_timeout_start_sec=900",
            # What the guest has written to its disk outlives qemu in the host's memory, and
            # what it still had in its own does not.
            "-drive", "file=%s,format=raw,if=virtio,cache=unsafe" % self.disk,
            "-drive", "file=%s,format=raw,if=virtio,readonly=on" % archive,
            "-serial", "file:" + self.console, "-chardev", "stdio,id=host,signal=off", "-serial",
            "chardev:host"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace",
            preexec_fn=flux._die_with_parent)
        threading.Thread(target=self.listen, args=(self.qemu, self.streams), daemon=True).start()
        self.wait_boot(0)

    def listen(self, qemu, streams):
        with qemu.stdout:
            for line in qemu.stdout:
                said = json.loads(line)
                streams[said.pop("id")].take(**said)
        streams[0].take(code=qemu.wait())

    def wait_boot(self, since):
        try:
            self.boot.wait("", since, BOOT_S)
        except flux.Timeout as why:
            with open(self.console, errors="replace") as console:
                raise flux.Timeout("%s\n%s" % (why, console.read()[-4000:])) from None

    def reboot(self):
        since = self.boot.mark()
        self.follow("systemctl start --no-block reboot.target")
        self.wait_boot(since)

    def cut_power(self):
        """What the guest has not flushed to its disk is lost."""
        self.qemu.kill()
        self.qemu.wait()
        self.qemu.stdin.close()

    close = cut_power

    def say(self, **what):
        if TRACE:
            print("%.1f > %s" % (time.monotonic(), what), file=sys.stderr, flush=True)
        with self.sent:
            self.qemu.stdin.write(json.dumps(what) + "\n")
            self.qemu.stdin.flush()

    def new_stream(self, kind, command):
        self.n_streams += 1
        stream = self.streams[self.n_streams] = kind(self, self.n_streams, command)
        return stream

    def follow(self, command, kind=Stream):
        stream = self.new_stream(kind, command)
        self.say(id=stream.number, run=command)
        return stream

    def end_all(self):
        """What is followed, and is no more of interest."""
        for number, stream in list(self.streams.items()):
            if number and stream.code is None:
                stream.end()

    def ends(self, command, timeout_s=120):
        """(exit code, what it said) of a command that ends."""
        stream = self.follow(command)
        return stream.wait_end(timeout_s), stream.text()

    def run(self, command, timeout_s=120):
        """What it said, when its code is 0."""
        code, text = self.ends(command, timeout_s)
        if code != 0:
            raise AssertionError("%s: exit code %d\n%s\n%s" % (
                command, code, text, self.ends("journalctl -b -n 60 --no-pager")[1]))
        return text

    def write(self, path, text):
        self.run("printf %%s %s >%s" % (shlex.quote(text), shlex.quote(path)))
