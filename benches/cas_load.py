#!/usr/bin/env python3
"""What client applications cost a running switch, on loopback; `docs/performance.md` has the figures and says how they were taken.

    TANDEM=target/release/tandem python3 benches/cas_load.py [--logins 2000] [--streams 50] [--polls 5] [--rate 34] [--seconds 20] [--own]

1. Signs in so many clients that do nothing: memory and threads.
2. Opens so many WebSockets of administrators that subscribed to everybody's calls (with --own: the logins of 1., who hear of their own), and
   some clients that poll; SIP peers make calls at this rate, each with three events. Measures from the SIP message to each client, and
   the CPU of the switch's web thread per event. In the middle one client stops reading for 4 s.
With --floor, instead of both: what the kernel alone takes, by a server (floor.c) that writes as many events of 900 bytes to as many WebSockets,
read by the same process, and does nothing else.
It is no test: it says what it saw, and fails only where an event is lost, repeated or out of order.
"""

import argparse
import base64
import http.client
import json
import multiprocessing
import os
import random
import re
import resource
import select
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "interop"))
os.environ.setdefault("TANDEM_LOG", "warn")

from harness.cas import Cas  # noqa: E402
from harness.switch import Tandem  # noqa: E402
from harness.wire import Agent  # noqa: E402
from harness.world import World  # noqa: E402

USERS = [f"u{n:02}" for n in range(40)]  # a user has at most 64 logins
SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
STOPS_FOR = 4.0
SO_TIMESTAMPNS = 35


def percentile(sorted_values, part):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))] if sorted_values else float("nan")


class Api:
    """Requests on one kept connection."""

    def __init__(self, switch, token=None):
        self.connection, self.token, self.number = http.client.HTTPConnection(switch.host, switch.ports["http"]), token, 0

    def ask(self, topic, message, /, **body):
        self.number += 1
        head = {"topic": topic, "message": message, "timestamp": 1, "sequence-id": self.number, "request-id": self.number}
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.connection.request("POST", "/cas", json.dumps({**head, "body": body}), headers)
        reply = json.loads(self.connection.getresponse().read())
        assert reply["response"] == 0, reply
        return reply["body"]


def cpu_of(process, name=None):
    """CPU seconds of a process, or of its threads of a name."""
    total = 0
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/stat") as stat:
            head, rest = stat.read().rsplit(")", 1)
        if name is None or head.endswith(f"({name}"):
            fields = rest.split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def threads_of(process):
    return len(os.listdir(f"/proc/{process.pid}/task"))


# -- SIP ------------------------------------------------------------------------------------------------------------------


def field(text, name):
    return re.search(rf"(?im)^{name}\s*:\s*(.*?)\r?$", text).group(1)


def answer(request, status, contact="", body="", tag=""):
    lines = [f"SIP/2.0 {status}"]
    for line in request.split("\r\n\r\n", 1)[0].split("\r\n")[1:]:
        if re.match(r"(?i)(via|from|to|call-id|cseq|record-route)\s*:", line):
            lines.append(line + (f";tag={tag}" if tag and re.match(r"(?i)to\s*:", line) and ";tag=" not in line else ""))
    kind = ["Content-Type: application/sdp"] if body else []
    return "\r\n".join([*lines, *contact, *kind, f"Content-Length: {len(body)}", "", body]).encode()


