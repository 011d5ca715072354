"""What goes over the front network: CONNECT and CONNACK, seen by a socket on all packets."""

import socket
import struct
import threading
import time

ETH_P_ALL = 3


class Wire(threading.Thread):
    def __init__(self, device="front"):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((device, 0))
        self.asked, self.taken = [], []  # (when, client id); (when, return code)
        self.start()

    def run(self):
        while True:
            payload = payload_of(self.socket.recv(2048))
            if payload is not None and payload[:1] == b"\x10" and b"\0\4MQTT" in payload[:12]:
                at = payload.index(b"\0\4MQTT") + 10
                length, = struct.unpack_from(">H", payload, at)
                client = payload[at + 2:at + 2 + length].decode(errors="replace")
                if client.startswith("fluxbridge-"):
                    self.asked.append((time.monotonic(), client))
            elif payload is not None and payload[:2] == b"\x20\x02" and len(payload) >= 4:
                self.taken.append((time.monotonic(), payload[3]))

    def since(self, mark):
        """How many CONNECTs of bridges and devices, the most within a second, and how many
        answers were a no."""
        times = sorted(at for at, _ in list(self.asked) if at >= mark)
        most, first = 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - 1:
                first += 1
            most = max(most, last - first + 1)
        return len(times), most, sum(at >= mark and code != 0 for at, code in list(self.taken))


def payload_of(frame):
    """Of TCP over IPv4; None for anything else."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    ip = 14 + 4 * (frame[14] & 15)
    end = 14 + struct.unpack_from(">H", frame, 16)[0]
    return frame[ip + 4 * (frame[ip + 12] >> 4):end]
