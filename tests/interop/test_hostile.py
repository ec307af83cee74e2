"""Hostile peers: what strangers, liars and floods may not do.  `S…` names a row of the project's table of attacks."""

import os
import random
import re
import socket
import struct
import time

from harness.cases import case
from harness.sut import Switch, needs_tandem
from harness.tone import WireEar
from harness.wire import Agent, Media, Message, Wire, authorization, best, challenge, token
from harness.world import Failed, Skip, check, equal

TEXT = ["Content-Type: text/plain"]
REFUSALS = (400, 401, 403, 405, 407, 420, 481, 489, 501)


def three(world, **switch_options):
    """A switch, alice and bob registered, and a stranger."""
    switch = Switch(world, **switch_options)
    return (switch, Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered(),
            Agent(world, switch, "mallory"))


def still_serves(world, switch, user="alice"):
    """A fresh device is served in no more than a moment."""
    began = time.monotonic()
    Agent(world, switch, user).registered(seconds=3)
    check(time.monotonic() - began < 3, "the switch is slow to answer")


# -- S5: who may ask ------------------------------------------------------------------------------------------------


@case(rows=[(m,) for m in ("INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", "INFO", "UPDATE", "PRACK", "BYE", "JUGGLE")],
      row="{}")
def S5_request_without_credentials_is_refused(world, method):
    switch, alice, bob, mallory = three(world)
    extra = {"SUBSCRIBE": ["Event: presence"], "NOTIFY": ["Event: message-summary", "Subscription-State: active"],
             "REFER": ["Refer-To: <sip:bob@tandem.test>"], "PRACK": ["RAck: 1 1 INVITE"], "PUBLISH": ["Event: presence"],
             "REGISTER": ["Contact: <sip:mallory@127.0.0.1:9>"]}.get(method, [])
    for sender in (None, "<sip:alice@tandem.test>"):  # as oneself, and as a user of the switch
        for body in (b"", b"\xff" * 900):
            answer = mallory.ask(method, "sip:bob@tandem.test", auth=False, sender=sender, body=body,
                                 headers=[f"Contact: <{mallory.contact}>", *extra, *(TEXT if body else [])])
            check(answer.status in REFUSALS, f"{method} from a stranger got {answer.start}")
    bob.wire.nothing(lambda m: m.method == method, f"{method} of a stranger", 0.4)
    equal(bob.bindings(), [bob.contact], "bindings of bob")
    switch.finish()


