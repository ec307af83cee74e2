"""SIP by hand: sockets that send any bytes, an agent that registers and calls, and media on a plain UDP socket."""

import base64
import hashlib
import math
import os
import random
import re
import select
import socket
import ssl
import struct
import threading
import time

from .sut import STAND_IN
from .tone import ULAW, share
from .world import Failed, check


class Message:
    """A SIP message as read from the wire: start line, header fields in order, body."""

    def __init__(self, data):
        self.data = data
        head, _, body = data.partition(b"\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
        self.start = lines[0]
        self.fields = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
        self.body = body
        words = self.start.split(" ", 2)
        self.status = int(words[1]) if words[0] == "SIP/2.0" and len(words) > 1 and words[1].isdigit() else None
        self.method = None if self.status else words[0]
        self.uri = words[1] if not self.status and len(words) > 1 else None

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name, default=""):
        values = self.all(name)
        return values[0] if values else default

    def listed(self, name):
        """The values of a header that is a comma list (no commas in quotes expected)."""
        return [x.strip() for v in self.all(name) for x in v.split(",") if x.strip()]

    def tag(self, name):
        found = re.search(r";\s*tag=([^;>\s]+)", self.get(name))
        return found.group(1) if found else None

    def cseq(self):
        number, _, method = self.get("CSeq").partition(" ")
        return int(number or 0), method.strip()

    def contact(self):
        found = re.search(r"<([^>]*)>", self.get("Contact"))
        return found.group(1) if found else self.get("Contact").split(";")[0]

    def faults(self):
        """What no message of ours may have: header fields missing or there twice, a wrong length."""
        once = ("from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type", "expires", "min-expires",
                "session-expires", "min-se", "rseq", "rack", "user-agent", "server", "subject", "date", "event")
        found = [f"{name} is there {len(self.all(name))} times" for name in once if len(self.all(name)) > 1]
        needed = ["Via", "From", "To", "Call-ID", "CSeq"] + ([] if self.status else ["Max-Forwards"])
        found += [f"{name} is missing" for name in needed if not self.all(name)]
        if self.all("Content-Length") and self.get("Content-Length") != str(len(self.body)):
            found.append(f"Content-Length is {self.get('Content-Length')}, the body has {len(self.body)} bytes")
        if self.body and not self.all("Content-Type"):
            found.append("a body without Content-Type")
        if self.method in ("INVITE", "UPDATE") or self.status and 100 < self.status < 300 and self.cseq()[1] == "INVITE":
            if not self.all("Contact"):
                found.append("no Contact")
        return found

    def __repr__(self):
        return self.data.decode("utf-8", "replace")


def token(size=8):
    return "".join(random.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(size))


