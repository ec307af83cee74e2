"""Calls that change hands at the wish of a phone: transfer, take-over from another device, park, pickup (RFC 3515, 3891, 4538, 5359, 5589)."""

import time

from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.wire import Agent, Media
from harness.world import check, equal

ALICE, BOB, CAROL = 400, 650, 1000  # Hz
GROUP = '[[group]]\nname = "house"\nmembers = ["bob", "carol"]\n'


def house(world, extra=""):
    """A switch and a phone for each of alice, bob and carol."""
    needs_tandem()
    switch = Switch(world, extra=extra)
    names = zip(("alice", "bob", "carol"), (ALICE, BOB, CAROL))
    return switch, *(Phone(world, switch, name, tone) for name, tone in names)


def connect(caller, callee, target=None):
    at_caller, at_callee = caller.mark(), callee.mark()
    caller.dial(target or callee.user)
    callee.wait_event("CALL_INCOMING", at_callee)
    callee.command("accept")
    caller.wait_event("CALL_ESTABLISHED", at_caller)
    callee.wait_event("CALL_ESTABLISHED", at_callee)


def hear_each_other(world, a, b):
    at_a, at_b, since = a.ear(), b.ear(), time.monotonic()
    world.wait(f"{a.user} hears {b.user}", lambda: at_a.heard(b.tone, since) > 0.5, 8)
    world.wait(f"{b.user} hears {a.user}", lambda: at_b.heard(a.tone, since) > 0.5, 8)


def agents(world, *names, extra=""):
    needs_tandem()
    switch = Switch(world, extra=extra)
    return switch, *(Agent(world, switch, name).registered() for name in names)


def talk(world, caller, callee, tones=(500, 700)):
    """A call of two scripted agents; their media plays."""
    a, b = Media(world, caller.wire.address, tones[0]), Media(world, callee.wire.address, tones[1])
    outgoing = caller.invite(callee.user, a.sdp())
    incoming = callee.incoming()
    incoming.ring()
    incoming.answer(b.sdp())
    answer = outgoing.answered()
    incoming.wait_ack()
    a.aim(answer.body), b.aim(incoming.invite.body)
    a.play(), b.play()
    return outgoing, incoming, a, b


def notified(agent, dialog, status):
    """Answers NOTIFYs until one tells this status; returns it."""
    while True:
        notify = agent.wait_request("NOTIFY", 6, **{"Call-ID": dialog.call_id})
        agent.respond(notify, 200, "OK")
        check(notify.get("Content-Type").startswith("message/sipfrag"), f"NOTIFY of another kind:\n{notify}")
        if str(status) in str(notify).split("\r\n\r\n", 1)[-1]:
            return notify


def refer(dialog, to, *headers):
    answer = dialog.request("REFER", headers=[f"Refer-To: {to}", *headers])
    return answer


def replaces(dialog):
    """The dialog of one of our devices, as another one names it to the switch."""
    return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"


def answer(world, agent, tone):
    """Takes the next call of an agent, and plays in it."""
    incoming, media = agent.incoming(), Media(world, agent.wire.address, tone)
    incoming.ring()
    incoming.answer(media.sdp())
    incoming.wait_ack()
    media.aim(incoming.invite.body)
    media.play()
    return incoming, media


# -- baresip ------------------------------------------------------------------------------------------------------------


@case
def a_phone_transfers_blind(world):
    switch, alice, bob, carol = house(world)
    connect(alice, bob)
    at_carol, at_bob = carol.mark(), bob.mark()
    bob.command("transfer", f"sip:carol@{switch.domain}")
    carol.wait_event("CALL_INCOMING", at_carol)
    carol.command("accept")
    bob.wait_event("CALL_CLOSED", at_bob)
    hear_each_other(world, alice, carol)
    at_alice = alice.mark()
    carol.hang_up()
    alice.wait_event("CALL_CLOSED", at_alice)
    switch.finish()


