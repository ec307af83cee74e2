"""A page with nothing but `fetch` and WebSocket steers real phones: it knows no SIP, and sees and does everything over CAS.
"""

from harness.browser import Browser, Desk
from harness.cas import Cas
from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.world import check, equal

ALICE, DESK, KITCHEN = 400, 650, 850  # Hz


@case(seconds=90)  # it may wait for another test's browser to end
def page_sees_a_call_answers_it_on_the_desk_phone_moves_holds_and_ends_it(world):
    needs_tandem()
    switch = Switch(world, ws=True, sip_extra='origins = ["http://127.0.0.1:*"]')
    host = Cas(switch)
    alice, desk = Phone(world, switch, "alice", ALICE), Phone(world, switch, "bob", DESK)
    (on_desk,) = (d["device"] for d in host.devices("bob"))
    kitchen = Phone(world, switch, "bob", KITCHEN)
    (in_kitchen,) = (d["device"] for d in host.devices("bob") if d["device"] != on_desk)
    page = Desk(Browser(world), switch, "bob")

    at_alice, at_desk = alice.mark(), desk.mark()
    alice.dial("bob")
    ringing = page.wait(lambda e: e["type"] == "tel.ringing", "call that rings")
    check({"answer", "decline"} <= set(ringing["actions"]), f"what may be done with a call that rings: {ringing}")
    desk.wait_event("CALL_INCOMING", at_desk)
    at_desk = desk.mark()

    def obey():
        """What a phone does by itself that knows `answer-after=0`: it is called again, with that. baresip 1.0.0 does not know it."""
        desk.wait_event("CALL_INCOMING", at_desk)
        desk.command("accept")

    page.press(f"answer {on_desk}", obey)
    alice.wait_event("CALL_ESTABLISHED", at_alice)
    desk.wait_event("CALL_ESTABLISHED", at_desk)
    page.wait(lambda e: e["type"] == "tel.connected" and e["on"] == [on_desk], "call on the desk phone")
    desk.wait_hears(ALICE)

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