def make_calls(peer, trunk, phones, rate, seconds, talks, report):
    """Makes calls from the trunk's socket to the phones' sockets, and answers them; each is hung up when it has been talked for so long.
    Reports when each SIP message was sent that is to be heard of: {(call's number, event): seconds}."""
    here = "%s:%d" % trunk.getsockname()
    selector, sent, calls, byes = selectors.DefaultSelector(), {}, {}, []
    for s in [trunk, *phones.values()]:
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ)
    numbers = {s: user for user, s in phones.items()}
    began, made, failed = time.monotonic(), 0, 0
    while time.monotonic() - began < seconds + talks + 2:
        now = time.monotonic()
        while made < (now - began) * rate and now - began < seconds:
            made += 1
            number, user = f"+4155{made:07}", USERS[made % len(USERS)]
            body = SDP.format(trunk.getsockname()[0])
            text = (f"INVITE sip:{user}@tandem.test SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKi{made}\r\nMax-Forwards: 70\r\n"
                    f"From: <sip:{number}@trunk.test>;tag=t{made}\r\nTo: <sip:{user}@tandem.test>\r\nCall-ID: load-{made}\r\nCSeq: 1 INVITE\r\n"
                    f"Contact: <sip:trunk@{here}>\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            calls[f"load-{made}"] = number
            sent[number, "ringing"] = time.time()
            trunk.sendto(text.encode(), peer)
        while byes and byes[0][0] <= now:
            _, number, text = byes.pop(0)
            sent[number, "ended"] = time.time()
            trunk.sendto(text.encode(), peer)
        for key, _ in selector.select(0.002):
            for _ in range(64):
                try:
                    data = key.fileobj.recv(65536).decode()
                except BlockingIOError:
                    break
                start = data.split("\r\n", 1)[0]
                if key.fileobj is not trunk:
                    if start.startswith("INVITE "):
                        number = re.search(r"sip:(\+\d+)@", field(data, "From")).group(1)
                        at = "%s:%d" % key.fileobj.getsockname()
                        contact = [f"Contact: <sip:{numbers[key.fileobj]}@{at}>"]
                        sent[number, "connected"] = time.time()
                        body = SDP.format(key.fileobj.getsockname()[0])
                        key.fileobj.sendto(answer(data, "200 OK", contact, body, f"p{number[1:]}"), peer)
                    elif not start.startswith(("ACK ", "SIP/2.0")):
                        key.fileobj.sendto(answer(data, "200 OK"), peer)
                elif start.startswith("SIP/2.0 200") and "INVITE" in field(data, "CSeq"):
                    call_id = field(data, "Call-ID")
                    contact = re.search(r"<(.*?)>", field(data, "Contact")).group(1)
                    common = (f"Max-Forwards: 70\r\nFrom: {field(data, 'From')}\r\nTo: {field(data, 'To')}\r\nCall-ID: {call_id}\r\n")
                    trunk.sendto((f"ACK {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKa{call_id}\r\n{common}"
                                  "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n").encode(), peer)
                    bye = (f"BYE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKb{call_id}\r\n{common}"
                           "CSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n")
                    number = calls.pop(call_id, None)
                    if number:  # not a retransmission
                        byes.append((time.monotonic() + talks, number, bye))
                elif re.match(r"SIP/2.0 [3-6]", start):
                    failed += 1
                elif not start.startswith("SIP/2.0"):
                    trunk.sendto(answer(data, "200 OK"), peer)
    report.send((sent, made, failed))


# -- clients --------------------------------------------------------------------------------------------------------------


class Stream:
    """A WebSocket that only reads; notes when each event came."""

    def __init__(self, address, token):
        self.socket = socket.create_connection(address)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /cas/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                             f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: cas, token.{token}\r\n\r\n").encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.data += self.socket.recv(4096)
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self.seen, self.last, self.stopped = [], 0, False
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def read(self):
        data, extra, _, _ = self.socket.recvmsg(1 << 20, 128)
        # when the kernel had it for us, if it says so: this process may be busy with another stream
        seconds, nanoseconds = struct.unpack("qq", extra[0][2]) if extra else (0, 0)
        now = seconds + nanoseconds / 1e9 if extra else time.time()
        self.data += data
        at = 0
        while len(self.data) - at >= 2:
            size, body = self.data[at + 1] & 127, at + 2
            if size == 126 and len(self.data) - at >= 4:
                size, body = struct.unpack_from("!H", self.data, at + 2)[0], at + 4
            elif size == 127 and len(self.data) - at >= 10:
                size, body = struct.unpack_from("!Q", self.data, at + 2)[0], at + 10
            elif size > 125:
                break
            if len(self.data) < body + size:
                break
            if self.data[at] & 15 == 1:
                self.take(self.data[body : body + size], now)
            elif self.data[at] & 15 == 9:
                self.socket.sendall(b"\x8a\x80\0\0\0\0")
            at = body + size
        self.data = self.data[at:]

    def take(self, text, now):
        number = re.search(rb'"number":"(\+\d+)"', text)
        sequence = int(re.search(rb'"sequence-id":(\d+)', text).group(1))
        assert sequence == self.last + 1 or not self.last, f"event {sequence} came after {self.last}"
        self.last = sequence
        if number:
            message = re.search(rb'"message":"([a-z]+)"', text).group(1)
            self.seen.append((number.group(1).decode(), message.decode(), now, self.stopped))


def read_streams(address, tokens, seconds, stops_at, ready, report):
    """Reads all streams; the first one stops for a while. Reports what each has seen."""
    streams = [Stream(address, token) for token in tokens]
    poller = select.epoll()
    by_descriptor = {stream.socket.fileno(): stream for stream in streams}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    lazy = streams[0]
    ready.send(True)
    began = time.monotonic()
    asleep, window = None, [0, 0]
    while time.monotonic() - began < seconds:
        now = time.monotonic() - began
        if asleep is None and now > stops_at:
            poller.unregister(lazy.socket.fileno())
            asleep = lazy.stopped = True
            window[0] = time.time()
        elif asleep and now > stops_at + STOPS_FOR:
            poller.register(lazy.socket.fileno(), select.EPOLLIN)
            asleep = False
            window[1] = time.time()
        for descriptor, _ in poller.poll(0.05):
            by_descriptor[descriptor].read()
    report.send(([stream.seen for stream in streams], window))


def poll(switch, token, until, seen):
    """Waits for events by long poll."""
    connection, after = http.client.HTTPConnection(switch.host, switch.ports["http"]), 0
    while time.monotonic() < until:
        connection.request("GET", f"/cas/events?after={after}&wait=2", headers={"Authorization": f"Bearer {token}"})
        events = json.loads(connection.getresponse().read())["body"]["events"]
        for event in events:
            assert event["sequence-id"] == after + 1 or not after, (event["sequence-id"], after)
            after = event["sequence-id"]
        seen.append(len(events))


def floor(arguments):
    """Measures the bare sends."""
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "floor")
        subprocess.run(["cc", "-O2", "-o", binary, os.path.join(here, "floor.c")], check=True)
        events = round(arguments.rate * 3)
        sizes = [str(n) for n in (arguments.streams, events, int(arguments.seconds), 900)]
        server = subprocess.Popen([binary, *sizes], stdout=subprocess.PIPE, text=True)
        address = "127.0.0.1", int(server.stdout.readline())
        context = multiprocessing.get_context("fork")
        (ready, is_ready), (seen_in, seen_out) = context.Pipe(), context.Pipe()
        total = arguments.seconds + 2
        reader = context.Process(target=read_streams, args=(address, ["-"] * arguments.streams, total, 2 * total, ready, seen_in))
        reader.start()
        is_ready.recv()
        seen, _ = seen_out.recv()
        reader.join()
        assert server.wait() == 0 and reader.exitcode == 0 and all(len(stream) == events * int(arguments.seconds) for stream in seen)
        print(f"CPU of a server that only sends: {server.stdout.read().strip()} us per delivered event, "
              f"{events * arguments.streams} events/s to {arguments.streams} WebSockets")