@case
def S5_request_with_the_tags_of_a_call_from_a_stranger_does_nothing(world):
    needs_tandem()
    switch, alice, bob, mallory = three(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.answered()
    for method in ("BYE", "INFO", "REFER", "NOTIFY"):
        answer = mallory.ask(method, outgoing.remote_target, to="sip:bob@tandem.test", auth=False, call_id=outgoing.call_id, from_tag="guess",
                             to_tag=outgoing.remote_tag)
        check(answer.status in REFUSALS, f"{method} from a stranger got {answer.start}")
    bob.wire.nothing(lambda m: m.method in ("BYE", "INFO", "REFER", "NOTIFY"), "request of a stranger", 0.4)
    outgoing.bye(incoming)
    switch.finish()


# -- S6: who one says one is -------------------------------------------------------------------------------------------


@case(rows=[("INVITE",), ("MESSAGE",)], row="{}")
def S6_from_of_another_user_is_refused_or_rewritten(world, method):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    body = Media(world, alice.wire.address).sdp() if method == "INVITE" else "hello"
    kind = "application/sdp" if method == "INVITE" else "text/plain"
    alice.cseq += 1
    asked = dict(sender='"The Bank" <sip:carol@tandem.test>', headers=[f"Contact: <{alice.contact}>", f"Content-Type: {kind}"], body=body)
    got = outcome(world, alice, bob, method, "sip:bob@tandem.test", asked)
    if got:
        check("alice@" in got.get("From") and "carol" not in got.get("From"), f"the callee sees From: {got.get('From')}")
    switch.finish()


def outcome(world, alice, bob, method, uri, asked):
    """Sends a request with credentials; the request that bob gets, or None when it is refused."""
    call_id, tag = token(), token()
    alice.cseq += 1
    first = alice.build(method, uri, call_id=call_id, from_tag=tag, cseq=alice.cseq, **asked)
    refused = alice.exchange(first, call_id, alice.cseq, method, 5)
    if refused.status not in (401, 407):
        check(400 <= refused.status < 500, f"{method} got {refused.start}")
        return None
    name = "Authorization" if refused.status == 401 else "Proxy-Authorization"
    asked = {**asked, "headers": [*asked["headers"], f"{name}: " + authorization(challenge(refused, best(refused)), alice.user, alice.password, method, uri)]}
    alice.cseq += 1
    alice.wire.send(alice.build(method, uri, call_id=call_id, from_tag=tag, cseq=alice.cseq, **asked))
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for m in bob.wire.inbox:
            if m.method == method:
                bob.wire.inbox.remove(m)
                bob.respond(m, 486 if method == "INVITE" else 200)
                return m
        answers = [m for m in alice.wire.inbox if (m.status or 0) >= 300 and m.get("Call-ID") == call_id and m.cseq() == (alice.cseq, method)]
        if answers:
            check(400 <= answers[0].status < 500, f"{method} got {answers[0].start}")
            return None
        for agent in (alice, bob):
            message = agent.wire.read(0.05)
            if message:
                agent.wire.inbox.append(message)
    return None  # dropped without an answer


@case
def S6_identity_headers_of_users_are_stripped_and_ours_is_set(world):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    forged = ['P-Asserted-Identity: "CEO" <sip:ceo@tandem.test>', "P-Preferred-Identity: <sip:ceo@tandem.test>",
              'Remote-Party-ID: "CEO" <sip:ceo@tandem.test>;party=calling', "Diversion: <sip:ceo@tandem.test>",
              "History-Info: <sip:ceo@tandem.test>;index=1"]
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=forged)
    incoming = bob.incoming()
    check("ceo" not in str(incoming.invite).lower(), f"a forged identity reaches the callee:\n{incoming.invite}")
    check("sip:alice@tandem.test" in incoming.invite.get("P-Asserted-Identity"), f"P-Asserted-Identity: {incoming.invite.get('P-Asserted-Identity')!r}")
    incoming.respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer")
    answer_to_message = outcome(world, alice, bob, "MESSAGE", "sip:bob@tandem.test", dict(headers=[*forged, *TEXT], body="hello"))
    check(answer_to_message is None or "ceo" not in str(answer_to_message).lower(), f"a forged identity reaches the callee in a MESSAGE:\n{answer_to_message}")
    switch.finish()


@case(rows=[("INVITE", "\x01", "SOH"), ("MESSAGE", "\x1b", "ESC"), ("MESSAGE", "\x07", "BEL"), ("INVITE", "\x7f", "DEL")], row="{0}_{2}")
def S6_control_characters_in_a_display_name_do_not_pass(world, method, character, _name):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    body = Media(world, alice.wire.address).sdp() if method == "INVITE" else "hello"
    kind = "application/sdp" if method == "INVITE" else "text/plain"
    got = outcome(world, alice, bob, method, "sip:bob@tandem.test", dict(
        sender=f'"Ali{character}ce" <sip:alice@tandem.test>', headers=[f"Contact: <{alice.contact}>", f"Content-Type: {kind}"], body=body))
    check(got is None or character.encode() not in got.data, "the callee gets the control character")
    still_serves(world, switch)
    switch.finish()


# -- S7: what one line says ----------------------------------------------------------------------------------------------


@case
def S7_white_space_before_the_colon_hides_nothing(world):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    smuggled = ["P-Asserted-Identity : <sip:ceo@tandem.test>", "Remote-Party-ID\t: <sip:ceo@tandem.test>", "Diversion \t : <sip:ceo@tandem.test>"]
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=smuggled)
    first = world.wait("an answer or a call", lambda: bob.wire.read(0.1) or next((m for m in alice.wire.inbox), None), 5)
    check("ceo" not in str(first).lower() or first.status, f"a smuggled identity reaches the callee:\n{first}")
    switch.finish()


