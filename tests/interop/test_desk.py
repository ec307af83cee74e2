"""A page with nothing but `fetch` and WebSocket steers real phones: it knows no SIP, and sees and does everything over CAS.  And what the
phone does beside that which it has on its desk: Twinkle, which answers by itself where it is asked to.
"""

import functools
import time

from harness.browser import Browser, Desk
from harness.cas import Cas
from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.tone import hears_music
from harness.twinkle import Twinkle
from harness.world import check, equal

ALICE, DESK, KITCHEN, CAROL = 400, 650, 850, 1000  # Hz


@case(seconds=90)  # it may wait for another test's browser to end
def page_sees_a_call_answers_it_on_the_desk_phone_moves_holds_and_ends_it(world):
    needs_tandem()
    switch = Switch(world, ws=True, sip_extra='origins = ["http://127.0.0.1:*"]')
    host = Cas(switch)
    alice, desk = Phone(world, switch, "alice", ALICE), Twinkle(world, switch, "bob", DESK)
    (on_desk,) = (d["device"] for d in host.devices("bob"))
    kitchen = Phone(world, switch, "bob", KITCHEN)
    (in_kitchen,) = (d["device"] for d in host.devices("bob") if d["device"] != on_desk)
    page = Desk(Browser(world), switch, "bob")

    at_alice, at_desk = alice.mark(), desk.mark()
    alice.dial("bob")
    ringing = page.wait(lambda e: e["type"] == "tel.ringing", "call that rings")
    check({"answer", "decline"} <= set(ringing["actions"]), f"what may be done with a call that rings: {ringing}")
    desk.wait_event("CALL_INCOMING", at_desk)
    page.press(f"answer {on_desk}")  # no hand is on the phone: it is called again with `answer-after=0`, and picks up
    alice.wait_event("CALL_ESTABLISHED", at_alice)
    desk.wait_event("CALL_ESTABLISHED", at_desk)
    page.wait(lambda e: e["type"] == "tel.connected" and e["on"] == [on_desk], "call on the desk phone")
    desk.wait_hears(ALICE)
    alice.wait_hears(DESK)

    at_desk, at_kitchen, moved = desk.mark(), kitchen.mark(), len(page.events)

    def accept():
        kitchen.wait_event("CALL_INCOMING", at_kitchen)
        kitchen.command("accept")

    page.press(f"move {in_kitchen}", accept)
    kitchen.wait_event("CALL_ESTABLISHED", at_kitchen)
    desk.wait_event("CALL_CLOSED", at_desk)
    page.wait(lambda e: e["type"] == "tel.changed" and e["on"] == [in_kitchen], "call in the kitchen", moved)
    kitchen.wait_hears(ALICE)

    held = len(page.events)
    page.press("hold")
    last = page.wait(lambda e: e.get("mine") == "held", "call on hold", held)
    check("resume" in last["actions"] and "hold" not in last["actions"], f"what may be done with a held call: {last}")
    page.press("resume")
    page.wait(lambda e: e.get("mine") == "connected", "call that is resumed", held)

    page.press("drop")
    page.wait(lambda e: e["type"] == "tel.ended", "end of the call")
    alice.wait_event("CALL_CLOSED", at_alice)
    told = [event["type"] for event in page.events if event["type"].startswith("tel.")]
    equal((told[0], told[-1], told.count("tel.connected"), told.count("tel.ended")), ("tel.ringing", "tel.ended", 1, 1), "events")
    equal([e for e in page.events if e["type"] == "trouble"] + page.browser.trouble, [], "gaps and faults")
    switch.finish()


# -- the phone itself -----------------------------------------------------------------------------------------------


def connected(caller, callee, target=None):
    at_caller, at_callee = caller.mark(), callee.mark()
    caller.dial(target or callee.user)
    callee.wait_event("CALL_INCOMING", at_callee)
    callee.command("accept")
    caller.wait_event("CALL_ESTABLISHED" if isinstance(caller, Phone) else "CALL_ANSWERED", at_caller)
    callee.wait_event("CALL_ESTABLISHED", at_callee)


@case
def twinkle_calls_holds_and_transfers_with_and_without_asking_first(world):
    needs_tandem()
    switch = Switch(world)
    desk, alice, carol = Twinkle(world, switch, "bob", DESK), Phone(world, switch, "alice", ALICE), Phone(world, switch, "carol", CAROL)
    connected(desk, alice)
    desk.wait_hears(ALICE, 0.5)
    alice.wait_hears(DESK, 0.5)
    at_alice, at_carol, at_desk = alice.ear(), carol.ear(), desk.mark()

    def alice_and_carol_talk():
        moved = time.monotonic()
        world.wait("alice hears carol", lambda: at_alice.heard(CAROL, moved) > 0.3, 5)
        world.wait("carol hears alice", lambda: at_carol.heard(ALICE, moved) > 0.3, 5)
        since = alice.mark()
        carol.hang_up()
        alice.wait_event("CALL_CLOSED", since)

    desk.command("hold")
    # told to retrieve before its hold is settled, Twinkle does nothing
    calls = functools.partial(Cas(switch).ask, "tel", "list")
    world.wait("the switch sees the hold", lambda: any(party.get("held-at-device") for party in calls()["calls"][0]["parties"]), 5)
    world.wait("alice hears music", lambda: hears_music(at_alice, DESK), 5)
    desk.command("retrieve")
    back = time.monotonic()
    world.wait("alice hears the desk again", lambda: at_alice.heard(DESK, back) > 0.3, 5)

    since = carol.mark()
    desk.command("transfer carol")
    carol.answer()
    desk.wait_event("CALL_CLOSED", at_desk)
    carol.wait_event("CALL_ESTABLISHED", since)
    alice_and_carol_talk()

    connected(desk, alice)
    at_desk, since = desk.mark(), carol.mark()
    desk.command("transfer -c carol")
    carol.wait_event("CALL_INCOMING", since)
    carol.command("accept")
    desk.wait_event("CALL_ANSWERED", at_desk)
    at_carol = carol.ear()
    world.wait("carol hears the desk that asks her", lambda: at_carol.heard(DESK) > 0.3, 5)
    desk.command("transfer -c")
    alice_and_carol_talk()

    # a call made for it: it picks up by itself, and then alice is called
    host, since, at_desk = Cas(switch), alice.mark(), desk.mark()
    host.ask("tel", "make-call", user="bob", device=host.device("bob"), destination="alice")
    desk.wait_event("CALL_ESTABLISHED", at_desk)
    alice.wait_event("CALL_INCOMING", since)
    alice.command("accept")
    talking = time.monotonic()
    world.wait("alice hears the desk", lambda: at_alice.heard(DESK, talking) > 0.3, 5)
    switch.finish()