# -- the two measurements -------------------------------------------------------------------------------------------------


def idle(switch, logins):
    """Signs in clients that do nothing more."""
    before, threads = switch.memory(), threads_of(switch.process)
    began = time.monotonic()
    api, tokens = Api(switch), []
    for n in range(logins):
        user = USERS[n % len(USERS)]
        tokens.append(api.ask("login", "login", user=user, password=f"{user}-secret")["token"])
    took = time.monotonic() - began
    grown = (switch.memory() - before) / logins
    connection = http.client.HTTPConnection(switch.host, switch.ports["http"])
    connection.request("GET", "/metrics")
    assert f"tandem_cas_logins {logins}" in connection.getresponse().read().decode(), "some of the logins are over"
    print(f"{logins} idle logins: {grown:.0f} bytes of resident memory each, {threads_of(switch.process) - threads} threads more, "
          f"{took / logins * 1e3:.2f} ms to sign in")
    return tokens


def load(world, switch, host, idle_tokens, arguments):
    for user in USERS if not arguments.own else ():
        host.ask("permission", "set-role", user=user, role="administrator")
    api, tokens = Api(switch), []
    if arguments.own:
        tokens = idle_tokens[: arguments.streams + arguments.polls]
    for n in range(len(tokens), arguments.streams + arguments.polls):
        user = USERS[n % len(USERS)]
        api.token = None
        api.token = api.ask("login", "login", user=user, password=f"{user}-secret")["token"]
        api.ask("subscription", "add", topic="tel")
        tokens.append(api.token)
    agents = {user: Agent(world, switch, user).registered() for user in USERS}
    trunk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    trunk.bind((world.address(50), 5060))
    context = multiprocessing.get_context("fork")
    (ready, is_ready), (seen_in, seen_out), (sent_in, sent_out) = context.Pipe(), context.Pipe(), context.Pipe()
    before = switch.memory()
    address, total = (switch.host, switch.ports["http"]), arguments.seconds + arguments.talk + 3
    reader = context.Process(
        target=read_streams, args=(address, tokens[arguments.polls:], total, arguments.seconds / 2, ready, seen_in))
    reader.start()
    is_ready.recv()
    print(f"an open WebSocket: {(switch.memory() - before) / arguments.streams:.0f} bytes of resident memory")
    polled = []
    pollers = [threading.Thread(target=poll, args=(switch, token, time.monotonic() + arguments.seconds, polled), daemon=True)
               for token in tokens[: arguments.polls]]
    phones = {user: agent.wire.socket for user, agent in agents.items()}
    caller = context.Process(
        target=make_calls,
        args=(agents["u00"].wire.peer, trunk, phones, arguments.rate, arguments.seconds, arguments.talk, sent_in))
    web, whole = cpu_of(switch.process, "web"), cpu_of(switch.process)
    caller.start()
    for poller in pollers:
        poller.start()
    sent, made, failed = sent_out.recv()
    web, whole = cpu_of(switch.process, "web") - web, cpu_of(switch.process) - whole
    seen, window = seen_out.recv()
    caller.join()
    reader.join()
    assert reader.exitcode == 0, "a client saw a gap or a repetition"
    tell(sent, made, failed, seen, window, sum(polled), web, whole, arguments)


