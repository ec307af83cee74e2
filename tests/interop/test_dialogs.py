"""Calls with scripted agents: races, losses, tags and headers that no phone can be made to send on command."""

import re
import socket
import struct
import threading
import time

from harness.cas import Cas
from harness.cases import case
from harness.sut import Switch, needs_tandem
from harness.wire import Agent, Media, Outgoing, token
from harness.world import Failed, Skip, check, equal


def pair(world, a="udp", b="udp", **switch_options):
    """A switch with alice and bob registered as scripted agents."""
    switch = Switch(world, **switch_options)
    return switch, Agent(world, switch, "alice", transport=a).registered(), Agent(world, switch, "bob", transport=b).registered()


def message(alice, bob, *headers, body="x"):
    """Sends a MESSAGE of alice's: what bob gets, and the answer to her."""
    result, lines = [], ["Content-Type: text/plain", *headers]
    asking = threading.Thread(target=lambda: result.append(alice.ask("MESSAGE", "sip:bob@tandem.test", headers=lines, body=body, seconds=15)))
    asking.start()
    got = bob.wait_request("MESSAGE", 10)
    bob.respond(got, 200, "OK")
    asking.join(15)
    return got, *result


def connected(world, alice, bob):
    """A call in progress: both ends' dialogs and media."""
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.ring()
    incoming.answer(b.sdp())
    answer = outgoing.answered()
    incoming.wait_ack()
    a.aim(answer.body), b.aim(incoming.invite.body)
    return outgoing, incoming, a, b


# -- an ordinary call ----------------------------------------------------------------------------------------------


@case(rows=[("udp", "udp"), ("tcp", "udp"), ("tls", "tcp"), ("udp", "tls")], row="{}_to_{}")
def agents_call_and_hear_each_other(world, a, b):
    switch, alice, bob = pair(world, a, b)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    at_alice.play(3), at_bob.play(3)
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    outgoing.bye(incoming) if a < b else incoming.bye(outgoing)
    switch.finish()


@case(rows=[("ws",), ("wss",)], row="over_{}")
def agents_call_over_websocket(world, transport):
    needs_tandem()
    switch, alice, bob = pair(world, transport, "udp", ws=True)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    at_alice.play(3), at_bob.play(3)
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    incoming.bye(outgoing)
    back = bob.invite("alice", at_bob.sdp())  # and towards the WebSocket: its contact cannot be connected to
    alice.incoming().respond(486, "Busy Here")
    equal(back.final().status, 486, "answer to the call towards the WebSocket")
    switch.finish()


