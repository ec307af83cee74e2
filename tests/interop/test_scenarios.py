"""SIPp's scenarios against the switch: what a phone or trunk of any other make may do."""

from harness.cases import case
from harness.sipp import Sipp, registered
from harness.sut import Switch, needs_tandem
from harness.wire import Agent, Media
from harness.world import Skip, check, equal


def between(world, caller, callee, **keys):
    """Runs a caller's scenario (alice) against a callee's (bob, registered)."""
    switch = Switch(world)
    at_callee = Sipp(world, switch, callee, peer="alice", keys=keys, **registered(world, switch, "bob"))
    at_caller = Sipp(world, switch, caller, keys=keys)
    at_caller.wait()
    at_callee.wait(5)
    switch.finish()
    return at_caller, at_callee


@case
def sipp_registers_with_digest_and_unregisters(world):
    switch = Switch(world)
    Sipp(world, switch, "register").wait()
    switch.finish()


@case
def sipp_registers_over_tcp(world):
    switch = Switch(world)
    Sipp(world, switch, "register", transport="tcp").wait()
    switch.finish()


@case(rows=[("call", "answer"), ("call-ended-by-callee", "answer-and-hang-up")], row="{0}")
def sipp_calls(world, caller, callee):
    between(world, caller, callee)


@case
def sipp_cancels(world):
    between(world, "cancel", "be-cancelled")


@case(rows=[(486, "Busy Here"), (603, "Decline"), (480, "Temporarily Unavailable")], row="{0}")
def sipp_refusal_of_the_callee_reaches_the_caller(world, status, reason):
    between(world, "refused-call", "refuse", status=status, reason=reason)


@case(rows=[("call-and-hold", "answer-and-be-held"), ("call-and-be-held", "answer-and-hold")], row="{0}")
def sipp_holds_and_resumes(world, caller, callee):
    between(world, caller, callee)


@case
def sipp_uses_100rel_on_both_legs(world):
    needs_tandem()
    between(world, "call-with-prack", "answer-with-prack")


@case
def sipp_requires_100rel(world):
    needs_tandem()
    between(world, "call-with-prack", "answer")


@case
def sipp_answers_with_100rel(world):
    needs_tandem()
    between(world, "call", "answer-with-prack")


@case
def sipp_session_timer_is_agreed_and_refreshed(world):
    needs_tandem()
    between(world, "call-with-session-timer", "answer-anything")


@case
def sipp_session_timer_below_the_minimum_gets_422(world):
    needs_tandem()
    switch = Switch(world)
    registered(world, switch, "bob")
    Sipp(world, switch, "call-with-too-small-session-timer").wait()
    switch.finish()


@case
def sipp_holds_by_update(world):
    between(world, "call-and-update", "answer-and-follow")


@case
def sipp_calls_without_an_offer(world):
    between(world, "call-with-late-offer", "answer")


@case
def sipp_asks_for_options(world):
    needs_tandem()
    switch = Switch(world)
    Sipp(world, switch, "options").wait()
    switch.finish()


@case
def sipp_sends_a_message_to_another_device(world):
    between(world, "message", "get-message")


@case
def sipp_calls_as_a_trunk_without_digest(world):
    trunk = world.address(50)
    switch = Switch(world, trunks=[("test", trunk)])
    at_callee = Sipp(world, switch, "answer", peer="alice", **registered(world, switch, "bob"))
    Sipp(world, switch, "trunk-call", user="0049301234", address=trunk).wait()
    at_callee.wait(5)
    switch.finish()


@case
def sipp_calls_many_times(world):
    trunk = world.address(50)
    switch = Switch(world, trunks=[("test", trunk)])
    at_callee = Sipp(world, switch, "answer", peer="alice", calls=30, **registered(world, switch, "bob"))
    Sipp(world, switch, "trunk-call", address=trunk, calls=30, options=("-r", "20", "-l", "30")).wait()
    at_callee.wait(5)
    switch.finish()


def sent_away(world, switch, scenario, to):
    """SIPp as bob answers alice and refers her; returns alice's call and its media."""
    at_bob = Sipp(world, switch, scenario, peer="alice", keys={"referto": to}, **registered(world, switch, "bob"))
    alice = Agent(world, switch, "alice").registered()
    media = Media(world, alice.wire.address, 500)
    outgoing = alice.invite("bob", media.sdp())
    media.aim(outgoing.answered().body), media.play()
    return at_bob, outgoing, media


@case
def sipp_refers_blind(world):
    needs_tandem()
    switch = Switch(world)
    carol = Agent(world, switch, "carol").registered()
    at_bob, outgoing, at_alice = sent_away(world, switch, "answer-and-refer", f"sip:carol@{switch.domain}")
    there, at_carol = carol.incoming(), Media(world, carol.wire.address, 900)
    there.answer(at_carol.sdp())
    there.wait_ack()
    at_carol.aim(there.invite.body), at_carol.play()
    at_bob.wait(10)
    at_alice.wait_hears(900), at_carol.wait_hears(500)
    there.bye(outgoing)
    switch.finish()


@case
def sipp_refers_attended(world):
    needs_tandem()
    switch = Switch(world)
    carol, second = Agent(world, switch, "carol").registered(), Agent(world, switch, "bob")
    at_second, at_carol = Media(world, second.wire.address, 800), Media(world, carol.wire.address, 900)
    consultation = second.invite("carol", at_second.sdp())
    there = carol.incoming()
    there.answer(at_carol.sdp())
    consultation.answered()
    there.wait_ack()
    at_carol.aim(there.invite.body), at_carol.play()
    replaces = f"{consultation.call_id};to-tag={consultation.remote_tag};from-tag={consultation.local_tag}"
    replaces = replaces.replace(";", "%3B").replace("=", "%3D")
    at_bob, outgoing, at_alice = sent_away(world, switch, "answer-and-refer-attended",
                                           f"sip:carol@{switch.domain}?Replaces={replaces}&Require=replaces")
    consultation.wait_bye()
    at_bob.wait(10)
    at_alice.wait_hears(900), at_carol.wait_hears(500)
    there.bye(outgoing)
    switch.finish()