def tell(sent, made, failed, seen, window, polled, web, whole, arguments):
    delivered = sum(len(stream) for stream in seen) + polled
    late, meanwhile = {True: [], False: []}, []
    for stream in seen:
        for number, message, at, stopped in stream:
            if (number, message) in sent:
                late[stopped].append(at - sent[number, message])
                if not stopped and window[0] <= at <= window[1]:
                    meanwhile.append(late[stopped][-1])
    for n, stream in enumerate(seen):
        own = (arguments.polls + n) % len(USERS)
        expected = {(number, message) for number, message in sent if not arguments.own or int(number[5:]) % len(USERS) == own}
        missed = expected - {(number, message) for number, message, _, _ in stream}
        assert not missed, f"client {n} ({stream[:3]}) missed {len(missed)} events, such as {sorted(missed)[:3]}"
    print(f"{made} calls ({failed} failed) at {arguments.rate}/s for {arguments.seconds} s: {delivered} events delivered to "
          f"{len(seen)} WebSockets and {arguments.polls} polls, {delivered / (arguments.seconds + arguments.talk):.0f}/s")
    values = sorted(late[False])
    print("from the SIP message to the client: " + ", ".join(
        f"{name} {percentile(values, part) * 1e3:.2f} ms" for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))))
    print(f"CPU of the web thread: {web / delivered * 1e6:.1f} us per delivered event; of the whole switch: {whole / delivered * 1e6:.1f} us")
    print(f"the client that stopped reading for {STOPS_FOR:.0f} s has all {len(seen[0])} events, in order; "
          f"p99 of the others meanwhile {percentile(sorted(meanwhile), 0.99) * 1e3:.2f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--polls", type=int, default=5)
    parser.add_argument("--rate", type=float, default=34)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--talk", type=float, default=1)
    parser.add_argument("--floor", action="store_true")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    random.seed(1)
    if arguments.floor:
        return floor(arguments)
    world = World("cas-load", 600)
    try:
        trunks = [("load", world.address(50))]
        switch = Tandem(world, users=USERS, trunks=trunks, capture=False, limits="failed_logins_per_minute = 100000\n"
                        "connections_per_address = 10000")
        tokens = idle(switch, arguments.logins)
        load(world, switch, Cas(switch), tokens, arguments)
        switch.stop()
    finally:
        world.close()


if __name__ == "__main__":
    main()
