"""Ears: which tone is in a recording, and for how long (Goertzel's algorithm on 20 ms blocks)."""

import array
import math
import os
import struct

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


def share(block, tone, rate):
    """The part of a block's power that is at `tone`: 0 to 1; silence has none of anything."""
    step = 4 if rate >= 32000 else 2 if rate >= 16000 else 1  # the tones are below 2 kHz: fewer samples will do
    if step > 1:
        block = block[::step]
        rate //= step
    n = len(block)
    power = sum(s * s for s in block)
    if power < n * 100 * 100:
        return 0.0
    coefficient = 2 * math.cos(2 * math.pi * tone / rate)
    before = last = 0.0
    for s in block:
        before, last = last, s + coefficient * last - before
    at_tone = last * last + before * before - coefficient * last * before
    return at_tone * 2 / (n * power)
