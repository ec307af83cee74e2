"""Two desk phones (baresip) and the switch between them: they register, call, hear each other and hang up."""

import re
import time

from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.tone import hears_music
from harness.wire import Agent, Media
from harness.world import Skip, check, equal

TRANSPORTS = ("udp", "tcp", "tls")
ALICE, BOB, CAROL = 400, 650, 1000  # Hz


def connect(caller, callee, target=None):
    """Sets up a call and waits until both phones say it is established."""
    at_caller, at_callee = caller.mark(), callee.mark()
    caller.dial(target or callee.user)
    callee.wait_event("CALL_INCOMING", at_callee)
    callee.command("accept")
    caller.wait_event("CALL_ESTABLISHED", at_caller)
    callee.wait_event("CALL_ESTABLISHED", at_callee)


def hear_each_other(a, b, seconds=1.0):
    """Each phone's recording contains the other's tone for a second, and nothing of its own."""
    at_a = a.wait_hears(b.tone, seconds)
    at_b = b.wait_hears(a.tone, seconds)
    equal(round(at_a.trace_of(a.tone), 2), 0, f"seconds in which {a.user} hears itself")
    equal(round(at_b.trace_of(b.tone), 2), 0, f"seconds in which {b.user} hears itself")


def hang_up(by, other):
    at_other = other.mark()
    by.hang_up()
    other.wait_event("CALL_CLOSED", at_other)


def two(world, switch, **kinds):
    """Alice's and Bob's phone, registered; `a_…` and `b_…` are for one of them."""
    def of(prefix):
        return {k[2:]: v for k, v in kinds.items() if k.startswith(prefix)} | {
            k: v for k, v in kinds.items() if k[1] != "_"}
    return Phone(world, switch, "alice", ALICE, **of("a_")), Phone(world, switch, "bob", BOB, **of("b_"))


# -- calls ------------------------------------------------------------------------------------------------------


@case(rows=[(a, b) for a in TRANSPORTS for b in TRANSPORTS], row="{}_to_{}")
def phones_call_and_hear_each_other(world, a, b):
    switch = Switch(world)
    alice, bob = two(world, switch, a_transport=a, b_transport=b)
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob) if a <= b else hang_up(bob, alice)
    switch.finish()


@case(rows=[("udp",), ("tcp",)], row="over_{}")
def phone_whose_media_comes_from_another_address_than_its_sdp_says_is_heard(world, transport):
    needs_tandem()
    switch = Switch(world)  # such a phone's RTP (and TCP) comes from 127.0.0.1, as if through a NAT
    alice, bob = two(world, switch, a_address=world.address(), b_address=world.address(), transport=transport)
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob)
    switch.finish()


@case(rows=[("PCMU",), ("PCMA",), ("G722",), ("opus",)], row="{}")
def phones_agree_on_codec(world, codec):
    switch = Switch(world)
    alice, bob = two(world, switch, codecs=(codec,))
    connect(alice, bob)
    hear_each_other(alice, bob)
    equal((alice.codec(), bob.codec()), (codec, codec), "codecs in use")
    hang_up(bob, alice)
    switch.finish()


@case(rows=[
    (("opus", "G722", "PCMU"), ("G722", "PCMA"), "G722"),
    (("PCMA", "opus"), ("PCMU", "PCMA"), "PCMA"),
    (("opus", "PCMU"), ("PCMA", "PCMU"), "PCMU"),
], row="{2}")
def phones_with_different_codec_lists_find_the_common_one(world, at_alice, at_bob, common):
    switch = Switch(world)
    alice, bob = two(world, switch, a_codecs=at_alice, b_codecs=at_bob)
    connect(alice, bob)
    hear_each_other(alice, bob)
    equal((alice.codec(), bob.codec()), (common, common), "codecs in use")
    hang_up(alice, bob)
    switch.finish()


@case(rows=[(a, b) for a in ("PCMA", "G722", "opus") for b in ("PCMU", "G722", "opus") if a != b], row="{}_and_{}")
def phones_without_a_common_codec_hear_each_other(world, a, b):
    switch = Switch(world)
    alice, bob = two(world, switch, a_codecs=(a,), b_codecs=(b,))
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob)
    switch.finish()