class Wire:
    """One SIP transport to (and from) the switch: UDP socket, or TCP, TLS or WebSocket connection."""

    def __init__(self, world, switch, transport="udp", address=None, port=0):
        self.world, self.switch, self.transport = world, switch, transport
        family = socket.AF_INET6 if ":" in switch.address else socket.AF_INET
        self.address = address or ("::1" if ":" in switch.address else world.address())
        self.inbox, self.stream = [], b""
        self.careless = STAND_IN  # a proxy passes on what it got
        self.peer = (switch.address, switch.ports[transport])
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self.socket = socket.socket(family, kind)
        if port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((self.address, port or (world.port(self.address) if transport == "udp" else 0)))
        world.closers.append(self.close)
        if kind == socket.SOCK_STREAM:
            self.socket.settimeout(5)
            self.socket.connect(self.peer)
            if transport in ("tls", "wss"):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(switch.certificate)
                self.socket = context.wrap_socket(self.socket, server_hostname=switch.domain)
            if transport in ("ws", "wss"):
                self._upgrade()
        self.port = self.socket.getsockname()[1]
        if switch.capture and transport == "udp":
            switch.capture.ports.add(self.port)
        host = f"[{self.address}]" if ":" in self.address else self.address
        self.host_port = f"{host}:{self.port}"

    def _upgrade(self):
        self.socket.sendall((f"GET / HTTP/1.1\r\nHost: {self.switch.host}:{self.peer[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Protocol: sip\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(1)
            check(more, "the switch closed the connection during the WebSocket handshake")
            head += more
        check(head.startswith(b"HTTP/1.1 101"), f"WebSocket handshake refused: {head!r}")

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def reconnect(self, accepted=None):
        """Goes on over a new TCP connection, or over one that the switch made to us."""
        self.close()
        self.stream = b""
        self.socket = accepted or socket.create_connection(self.peer, 5, (self.address, 0))

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        if self.transport == "udp":
            self.socket.sendto(data, self.peer)
        elif self.transport in ("ws", "wss"):
            mask = os.urandom(4)
            size = len(data)
            head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + struct.pack("!H", size)
            self.socket.sendall(head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data)))
        else:
            self.socket.sendall(data)

    def _frame(self):
        """The next whole message of a stream, or None."""
        if self.transport in ("ws", "wss"):
            if len(self.stream) < 2:
                return None
            size, at = self.stream[1] & 127, 2
            if size == 126:
                size, at = struct.unpack("!H", self.stream[2:4])[0] if len(self.stream) >= 4 else 1 << 20, 4
            if len(self.stream) < at + size:
                return None
            kind, data, self.stream = self.stream[0] & 15, self.stream[at : at + size], self.stream[at + size :]
            return data if kind in (1, 2) else b""
        self.stream = self.stream.lstrip(b"\r\n")
        head, end, rest = self.stream.partition(b"\r\n\r\n")
        if not end:
            return None
        found = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
        size = int(found.group(1)) if found else 0
        if len(rest) < size:
            return None
        self.stream = rest[size:]
        return head + end + rest[:size]

    def read(self, seconds):
        """The next message to arrive, or None after `seconds`; ConnectionError when the other side closed."""
        until = time.monotonic() + seconds
        while True:
            if self.transport != "udp":
                data = self._frame()
                if data:
                    return Message(data)
                if data is not None:
                    continue
            left = until - time.monotonic()
            pending = getattr(self.socket, "pending", lambda: 0)()
            if not pending and not select.select([self.socket], [], [], max(0, left))[0]:
                return None
            try:
                data = self.socket.recv(65536)
            except ssl.SSLWantReadError:
                continue
            if self.transport == "udp":
                if data.strip(b"\r\n\0"):
                    return Message(data)
                continue
            if not data:
                raise ConnectionError("the switch closed the connection")
            self.stream += data

    def checked(self, seconds):
        """The next message, which must be one that a careful peer would accept."""
        message = self.read(seconds)
        faults = message.faults() if message and not self.careless else []
        check(not faults, f"the switch sent a faulty message ({'; '.join(faults)}):\n{message}")
        return message

    def receive(self, wanted, what, seconds=5.0):
        """The first message for which `wanted(message)`; others stay in the inbox."""
        until = time.monotonic() + min(seconds, self.world.left())
        seen = 0
        while True:
            while seen < len(self.inbox):
                if wanted(self.inbox[seen]):
                    return self.inbox.pop(seen)
                seen += 1
            left = until - time.monotonic()
            message = self.checked(left) if left > 0 else None
            if message is None:
                others = "; ".join(m.start for m in self.inbox) or "nothing"
                raise Failed(f"no {what} at {self.host_port}/{self.transport} within {seconds:g} s; unread: {others}")
            self.inbox.append(message)

    def nothing(self, wanted, what, seconds=0.5):
        """Checks that no such message comes for a while."""
        try:
            message = self.receive(wanted, what, seconds)
        except Failed:
            return
        raise Failed(f"there should be no {what}, but this came:\n{message}")


def response_to(call_id, cseq, method, final=True):
    return lambda m: (m.status and (m.status >= 200 or not final) and m.get("Call-ID") == call_id and m.cseq() == (cseq, method))


def challenge(message, algorithm=None):
    """The parameters of a challenge in a 401 or 407: of `algorithm`, or of the first."""
    name = "WWW-Authenticate" if message.status == 401 else "Proxy-Authenticate"
    found = [dict((k.lower(), a or b) for k, a, b in re.findall(r'(\w+)\s*=\s*(?:"([^"]*)"|([^",\s]+))', value))
             for value in message.all(name)]
    check(found, f"{message.status} without {name}")
    if algorithm:
        found = [c for c in found if c.get("algorithm", "MD5").upper() == algorithm.upper()]
        check(found, f"no challenge for {algorithm}")
    return found[0]