@case
def media_goes_through_the_address_and_port_that_the_sdp_names(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    equal(at_alice.target[0], switch.address, "media address told to the caller")
    equal(at_bob.target[0], switch.address, "media address told to the callee")
    at_alice.play(3), at_bob.play(3)
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    equal({s for _, s, _ in at_alice.received}, {at_alice.target}, "source of the caller's media")
    equal({s for _, s, _ in at_bob.received}, {at_bob.target}, "source of the callee's media")
    outgoing.bye(incoming)
    switch.finish()


@case
def early_media_reaches_the_caller_before_the_answer(world):
    switch, alice, bob = pair(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.respond(183, "Session Progress", b.sdp())
    progress = outgoing.response(lambda s: s == 183)
    check(progress.body, "the 183 lost its SDP")
    b.aim(incoming.invite.body)
    b.play(4)
    a.wait_hears(700)
    incoming.answer(b.sdp())
    a.aim(outgoing.answered().body)
    a.play(2)
    b.wait_hears(500)
    outgoing.bye(incoming)
    switch.finish()


@case(rows=[("without",), ("with",)], row="{}_sdp_in_the_200")
def an_answer_in_a_reliable_183_is_the_answer(world, sdp):
    needs_tandem()
    switch, alice, bob = pair(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.respond(183, "Session Progress", b.sdp(), ["Require: 100rel", "RSeq: 7"])
    bob.respond(bob.wait_request("PRACK"), 200, "OK")
    incoming.respond(200, "OK", b.sdp() if sdp == "with" else "")
    a.aim(outgoing.answered().body), b.aim(incoming.invite.body)
    incoming.wait_ack()
    a.play(2), b.play(2)
    a.wait_hears(700), b.wait_hears(500)
    outgoing.bye(incoming)
    switch.finish()


@case
def late_offer_is_answered_in_the_ack(world):
    switch, alice, bob = pair(world)
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob")
    incoming = bob.incoming()
    incoming.respond(200, "OK", b.sdp())
    answer = outgoing.final()
    check(b"m=audio" in answer.body, "the 200 to an INVITE without an offer has no offer")
    outgoing.ack(a.sdp())
    ack = incoming.wait_ack()
    a.aim(answer.body), b.aim(ack.body or incoming.invite.body)
    a.play(2), b.play(2)
    a.wait_hears(700), b.wait_hears(500)
    outgoing.bye(incoming)
    switch.finish()


@case
def the_callee_sees_neither_address_nor_call_id_of_the_caller(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, _ = connected(world, alice, bob)
    text = str(incoming.invite)
    for secret, what in ((alice.wire.address, "address"), (outgoing.call_id, "Call-ID"), (outgoing.local_tag, "tag")):
        check(secret not in text, f"the callee's INVITE shows the caller's {what}:\n{text}")
    outgoing.bye(incoming)
    switch.finish()


@case
def a_caller_who_wants_privacy_is_not_shown(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    sdp = Media(world, alice.wire.address).sdp()
    for value, shown in (("user;id", False), ("header", False), ("id, user", False), ("id; critical", False), ("none", True)):
        outgoing = alice.invite("bob", sdp, headers=[f"Privacy: {value}"])
        incoming = bob.incoming()
        check(("alice" in str(incoming.invite)) == shown, f"Privacy: {value} gives\n{incoming.invite}")
        incoming.respond(486, "Busy Here")
        outgoing.final()
    equal(alice.invite("bob", sdp, headers=["Privacy: id;strange;critical"]).final().status, 500, "answer to a critical unknown value")
    for value, shown in (("id", False), ("none", True)):
        got, answer = message(alice, bob, f"Privacy: {value}", "Reply-To: <sip:alice@alice.test>", "User-Agent: alice's")
        known = ["alice" in str(got), alice.wire.address in str(got), got.get("Call-ID") == answer.get("Call-ID")]
        equal((known, answer.status), ([shown] * 3, 200), f"MESSAGE with Privacy: {value} gives\n{got}")
        check("alice" in answer.get("From"), f"the sender's answer is another's:\n{answer}")
    refused = alice.ask("MESSAGE", "sip:bob@tandem.test", headers=["Content-Type: text/plain", "Privacy: id;strange;critical"], body="x")
    equal(refused.status, 500, "answer to a MESSAGE with a critical unknown value")
    switch.finish()


@case(rows=[("udp", "udp", 416), ("tls", "udp", 480), ("tls", "tls", 486)], row="{0}_{1}")
def sips_is_reached_over_tls_alone(world, a, b, status):
    needs_tandem()
    switch, alice, bob = pair(world, a, b)
    outgoing = Outgoing(alice, f"sips:bob@{switch.domain}", Media(world, alice.wire.address).sdp())
    if status == 486:
        bob.incoming().respond(486, "Busy Here")
    equal(outgoing.final().status, status, f"answer to sips: from {a} to {b}")
    switch.finish()


@case
def an_invitation_ends_when_its_expires_says(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=["Expires: 1"])
    incoming = bob.incoming()
    incoming.ring()
    equal(outgoing.final().status, 487, "answer")
    incoming.wait_cancel()
    switch.finish()


@case
def a_call_to_oneself_rings_the_other_devices(world):
    needs_tandem()
    switch, alice, _ = pair(world)
    sdp = Media(world, alice.wire.address).sdp()
    equal(alice.invite("alice", sdp).final().status, 480, "answer without another device")
    other = Agent(world, switch, "alice").registered()
    outgoing = alice.invite("alice", sdp)
    other.incoming().respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer of the other device")
    alice.wire.nothing(lambda m: m.method == "INVITE", "call", 0.3)
    switch.finish()


@case
def options_are_answered_as_invite_would_be(world):
    needs_tandem()
    switch, alice, _ = pair(world)
    for code, status in (("*70", 200), ("*799999", 404)):
        answer = alice.ask("OPTIONS", f"sip:{code}@{switch.domain}")
        equal((answer.status, "INVITE" in answer.get("Allow")), (status, status == 200), f"OPTIONS to {code}")
        equal(alice.ask("OPTIONS", f"sip:{code}@{switch.domain}", auth=False).status, 407, "answer to a stranger")
    switch.finish()


@case
def number_dialled_as_user_phone_or_with_a_compact_header_reaches_the_user(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    for uri in (f"sip:502@{switch.domain};user=phone", f"sip:5-02;phone-context={switch.domain}@{switch.host};user=phone", f"sip:%62ob@{switch.domain}."):
        outgoing = alice.invite(uri, Media(world, alice.wire.address).sdp())
        bob.incoming().respond(486, "Busy Here")
        equal(outgoing.final().status, 486, f"answer to {uri}")
    for uri in ("tel:502;phone-context=example.com", f"sip:502;phone-context=example.com@{switch.domain};user=phone"):
        elsewhere = alice.ask("INVITE", uri, headers=[f"Contact: <{alice.contact}>"])
        equal(elsewhere.status, 404, f"answer to the same number of another context, {uri}")
    switch.finish()


@case
def media_follows_a_reinvite_to_another_port_and_address(world):
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    at_alice.play(), at_bob.play()
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    moved = Media(world, world.address(), 900)  # bob's phone goes on from another address
    incoming.local_cseq += 1
    bob.wire.send(incoming.build("INVITE", body=moved.sdp()))
    at_caller = alice.wire.read(0.5)
    if at_caller and at_caller.method == "INVITE":  # the switch may pass it on, or not
        alice.respond(at_caller, 200, "OK", body=at_alice.sdp())
    elif at_caller:
        alice.wire.inbox.append(at_caller)
    answer = bob.wire.receive(lambda m: (m.status or 0) >= 200 and m.cseq() == (incoming.local_cseq, "INVITE"), "answer to re-INVITE")
    equal(answer.status, 200, "answer to the re-INVITE")
    incoming.ack()
    moved.aim(answer.body)
    moved.play()
    if at_caller:
        at_alice.aim(at_caller.body)
    moved.wait_hears(500)
    at_alice.wait_hears(900)
    outgoing.bye(incoming)
    switch.finish()


@case
def rtcp_reaches_the_other_side(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    at_alice.play(4), at_bob.play(4)
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    reports = []
    for media in (at_alice, at_bob):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((media.address, media.port + 1))
        s.settimeout(0.2)
        world.closers.append(s.close)
        reports.append(s)
    sender_report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 0x11223344, 1, 2, 3, 4, 5) + struct.pack("!BBHI", 0x81, 202, 3, 0x11223344) + b"\x01\x05alice\0"

    def arrives():
        reports[0].sendto(sender_report, (at_alice.target[0], at_alice.target[1] + 1))
        try:
            return reports[1].recv(2048)[1] in (200, 201)
        except TimeoutError:
            return False
    world.wait("a sender or receiver report arrives", arrives, 8)
    outgoing.bye(incoming)
    switch.finish()


@case(rows=[("MD5",), ("SHA-256",)], row="{}")
def invite_is_authorised_with(world, algorithm):
    if algorithm == "SHA-256":
        needs_tandem()
    switch = Switch(world)
    alice, bob = Agent(world, switch, "alice", algorithm=algorithm), Agent(world, switch, "bob").registered()
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    bob.incoming().respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer")
    switch.finish()


@case
def hold_in_the_old_way_with_address_0_0_0_0_stops_the_media(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    at_bob.play()
    at_alice.wait_hears(700)
    outgoing.local_cseq += 1
    alice.wire.send(outgoing.build("INVITE", body=at_alice.sdp("sendonly").replace(f"c=IN IP4 {at_alice.address}", "c=IN IP4 0.0.0.0")))
    at_callee = bob.wire.receive(lambda m: m.method == "INVITE" and m.get("Call-ID") == incoming.call_id, "re-INVITE")
    check(b"a=sendonly" in at_callee.body or b"a=inactive" in at_callee.body or b"0.0.0.0" in at_callee.body, "the hold does not reach the callee")
    bob.respond(at_callee, 200, "OK", body=at_bob.sdp("recvonly"))
    equal(outgoing.response(lambda s: s >= 200).status, 200, "answer to the re-INVITE")
    outgoing.ack()
    world.wait("no media arrives", lambda: quiet(at_alice, 0.5), 5)
    outgoing.bye(incoming)
    switch.finish()


@case
def hold_by_command_is_offered_to_the_held_phone(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    cas = Cas(switch)
    call = cas.only_call()
    at_alice.play(), at_bob.play()
    at_alice.wait_hears(700), at_bob.wait_hears(500)

    def order(what):
        cas.ask("tel", what, call=call, user="alice")
        return bob.wait_request("INVITE", **{"Call-ID": incoming.call_id})

    offer = order("hold")
    check(b"a=sendonly" in offer.body, "the offer does not say sendonly")
    # music flows before the phone has answered, and after it, as long as it is told
    at = time.monotonic()
    world.wait("bob hears music", lambda: len(at_bob.received) and at_bob.received[-1][0] > at + 0.3 and at_bob.heard(500, at + 0.2) == 0, 5)
    bob.respond(offer, 200, "OK", body=at_bob.sdp("recvonly"))
    incoming.wait_ack()
    world.wait("alice hears nothing", lambda: quiet(at_alice, 0.3), 5)
    states = {party["user"]: (party["state"], party.get("held-at-device", False)) for party in cas.call(call)["parties"]}
    equal(states, {"alice": ("held", False), "bob": ("connected", False)}, "the parties")
    refreshed = incoming.request("INVITE", body=at_bob.sdp("recvonly"))
    incoming.ack()
    check(refreshed.status == 200 and b"a=sendonly" in refreshed.body, f"a refresh was answered {refreshed.start}")

    # refused with 491, and made again; then a hold that the phone does not take at all
    offer = order("resume")
    bob.respond(offer, 491, "Request Pending")
    incoming.wait_ack()
    offer = bob.wait_request("INVITE", seconds=6, **{"Call-ID": incoming.call_id})
    check(b"a=sendonly" not in offer.body, "the offer does not take bob off hold")
    bob.respond(offer, 200, "OK", body=at_bob.sdp())
    incoming.wait_ack()
    at_alice.wait_hears(700, since=time.monotonic()), at_bob.wait_hears(500, since=time.monotonic())
    bob.respond(order("hold"), 488, "Not Acceptable Here")
    incoming.wait_ack()
    world.wait("alice hears nothing", lambda: quiet(at_alice, 0.3), 5)
    cas.ask("tel", "resume", call=call, user="alice")
    at_alice.wait_hears(700, since=time.monotonic()), at_bob.wait_hears(500, since=time.monotonic())
    outgoing.bye(incoming)
    switch.finish()


def quiet(media, seconds):
    before = len(media.received)
    time.sleep(seconds)
    return len(media.received) == before


@case
def direct_media_goes_from_device_to_device(world):
    needs_tandem()
    switch, alice, bob = pair(world, extra='[policy]\nmedia = "direct"\n')
    outgoing, incoming, at_alice, at_bob = connected(world, alice, bob)
    equal(at_alice.target, (at_bob.address, at_bob.port), "where the caller is told to send")
    equal(at_bob.target, (at_alice.address, at_alice.port), "where the callee is told to send")
    at_alice.play(2), at_bob.play(2)
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    outgoing.bye(incoming)
    switch.finish()


# -- lost and repeated messages -------------------------------------------------------------------------------------


@case
def answer_is_repeated_until_it_is_acknowledged(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    a = Media(world, alice.wire.address)
    outgoing = alice.invite("bob", a.sdp())
    bob.incoming().answer(Media(world, bob.wire.address).sdp())
    first = outgoing.final()
    again = outgoing.final(3)
    equal(again.tag("To"), first.tag("To"), "tag of the repeated 200")
    outgoing.final(4)
    outgoing.ack()
    bob.wire.nothing(lambda m: m.method == "BYE", "BYE", 1)
    outgoing.bye()
    switch.finish()


@case
def repeated_answer_of_the_callee_is_acknowledged_again(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, *_ = connected(world, alice, bob)
    for _ in range(2):
        incoming.respond(200, "OK", Media(world, bob.wire.address).sdp())
        incoming.wait_ack(2)
    incoming.bye(outgoing)
    switch.finish()


@case
def repeated_invite_is_one_call(world):
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    for _ in range(3):
        alice.wire.send(outgoing.request_bytes)
    bob.wire.nothing(lambda m: m.method == "INVITE" and m.get("Call-ID") != incoming.call_id, "second call", 1)
    incoming.respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer")
    switch.finish()


@case
def invite_bye_and_cancel_to_a_deaf_device_are_retransmitted(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    again = bob.wait_request("INVITE", 2)
    equal(again.get("Via"), incoming.invite.get("Via"), "Via of the repeated INVITE")
    incoming.ring()
    outgoing.ringing()
    equal(outgoing.cancel().status, 200, "answer to CANCEL")
    bob.wait_request("CANCEL")
    incoming.wait_cancel(3)  # the second one is heard
    equal(outgoing.final().status, 487, "answer to the INVITE")
    outgoing, incoming, *_ = connected(world, alice, bob)
    outgoing.bye()
    bob.wait_request("BYE", **{"Call-ID": incoming.call_id})
    incoming.wait_bye(3)
    switch.finish()


@case(seconds=90, slow=True)
def call_whose_answer_is_never_acknowledged_is_ended(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.final()
    incoming.wait_bye(45)  # 64 * T1 after the answer
    alice.wire.inbox.clear()
    switch.finish()


# -- races --------------------------------------------------------------------------------------------------------


@case
def answer_that_crosses_the_cancel_is_acknowledged_and_ended(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.ring()
    outgoing.ringing()
    equal(outgoing.cancel().status, 200, "answer to CANCEL")
    request = bob.wait_request("CANCEL")
    incoming.respond(200, "OK", Media(world, bob.wire.address).sdp())  # the phone was picked up a moment before
    bob.respond(request, 200, "OK")
    incoming.wait_ack()
    incoming.wait_bye()
    equal(outgoing.final().status, 487, "answer to the cancelled INVITE")
    switch.finish()


@case
def cancel_after_the_answer_changes_nothing(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.answered()
    check(outgoing.cancel().status in (200, 481), "a late CANCEL needs an answer")
    bob.wire.nothing(lambda m: m.method in ("BYE", "CANCEL"), "end of the call", 1)
    outgoing.bye(incoming)
    switch.finish()


@case
def bye_before_the_ack_ends_the_call(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.final()
    outgoing.bye(incoming)
    switch.finish()


@case
def bye_of_the_callee_right_behind_its_answer_ends_the_call(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.respond(200, "OK", Media(world, bob.wire.address).sdp())
    incoming.bye()
    outgoing.answered()
    outgoing.wait_bye()
    switch.finish()


@case
def bye_in_the_early_dialog_ends_the_call(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.ring()
    outgoing.ringing()
    invite_cseq = outgoing.local_cseq
    outgoing.bye()
    incoming.wait_cancel()
    outgoing.local_cseq = invite_cseq
    equal(outgoing.final().status, 487, "answer to the INVITE")
    switch.finish()


@case
def byes_from_both_sides_at_once_are_both_answered(world):  # S14
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, *_ = connected(world, alice, bob)
    outgoing.local_cseq += 1
    incoming.local_cseq += 1
    alice.wire.send(outgoing.build("BYE"))
    bob.wire.send(incoming.build("BYE"))
    for agent, dialog in ((alice, outgoing), (bob, incoming)):
        answer = agent.wire.receive(lambda m: m.status and m.cseq()[1] == "BYE" and m.get("Call-ID") == dialog.call_id, "answer to BYE")
        check(answer.status in (200, 481), f"BYE was answered with {answer.start}")
    switch.finish()


@case
def crossing_reinvites_get_491_or_wait(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, a, b = connected(world, alice, bob)
    outgoing.local_cseq += 1
    alice.wire.send(outgoing.build("INVITE", body=a.sdp("sendonly")))
    at_bob = bob.wait_request("INVITE", **{"Call-ID": incoming.call_id})
    incoming.local_cseq += 1
    bob.wire.send(incoming.build("INVITE", body=b.sdp("sendonly")))  # before answering
    crossed = bob.wire.receive(lambda m: (m.status or 0) >= 200 and m.cseq() == (incoming.local_cseq, "INVITE"), "answer to the crossing re-INVITE")
    equal(crossed.status, 491, "answer to the crossing re-INVITE")
    incoming.ack()
    bob.respond(at_bob, 200, "OK", body=b.sdp("recvonly"))
    equal(outgoing.response(lambda s: s >= 200).status, 200, "answer to the first re-INVITE")
    outgoing.ack()
    outgoing.bye(incoming)
    switch.finish()


@case(rows=[("before_ringing",), ("while_ringing",), ("during_the_call",)], row="{}")
def disconnecting_caller_leaves_no_call_behind(world, when):  # S14
    needs_tandem()
    switch, alice, bob = pair(world, "tcp", "udp")
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    if when != "before_ringing":
        incoming.ring()
        outgoing.ringing()
    if when == "during_the_call":
        incoming.answer(Media(world, bob.wire.address).sdp())
        outgoing.answered()
    alice.wire.close()
    again = Agent(world, switch, "alice", transport="tcp")
    fresh = again.invite("bob", Media(world, alice.wire.address).sdp())  # the switch serves the next call
    second = bob.wire.receive(lambda m: m.method == "INVITE" and m.get("Call-ID") != incoming.call_id, "second call")
    bob.respond(second, 486, "Busy Here")
    equal(fresh.final().status, 486, "answer to the second call")
    if when == "during_the_call":
        incoming.bye()
    switch.finish()


# -- refusals -----------------------------------------------------------------------------------------------------


@case
def merged_request_gets_482(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    authorised = [h for h in outgoing.headers if "uthorization" in h]
    alice.wire.send(alice.build("INVITE", outgoing.uri, call_id=outgoing.call_id, from_tag=outgoing.local_tag, cseq=outgoing.local_cseq,
                                headers=[f"Contact: <{alice.contact}>", *authorised]))  # as if it had come another way
    equal(outgoing.final().status, 482, "answer to the merged request")
    incoming.respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer to the first request")
    switch.finish()


@case
def contact_that_points_back_to_the_switch_does_not_loop(world):
    needs_tandem()
    switch = Switch(world)
    alice = Agent(world, switch, "alice").registered()
    bob = Agent(world, switch, "bob")
    bob.register(contact=f"<sip:bob@{switch.host}:{switch.ports['udp']}>")
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    status = outgoing.final(15).status
    check(400 <= status < 700, f"answer {status}")
    switch.finish()


@case
def max_forwards_0_gets_483(world):
    switch, alice, bob = pair(world)
    equal(alice.ask("MESSAGE", "sip:bob@tandem.test", max_forwards=0, headers=["Content-Type: text/plain"], body="x").status, 483, "answer to MESSAGE")
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), max_forwards=0)
    equal(outgoing.final().status, 483, "answer to INVITE")
    switch.finish()


@case
def unsupported_require_gets_420_that_names_it(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=["Require: teleportation"])
    refusal = outgoing.final()
    equal(refusal.status, 420, "answer")
    equal(refusal.get("Unsupported"), "teleportation", "Unsupported")
    bob.wire.nothing(lambda m: m.method == "INVITE", "call", 0.3)
    switch.finish()


@case
def invite_that_would_replace_no_dialog_of_ours_starts_no_call(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    replaces = "Replaces: nobody@127.0.0.1;to-tag=1;from-tag=2"
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=[replaces])
    equal(outgoing.final().status, 481, "answer")
    bob.wire.nothing(lambda m: m.method == "INVITE", "call", 0.3)
    switch.finish()


@case
def unknown_method_gets_405_or_501(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    answer = alice.ask("JUGGLE", "sip:bob@tandem.test")
    check(answer.status in (405, 501), f"answer {answer.start}")
    check(answer.status != 405 or "INVITE" in answer.get("Allow"), "405 without Allow")
    switch.finish()


@case
def requests_for_a_dialog_that_does_not_exist_get_481(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, *_ = connected(world, alice, bob)
    for method in ("BYE", "UPDATE", "INFO", "PRACK"):
        answer = alice.ask(method, outgoing.remote_target, to="sip:bob@tandem.test", to_tag="stranger", headers=[f"Contact: <{alice.contact}>"])
        check(answer.status in (481,) or method in ("INFO",) and answer.status == 405, f"{method} got {answer.start}")
    real, outgoing.remote_tag = outgoing.remote_tag, "wrong"
    equal(outgoing.request("BYE").status, 481, "BYE with a wrong tag")
    outgoing.remote_tag = real
    alice.cseq += 1
    answer = alice.exchange(alice.build("CANCEL", "sip:bob@tandem.test", call_id="nothing", cseq=alice.cseq), "nothing", alice.cseq, "CANCEL", 3)
    equal(answer.status, 481, "CANCEL of nothing")
    outgoing.bye(incoming)
    equal(outgoing.request("BYE").status, 481, "BYE of a call that is over")
    switch.finish()


@case
def request_with_an_old_cseq_gets_500(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, *_ = connected(world, alice, bob)
    outgoing.local_cseq -= 2
    equal(outgoing.request("BYE").status, 500, "BYE with an old CSeq")
    outgoing.local_cseq += 5
    outgoing.bye(incoming)
    switch.finish()


@case
def body_that_is_not_sdp_is_refused(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    for kind, body, expected in (("application/x-nonsense", "hello", (415,)), ("application/sdp", "v=1\r\nnonsense", (400, 488))):
        answer = alice.ask("INVITE", "sip:bob@tandem.test", headers=[f"Contact: <{alice.contact}>", f"Content-Type: {kind}"], body=body)
        check(answer.status in expected, f"{kind} got {answer.start}")
    packed = alice.ask("INVITE", "sip:bob@tandem.test",
                       headers=[f"Contact: <{alice.contact}>", "Content-Type: application/sdp", "Content-Encoding: gzip"], body="x")
    equal((packed.status, packed.get("Accept-Encoding")), (415, "identity"), "answer to an encoding")
    switch.finish()


@case(rows=[(400,), (404,), (488,), (500,), (503,)], row="{}")
def failure_of_the_only_device_ends_the_call_with_a_failure(world, status):
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    bob.incoming().respond(status)
    answer = outgoing.final().status
    check(answer in (status, 480) or status == 503 and answer == 500, f"{status} of the device is {answer} for the caller")
    switch.finish()


# -- session timer ----------------------------------------------------------------------------------------------------


@case(seconds=100, slow=True)
def session_whose_refresher_is_the_switch_is_refreshed(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    a, b = Media(world, alice.wire.address), Media(world, bob.wire.address)
    outgoing = alice.invite("bob", a.sdp(), headers=["Supported: timer", "Session-Expires: 90;refresher=uas", "Allow: INVITE, ACK, BYE, CANCEL, UPDATE"])
    incoming = bob.incoming()
    incoming.answer(b.sdp())
    answer = outgoing.answered()
    check(re.match(r"90 *; *refresher=uas", answer.get("Session-Expires")), f"Session-Expires: {answer.get('Session-Expires')}")
    refresh = alice.wire.receive(lambda m: m.method in ("UPDATE", "INVITE"), "refresh", 65)
    check("90" in refresh.get("Session-Expires"), "the refresh has no Session-Expires")
    alice.respond(refresh, 200, "OK", headers=["Require: timer", "Session-Expires: 90;refresher=uac"], body=a.sdp() if refresh.body else b"")
    if refresh.method == "INVITE":
        alice.wait_request("ACK")
    outgoing.bye(incoming)
    switch.finish()


@case(seconds=130, slow=True)
def session_that_nobody_refreshes_is_ended(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp(), headers=["Supported: timer", "Session-Expires: 90;refresher=uac"])
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.answered()
    outgoing.wait_bye(95)  # and we never refresh
    incoming.wait_bye()
    switch.finish()


@case
def challenge_names_the_algorithms_that_the_client_can_read_or_those_of_the_configuration(world):
    needs_tandem()
    both = ["SHA-256", "MD5"]
    for extra, agent, expected in (("", "", both), ("", "Linphonec/5.1.65", both), ("", "baresip v1.0.0 (x86_64/linux)", ["MD5"]),
                                   ("", "sipsak 0.9.8.1", ["MD5", "SHA-256"]), ('digest = ["MD5"]', "", ["MD5"])):
        switch = Switch(world, sip_extra=extra)
        alice = Agent(world, switch, "alice")
        for method, uri in (("REGISTER", "sip:tandem.test"), ("INVITE", "sip:bob@tandem.test")):
            headers = [f"Contact: <{alice.contact}>", *([f"User-Agent: {agent}"] if agent else [])]
            refusal = alice.ask(method, uri, auth=False, headers=headers)
            values = refusal.all("WWW-Authenticate") + refusal.all("Proxy-Authenticate")
            equal([re.search(r"algorithm=([\w-]+)", v).group(1) for v in values], expected, f"algorithms offered to {agent or method}")
        switch.finish()


# -- registrar --------------------------------------------------------------------------------------------------------


@case(rows=[("MD5",), ("SHA-256",)], row="{}")
def agent_registers_with_digest(world, algorithm):
    if algorithm == "SHA-256":
        needs_tandem()
    switch = Switch(world)
    agent = Agent(world, switch, "alice", algorithm=algorithm).registered()
    equal(agent.bindings(), [agent.contact], "bindings")
    switch.finish()


@case
def registrar_keeps_several_bindings_and_removes_what_it_is_told(world):
    switch = Switch(world)
    alice = Agent(world, switch, "alice").registered()
    other = Agent(world, switch, "alice", transport="tcp").registered()
    equal(sorted(alice.bindings()), sorted([alice.contact, other.contact]), "bindings of two devices")
    alice.register(expires=0)
    equal(other.bindings(), [other.contact], "bindings after one left")
    alice.registered()
    equal(other.register(contact="*", expires=0).status, 200, "removal of all")
    equal(alice.bindings(), [], "bindings after *")
    switch.finish()


@case
def registrar_refuses_what_rfc_3261_says(world):
    needs_tandem()
    switch = Switch(world)
    alice = Agent(world, switch, "alice").registered()
    answer = alice.register(expires=1)
    equal(answer.status, 423, "an expiry of 1 s")
    check(int(answer.get("Min-Expires")) > 1, "423 without Min-Expires")
    equal(alice.register(contact="*", expires=600).status, 400, "* with an expiry other than 0")
    equal(alice.bindings(), [alice.contact], "bindings after the refusals")
    equal(alice.register(headers=["Require: teleportation"]).status, 420, "an unknown Require")
    answer = alice.ask("REGISTER", "sip:tandem.test", to="sip:bob@tandem.test", headers=[f"Contact: <{alice.contact}>"])
    check(answer.status in (403, 404), f"registering somebody else got {answer.start}")
    switch.finish()


@case
def call_reaches_a_device_through_the_connection_it_registered_with(world):
    needs_tandem()
    switch = Switch(world)
    alice = Agent(world, switch, "alice")
    for transport in ("tcp", "tls"):
        bob = Agent(world, switch, "bob", transport=transport)  # its contact cannot be reached: it sits behind a NAT
        contact = f'<sip:bob@192.168.77.1:5060;transport=tcp;ob>;+sip.instance="<urn:uuid:{token()}>";reg-id=1'
        answer = bob.register(contact=contact, headers=["Supported: outbound, path"])
        equal(answer.status, 200, "registration")
        outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
        incoming = bob.incoming()
        incoming.respond(486, "Busy Here")
        equal(outgoing.final().status, 486, "answer")
        bob.register(contact="*", expires=0)
    switch.finish()


@case
def keep_alives_are_answered_on_connections_and_ignored_on_udp(world):
    needs_tandem()
    switch = Switch(world)
    tcp = Agent(world, switch, "alice", transport="tcp").registered()
    tcp.wire.socket.sendall(b"\r\n\r\n")
    world.wait("a pong", lambda: tcp.wire.socket.recv(4) == b"\r\n", 5)
    udp = Agent(world, switch, "alice")
    udp.wire.send(b"\r\n\r\n")
    udp.wire.send(b"\0")
    udp.registered()
    switch.finish()


# -- beside calls ---------------------------------------------------------------------------------------------------


@case
def large_message_reaches_a_device_on_udp(world):
    needs_tandem()
    switch, alice, bob = pair(world, "tcp", "udp")
    got, answer = message(alice, bob, body="x" * 3000)  # TCP is tried first (RFC 3261 §18.1.1); nobody listens there
    equal((len(got.body), answer.status), (3000, 200), "size of the text, and the answer to the sender")
    switch.finish()


@case
def info_and_message_inside_a_call_reach_the_other_side(world):
    needs_tandem()
    switch, alice, bob = pair(world)
    outgoing, incoming, *_ = connected(world, alice, bob)
    outgoing.local_cseq += 1
    alice.wire.send(outgoing.build("INFO", headers=["Content-Type: application/x-test"], body=b"").replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 10\r\n\r\nSignal=5\r\n"))
    got = bob.wire.receive(lambda m: m.method == "INFO", "INFO")
    check(b"Signal=5" in got.body, "the INFO lost its body")
    bob.respond(got, 200, "OK")
    answer = alice.wire.receive(lambda m: m.status and m.cseq() == (outgoing.local_cseq, "INFO"), "answer to INFO")
    equal(answer.status, 200, "answer to INFO")
    outgoing.bye(incoming)
    switch.finish()