@case(rows=[(b"\r", "CR"), (b"\n", "LF"), (b"\0", "NUL")], row="{1}")
def S7_lone_control_character_in_a_value_starts_no_new_header(world, character, name):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    for header in (b"Subject: hello", b"X-Note: hello"):
        value = header + character + b"P-Asserted-Identity: <sip:ceo@tandem.test>"
        got = outcome(world, alice, bob, "MESSAGE", "sip:bob@tandem.test", dict(headers=[value.decode("latin-1"), *TEXT], body="x"))
        if got:
            check(not any("ceo" in v for v in got.all("P-Asserted-Identity")), f"an injected header reaches the callee:\n{got}")
            head = got.data.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"")
            check(character not in head, f"a lone {name} reaches the callee")
    still_serves(world, switch)
    switch.finish()


# -- S8, S9: too much, too long, wrong lengths -----------------------------------------------------------------------------


@case(rows=[("udp",), ("tcp",)], row="over_{}")
def S8_too_many_and_too_long_parts_are_refused_and_harm_nobody(world, transport):
    switch, alice, bob, _ = three(world)
    excesses = [
        dict(headers=[f"X-{i}: y" for i in range(3000)]),
        dict(headers=["Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK" + token()] * 500),
        dict(headers=["Contact: " + ", ".join(f"<sip:x{i}@127.0.0.1>" for i in range(1000))]),
        dict(headers=["Route: <sip:127.0.0.1:9;lr>"] * 500),
        dict(from_tag="t" * 30000),
        dict(call_id="c" * 30000),
        dict(headers=['Authorization: Digest ' + ",".join(f'a{i}="b"' for i in range(3000))]),
        dict(headers=['Authorization: Digest username="' + "a" * 40000 + '"']),
        dict(sender='"' + "d" * 40000 + '" <sip:alice@tandem.test>'),
        dict(sender='"' + "\\" * 20001 + '" <sip:alice@tandem.test>'),
        dict(sender="<" * 5000),
        dict(branch="z9hG4bK" + "b" * 40000),
        dict(headers=["Require: " + ",".join(f"x{i}" for i in range(5000))]),
        dict(headers=[";" * 40000 + ": x"]),
    ]
    for parts in excesses:
        for method, uri in (("REGISTER", "sip:tandem.test"), ("INVITE", "sip:bob@tandem.test"), ("OPTIONS", "sip:" + "u" * 20000 + "@tandem.test")):
            wire = Wire(world, switch, transport)
            sender = Agent.__new__(Agent)
            sender.wire, sender.aor, sender.contact = wire, "sip:alice@tandem.test", "sip:alice@127.0.0.1"
            data = sender.build(method, uri, cseq=1, **parts)
            if transport == "udp" and len(data) > 65000:
                continue
            try:
                wire.send(data)
            except OSError:
                pass
            wire.close()
    still_serves(world, switch)
    check(switch.memory() < 400e6, f"{switch.memory() / 1e6:.0f} MB resident")
    switch.finish()


@case
def S9_content_length_promises_are_not_believed(world):
    needs_tandem()
    switch = Switch(world, limits='half_open = "2s"')
    before = switch.memory()
    request = ("REGISTER sip:tandem.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx\r\nFrom: <sip:a@tandem.test>;tag=1\r\n"
               "To: <sip:a@tandem.test>\r\nCall-ID: cl{0}\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\nContent-Length: {0}\r\n\r\n")
    wires = []
    for length in ("-1", "4294967296", "18446744073709551616", "2147483647", "1000000000", "99999999999999999999999999", "0x10", "1e3", "+5", "5 5"):
        for _ in range(5):
            wire = Wire(world, switch, "tcp")
            wire.send(request.format(length))
            wires.append(wire)
    udp = Wire(world, switch, "udp")
    for length in ("-1", "65536", "4294967297", "99999999999999999999999999"):
        udp.send(request.format(length))
    world.wait("all of these connections end", lambda: all(closed(w) for w in wires), 15)
    still_serves(world, switch)
    check(switch.memory() - before < 60e6, f"memory grew by {(switch.memory() - before) / 1e6:.0f} MB")
    switch.finish()


