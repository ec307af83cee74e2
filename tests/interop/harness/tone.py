"""Ears: which tone is in a recording, and for how long (Goertzel's algorithm on 20 ms blocks)."""

import array
import ctypes
import math
import os
import socket
import struct
import threading
import time
from typing import NamedTuple

from .world import Skip, check

# of Linux, not in the socket module
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 26, 33, 263, 6

BLOCK = 0.02  # seconds; every tone used is a multiple of 50 Hz, so that a block holds whole periods


class Recording:
    """A 16-bit PCM wav file that may still be growing, or whose header was never finished."""

    def __init__(self, path):
        self.path = path
        self.rate = None
        self.channels = 1
        self.start = None

    def _header(self, f):
        head = f.read(4096)
        if len(head) < 44 or head[:4] != b"RIFF":
            return False
        at = 12
        while at + 8 <= len(head):
            kind, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
            if kind == b"fmt ":
                self.channels, self.rate = struct.unpack_from("<HI", head, at + 10)
            if kind == b"data":
                self.start = at + 8
                return True
            at += 8 + size + (size & 1)
        return False

    def blocks(self, since=0.0):
        """Blocks of mono samples from `since` seconds on."""
        try:
            with open(self.path, "rb") as f:
                if self.start is None and not self._header(f):
                    return
                frame = 2 * self.channels
                f.seek(self.start + int(since * self.rate) * frame)
                data = f.read()
        except FileNotFoundError:
            return
        samples = array.array("h", data[: len(data) // frame * frame])
        mono = samples[:: self.channels]
        size = int(self.rate * BLOCK)
        for at in range(0, len(mono) - size + 1, size):
            yield mono[at : at + size]

    def seconds(self):
        """How long the recording is by now."""
        if self.start is None:
            try:
                with open(self.path, "rb") as f:
                    if not self._header(f):
                        return 0.0
            except FileNotFoundError:
                return 0.0
        return max(0, os.path.getsize(self.path) - self.start) / (2 * self.channels * self.rate)

    def heard(self, tone, since=0.0):
        """Seconds in which `tone` is the loudest thing."""
        return sum(BLOCK for b in self.blocks(since) if share(b, tone, self.rate) > 0.5)

    def trace_of(self, tone, since=0.0):
        """Seconds in which `tone` can be heard at all, however softly."""
        return sum(BLOCK for b in self.blocks(since) if share(b, tone, self.rate) > 0.05)

    def loudness(self, since=0.0):
        """The seconds that are not silent."""
        return sum(BLOCK for b in self.blocks(since) if max(b) - min(b) > 400)


def _ulaw(byte):
    byte = ~byte & 0xFF
    value = (((byte & 0x0F) << 3) + 0x84) << ((byte & 0x70) >> 4)
    return 0x84 - value if byte & 0x80 else value - 0x84


ULAW = [_ulaw(b) for b in range(256)]


class Packet(NamedTuple):
    """A packet of PCMU as it arrived; `at` is a moment of `time.monotonic()`."""

    at: float
    source: tuple
    ssrc: int
    sequence: int
    timestamp: int
    samples: list


class WireEar:
    """Listens to the PCMU that arrives at a range of UDP ports of the loopback interface, from now on."""

    def __init__(self, world, ports):
        self.first, self.last = ports
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        except PermissionError:
            raise Skip("listening on the wire needs CAP_NET_RAW") from None
        self._attach_filter()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.packets = []
        world.closers.append(self.close)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self.socket.close()

    def _attach_filter(self):
        """What goes to other ports never reaches this process, which could not read as fast as all tests send."""
        take, drop = 0x40000, 0
        program = [  # a classic BPF program, on what begins with the IP header
            (0x30, 0, 0, 9), (0x15, 0, 5, 17),  # UDP
            (0xB1, 0, 0, 0), (0x48, 0, 0, 2),  # the destination port
            (0x35, 0, 2, self.first), (0x25, 1, 0, self.last), (0x06, 0, 0, take), (0x06, 0, 0, drop),
        ]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))

    def missed(self):
        """How many packets came and found no room here, since the last time this was asked."""
        return struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]

    def _listen(self):
        while True:
            try:
                data, where = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            except OSError:
                return
            if where[2] == 4 or len(data) < 28 or data[9] != 17:  # each packet passes twice: its leaving does not count
                continue
            size = (data[0] & 15) * 4
            port = struct.unpack_from("!H", data, size + 2)[0]
            rtp = data[size + 8 :]
            if self.first <= port <= self.last and port % 2 == 0 and len(rtp) > 12 and rtp[1] & 0x7F == 0:
                source = socket.inet_ntoa(data[12:16]), struct.unpack_from("!H", data, size)[0]
                sequence, timestamp, ssrc = struct.unpack_from("!HII", rtp, 2)
                self.packets.append(Packet(time.monotonic(), source, ssrc, sequence, timestamp, [ULAW[b] for b in rtp[12:]]))

    def heard(self, tone, since=0.0):
        """Seconds of `tone` that came after the moment `since`."""
        return sum(len(p.samples) / 8000 for p in self.since(since) if share(p.samples, tone, 8000) > 0.5)

    def gap(self, tone, since):
        """The longest time without `tone` since the moment `since`, in seconds."""
        at = [since, *(p.at for p in self.since(since) if share(p.samples, tone, 8000) > 0.5), time.monotonic()]
        return max(b - a for a, b in zip(at, at[1:]))

    def sources(self):
        return {p.source for p in list(self.packets)}

    def silent(self, seconds=0.4):
        """Whether nothing audible arrives for `seconds`."""
        began = time.monotonic()
        time.sleep(seconds)
        return not any(max(p.samples) - min(p.samples) > 400 for p in self.since(began))

    def stream(self, since=0.0):
        """The digest of what arrived as one stream: a break in its numbers, or silence in it, is a receiver's gap."""
        missed = self.missed()
        check(not missed, f"the ear itself missed {missed} packets")
        packets = self.since(since)
        steps = list(zip(packets, packets[1:]))
        ahead = [(b.sequence - a.sequence) & 0xFFFF for a, b in steps]
        ticks = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in steps]
        quiet = longest = 0.0
        for (a, _), tick in zip(steps, ticks):
            audible = max(a.samples) - min(a.samples) > 400
            quiet = (0.0 if audible else quiet + len(a.samples) / 8000) + (tick - len(a.samples)) / 8000
            longest = max(longest, quiet)
        return {
            "packets": len(packets), "sources": len({p.ssrc for p in packets}),
            "lost": sum(step - 1 for step in ahead if 1 < step < 0x8000), "repeated": sum(step == 0 for step in ahead),
            "back": sum(step >= 0x8000 for step in ahead), "silence": longest,
            "pause": max((b.at - a.at for a, b in steps), default=0.0),
        }

    def since(self, moment):
        return [p for p in list(self.packets) if p.at >= moment]


def hears_music(ear, tone):
    """Whether something arrives at an ear, and it is not the tone of the other side, which holds."""
    since = time.monotonic()
    return not ear.silent() and ear.heard(tone, since) == 0


def share(block, tone, rate):
    """The part of a block's power that is at `tone`: 0 to 1; silence has none of anything."""
    step = 4 if rate >= 32000 else 2 if rate >= 16000 else 1  # the tones are below 2 kHz: fewer samples will do
    if step > 1:
        block = block[::step]
        rate //= step
    n = len(block)
    power = sum(s * s for s in block)
    if power <= n * 100 * 100:
        return 0.0
    coefficient = 2 * math.cos(2 * math.pi * tone / rate)
    before = last = 0.0
    for s in block:
        before, last = last, s + coefficient * last - before
    at_tone = last * last + before * before - coefficient * last * before
    return at_tone * 2 / (n * power)
