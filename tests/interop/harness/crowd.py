"""A crowd: callers behind one trunk, each with RTP of its own, all in one thread, so that fifty cost little.  Knows nothing of tests."""

import collections
import math
import os
import random
import re
import select
import socket
import struct
import threading
import time

FRAME = 0.02  # seconds


def ulaw(sample):
    sign, sample = (0x80, -sample) if sample < 0 else (0, sample)
    sample = min(sample, 32635) + 0x84
    exponent = max(0, sample.bit_length() - 8)
    return ~(sign | exponent << 4 | sample >> (exponent + 3) & 0x0F) & 0xFF


def tone(hertz, loudness):
    """20 ms of PCMU; tones of a multiple of 50 Hz go on without a break."""
    return bytes(ulaw(int(loudness * math.sin(2 * math.pi * hertz * i / 8000))) for i in range(160))


SILENCE = b"\xff" * 160


class Caller:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        self.says = SILENCE
        self.target = None
        self.packets = 0
        self.heard = collections.deque(maxlen=100)  # (time, payload)
        self.ssrc, self.sequence, self.stamp = random.getrandbits(32), random.getrandbits(15), random.getrandbits(30)

    def send(self):
        self.sequence, self.stamp = self.sequence + 1 & 0xFFFF, self.stamp + 160 & 0xFFFFFFFF
        try:
            self.socket.sendto(struct.pack("!BBHII", 0x80, 0, self.sequence, self.stamp, self.ssrc) + self.says, self.target)
        except OSError:
            pass

    def receive(self):
        while True:
            try:
                data = self.socket.recv(2048)
            except OSError:
                return
            if len(data) > 12 and data[1] & 0x7F == 0:
                self.packets += 1
                self.heard.append((time.monotonic(), data[12:]))


class Crowd:
    """Callers at `address`, which is a trunk's, of the switch that listens at `switch` (host and port, UDP)."""

    def __init__(self, address, switch, domain):
        self.address, self.switch, self.domain = address, switch, domain
        self.sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sip.bind((address, 0))
        self.sip.settimeout(0.5)
        self.callers, self.dialogs, self.closed = [], [], False
        self.poll = select.epoll()
        self.by_number = {}
        self.thread = threading.Thread(target=self._play, daemon=True)
        self.thread.start()

    def _request(self, method, uri, n, cseq, tag, call_id, to_tag="", body=""):
        lines = [f"{method} {uri} SIP/2.0",
                 f"Via: SIP/2.0/UDP {self.address}:{self.sip.getsockname()[1]};branch=z9hG4bK{os.urandom(8).hex()};rport",
                 "Max-Forwards: 70", f"From: <sip:49301{n:04}@{self.domain}>;tag={tag}", f"To: <{uri}>{to_tag and ';tag=' + to_tag}",
                 f"Call-ID: {call_id}", f"CSeq: {cseq} {method}", f"Contact: <sip:{n}@{self.address}:{self.sip.getsockname()[1]}>",
                 *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _exchange(self, request, call_id, method):
        for _ in range(6):
            self.sip.sendto(request, self.switch)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                try:
                    answer = self.sip.recv(65535).decode("utf-8", "replace")
                except TimeoutError:
                    break
                status = re.match(r"SIP/2.0 (\d+)", answer)
                if status and int(status[1]) >= 200 and f"Call-ID: {call_id}" in answer and f" {method}\r\n" in answer:
                    return answer
        raise TimeoutError(f"no answer to {method}")

    def dial(self, number):
        """One more caller; returns when it is in."""
        n, caller = len(self.callers), Caller(self.address)
        tag, call_id, uri = os.urandom(4).hex(), os.urandom(8).hex(), f"sip:{number}@{self.domain}"
        sdp = (f"v=0\r\no=- {n} 1 IN IP4 {self.address}\r\ns=-\r\nc=IN IP4 {self.address}\r\nt=0 0\r\n"
               f"m=audio {caller.socket.getsockname()[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n")
        answer = self._exchange(self._request("INVITE", uri, n, 1, tag, call_id, body=sdp), call_id, "INVITE")
        if not answer.startswith("SIP/2.0 200"):
            raise ConnectionRefusedError(answer.split("\r\n")[0])
        to_tag = re.search(r"(?m)^To:.*;tag=([^;\s]+)", answer)[1]
        contact = re.search(r"(?m)^Contact: *<([^>]+)>", answer)[1]
        caller.target = re.search(r"c=IN IP4 (\S+)", answer)[1], int(re.search(r"m=audio (\d+)", answer)[1])
        self.sip.sendto(self._request("ACK", contact, n, 1, tag, call_id, to_tag), self.switch)
        self.dialogs.append((contact, n, tag, call_id, to_tag))
        self.by_number[caller.socket.fileno()] = caller
        self.poll.register(caller.socket.fileno(), select.EPOLLIN)
        self.callers.append(caller)
        return caller

    def hang_up(self):
        """Everybody leaves."""
        for contact, n, tag, call_id, to_tag in self.dialogs:
            self._exchange(self._request("BYE", contact, n, 2, tag, call_id, to_tag), call_id, "BYE")
        self.close()

    def close(self):
        self.closed = True
        self.thread.join(2)

    def _play(self):
        """Everybody sends 50 packets a second, one after the other rather than all at once."""
        at, turn = time.monotonic(), 0
        while not self.closed:
            for number, _ in self.poll.poll(max(0.0, min(at - time.monotonic(), FRAME))):
                self.by_number[number].receive()
            now = time.monotonic()
            while now >= at:
                if self.callers:
                    turn = (turn + 1) % len(self.callers)
                    self.callers[turn].send()
                at += FRAME / max(1, len(self.callers))