def closed(wire):
    """Whether the switch has closed this connection; answers that came before are read away."""
    try:
        wire.socket.setblocking(False)
        while True:
            if not wire.socket.recv(65536):
                return True
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


@case
def garbage_and_truncated_messages_harm_nobody(world):
    switch, alice, bob, mallory = three(world)
    rng = random.Random(8)
    invite = mallory.build("INVITE", "sip:bob@tandem.test", cseq=1, headers=[f"Contact: <{mallory.contact}>", "Content-Type: application/sdp"],
                           body=Media(world, mallory.wire.address).sdp())
    for size in range(0, len(invite), 7):
        mallory.wire.send(invite[:size] or b"\n")
    for _ in range(1500):
        mallory.wire.send(rng.randbytes(rng.choice((1, 3, 20, 200, 1400))))
    for _ in range(600):
        data = bytearray(invite)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        mallory.wire.send(bytes(data))
    for _ in range(20):
        tcp = Wire(world, switch, "tcp")
        try:
            tcp.send(rng.randbytes(5000))
        except OSError:
            pass
        tcp.close()
    still_serves(world, switch)
    bob.wire.inbox.clear()
    equal(bob.bindings(), [bob.contact], "bindings of bob")
    switch.finish()


# -- S11: floods ---------------------------------------------------------------------------------------------------------


@case(seconds=60)
def S11_flood_of_registers_without_credentials_costs_no_memory(world):
    needs_tandem()
    switch = Switch(world, capture=False)
    attackers = [Agent(world, switch, f"flood{i}", address=world.address()) for i in range(4)]
    still_serves(world, switch)
    before = switch.memory()
    for i in range(30000):
        agent = attackers[i & 3]
        agent.wire.send(agent.build("REGISTER", "sip:tandem.test", to=f"sip:user{i}@tandem.test", sender=f"<sip:user{i}@tandem.test>", cseq=i,
                                    headers=[f"Contact: <sip:user{i}@127.0.0.1:9>"]))
    still_serves(world, switch)
    check(switch.memory() - before < 30e6, f"memory grew by {(switch.memory() - before) / 1e6:.1f} MB over 30000 requests")
    switch.finish()


@case(seconds=60)
def S11_flood_of_invites_over_tcp_costs_no_memory(world):
    needs_tandem()
    switch = Switch(world, capture=False)
    bob = Agent(world, switch, "bob").registered()
    before = switch.memory()
    for i in range(10):
        wire = Agent(world, switch, "mallory", transport="tcp")
        try:
            for j in range(1000):
                wire.wire.send(wire.build("INVITE", "sip:bob@tandem.test", cseq=1, headers=[f"Contact: <{wire.contact}>"]))
                if j % 50 == 0:
                    wire.wire.read(0)
        except OSError:
            pass
    still_serves(world, switch)
    check(switch.memory() - before < 60e6, f"memory grew by {(switch.memory() - before) / 1e6:.1f} MB over 10000 requests")
    bob.wire.nothing(lambda m: m.method == "INVITE", "call", 0.3)
    switch.finish()


@case
def S11_refusal_of_a_strangers_invite_is_sent_once(world):
    needs_tandem()
    switch, alice, bob, mallory = three(world)
    request = mallory.build("INVITE", "sip:bob@tandem.test", cseq=1, call_id="once", headers=[f"Contact: <{mallory.contact}>"])
    mallory.wire.send(request)
    mallory.wire.receive(lambda m: m.status in (401, 403, 407), "refusal")  # and never an ACK from us
    mallory.wire.nothing(lambda m: (m.status or 0) >= 300, "second refusal", 2.5)
    switch.finish()


