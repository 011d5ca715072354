"""Who is at the brokers beside the sites: a historian and a dispatcher, by MQTT 3.1.1.

Both go to another node when theirs is gone. The historian's session is kept by the brokers
(clean session off, QoS 1), so that it misses nothing; the dispatcher's is not.
"""

import json
import re
import threading
import time

import paho.mqtt.client as mqtt

import flux
from nodes import NODES, PORT, front
from sites import DEVICES, rest

SEQ = re.compile(rb'"seq":(\d+)')
RUN = re.compile(rb'"run":"(\w+)"')
TS = re.compile(rb'"ts":(\d+)')


class Seat(threading.Thread):
    """A client that is connected to one of the nodes whenever it can be. One that subscribes
    leaves a node at which it hears nothing: a node that is cut off from the others answers
    pings, and brings no message."""

    SILENCE_S = 40

    def __init__(self, client_id, clean, topics=(), arrived=None):
        super().__init__(daemon=True)
        self.client = flux.mqtt_client(client_id, clean_session=clean, protocol=mqtt.MQTTv311)
        self.heard = time.monotonic()
        self.arrived = arrived
        self.client.on_message = self._on_message
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *more: self.seated.set()
        self.client.max_inflight_messages_set(100)
        self.topics = topics
        self.seated = threading.Event()
        self.leaving = False
        self.start()

    def _on_connect(self, client, userdata, flags, code):
        if code == 0 and self.topics:
            client.subscribe([(topic, 1) for topic in self.topics])
        elif code == 0:
            self.seated.set()

    def _on_message(self, client, userdata, message):
        self.heard = time.monotonic()
        self.arrived(client, userdata, message)

    def _stays(self):
        silent = self.topics and time.monotonic() - self.heard > self.SILENCE_S
        return not self.leaving and not silent

    def run(self):
        turn = 0
        while not self.leaving:
            turn += 1
            try:
                self.client.connect(front(NODES[turn % 3]), PORT, keepalive=5)
                self.heard = time.monotonic()
                while self._stays() and self.client.loop(timeout=0.2) == mqtt.MQTT_ERR_SUCCESS:
                    pass
            except OSError:
                pass
            self.seated.clear()
            rest(0.5)

    def close(self):
        self.leaving = True
        self.join()
        self.client.disconnect()


class Historian:
    """Counts every sample by (site, device, run, seq), and keeps every outcome."""

    def __init__(self):
        self.changed = threading.Condition()
        self.seqs = {}  # of (site, device, run)
        self.live = {}  # of (site, device): when its latest state was taken
        self.seen = {}  # and when its first one that was taken after the mark has arrived
        self.mark_ms = 0
        self.outcomes = {}  # of a command's id: all that came
        self.seat = Seat("historian", False, ("flux/+/+/state", "flux/+/+/backfill",
                                              "flux/+/+/result"), self._arrived)

    def _arrived(self, client, userdata, message):
        _, site, device, leaf = message.topic.split("/")
        with self.changed:
            if leaf == "result":
                outcome = json.loads(message.payload)
                self.outcomes.setdefault(outcome["id"], []).append(outcome)
            else:
                seq, run = (int(SEQ.search(message.payload)[1]), RUN.search(message.payload)[1])
                self.seqs.setdefault((site, device, run), set()).add(seq)
                taken_ms = int(TS.search(message.payload)[1])
                if leaf == "state" and taken_ms >= self.mark_ms:
                    self.seen.setdefault((site, device), time.monotonic())
            self.changed.notify_all()

    def mark(self):
        with self.changed:
            self.mark_ms = int(1000 * time.time())
            self.seen = {}

    def wait_back(self, count, timeout_s):
        """Until as many sites are back: each device has a live sample taken after the mark.
        Returns when that was."""
        def back():
            sites = {}
            for (site, device), at in self.seen.items():
                if device in DEVICES:
                    sites.setdefault(site, []).append(at)
            whole = sorted(max(at) for at in sites.values() if len(at) == len(DEVICES))
            return whole[count - 1] if len(whole) >= count else None
        return flux.wait_on(self.changed, back, timeout_s, "%d sites" % count)

    def missing(self):
        """How many numbers below the last that came did not come, by run of a device."""
        with self.changed:
            return {key: max(seqs) - len(seqs) for key, seqs in self.seqs.items()
                    if len(seqs) != max(seqs)}

    def count(self):
        with self.changed:
            return sum(len(seqs) for seqs in self.seqs.values())


class Dispatcher(threading.Thread):
    """Sends a setpoint to each battery in turn, each of another value, and each again, the
    same, after AGAIN_S and pauses that double until there is an outcome: so a broker may lose
    it, and it may be sent too often, and still it must be carried out at most once."""

    AGAIN_S, TTL_S = 3, 20

    def __init__(self, historian, sites, pause_s):
        super().__init__(daemon=True)
        self.historian, self.sites, self.pause_s = historian, sites, pause_s
        self.seat = Seat("dispatcher", True)
        self.sent = {}  # of an id: (site, value)
        self.open = {}  # of an id without outcome: (topic, payload, when again, the next pause)
        self.leaving = threading.Event()
        self.n_sent = 0
        self.start()

    def run(self):
        number = 0
        while not self.leaving.wait(self.pause_s / self.sites):
            site, value = number % self.sites, 1 + number // self.sites
            number += 1
            self._send(site, value)
            self._send_again()

    def _send(self, site, value):
        id = "s%d-%d" % (site, value)
        payload = json.dumps({"id": id, "value": value, "issued_at": int(1000 * time.time()),
                              "ttl_s": self.TTL_S, "source": "dispatcher"})
        topic = "flux/s%d/Battery/set/target_power" % site
        self.sent[id] = (site, value)
        self.open[id] = (topic, payload, time.monotonic(), self.AGAIN_S)
        self._send_again()

    def _send_again(self):
        now = time.monotonic()
        with self.historian.changed:
            done = [id for id in self.open if id in self.historian.outcomes]
        for id in done:
            del self.open[id]
        if not self.seat.seated.is_set():
            return
        for id, (topic, payload, due, pause) in self.open.items():
            if due <= now:
                self.open[id] = (topic, payload, now + pause, 2 * pause)
                self.seat.client.publish(topic, payload, 1)
                self.n_sent += 1

    def finish(self, timeout_s):
        """No new ones; until each that was sent has an outcome."""
        self.leaving.set()
        self.join()
        end = time.monotonic() + timeout_s
        while self.open:
            if time.monotonic() > end:
                raise flux.Timeout("no outcome: %s" % sorted(self.open)[:10])
            self._send_again()
            rest(0.1)
        self.seat.close()


def judge(sent, outcomes, writes):
    """What is wrong with the commands, in words; and how many came to what end."""
    wrong, ends = [], {}
    written = {}
    for site, value in writes:
        written[site, value] = written.get((site, value), 0) + 1
    for id, (site, value) in sent.items():
        own = {(o["ts"], o["outcome"], o.get("reason")) for o in outcomes.get(id, ())
               if not o.get("duplicate") and o.get("reason") != "duplicate"}
        n_written = written.get((site, value), 0)
        if len(own) != 1:
            wrong.append("%s: %d outcomes: %s" % (id, len(own), outcomes.get(id)))
            continue
        (_, end, reason), = own
        ends[end, reason] = ends.get((end, reason), 0) + 1
        if n_written > 1:
            wrong.append("%s: written %d times" % (id, n_written))
        if n_written == 0 and end == "confirmed" or n_written > 0 and end in ("refused",
                                                                              "superseded"):
            wrong.append("%s: %s, and written %d times" % (id, end, n_written))
    return wrong, ends