@case(rows=[("caller",), ("callee",)], row="{}")
def hang_up_ends_the_call_on_both_sides(world, who):
    switch = Switch(world)
    alice, bob = two(world, switch)
    connect(alice, bob)
    alice.wait_hears(BOB, 0.2)
    hang_up(*((alice, bob) if who == "caller" else (bob, alice)))
    check("No active calls" in alice.command("listcalls") or "(0)" in alice.command("listcalls"), "alice still has a call")
    connect(bob, alice)  # and a new call works at once
    hang_up(*((alice, bob) if who == "caller" else (bob, alice)))
    switch.finish()


@case
def callee_number_reaches_the_same_user_as_its_name(world):
    needs_tandem()
    switch = Switch(world)
    alice, bob = two(world, switch)
    connect(alice, bob, target="502")
    hear_each_other(alice, bob, 0.3)
    hang_up(alice, bob)
    switch.finish()


@case
def caller_hears_ringing_as_180(world):
    switch = Switch(world)
    alice, bob = two(world, switch)
    alice.dial("bob")
    alice.wait_event("CALL_RINGING")
    bob.wait_event("CALL_INCOMING")
    check("SIP/2.0 180" in alice.trace(), "the caller did not get a 180")
    hang_up(alice, bob)
    switch.finish()


@case
def phone_hears_early_media_before_the_answer(world):
    switch = Switch(world)
    alice = Phone(world, switch, "alice", ALICE)
    ear = alice.ear()
    bob = Agent(world, switch, "bob").registered()  # baresip has no early media of its own to send
    media = Media(world, bob.wire.address, BOB)
    alice.dial("bob")
    incoming = bob.incoming()
    incoming.respond(183, "Session Progress", media.sdp())
    alice.wait_event("CALL_PROGRESS")
    media.aim(incoming.invite.body)
    media.play(5)
    world.wait("the phone hears early media", lambda: ear.heard(BOB) > 0.5, 5)
    check(not alice.find("CALL_ESTABLISHED"), "established before anybody answered")
    incoming.answer(media.sdp())
    alice.wait_event("CALL_ESTABLISHED")
    media.wait_hears(ALICE, 0.5)
    alice.hang_up()
    incoming.wait_bye()
    switch.finish()


@case(rows=[("caller",), ("callee",)], row="by_{}")
def hold_stops_the_tone_and_resume_brings_it_back(world, who):
    switch = Switch(world)
    alice, bob = two(world, switch)
    connect(alice, bob)
    hear_each_other(alice, bob, 0.5)
    holder, held = (alice, bob) if who == "caller" else (bob, alice)
    at_holder, at_held = holder.ear(), held.ear()
    for _ in range(2):
        holder.hold()
        world.wait("the held phone hears music", lambda: hears_music(at_held, holder.tone), 8)
        world.wait("who holds hears nothing", at_holder.silent, 8)
        resumed = time.monotonic()
        holder.resume()
        world.wait("the held phone hears the other again", lambda: at_held.heard(holder.tone, resumed) > 0.5)
        world.wait("the holding phone hears the other again", lambda: at_holder.heard(held.tone, resumed) > 0.5)
    hang_up(held, holder)
    switch.finish()


@case
def hold_from_both_sides_at_once_does_not_end_the_call(world):
    switch = Switch(world)
    alice, bob = two(world, switch)
    connect(alice, bob)
    hear_each_other(alice, bob, 0.3)
    at_alice, at_bob = alice.ear(), bob.ear()
    alice.hold(), bob.hold()  # the re-INVITEs may cross: 491
    world.wait("nobody hears anything", lambda: at_alice.silent() and at_bob.silent(), 8)
    check(not alice.find("CALL_CLOSED") and not bob.find("CALL_CLOSED"), "crossing re-INVITEs ended the call")
    hang_up(alice, bob)
    switch.finish()