@case
def S11_answer_to_a_stranger_is_no_amplifier(world):
    needs_tandem()
    switch, alice, bob, mallory = three(world)
    for method, uri in (("REGISTER", "sip:tandem.test"), ("OPTIONS", "sip:tandem.test"), ("INVITE", "sip:bob@tandem.test"), ("MESSAGE", "sip:bob@tandem.test")):
        request = mallory.build(method, uri, cseq=1, call_id=method)
        mallory.wire.send(request)
        time.sleep(0.3)
        size = 0
        while (m := mallory.wire.read(0)) is not None:
            size += len(m.data)
        check(0 < size <= 3 * len(request), f"{size} bytes answer {len(request)} bytes of {method}")
    switch.finish()


@case
def S11_idle_connections_do_not_keep_others_out(world):
    needs_tandem()
    switch = Switch(world, limits='half_open = "3s"')
    address = world.address()
    idle = []
    for transport in ("tcp", "tls"):
        for _ in range(70):
            s = socket.socket()
            s.bind((address, 0))
            s.settimeout(2)
            try:
                s.connect((switch.address, switch.ports[transport]))
                idle.append(s)
            except OSError:
                pass
    for transport in ("tcp", "tls", "udp"):
        Agent(world, switch, "alice", transport=transport).registered(seconds=3)

    def all_closed():
        for s in idle:
            s.setblocking(False)
            try:
                if s.recv(1):
                    return False
            except BlockingIOError:
                return False
            except OSError:
                pass
        return True
    world.wait("idle connections are closed", all_closed, 12)
    switch.finish()


@case
def S11_slow_half_messages_are_cut_off(world):
    needs_tandem()
    switch = Switch(world, limits='half_open = "2s"')
    address = world.address()
    slow = [Wire(world, switch, "tcp", address) for _ in range(30)]
    head = b"OPTIONS sip:tandem.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKslow\r\nX-Slow: " + b"a" * 4000
    began = time.monotonic()
    sent = 0
    open_ones = list(slow)
    while open_ones and time.monotonic() - began < 12:
        for wire in list(open_ones):
            try:
                wire.socket.sendall(head[sent : sent + 3])
            except OSError:
                open_ones.remove(wire)
                continue
            if closed(wire):
                open_ones.remove(wire)
        sent += 3
        time.sleep(0.1)
    check(not open_ones, f"{len(open_ones)} of 30 connections may drip a message for 12 s")
    still_serves(world, switch)
    switch.finish()


# -- S12 and digest ----------------------------------------------------------------------------------------------------------


def challenged(agent, method="REGISTER", uri=None):
    """A fresh challenge for this agent."""
    answer = agent.ask(method, uri or f"sip:{agent.switch.domain}", to=agent.aor, auth=False)
    check(answer.status in (401, 407), f"no challenge but {answer.start}")
    return challenge(answer, best(answer))


def register_with(agent, value, **parts):
    return agent.ask("REGISTER", f"sip:{agent.switch.domain}", to=agent.aor, auth=False,
                     headers=[f"Contact: <{agent.contact}>", f"Authorization: {value}"], **parts)


@case
def S12_authorization_for_another_realm_gets_a_fresh_challenge(world):
    switch = Switch(world)
    alice = Agent(world, switch, "alice")
    c = challenged(alice)
    for change in (dict(realm="elsewhere.example"), dict(realm=""), dict(nonce="made-up"), dict(nonce=""), dict(nonce=c["nonce"][:-2] + "zz")):
        answer = register_with(alice, authorization(c, "alice", "alice-secret", "REGISTER", "sip:tandem.test", **change))
        equal(answer.status, 401, f"answer to {change}")
        check(answer.get("WWW-Authenticate"), "401 without a challenge")
    for garbage in ("Digest", "Digest ,,,,", 'Digest username="', "Basic YWxpY2U6YWxpY2Utc2VjcmV0", "Bearer x", 'Digest username=alice, nc=zz, qop="auth,auth-int"'):
        answer = register_with(alice, garbage)
        check(answer.status in (400, 401, 403), f"{garbage!r} got {answer.start}")
    alice.registered()
    switch.finish()