@case
def a_phone_parks_and_another_one_takes_the_call(world):
    switch, alice, bob, carol = house(world)
    connect(alice, bob)
    at_bob, ear, since = bob.mark(), alice.ear(), time.monotonic()
    bob.command("transfer", f"sip:*705@{switch.domain}")
    bob.wait_event("CALL_CLOSED", at_bob)
    world.wait("alice hears music", lambda: not ear.silent(0.2), 5)
    at_carol = carol.mark()
    carol.dial("*715")
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    hear_each_other(world, alice, carol)
    check(ear.stream(since)["sources"] == 1, "alice gets one stream from first to last")
    carol.hang_up()
    switch.finish()


@case
def a_colleague_answers_by_dialling(world):
    switch, alice, bob, carol = house(world, extra=GROUP)
    for code in ("**bob", "**502", "*8"):
        at_bob, at_carol, at_alice = bob.mark(), carol.mark(), alice.mark()
        alice.dial("bob")
        bob.wait_event("CALL_INCOMING", at_bob)
        carol.dial(code)
        carol.wait_event("CALL_ESTABLISHED", at_carol)
        bob.wait_event("CALL_CLOSED", at_bob)
        hear_each_other(world, alice, carol)
        carol.hang_up()
        alice.wait_event("CALL_CLOSED", at_alice)
    switch.finish()


@case
def a_colleague_answers_where_an_offer_is_missing(world):
    # the caller's INVITE has no SDP, that of who picks up, or neither: each is made an offer in its 200, and answers in its ACK
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol", extra=GROUP)
    for caller_offers, colleague_offers in ((False, True), (True, False), (False, False)):
        a, c = Media(world, alice.wire.address, 500), Media(world, carol.wire.address, 900)
        outgoing = alice.invite("bob", a.sdp() if caller_offers else b"")
        incoming = bob.incoming()
        incoming.ring()
        outgoing.ringing()
        pickup = carol.invite("*8", c.sdp() if colleague_offers else b"")
        for call, media, offers in ((pickup, c, colleague_offers), (outgoing, a, caller_offers)):
            media.aim(call.answered(ack_body=b"" if offers else media.sdp()).body)
            media.play()
        incoming.wait_cancel()
        a.wait_hears(900), c.wait_hears(500)
        outgoing.bye(pickup)
    switch.finish()


@case
def a_user_pulls_the_call_to_another_phone(world):
    switch, alice, bob, _ = house(world)
    second = Phone(world, switch, "alice", CAROL)
    connect(alice, bob)
    at_alice, at_second = alice.mark(), second.mark()
    second.dial("*11")
    second.wait_event("CALL_ESTABLISHED", at_second)
    alice.wait_event("CALL_CLOSED", at_alice)
    hear_each_other(world, second, bob)
    at_bob = bob.mark()
    second.hang_up()
    bob.wait_event("CALL_CLOSED", at_bob)
    switch.finish()


# -- scripted agents ----------------------------------------------------------------------------------------------------