@case
def digits_arrive_as_telephone_events(world):
    switch = Switch(world)
    alice, bob = two(world, switch)
    connect(alice, bob)
    alice.wait_hears(BOB, 0.2)
    for sender, receiver in ((alice, bob), (bob, alice)):
        since = receiver.mark()
        sender.digits("1590#*")
        digits = lambda: "".join(e["param"] for e in receiver.events[since:] if e["type"] == "CALL_DTMF_START")  # noqa: E731
        world.wait("six digits arrive", lambda: len(digits()) >= 6, 8)
        equal(digits(), "1590#*", f"digits at {receiver.user}")
    hang_up(alice, bob)
    switch.finish()


# -- calls that do not come about ----------------------------------------------------------------------------------


@case
def busy_callee_gives_486(world):
    switch = Switch(world)
    alice, bob = two(world, switch)
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING")
    bob.hang_up()  # baresip refuses a ringing call with 486
    alice.wait_event("CALL_CLOSED", param="486")
    switch.finish()


@case
def cancel_before_the_answer_stops_the_ringing(world):
    switch = Switch(world)
    alice, bob = two(world, switch)
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING")
    alice.wait_event("CALL_RINGING")
    alice.hang_up()
    bob.wait_event("CALL_CLOSED", seconds=3)
    world.wait("the caller's INVITE ends with 487", lambda: "SIP/2.0 487" in alice.trace(), 5)
    switch.finish()


@case
def phone_that_nobody_answers_ends_the_call_for_the_caller(world):
    switch = Switch(world)
    alice, bob = two(world, switch, b_no_answer=2)
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING")
    alice.wait_event("CALL_CLOSED", seconds=6)
    switch.finish()


@case
def unknown_user_gives_404(world):
    switch = Switch(world)
    alice = Phone(world, switch, "alice", ALICE)
    alice.dial("nobody")
    alice.wait_event("CALL_CLOSED", param="404")
    switch.finish()


@case
def user_without_a_registered_device_gives_480(world):
    switch = Switch(world)
    alice = Phone(world, switch, "alice", ALICE)
    alice.dial("bob")
    alice.wait_event("CALL_CLOSED", param="480")
    switch.finish()


# -- several devices of one user -----------------------------------------------------------------------------------


@case
def all_devices_ring_and_the_others_see_the_call_completed_elsewhere(world):
    needs_tandem()
    switch = Switch(world)
    alice, desk = two(world, switch)
    second = Phone(world, switch, "bob", CAROL, transport="tcp")
    since = alice.dial("bob")
    desk.wait_event("CALL_INCOMING")
    second.wait_event("CALL_INCOMING")
    second.command("accept")
    alice.wait_event("CALL_ESTABLISHED", since)
    desk.wait_event("CALL_CLOSED", seconds=3)
    world.wait("the CANCEL says why", lambda: re.search(
        r'(?s)CANCEL sip:.*?Reason: *SIP *; *cause=200 *; *text="Call completed elsewhere"', desk.trace()), 3)
    alice.wait_hears(CAROL, 1)
    second.wait_hears(ALICE, 1)
    hang_up(alice, second)
    switch.finish()


@case
def a_device_that_refuses_does_not_end_the_ringing_of_the_other(world):
    needs_tandem()
    switch = Switch(world)
    alice, desk = two(world, switch)
    second = Phone(world, switch, "bob", CAROL)
    since = alice.dial("bob")
    desk.wait_event("CALL_INCOMING")
    second.wait_event("CALL_INCOMING")
    desk.hang_up()
    desk.wait_event("CALL_CLOSED")
    world.holds("the call goes on ringing", lambda: not alice.find("CALL_CLOSED", since), 1)
    second.command("accept")
    alice.wait_event("CALL_ESTABLISHED", since)
    alice.wait_hears(CAROL, 0.5)
    hang_up(second, alice)
    switch.finish()


@case
def all_devices_stop_ringing_when_the_caller_cancels(world):
    needs_tandem()
    switch = Switch(world)
    alice, desk = two(world, switch)
    second = Phone(world, switch, "bob", CAROL, transport="tls")
    alice.dial("bob")
    desk.wait_event("CALL_INCOMING")
    second.wait_event("CALL_INCOMING")
    alice.hang_up()
    desk.wait_event("CALL_CLOSED", seconds=3)
    second.wait_event("CALL_CLOSED", seconds=3)
    check("completed elsewhere" not in desk.trace(), "a cancelled call is not one completed elsewhere")
    switch.finish()