@case
def digest_answer_cannot_be_replayed(world):
    needs_tandem()
    switch = Switch(world)
    alice = Agent(world, switch, "alice")
    value = authorization(challenged(alice), "alice", "alice-secret", "REGISTER", "sip:tandem.test")
    equal(register_with(alice, value, call_id="one").status, 200, "the first use")
    answer = register_with(alice, value, call_id="two")
    equal(answer.status, 401, "the second use of the same nonce count")
    switch.finish()


@case
def digest_answer_counts_for_its_own_uri_method_and_address_only(world):
    needs_tandem()
    switch = Switch(world)
    alice, thief = Agent(world, switch, "alice"), Agent(world, switch, "alice")
    c = challenged(alice)
    other_uri = authorization(c, "alice", "alice-secret", "REGISTER", "sip:other.test")
    check(register_with(alice, other_uri).status in (400, 401, 403), "an answer for another URI was taken")
    other_method = authorization(challenged(alice), "alice", "alice-secret", "INVITE", "sip:tandem.test")
    check(register_with(alice, other_method).status in (401, 403), "an answer for another method was taken")
    stolen = authorization(challenged(alice), "alice", "alice-secret", "REGISTER", "sip:tandem.test")
    check(register_with(thief, stolen).status in (401, 403), "an answer to another address's challenge was taken")
    alice.registered()
    switch.finish()


@case
def known_and_unknown_users_are_answered_alike(world):
    needs_tandem()
    switch = Switch(world)
    def shape(user, password):
        agent = Agent(world, switch, user, password)
        first = agent.ask("REGISTER", "sip:tandem.test", to=agent.aor, auth=False)
        second = agent.register()
        return [(m.status, m.start, sorted(n.lower() for n, _ in m.fields)) for m in (first, second)]
    equal(shape("nobody", "x"), shape("alice", "x"), "answers to an unknown and a known user")

    def seconds(user):
        agent = Agent(world, switch, user, "wrong")
        c = challenged(agent)
        began = time.monotonic()
        register_with(agent, authorization(c, user, "wrong", "REGISTER", "sip:tandem.test"))
        return time.monotonic() - began
    known, unknown = min(seconds("alice") for _ in range(4)), min(seconds(f"ghost{i}") for i in range(4))
    check(abs(known - unknown) < 0.05, f"a known user is answered in {known * 1e3:.1f} ms, an unknown one in {unknown * 1e3:.1f} ms")
    switch.finish()


@case
def guessing_passwords_is_limited_per_address(world):
    needs_tandem()
    switch = Switch(world, limits="failed_logins_per_minute = 5")
    guesser = world.address()
    for i in range(8):
        Agent(world, switch, ("alice", "bob", "carol", "dave")[i % 4], f"guess{i}", address=guesser).register()
    answer = Agent(world, switch, "carol", address=guesser).register()
    check(answer.status != 200, "after 8 failures the address may still log in")
    Agent(world, switch, "carol").registered()  # nobody else suffers
    switch.finish()


@case
def guessing_passwords_is_limited_per_account(world):
    needs_tandem()
    switch = Switch(world, limits="failed_logins_per_minute = 5")
    for i in range(8):
        Agent(world, switch, "alice", f"guess{i}").register()  # each from another address
    answer = Agent(world, switch, "alice", "alice-secret").register()
    check(answer.status != 200, "after 8 failures the account may still be guessed from a new address")
    Agent(world, switch, "bob").registered()
    switch.finish()


# -- S2: media of strangers -----------------------------------------------------------------------------------------------------


