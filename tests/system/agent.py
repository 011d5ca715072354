#!/usr/bin/python3
"""Inside the machine that is tested: runs what the host asks for, a JSON object a line.

    host   {"id": 1, "run": "a shell's command"}    {"id": 1, "end": true}
    here   {"id": 1, "line": "of its output"}       {"id": 1, "code": 0}

At its start, and so at each boot, it says {"id": 0, "line": "the boot's id"}.
"""

import json
import os
import signal
import subprocess
import threading
import tty

port = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
tty.setraw(port)
saying = threading.Lock()
running = {}


def say(**what):
    data = (json.dumps(what) + "\n").encode()
    with saying:
        while data:
            data = data[os.write(port, data):]


def run(number, command):
    program = subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True)
    running[number] = program
    for line in program.stdout:
        say(id=number, line=line.rstrip("\n"))
    say(id=number, code=program.wait())


with open("/proc/sys/kernel/random/boot_id") as file:
    say(id=0, line=file.read().strip())
with open(os.dup(port), encoding="utf-8") as requests:
    for request in map(json.loads, requests):
        if "run" in request:
            threading.Thread(target=run, args=(request["id"], request["run"])).start()
        elif request["id"] in running:
            os.killpg(running[request["id"]].pid, signal.SIGTERM)