@case
def two_calls_at_once_do_not_mix(world):
    needs_tandem()
    switch = Switch(world, users=("alice", "bob", "carol", "dave"))
    alice, bob = two(world, switch)
    carol, dave = Phone(world, switch, "carol", CAROL), Phone(world, switch, "dave", 1350, transport="tcp")
    connect(alice, bob)
    connect(carol, dave)
    hear_each_other(alice, bob)
    hear_each_other(carol, dave)
    for phone, strangers in ((alice, (CAROL, 1350)), (dave, (ALICE, BOB))):
        for tone in strangers:
            equal(round(phone.recording().trace_of(tone), 2), 0, f"seconds of a stranger's {tone} Hz at {phone.user}")
    hang_up(alice, bob)
    carol.wait_hears(1350, 1.5)  # the other call goes on
    hang_up(carol, dave)
    switch.finish()


# -- registration --------------------------------------------------------------------------------------------------


@case(rows=[(t,) for t in TRANSPORTS], row="over_{}")
def wrong_password_is_refused(world, transport):
    switch = Switch(world)
    alice = Phone(world, switch, "alice", ALICE, transport=transport, password="guess", wait=False)
    alice.wait_event("REGISTER_FAIL")
    check(not alice.find("REGISTER_OK"), "registered with a wrong password")
    switch.finish()


@case
def caller_with_a_wrong_password_is_refused(world):
    switch = Switch(world)
    bob = Phone(world, switch, "bob", BOB)
    alice = Phone(world, switch, "alice", ALICE, password="guess", register=False)
    alice.dial("bob")
    alice.wait_event("CALL_CLOSED")
    check(not bob.find("CALL_INCOMING"), "the callee's phone rang for a stranger")
    switch.finish()


@case(rows=[(t,) for t in TRANSPORTS], row="over_{}")
def phone_that_unregisters_is_not_called(world, transport):
    switch = Switch(world)
    alice, bob = two(world, switch, b_transport=transport)
    bob.quit()
    alice.dial("bob")
    alice.wait_event("CALL_CLOSED", param="480")
    switch.finish()


@case(seconds=120, slow=True)
def phone_registers_again_before_its_registration_expires(world):
    needs_tandem()
    switch = Switch(world)
    bob = Phone(world, switch, "bob", BOB, expires=60)
    bob.wait_event("REGISTER_OK", since=bob.mark(), seconds=65)  # baresip refreshes at 90 %
    alice = Phone(world, switch, "alice", ALICE)
    until = bob.find("REGISTER_OK")["at"] + 63
    time.sleep(max(0, until - time.monotonic()))  # the first registration alone would be over now
    connect(alice, bob)
    hang_up(alice, bob)
    switch.finish()


def registered_phones_survive(world, transport, interrupt):
    needs_tandem()
    switch = Switch(world)
    alice, bob = two(world, switch, b_transport=transport)
    registrations = bob.count("REGISTER_OK")
    interrupt(switch)
    switch.start()
    connect(alice, bob)
    hear_each_other(alice, bob, 0.5)
    hang_up(bob, alice)
    equal(bob.count("REGISTER_OK"), registrations, "registrations of the called phone")
    switch.finish()


@case(rows=[("udp",), ("tcp",)], row="over_{}")
def registration_survives_a_restart(world, transport):
    registered_phones_survive(world, transport, lambda switch: switch.stop())


@case(rows=[("udp",), ("tcp",)], row="over_{}")
def registration_survives_kill_9(world, transport):
    registered_phones_survive(world, transport, lambda switch: switch.kill())


# -- IPv6 ----------------------------------------------------------------------------------------------------------


@case(rows=[(t,) for t in TRANSPORTS], row="over_{}")
def phones_call_over_ipv6(world, transport):
    needs_tandem()
    world.needs_ipv6()
    switch = Switch(world, ipv6=True)
    alice, bob = two(world, switch, address="::1", a_transport=transport, b_transport="udp")
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob)
    switch.finish()
