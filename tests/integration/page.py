"""The page and its API over HTTP, as a browser or a program would use them."""

import http.client
import json
import os
import re
import signal
import socket
import threading

import flux

TOKEN = "correct-horse-battery"
STREAMS_MAX = 8
POSTS_MAX = 8


class Stream:
    """GET /api/events, read event by event in a thread of its own."""

    def __init__(self, port):
        self.events = []  # (name, data); a comment has the name ":"
        self.ended = False
        self.changed = threading.Condition()
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.connection.request("GET", "/api/events")
        self.answer = self.connection.getresponse()
        self.socket = self.connection.sock or self.answer.fp.raw._sock
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        name = None
        try:
            for line in self.answer:
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self._add((name, json.loads(line[6:])))
                elif line.startswith(":"):
                    self._add((":", None))
        except (OSError, http.client.HTTPException, ValueError):
            pass
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _add(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, name, predicate=lambda data: True, timeout_s=None):
        def look():
            return next((event for event in self.events
                         if event[0] == name and predicate(event[1])), None)
        return flux.wait_on(self.changed, look, timeout_s,
                            lambda: "event %s among %s" % (name, self.events[-5:]))[1]

    def wait_end(self):
        flux.wait_on(self.changed, lambda: self.ended, None, "the stream's end")

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.answer.close()
        self.connection.close()