def authorization(c, user, password, method, uri, nc=1, cnonce="0a4f113b", **override):
    """The value of an Authorization that answers challenge `c`."""
    c = {**c, **override}
    algorithm = c.get("algorithm", "MD5")
    h = lambda text: hashlib.new("sha256" if "256" in algorithm else "md5", text.encode()).hexdigest()  # noqa: E731
    ha1, ha2 = h(f"{user}:{c['realm']}:{password}"), h(f"{method}:{uri}")
    value = f'Digest username="{user}", realm="{c["realm"]}", nonce="{c["nonce"]}", uri="{uri}", algorithm={algorithm}'
    if "qop" in c:
        response = h(f"{ha1}:{c['nonce']}:{nc:08x}:{cnonce}:auth:{ha2}")
        value += f', qop=auth, nc={nc:08x}, cnonce="{cnonce}", response="{response}"'
    else:
        response = h(f"{ha1}:{c['nonce']}:{ha2}")
        value += f', response="{response}"'
    if "opaque" in c:
        value += ', opaque="' + c["opaque"] + '"'
    return value


class Agent:
    """A user agent for tests: every request is built from scratch, so that any part of it can be wrong."""

    def __init__(self, world, switch, user, password=None, transport="udp", address=None, port=0, algorithm=None):
        self.world, self.switch, self.user = world, switch, user
        self.password = f"{user}-secret" if password is None else password
        self.algorithm = algorithm
        self.wire = Wire(world, switch, transport, address, port)
        self.aor = f"sip:{user}@{switch.domain}"
        suffix = "" if transport == "udp" else f";transport={transport}"
        self.contact = f"sip:{user}@{self.wire.host_port}{suffix}"
        self.cseq = random.randint(1, 1000)

    # -- requests ---------------------------------------------------------------------------------------------------

    def build(self, method, uri, *, to=None, headers=(), body=b"", call_id=None, cseq=None, from_tag=None, to_tag=None,
              branch=None, sender=None, max_forwards=70, via=None):
        """A request as bytes.  Headers that a test gives come last, as they are."""
        w = self.wire
        body = body.encode() if isinstance(body, str) else body
        lines = [
            f"{method} {uri} SIP/2.0",
            via or f"Via: SIP/2.0/{w.transport.upper()} {w.host_port};branch={branch or 'z9hG4bK' + token()};rport",
            f"Max-Forwards: {max_forwards}",
            f"From: {sender or f'<{self.aor}>'};tag={from_tag or token()}",
            f"To: <{to or uri}>" + (f";tag={to_tag}" if to_tag else ""),
            f"Call-ID: {call_id or token(16)}",
            f"CSeq: {cseq} {method}",
            *headers,
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body

    def ask(self, method, uri, *, auth=True, seconds=8, call_id=None, from_tag=None, headers=(), final=True, **parts):
        """Sends a request outside or inside a dialog, answers one challenge, returns the final response."""
        call_id, from_tag = call_id or token(16), from_tag or token()
        headers = list(headers)
        for attempt in range(3):
            self.cseq += 1
            branch = "z9hG4bK" + token()
            request = self.build(method, uri, call_id=call_id, from_tag=from_tag, cseq=self.cseq, branch=branch,
                                 headers=headers, **parts)
            response = self.exchange(request, call_id, self.cseq, method, seconds, final)
            if response.status not in (401, 407):
                return response
            if method == "INVITE":
                self.ack_failure(uri, call_id, self.cseq, from_tag, response, branch, parts.get("to"))
            if not auth or attempt and "stale=true" not in str(response).lower():
                return response
            headers = [h for h in headers if not re.match(r"(Proxy-)?Authorization:", h)]
            name = "Authorization" if response.status == 401 else "Proxy-Authorization"
            headers.append(f"{name}: " + authorization(challenge(response, self.algorithm or best(response)), self.user,
                                                       self.password, method, uri))
        return response

    def exchange(self, request, call_id, cseq, method, seconds, final=True):
        """Sends until answered (UDP retransmits)."""
        until = time.monotonic() + seconds
        wait = 0.5 if self.wire.transport == "udp" else seconds
        while True:
            self.wire.send(request)
            try:
                return self.wire.receive(response_to(call_id, cseq, method, final), f"response to {method}",
                                         min(wait, max(0.05, until - time.monotonic())))
            except Failed:
                if any(m.status and m.get("Call-ID") == call_id and m.cseq() == (cseq, method) for m in self.wire.inbox):
                    return self.wire.receive(response_to(call_id, cseq, method, final), f"final response to {method}",
                                             max(0.05, until - time.monotonic()))
                if time.monotonic() >= until:
                    raise
            wait *= 2

    def ack_failure(self, uri, call_id, cseq, from_tag, response, branch, to=None):
        self.wire.send(self.build("ACK", uri, to=to, call_id=call_id, cseq=cseq, from_tag=from_tag,
                                  to_tag=response.tag("To"), branch=branch))

    def register(self, expires=600, contact=None, headers=(), call_id=None, **parts):
        """Registers; a contact of "" asks for the bindings."""
        contact = f"<{self.contact}>" if contact is None else contact
        lines = [f"Contact: {contact}"] if contact else []
        if expires is not None:
            lines.append(f"Expires: {expires}")
        self.registration = call_id or getattr(self, "registration", token(16))
        return self.ask("REGISTER", f"sip:{self.switch.domain}", to=self.aor, call_id=self.registration,
                        headers=[*lines, *headers], **parts)

    def registered(self, **parts):
        response = self.register(**parts)
        check(response.status == 200, f"registering {self.user} failed:\n{response}")
        return self

    def bindings(self):
        """The contact URIs that are bound to our AOR."""
        response = self.register(contact="", expires=None)
        check(response.status == 200, f"asking for the bindings of {self.user} failed:\n{response}")
        return re.findall(r"<([^>]+)>", ", ".join(response.all("Contact")))

    # -- calls ------------------------------------------------------------------------------------------------------

    def invite(self, callee, body=b"", **parts):
        return Outgoing(self, callee if callee.startswith("sip:") else f"sip:{callee}@{self.switch.domain}", body, **parts)

    def wait_request(self, method, seconds=5, **fields):
        return self.wire.receive(lambda m: m.method == method and all(want in m.get(k) for k, want in fields.items()),
                                 f"{method} request", seconds)

    def respond(self, request, status, reason="Because", *, headers=(), body=b"", tag=None, contact=True):
        body = body.encode() if isinstance(body, str) else body
        to = request.get("To")
        if ";tag=" not in to and status > 100:
            to += f";tag={tag or 'callee' + request.get('Call-ID')[:6]}"
        lines = [f"SIP/2.0 {status} {reason}", *(f"Via: {v}" for v in request.all("Via")),
                 *(f"Record-Route: {v}" for v in request.all("Record-Route")),
                 f"From: {request.get('From')}", f"To: {to}", f"Call-ID: {request.get('Call-ID')}",
                 f"CSeq: {request.get('CSeq')}"]
        if contact and 100 < status < 300:
            lines.append(f"Contact: <{self.contact}>")
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [*headers, f"Content-Length: {len(body)}"]
        self.wire.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def incoming(self, seconds=5):
        """The next call: an INVITE with a Call-ID not seen before."""
        seen = self.__dict__.setdefault("calls", set())
        invite = self.wire.receive(lambda m: m.method == "INVITE" and m.get("Call-ID") not in seen, "call", seconds)
        seen.add(invite.get("Call-ID"))
        return Incoming(self, invite)


def best(response):
    name = "WWW-Authenticate" if response.status == 401 else "Proxy-Authenticate"
    return "SHA-256" if any("SHA-256" in v.upper() for v in response.all(name)) else "MD5"


class Dialog:
    """Requests inside a dialog, from either end."""

    def request(self, method, *, headers=(), body=b"", seconds=5, final=True, **parts):
        self.local_cseq += 1
        data = self.build(method, headers=headers, body=body, cseq=self.local_cseq, **parts)
        return self.agent.exchange(data, self.call_id, self.local_cseq, method, seconds, final)

    def build(self, method, *, headers=(), body=b"", cseq=None, **parts):
        headers = [*(f"Route: {r}" for r in self.routes), f"Contact: <{self.agent.contact}>", *headers]
        if body:
            headers.append("Content-Type: application/sdp")
        return self.agent.build(method, self.remote_target, to=self.remote_uri, to_tag=self.remote_tag, from_tag=self.local_tag,
                                call_id=self.call_id, cseq=cseq or self.local_cseq, headers=headers, body=body, **parts)

    def ack(self, body=b"", cseq=None):
        self.agent.wire.send(self.build("ACK", body=body, cseq=cseq or self.local_cseq))

    def bye(self, other=None, seconds=5):
        """Hangs up; `other`, the far end, must get a BYE too (a proxy answers us only when it has)."""
        self.local_cseq += 1
        self.agent.wire.send(self.build("BYE"))
        if other:
            other.wait_bye(seconds)
        answer = self.agent.wire.receive(response_to(self.call_id, self.local_cseq, "BYE"), "answer to BYE", seconds)
        check(answer.status == 200, f"BYE was answered with {answer.start}")

    def wait_bye(self, seconds=5):
        request = self.agent.wait_request("BYE", seconds, **{"Call-ID": self.call_id})
        self.agent.respond(request, 200, "OK")
        return request


class Outgoing(Dialog):
    """An INVITE we sent, and the dialog it opens; the challenge, if any, is answered."""

    def __init__(self, agent, uri, body=b"", headers=(), auth=True, call_id=None, from_tag=None, to=None, **parts):
        self.agent, self.uri, self.to = agent, uri, to
        self.call_id, self.local_tag = call_id or token(16), from_tag or token()
        self.body, self.headers, self.parts = body, list(headers), parts
        self.remote_uri, self.remote_target, self.remote_tag, self.routes = to or uri, uri, None, []
        agent.cseq += 1
        self.local_cseq = agent.cseq
        self._send()
        if auth:
            first = self.response(lambda s: s >= 100, 5)
            if first.status == 100:
                first = self.peek(0.4)  # a challenge may follow a 100
            if first is not None and first.status in (401, 407):
                agent.ack_failure(uri, self.call_id, self.local_cseq, self.local_tag, first, self.branch, to)
                name = "Authorization" if first.status == 401 else "Proxy-Authorization"
                self.headers.append(f"{name}: " + authorization(challenge(first, agent.algorithm or best(first)),
                                                                agent.user, agent.password, "INVITE", uri))
                self.local_cseq += 1
                agent.cseq = self.local_cseq
                self._send()
            elif first is not None:
                agent.wire.inbox.append(first)

    def _send(self):
        self.branch = "z9hG4bK" + token()
        body_type = ["Content-Type: application/sdp"] if self.body else []
        self.request_bytes = self.agent.build(
            "INVITE", self.uri, to=self.to, call_id=self.call_id, cseq=self.local_cseq, from_tag=self.local_tag, branch=self.branch,
            headers=[f"Contact: <{self.agent.contact}>", *body_type, *self.headers], body=self.body, **self.parts)
        self.agent.wire.send(self.request_bytes)

    def _is_response(self, m):
        return m.status and m.get("Call-ID") == self.call_id and m.cseq() == (self.local_cseq, "INVITE")

    def peek(self, seconds):
        try:
            return self.response(lambda s: s > 100, seconds)
        except Failed:
            return None

    def response(self, wanted, seconds=5):
        """The next response whose status is wanted; opens the dialog when it has a tag."""
        m = self.agent.wire.receive(lambda m: self._is_response(m) and wanted(m.status), "response to INVITE", seconds)
        if m.status > 100 and m.tag("To") and m.status < 300:
            self.remote_tag = m.tag("To")
            self.remote_target = m.contact() or self.uri
            self.routes = list(reversed(m.listed("Record-Route")))
        return m

    def ringing(self, seconds=5):
        return self.response(lambda s: s == 180, seconds)

    def final(self, seconds=8, ack=True):
        """The final response; a failure is acknowledged, a success not yet."""
        m = self.response(lambda s: s >= 200, seconds)
        if m.status >= 300 and ack:
            self.agent.ack_failure(self.uri, self.call_id, self.local_cseq, self.local_tag, m, self.branch, self.to)
        return m

    def answered(self, seconds=8, ack_body=b""):
        m = self.final(seconds)
        check(m.status == 200, f"the call was not answered:\n{m}")
        self.ack(ack_body)
        return m

    def cancel(self):
        """Sends the CANCEL of this INVITE and returns the response to it."""
        a = self.agent
        data = a.build("CANCEL", self.uri, to=self.to, call_id=self.call_id, cseq=self.local_cseq, from_tag=self.local_tag,
                       branch=self.branch)
        return a.exchange(data, self.call_id, self.local_cseq, "CANCEL", 5)


class Incoming(Dialog):
    """An INVITE we received, and the dialog it opens."""

    def __init__(self, agent, invite):
        self.agent, self.invite = agent, invite
        self.call_id, self.local_tag = invite.get("Call-ID"), "callee" + token(6)
        self.remote_uri = re.search(r"<([^>]*)>", invite.get("From")).group(1)
        self.remote_tag, self.remote_target = invite.tag("From"), invite.contact()
        self.routes = invite.listed("Record-Route")
        self.local_cseq = random.randint(1, 1000)
        self.local_uri = re.search(r"<([^>]*)>", invite.get("To")).group(1)

    def build(self, method, **parts):
        return super().build(method, sender=f"<{self.local_uri}>", **parts)

    def respond(self, status, reason="Because", body=b"", headers=()):
        self.agent.respond(self.invite, status, reason, body=body, headers=headers, tag=self.local_tag)

    def ring(self, headers=()):
        self.respond(180, "Ringing", headers=headers)

    def answer(self, body, headers=()):
        self.respond(200, "OK", body, headers)

    def wait_ack(self, seconds=5):
        return self.agent.wait_request("ACK", seconds, **{"Call-ID": self.call_id})

    def wait_cancel(self, seconds=5):
        """The CANCEL of this call, answered as it should be."""
        request = self.agent.wait_request("CANCEL", seconds, **{"Call-ID": self.call_id})
        self.agent.respond(request, 200, "OK")
        self.respond(487, "Request Terminated")
        self.wait_ack()
        return request


class Media:
    """A plain RTP socket with PCMU: sends a tone, counts and hears what comes."""

    def __init__(self, world, address, tone=500):
        self.world, self.address, self.tone = world, address, tone
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.port = world.port(address, room=2, even=True)
        self.socket.bind((address, self.port))
        self.socket.settimeout(0.2)
        self.received = []  # (time, source, payload)
        self.target = None
        self.closed = False
        self.ssrc = random.getrandbits(32)
        world.closers.append(self.close)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self.closed = True
        self.socket.close()

    def sdp(self, direction="sendrecv", formats="0 101", extra=""):
        kind = "IP6" if ":" in self.address else "IP4"
        return (f"v=0\r\no=- {self.port} {int(time.monotonic() * 1000)} IN {kind} {self.address}\r\ns=-\r\nc=IN {kind} {self.address}\r\nt=0 0\r\n"
                f"m=audio {self.port} RTP/AVP {formats}\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
                f"a=fmtp:101 0-15\r\na=ptime:20\r\na={direction}\r\n{extra}")

    def aim(self, sdp):
        """Sends to where this SDP says."""
        text = sdp.decode("utf-8", "replace") if isinstance(sdp, bytes) else sdp
        address = re.search(r"c=IN IP[46] (\S+)", text).group(1)
        self.target = (address, int(re.search(r"m=audio (\d+)", text).group(1)))
        return self.target

    def _listen(self):
        while not self.closed:
            try:
                data, source = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            except OSError:
                return
            if len(data) > 12 and data[0] >> 6 == 2:
                self.received.append((time.monotonic(), source, data))

    def play(self, seconds=None, sock=None, tone=None):
        """Sends the tone in the background for `seconds` (or until the test ends), perhaps from another socket."""
        def run():
            sock_, sequence, stamp, ssrc = sock or self.socket, random.getrandbits(15), random.getrandbits(30), random.getrandbits(32)
            block = bytes(encode_ulaw(int(8000 * math.sin(2 * math.pi * (tone or self.tone) * i / 8000))) for i in range(160))
            began, sent = time.monotonic(), 0
            while not self.closed and (seconds is None or sent * 0.02 < seconds):
                try:
                    sock_.sendto(struct.pack("!BBHII", 0x80, 0, (sequence + sent) & 0xFFFF, (stamp + 160 * sent) & 0xFFFFFFFF,
                                             ssrc) + block, self.target)
                except OSError:
                    pass
                sent += 1
                time.sleep(max(0, began + sent * 0.02 - time.monotonic()))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def heard(self, tone, since=0.0):
        """Seconds of `tone` that arrived after the moment `since`."""
        return sum((len(d) - 12) / 8000 for at, _, d in list(self.received)
                   if at >= since and d[1] & 0x7F == 0 and share([ULAW[b] for b in d[12:]], tone, 8000) > 0.5)

    def wait_hears(self, tone, seconds=0.3, within=5, since=0.0):
        self.world.wait(f"{tone} Hz arrives for {seconds} s at {self.address}:{self.port}",
                        lambda: self.heard(tone, since) >= seconds, within)


def encode_ulaw(sample):
    sign, sample = (0x80, -sample) if sample < 0 else (0, sample)
    sample = min(sample, 32635) + 0x84
    exponent = max(0, sample.bit_length() - 8)
    return ~(sign | exponent << 4 | sample >> (exponent + 3) & 0x0F) & 0xFF