@case
def S2_media_of_a_stranger_is_neither_forwarded_nor_answered(world):
    needs_tandem()
    switch, alice, bob, mallory = three(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    stranger = Media(world, mallory.wire.address, 1100)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.answer(b.sdp())
    a.aim(outgoing.answered().body), b.aim(incoming.invite.body)
    for target in (a.target, b.target):  # before the parties have sent anything
        stranger.target = target
        stranger.play(0.4).join()
    a.play(4), b.play(4)
    a.wait_hears(700, 0.5), b.wait_hears(500, 0.5)
    for target in (a.target, b.target):  # and while they talk
        stranger.target = target
        stranger.play(0.5).join()
    since = time.monotonic()
    a.wait_hears(700, 0.5, since=since), b.wait_hears(500, 0.5, since=since)
    equal(round(a.heard(1100) + b.heard(1100), 2), 0, "seconds of the stranger's tone at the parties")
    equal(len(stranger.received), 0, "packets that the stranger got")
    outgoing.bye(incoming)
    switch.finish()


@case
def S2_bad_packets_do_not_end_a_call(world):  # S3
    needs_tandem()
    switch, alice, bob, _ = three(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.answer(b.sdp())
    a.aim(outgoing.answered().body), b.aim(incoming.invite.body)
    a.play(5), b.play(5)
    a.wait_hears(700, 0.3)
    rng = random.Random(3)
    for _ in range(2000):
        a.socket.sendto(rng.randbytes(rng.choice((0, 1, 4, 11, 12, 13, 172, 1400))), a.target)
        a.socket.sendto(rng.randbytes(40), (a.target[0], a.target[1] + 1))
    since = time.monotonic()
    a.wait_hears(700, 0.5, since=since), b.wait_hears(500, 0.5, since=since)
    outgoing.bye(incoming)
    switch.finish()


@case
def S19_sdp_that_points_at_the_switch_itself_does_not_loop_media(world):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    evil = a.sdp().replace(f"c=IN IP4 {a.address}", f"c=IN IP4 {switch.address}").replace(f"m=audio {a.port}", f"m=audio {switch.ports['udp']}")
    outgoing = alice.invite("bob", evil)
    first = world.wait("an answer or a call", lambda: next((m for m in alice.wire.inbox), None) or alice.wire.read(0.05) or bob.wire.read(0.05), 5)
    if first.method == "INVITE":
        bob.respond(first, 200, "OK", body=b.sdp())
        b.aim(first.body)
        b.play(1).join()
        still_serves(world, switch, "carol")
    switch.finish()


@case
def S19_media_goes_to_no_port_that_may_be_ours(world):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    trap = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    trap.bind((switch.address, switch.rtp[1] - 1))  # in the range, and not open in the switch
    trap.settimeout(0.2)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    evil = a.sdp().replace(f"c=IN IP4 {a.address}", f"c=IN IP4 {switch.address}").replace(f"m=audio {a.port}", f"m=audio {trap.getsockname()[1]}")
    alice.invite("bob", evil)
    incoming = bob.incoming()
    incoming.answer(b.sdp())
    b.aim(incoming.invite.body)
    b.play(0.6).join()
    try:
        got = trap.recv(2000)
    except TimeoutError:
        got = None
    check(got is None, "media was sent to a port of ours because the SDP said so")
    switch.finish()


@case
def S2_forged_packets_of_another_source_do_not_silence_a_stream(world):
    needs_tandem()
    switch, alice, bob, _ = three(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.answer(b.sdp())
    a.aim(outgoing.answered().body), b.aim(incoming.invite.body)
    a.play()
    b.wait_hears(500, 0.3)
    since = time.monotonic()
    for n in range(10):  # from the right address: whoever forges that sees no more than the numbers
        a.socket.sendto(struct.pack("!BBHII", 0x80, 0, n, 160 * n, 1000 + n) + b"\xee" * 160, a.target)
        time.sleep(0.1)
    b.wait_hears(500, 0.8, within=0.6, since=since)
    equal([d for _, _, d in b.received if d[12:] == b"\xee" * 160], [], "forged packets that went on")
    outgoing.bye(incoming)
    switch.finish()


# -- S11: one account ---------------------------------------------------------------------------------------------------------


@case
def S11_one_user_does_not_take_all_calls(world):
    needs_tandem()
    switch, alice, bob, _ = three(world, limits="calls_per_user = 3")
    carol = Agent(world, switch, "carol").registered()
    media = Media(world, alice.wire.address)
    for _ in range(3):
        alice.invite("bob", media.sdp())
        bob.incoming()
    refused = alice.invite("bob", media.sdp()).final()
    equal(refused.status, 486, "answer to the fourth")
    check(1 <= int(refused.get("Retry-After")) <= 10, f"Retry-After: {refused.get('Retry-After')!r}")
    carol.invite("bob", Media(world, carol.wire.address).sdp())
    bob.incoming()
    switch.finish()


# -- S14: calls torn at every step ------------------------------------------------------------------------------------------------


@case(seconds=90)
def S14_calls_torn_at_every_step_leave_nothing_behind(world):
    needs_tandem()
    trunk = world.address(50)
    switch = Switch(world, trunks=[("test", trunk)], capture=False)
    bob = Agent(world, switch, "bob").registered()
    caller = Agent(world, switch, "trunk", address=trunk)
    offer, answer = Media(world, trunk).sdp(), Media(world, bob.wire.address).sdp()

    def tear(step):
        outgoing = caller.invite("bob", offer, auth=False)
        if step == 0:
            outgoing.response(lambda s: s >= 100)
            return outgoing.cancel() and finish_cancelled(outgoing, bob.incoming())
        incoming = bob.incoming()
        if step == 1:
            return outgoing.cancel() and finish_cancelled(outgoing, incoming)
        incoming.ring()
        outgoing.ringing()
        if step == 2:
            return outgoing.cancel() and finish_cancelled(outgoing, incoming)
        if step == 3:
            incoming.respond(603, "Decline")
            return outgoing.final()
        if step == 4:
            outgoing.cancel()
            incoming.answer(answer)  # crosses
            bob.wire.receive(lambda m: m.method in ("BYE", "CANCEL") and m.get("Call-ID") == incoming.call_id, "end")
            end = [m for m in [outgoing.final()] if m.status == 200]
            return end and (outgoing.ack(), outgoing.bye())
        incoming.answer(answer)
        if step == 5:
            outgoing.final()
            return outgoing.bye(incoming)
        if step == 6:
            incoming.bye()
            outgoing.final()
            outgoing.ack()
            return outgoing.wait_bye()
        outgoing.answered()
        incoming.wait_ack()
        return outgoing.bye(incoming) if step == 7 else incoming.bye(outgoing)

    def finish_cancelled(outgoing, incoming):
        incoming.respond(100, "Trying")  # before a provisional response no CANCEL may be sent (RFC 3261 §9.1)
        incoming.wait_cancel()
        outgoing.final()

    for step in range(9):
        tear(step)  # once each, so that everything lazy is there
    bob.wire.inbox.clear()
    descriptors, memory = switch.descriptors(), switch.memory()
    for _ in range(6):
        for step in range(9):
            tear(step)
            while bob.wire.read(0):
                pass
            bob.wire.inbox.clear()
            caller.wire.inbox.clear()
    world.wait("media ports are closed again", lambda: switch.descriptors() <= descriptors, 40)
    check(switch.memory() - memory < 20e6, f"memory grew by {(switch.memory() - memory) / 1e6:.1f} MB over 54 calls")
    switch.finish()


# -- the web's rules ----------------------------------------------------------------------------------------------------------------


@case
def websocket_from_a_foreign_origin_is_refused(world):
    needs_tandem()
    switch = Switch(world, ws=True, sip_extra='origins = ["https://app.example", "http://127.0.0.1:*"]')
    def handshake(origin, protocol="sip"):
        with socket.create_connection((switch.address, switch.ports["ws"]), timeout=5) as s:
            s.sendall((f"GET / HTTP/1.1\r\nHost: {switch.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + (f"Origin: {origin}\r\n" if origin else "")
                       + (f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else "") + "\r\n").encode())
            line = s.recv(4096).split(b"\r\n")[0].decode()
            return int(line.split()[1]) if line else 0
    for origin, expected in (("https://app.example", 101), ("http://127.0.0.1:3000", 101), (None, 101), ("https://evil.example", 403),
                             ("https://app.example.evil.example", 403), ("null", 403), ("http://app.example", 403)):
        equal(handshake(origin), expected, f"handshake from {origin}")
    check(handshake("https://app.example", None) != 101, "a WebSocket without the subprotocol sip was accepted")
    switch.finish()