@case
def a_blind_transfer_is_reported_and_the_transferee_gets_no_request(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    answered = refer(incoming, f"<sip:carol@{switch.domain}>", "Referred-By: <sip:bob@tandem.test>")
    equal(answered.status, 202, "answer to REFER")
    notified(bob, incoming, 100)
    there, at_carol = answer(world, carol, 900)
    equal(there.invite.get("Referred-By"), "<sip:bob@tandem.test>", "Referred-By")
    check("alice" in there.invite.get("From"), f"From names another one: {there.invite.get('From')}")
    last = notified(bob, incoming, 200)
    check(last.get("Subscription-State").startswith("terminated"), "the last NOTIFY ends the subscription")
    incoming.wait_bye()
    at_alice.wait_hears(900), at_carol.wait_hears(500)
    alice.wire.nothing(lambda m: m.method in ("INVITE", "REFER", "UPDATE"), "request to the transferee", 0.3)
    outgoing.bye(there)
    switch.finish()


@case
def a_transfer_that_fails_comes_back(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, at_bob = talk(world, alice, bob)
    equal(refer(incoming, f"<sip:carol@{switch.domain}>").status, 202, "answer to REFER")
    carol.incoming().respond(486, "Busy Here")
    notified(bob, incoming, 486)
    at_alice.wait_hears(700, since=time.monotonic())
    equal(refer(incoming, f"<sip:carol@{switch.domain}>").status, 202, "answer to the second REFER")
    second = carol.incoming()
    incoming.bye()
    second.respond(603, "Decline")
    again, at_bob = answer(world, bob, 1100)
    at_alice.wait_hears(1100)
    again.bye(outgoing)
    switch.finish()


@case
def an_attended_transfer_joins_the_two_others(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    consultation, there, _, at_carol = talk(world, bob, carol, (800, 900))
    named = replaces(consultation).replace("@", "%40").replace(";", "%3B").replace("=", "%3D")
    answered = refer(incoming, f"<sip:carol@{switch.domain}?Replaces={named}&Require=replaces>")
    equal(answered.status, 202, "answer to REFER")
    notified(bob, incoming, 200)
    incoming.wait_bye()
    consultation.wait_bye()
    at_alice.wait_hears(900), at_carol.wait_hears(500)
    there.bye(outgoing)
    switch.finish()


@case
def an_attended_transfer_while_the_target_rings(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    consultation = bob.invite("carol", Media(world, bob.wire.address, 800).sdp())
    there = carol.incoming()
    there.ring()
    consultation.ringing()
    named = replaces(consultation).replace(";", "%3B").replace("=", "%3D")
    equal(refer(incoming, f"<sip:carol@{switch.domain}?Replaces={named}>").status, 202, "answer to REFER")
    equal(consultation.final().status, 487, "the consultation")
    media = Media(world, carol.wire.address, 900)
    there.answer(media.sdp())
    there.wait_ack()
    media.aim(there.invite.body), media.play()
    notified(bob, incoming, 200)
    incoming.wait_bye()
    at_alice.wait_hears(900), media.wait_hears(500)
    outgoing.bye(there)
    switch.finish()


@case
def another_device_takes_over_with_replaces(world):
    switch, alice, bob = agents(world, "alice", "bob")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    mobile = Agent(world, switch, "bob").registered()
    media = Media(world, mobile.wire.address, 1100)
    taken = mobile.invite("bob", media.sdp(), headers=[f"Replaces: {replaces(incoming)}", "Require: replaces"])
    media.aim(taken.answered().body), media.play()
    incoming.wait_bye()
    at_alice.wait_hears(1100), media.wait_hears(500)
    alice.wire.nothing(lambda m: m.method in ("INVITE", "UPDATE"), "request to the far end", 0.3)
    taken.bye(outgoing)
    switch.finish()


@case
def replaces_has_the_answers_of_rfc_3891(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    body = Media(world, carol.wire.address).sdp()

    def status(agent, *headers):
        return agent.invite("alice", body, headers=headers).final().status

    named = replaces(incoming)
    equal(status(carol, f"Replaces: {named}"), 403, "a stranger")
    equal(status(bob, f"Replaces: {named};early-only"), 486, "early-only")
    equal(status(bob, f"Replaces: {named}x"), 481, "another tag")
    equal(status(bob, "Replaces: nonsense"), 400, "malformed")
    equal(status(bob, f"Replaces: {named}", f"Replaces: {named}"), 400, "twice")
    at_alice.wait_hears(700)
    outgoing.bye(incoming)
    equal(status(bob, f"Replaces: {named}"), 603, "after the end")
    switch.finish()


@case
def a_ringing_dialog_is_picked_up_with_replaces_by_a_colleague_alone(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol", extra=GROUP)
    at_alice, at_carol = Media(world, alice.wire.address, 500), Media(world, carol.wire.address, 900)
    outgoing = alice.invite("bob", at_alice.sdp())
    incoming = bob.incoming()
    incoming.ring()
    outgoing.ringing()
    named = f"Replaces: {replaces(incoming)};early-only"
    equal(alice.invite("bob", at_alice.sdp(), headers=[named]).final().status, 403, "who is in no group with bob")
    picked = carol.invite("bob", at_carol.sdp(), headers=[named])
    at_carol.aim(picked.answered().body), at_carol.play()
    at_alice.aim(outgoing.answered().body), at_alice.play()
    cancel = bob.wait_request("CANCEL")
    check("completed elsewhere" in cancel.get("Reason"), f"Reason: {cancel.get('Reason')}")
    at_alice.wait_hears(900), at_carol.wait_hears(500)
    picked.bye(outgoing)
    switch.finish()


@case
def refer_outside_a_dialog_needs_a_call_of_ones_own(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)

    def ask(agent, *headers):
        # a number of ours in a context of ours, at our address
        lines = [f"Contact: <{agent.contact}>", f"Refer-To: <sip:5-03;phone-context={switch.domain}@{switch.host};user=phone>", *headers]
        return agent.ask("REFER", f"sip:bob@{switch.domain}", headers=lines)

    target = f"Target-Dialog: {incoming.call_id};local-tag={incoming.local_tag};remote-tag={incoming.remote_tag}"
    equal(ask(carol, target).status, 403, "a stranger")
    equal(ask(bob).status, 403, "without a dialog")
    equal(ask(bob, target + "x").status, 481, "of no dialog")
    equal(alice.ask("REFER", f"sip:bob@{switch.domain}", auth=False, headers=[target]).status, 407, "without a password")
    equal(ask(bob, target, "Refer-Sub: false").status, 200, "of the call's own user")
    there, at_carol = answer(world, carol, 900)
    incoming.wait_bye()
    at_alice.wait_hears(900)
    there.bye(outgoing)
    switch.finish()


@case
def a_refer_that_is_no_good_is_refused(world):
    switch, alice, bob = agents(world, "alice", "bob")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    for to, status in [("<sip:nobody@tandem.test>", 404), ("<sip:bob@elsewhere.example>", 404), ("<http://tandem.test>", 416),
                       ("<tel:501;phone-context=elsewhere.example>", 404), ("<sip:%2a8@tandem.test:5060>", 403),
                       ("<sip:alice@tandem.test;method=BYE>", 501), ("<sip:alice@tandem.test", 400), ("<sip:*8@tandem.test>", 403),
                       ("<sip:alice@tandem.test?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>", 481)]:
        equal(refer(incoming, to).status, status, f"answer to REFER to {to}")
    equal(incoming.request("REFER").status, 400, "answer to REFER to nowhere")
    at_alice.wait_hears(700)
    outgoing.bye(incoming)
    switch.finish()


@case
def a_parked_call_returns_in_time(world):
    switch, alice, bob = agents(world, "alice", "bob", extra='[features]\npark_timeout = "2s"\n')
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    equal(refer(incoming, f"<sip:*70@{switch.domain}>").status, 202, "answer to REFER")
    notified(bob, incoming, 200)
    bye = incoming.wait_bye()
    check("Parked at 1" in bye.get("Reason"), f"Reason: {bye.get('Reason')}")
    again, _ = answer(world, bob, 1100)
    at_alice.wait_hears(1100)
    again.bye(outgoing)
    switch.finish()


@case
def a_held_call_is_parked_by_dialling(world):
    switch, alice, bob, carol = agents(world, "alice", "bob", "carol")
    outgoing, incoming, at_alice, _ = talk(world, alice, bob)
    parking = bob.invite("*70", Media(world, bob.wire.address, 800).sdp())
    incoming.wait_bye()
    equal(parking.answered().status, 200, "answer to the code")
    check("Parked at 1" in parking.wait_bye().get("Reason"), "it is told where")
    media = Media(world, carol.wire.address, 900)
    taken = carol.invite("*711", media.sdp())
    media.aim(taken.answered().body), media.play()
    at_alice.wait_hears(900), media.wait_hears(500)
    equal(carol.invite("*711", media.sdp()).final().status, 404, "an empty slot")
    taken.bye(outgoing)
    switch.finish()