class Page(flux.Test):
    def rig(self, control=None, http=None, timeout="2s", **more):
        self.server = self.modbus({1: flux.battery_unit(), 2: flux.meter_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        self.token_file = os.path.join(self.directory, "token")
        with open(self.token_file, "w") as file:
            file.write(TOKEN + "\n")
        settings = {"listen": "127.0.0.1:%d" % self.port, "token_file": self.token_file}
        settings.update(http or {})
        settings = {key: value for key, value in settings.items() if value is not None}
        self.flux = self.bridge(flux.config(
            self.mosquitto, [flux.battery(self.server, control=control, modbus={"timeout": timeout})],
            [flux.meter(self.server)], http=settings, **more))
        self.mqtt.wait_text("Site-BESS-01/status", "online")
        self.mqtt.wait_text("Grid-Meter/status", "online")

    def ask(self, path, method="GET", body=None, headers=None):
        """(status, headers, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=flux.DEADLINE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def state(self):
        status, headers, text = self.ask("/api/state")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        return json.loads(text)

    def device(self, name="Site-BESS-01"):
        return next(d for d in self.state()["devices"] if d["name"] == name)

    def post(self, body, device="Site-BESS-01", point="target_power", token=TOKEN, headers=None):
        """(status, answer); a header given as None is left out."""
        fields = {"Content-Type": "application/json", "Authorization": "Bearer %s" % token}
        fields.update(headers or {})
        fields = {key: value for key, value in fields.items() if value is not None}
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        status, _, text = self.ask("/api/devices/%s/set/%s" % (device, point), "POST", body, fields)
        return status, json.loads(text)

    def stream(self):
        stream = Stream(self.port)
        self.addCleanup(stream.close)
        return stream

    # ---- what is there ----

    def test_the_page_is_self_contained(self):
        self.rig()
        status, headers, text = self.ask("/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertNotIn("unsafe", headers["Content-Security-Policy"])
        self.assertEqual(re.findall(r"""(?:src|href)=["']?(?!#|data:|/(?!/))[^"'> ]+""", text), [])
        self.assertNotIn("@import", text)
        self.assertNotIn("@SCRIPT@", text)
        for path in ("/", "/api/state", "/api/info", "/api/events"):
            self.assertEqual(self.ask(path, "HEAD")[0], 200, path)
            status, headers, _ = self.ask(path, "POST", "{}")
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"), path)
        status, headers, _ = self.ask("/api/devices/Site-BESS-01/set/target_power")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))

    def test_without_page(self):
        self.rig(http={"page": False, "token_file": None})
        for path in ("/", "/api/state", "/api/info", "/api/events"):
            self.assertEqual(self.ask(path)[0], 404, path)
        self.assertEqual(self.ask("/api/devices/Site-BESS-01/set/target_power", "POST")[0], 405)
        self.assertEqual(self.ask("/healthz")[0], 200)

    def test_state_is_that_of_mqtt(self):
        self.rig(control={"deadman": {"timeout": "60s", "value": 0.0}})
        self.assertIsNone(self.device()["lease"])
        outcome = self.mqtt.ask(20, "p-1")
        state = self.state()
        while state["devices"][0]["lease"] is None or not state["outcomes"]:
            state = self.state()  # they are known a moment after MQTT has the outcome
        with open(os.path.join(flux.source_dir(), "topics.md"), encoding="utf-8") as file:
            told = json.loads(file.read().split("```json http /api/state\n")[1].split("```")[0])
        self.assertEqual(list(state), ["site", "run", "ts", "health", "devices", "outcomes"])
        self.assertEqual(list(state), list(told))
        self.assertEqual(list(state["devices"][0]), list(told["devices"][0]))
        self.assertEqual(list(state["devices"][0]["lease"]), list(told["devices"][0]["lease"]))
        self.assertEqual(state["site"], "demo")
        self.assertEqual(state["outcomes"], [outcome])
        health = self.mqtt.wait("bridge/health").json
        self.assertEqual(set(state["health"]), set(health))
        for device, kind in zip(state["devices"], ("powerpack", "acuvim2")):
            self.assertEqual(list(device), ["name", "id", "type", "status", "age_ms", "state",
                                            "lease", "control", "schedule"])
            name = device["name"]
            self.assertEqual((device["id"], device["type"]), ("id-" + name, kind))
            self.assertEqual(device["status"], "online")
            self.assertEqual(device["state"]["run"], state["run"])
            self.assertLess(device["age_ms"], 5000 * flux.PATIENCE)
            same = self.mqtt.wait(name + "/state",
                                  lambda m: m.json["seq"] == device["state"]["seq"])
            self.assertEqual(same.json, device["state"])
        lease = state["devices"][0]["lease"]
        self.assertEqual(lease["value"], 20)
        self.assertTrue(50 - 15 * flux.PATIENCE < lease["left_s"] <= 60, lease)
        self.assertIsNone(state["devices"][1]["lease"])
        self.mqtt.ask(0, "p-2")
        while self.device()["lease"] is not None or len(self.state()["outcomes"]) < 2:
            pass
        outcomes = self.state()["outcomes"]
        self.assertEqual([o["id"] for o in outcomes], ["p-2", "p-1"])  # the newest first

    def test_info(self):
        self.rig()
        status, headers, text = self.ask("/api/info")
        info = json.loads(text)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        self.assertIs(info["writable"], True)
        for device in info["devices"]:
            self.assertEqual(device, self.mqtt.wait(device["name"] + "/info").json)
        self.assertNotIn(TOKEN, text)

    def test_age_is_that_of_the_values(self):
        """A device that fell silent goes on giving samples, without values."""
        self.rig()
        since = self.mqtt.mark()
        self.server.stop()
        self.mqtt.wait_text("Grid-Meter/status", "offline", since=since)
        first = self.device("Grid-Meter")
        self.assertEqual((first["status"], first["state"]["quality"]), ("offline", "bad"))
        self.mqtt.wait("Grid-Meter/state", lambda m: m.json["seq"] > first["state"]["seq"])
        later = self.device("Grid-Meter")
        self.assertGreater(later["age_ms"], first["age_ms"])

    def test_a_device_that_never_answered(self):
        self.server = self.modbus({1: flux.battery_unit()})
        self.mosquitto = self.broker()
        self.mqtt = self.client(self.mosquitto)
        self.port = self.place().port
        self.bridge(flux.config(self.mosquitto, [], [flux.meter(self.server)],
                                http={"listen": "127.0.0.1:%d" % self.port}))
        self.mqtt.wait("Grid-Meter/state")
        device = self.device("Grid-Meter")
        self.assertEqual((device["status"], device["age_ms"]), ("offline", None))

    # ---- events ----

    def test_events_are_those_of_mqtt(self):
        self.rig()
        stream = self.stream()
        self.assertEqual(stream.answer.headers["Content-Type"], "text/event-stream")
        for name in ("Site-BESS-01", "Grid-Meter"):
            event = stream.wait("sample", lambda data: data["device"] == name)
            sample = dict(event)
            del sample["device"]
            same = self.mqtt.wait(name + "/state", lambda m: m.json["seq"] == sample["seq"])
            self.assertEqual(sample, same.json)
        outcome = self.mqtt.ask(30, "p-1")
        self.assertEqual(stream.wait("outcome", lambda data: data["id"] == "p-1"), outcome)
        self.server.stop()
        event = stream.wait("status", lambda data: data["device"] == "Grid-Meter")
        self.assertEqual(event, {"device": "Grid-Meter", "status": "offline"})
        self.server.start()
        stream.wait("status", lambda data: data == {"device": "Grid-Meter", "status": "online"})
        stream.wait(":")
        health = stream.wait("health")
        self.assertEqual(set(health), set(self.mqtt.wait("bridge/health").json) | {"device"})

    def test_each_sample_once(self):
        """Of two that come at the same time, as on a busy machine, one may be left out."""
        self.rig()
        stream = self.stream()
        of = lambda data: data["device"] == "Grid-Meter"
        first = stream.wait("sample", of)["seq"]
        stream.wait("sample", lambda data: of(data) and data["seq"] >= first + 20)
        with stream.changed:
            seqs = [data["seq"] for name, data in stream.events if name == "sample" and of(data)]
        self.assertEqual(seqs, sorted(set(seqs)))
        self.assertGreater(len(seqs), 10)

    def test_streams_are_bounded(self):
        self.rig()
        streams = [self.stream() for _ in range(STREAMS_MAX)]
        for stream in streams:
            stream.wait("sample")
        status, headers, text = self.ask("/api/events")
        self.assertEqual((status, json.loads(text)["reason"]), (503, "too_many_streams"))
        self.assertTrue(headers["Retry-After"])
        streams.pop().close()
        # Its end is seen with the next event that is sent to it.
        mark = len(streams[0].events)
        streams[0].wait("sample", lambda data: data in [e[1] for e in streams[0].events[mark + 4:]])
        self.assertEqual(self.stream().answer.status, 200)

    def test_nobody_is_kept_waiting(self):
        """8 streams, two of which do not read, and 100 connections that ask nothing."""
        self.rig()
        streams = [self.stream() for _ in range(STREAMS_MAX - 2)]
        halves = (b"", b"GET /healthz HTT", b"GET /api/state HTTP/1.1\r\nHost: x\r\n",
                  b"POST /api/devices/Site-BESS-01/set/target_power HTTP/1.1\r\nHost: localhost\r\n"
                  b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: 50\r\n"
                  b"Content-Type: application/json\r\n\r\n{")
        for i in range(102):
            holder = socket.create_connection(("127.0.0.1", self.port), flux.DEADLINE_S)
            self.addCleanup(holder.close)
            holder.sendall(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n" if i < 2
                           else halves[i % 4])
        for path in ("/healthz", "/metrics", "/api/state", "/healthz", "/metrics"):
            self.assertEqual(self.ask(path)[0], 200, path)
        for stream in streams:
            stream.wait("sample")
            self.assertFalse(stream.ended)

    def test_the_end(self):
        """Streams end with the bridge, which does not wait for them."""
        self.rig()
        stream = self.stream()
        stream.wait("sample")
        self.flux.stop()
        stream.wait_end()

    # ---- commands ----

    def test_a_command_is_answered_with_its_outcome(self):
        self.rig()
        status, answer = self.post({"id": "h-1", "value": 42, "source": "page"})
        self.assertEqual((status, answer["outcome"], answer["readback"]), (200, "confirmed", 42))
        self.assertEqual(self.server.units[1].registers[2008], 42)
        self.assertEqual(self.mqtt.outcome("h-1"), answer)
        status, again = self.post({"id": "h-1", "value": 42, "source": "page"})
        self.assertEqual((status, again), (200, {**answer, "duplicate": True}))
        status, answer = self.post({"id": "h-2", "value": 9999})
        self.assertEqual((status, answer["reason"]), (409, "out_of_range"))
        self.assertEqual(self.mqtt.outcome("h-2"), answer)
        self.server.units[1].registers[2026] = 5
        status, answer = self.post({"id": "h-3", "value": 10})
        self.assertEqual((status, answer["outcome"], answer["reason"]),
                         (409, "refused", "soe_low"))
        self.assertEqual([w.values for w in self.server.units[1].writes], [[42]])

    def test_whom_it_was_for(self):
        """Two commands with one id: each gets its own answer."""
        self.rig(timeout="1m")  # longer than it is kept waiting
        self.server.hold()
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(self.post({"id": "same", "value": 11})))
        thread.start()
        while self.state()["health"]["commands"]["received"] == 0:
            pass
        status, answer = self.post({"id": "same", "value": 12})
        self.assertEqual((status, answer["reason"]), (409, "duplicate"))
        self.server.release()
        thread.join()
        status, answer = answers[0]
        self.assertEqual((status, answer["outcome"], answer["value"]), (200, "confirmed", 11))

    def test_what_is_no_command(self):
        self.rig()
        for body in ("", "{", "[1]", '{"id":"m-1"}', '{"id":"m-1","value":1,"more":2}', "17"):
            status, answer = self.post(body)
            self.assertEqual((status, answer["reason"]), (400, "malformed"), body)
        status, answer = self.post({"id": "m-2", "value": 1}, point="nothing")
        self.assertEqual((status, answer["reason"]), (404, "unknown_point"))
        self.assertEqual(self.mqtt.outcome("m-2"), answer)
        status, answer = self.post({"id": "m-3", "value": 1}, device="Nobody")
        self.assertEqual((status, answer["reason"]), (404, "unknown_device"))
        status, answer = self.post({"id": "m-4", "value": 1}, point="soe")
        self.assertEqual((status, answer["reason"]), (409, "not_writable"))
        for size in (4096 + 1, 60000, 1 << 20):
            status, answer = self.post('{"id":"%s","value":1}' % ("x" * size))
            self.assertEqual((status, answer["reason"]), (413, "too_large"))
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", None):
            status, answer = self.post({"id": "m-5", "value": 1}, headers={"Content-Type": kind})
            self.assertEqual((status, answer["reason"]), (415, "not_json"), kind)
        status, answer = self.post({"id": "m-6", "value": 1},
                                   headers={"Content-Type": "application/json; charset=utf-8"})
        self.assertEqual(status, 200)
        self.assertEqual(self.server.n_writes(), 1)

    def test_who_may_not(self):
        self.rig()
        body = {"id": "w-1", "value": 1}
        for field in (None, "Bearer", "Bearer ", "Bearer wrong", "Bearer %sx" % TOKEN,
                      "Bearer %s" % TOKEN[:-1], "Basic %s" % TOKEN, TOKEN):
            status, answer = self.post(body, headers={"Authorization": field})
            self.assertEqual((status, answer["reason"]), (401, "unauthorized"), field)
        here = "127.0.0.1:%d" % self.port
        for origin in ("null", "http://evil.example", "https://" + here, "http://127.0.0.1",
                       "http://%s.evil.example" % here, "http://localhost:%d" % self.port, ""):
            self.assertEqual(self.post(body, headers={"Origin": origin})[0], 403, origin)
        for host in ("evil.example", "evil.example:%d" % self.port, "127.0.0.1.evil.example", "",
                     "10.0.0.1", "localhost.evil", "[::2]", "127.0.0.1:80x", "0.0.0.0"):
            self.assertEqual(self.post(body, headers={"Host": host})[0], 403, host)
        # Neither the token nor the device is looked at for those.
        self.assertEqual(self.post(body, token="wrong", headers={"Origin": "null"})[0], 403)
        self.assertEqual(self.server.n_writes(), 0)
        for i, (host, origin) in enumerate((
                (here, "http://" + here), ("localhost:1", "http://localhost:1"), ("[::1]", None),
                ("127.8.8.8:9", None), ("LOCALHOST", "http://localhost"))):
            status, answer = self.post({"id": "y-%d" % i, "value": 1},
                                       headers={"Host": host, "Origin": origin})
            self.assertEqual(status, 200, (host, answer))

    def test_a_field_twice(self):
        self.rig()
        head = ("POST /api/devices/Site-BESS-01/set/target_power HTTP/1.1\r\nHost: localhost\r\n"
                "Origin: null\r\nOrigin: http://localhost\r\nContent-Type: application/json\r\n"
                "Authorization: Bearer %s\r\nContent-Length: 22\r\n\r\n" % TOKEN)
        with socket.create_connection(("127.0.0.1", self.port), flux.DEADLINE_S) as connection:
            connection.sendall(head.encode() + b'{"id":"t-1","value":1}')
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 403 "))
        self.assertEqual(self.server.n_writes(), 0)

    def test_read_only_without_a_token(self):
        self.rig(http={"token_file": None})
        status, answer = self.post({"id": "r-1", "value": 1})
        self.assertEqual((status, answer["reason"]), (403, "read_only"))
        self.assertIs(json.loads(self.ask("/api/info")[2])["writable"], False)

    def test_the_token_can_be_changed(self):
        self.rig()
        with open(self.token_file, "w") as file:
            file.write("another\n")
        self.assertEqual(self.post({"id": "c-1", "value": 1})[0], 401)
        self.assertEqual(self.post({"id": "c-2", "value": 1}, token="another")[0], 200)
        os.remove(self.token_file)
        self.assertEqual(self.post({"id": "c-3", "value": 1}, token="another")[0], 401)
        self.assertEqual(self.post({"id": "c-4", "value": 1}, token="")[0], 401)

    def test_the_token_may_come_late(self):
        self.rig(http={"token_file": os.path.join(self.directory, "late")})
        self.flux.wait_log("token_file: %s/late: No such file or directory: it is waited for"
                           % self.directory)
        self.assertEqual(self.post({"id": "c-1", "value": 1})[0], 401)
        with open(os.path.join(self.directory, "late"), "w") as file:
            file.write(TOKEN)
        self.assertEqual(self.post({"id": "c-2", "value": 1})[0], 200)

    def test_who_waits_keeps_nobody_waiting(self):
        """A device that takes its time: all else goes on."""
        self.rig(timeout="1m")
        self.server.hold()
        answers = []

        def send(i):
            answers.append(self.post({"id": "s-%d" % i, "value": 1 + i}))

        threads = [threading.Thread(target=send, args=(i,)) for i in range(POSTS_MAX)]
        for thread in threads:
            thread.start()
        self.mqtt.wait_count("Site-BESS-01/result", POSTS_MAX - 2)  # superseded, one by one
        while True:  # the answers that have come leave their places
            before = len(answers)
            self.assertEqual(self.ask("/healthz")[0], 200)
            if before >= POSTS_MAX - 2:
                break
        self.server.release()
        for thread in threads:
            thread.join()
        kinds = sorted(answer["outcome"] for _, answer in answers)
        self.assertEqual(kinds.count("superseded") + kinds.count("confirmed"), POSTS_MAX)
        self.assertGreaterEqual(kinds.count("confirmed"), 1)

    def test_too_many_at_once(self):
        self.rig()
        head = (b"POST /api/devices/Site-BESS-01/set/target_power HTTP/1.1\r\nHost: localhost\r\n"
                b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: 22\r\n"
                b"Content-Type: application/json\r\n\r\n")
        for _ in range(POSTS_MAX):  # their bodies are yet to come
            holder = socket.create_connection(("127.0.0.1", self.port), flux.DEADLINE_S)
            self.addCleanup(holder.close)
            holder.sendall(head)
        self.assertEqual(self.ask("/healthz")[0], 200)  # all heads have been read
        status, answer = self.post({"id": "l-1", "value": 1})
        self.assertEqual((status, answer["reason"]), (429, "rate_limited"))
        holder.sendall(b'{"id":"l-2","value":5}')
        self.assertTrue(holder.recv(100).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.post({"id": "l-3", "value": 1})[0], 200)  # a place is free again

    def test_too_often(self):
        self.rig(control={"min_interval": "60s"})
        self.assertEqual(self.post({"id": "o-1", "value": 1})[0], 200)
        status, answer = self.post({"id": "o-2", "value": 2})
        self.assertEqual((status, answer["reason"]), (429, "rate_limited"))
        self.assertEqual(self.mqtt.outcome("o-2"), answer)

    def test_the_bridge_ends_while_one_waits(self):
        self.rig()
        self.server.units[1].dies_on_write = True
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(self.post({"id": "e-1", "value": 1})))
        thread.start()
        self.server.wait(lambda: self.server.units[1].writes, what="the write")
        self.flux.signal(signal.SIGTERM)
        thread.join()
        self.assertEqual(self.flux.wait_end(), 0)
        status, answer = answers[0]
        self.assertEqual((status, answer["reason"]), (503, "shutting_down"))


if __name__ == "__main__":
    flux.main()
