"""Conferences: real clients whose calls become one, rooms that are dialled, and a room of fifty."""

import threading
import time

from harness import cases
from harness.browser import Browser
from harness.cas import Cas
from harness.crowd import SILENCE, Crowd, tone
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.tone import ULAW, share
from harness.wire import Agent, Media
from harness.world import Failed, check, equal
from test_orders import taken
from test_transfer import notified

case = cases.case
ALICE, BOB, CAROL, DAVE = 850, 400, 650, 1100  # Hz
ORIGINS = 'origins = ["http://127.0.0.1:*"]'
ROOMS = '[[room]]\nnumber = "800"\n\n[[room]]\nnumber = "801"\npin = "2468"\nmoderator = "alice"\n'


def parts(ear, hertz, since):
    """How much of what a phone hears is at a tone, at most, in 20 ms."""
    return sorted(share(p.samples, hertz, 8000) for p in ear.since(since))


def hears(world, who, ear, others, own):
    """The others are heard at the same time, and oneself is not."""
    since = time.monotonic()

    def both():
        packets = ear.since(since)
        return sum(0.02 for p in packets if all(share(p.samples, other, 8000) > 0.15 for other in others)) > 0.4

    world.wait(f"{who} hears {others} Hz together", both, 10, every=0.1)
    check(parts(ear, own, since)[-4:][0] < 0.1, f"{who} hears itself")


@case(seconds=120)
def three_clients_talk_in_a_conference(world):
    # 004-36, 004-37: two desk phones talk, and one calls a browser in
    needs_tandem()
    switch = Switch(world, ws=True, sip_extra=ORIGINS)
    cas, bob, carol = Cas(switch), Phone(world, switch, "bob", BOB), Phone(world, switch, "carol", CAROL)
    browser = Browser(world)
    alice = browser.phone(switch, "alice", ALICE)
    at_alice, at_carol, at_bob = alice.mark(), carol.mark(), bob.mark()
    bob.dial("carol")
    carol.wait_event("CALL_INCOMING", at_carol)
    carol.command("accept")
    bob.wait_event("CALL_ESTABLISHED", at_bob)
    call, asked = cas.only_call(), []

    def ask():
        try:
            asked.append(cas.ask("tel", "conference", call=call, user="bob", destinations=["501"]))
        except Failed as error:
            asked.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    alice.wait_event("CALL_INCOMING", at_alice)
    equal([p["state"] for p in cas.call(call)["parties"]], ["connected", "connected", "ringing"], "parties while alice's phone rings")
    alice.answer()
    thread.join(10)
    check(asked and isinstance(asked[0], dict), f"the conference was not made: {asked}")
    shown = cas.call(call)
    equal((shown["constructed"]["how"], [p.get("moderator", False) for p in shown["parties"]]), ("conference", [True, False, False]),
          "how it came about, and who moderates")
    hears(world, "bob", bob.ear(), (CAROL, ALICE), BOB)
    hears(world, "carol", carol.ear(), (BOB, ALICE), CAROL)
    since = time.monotonic()
    world.wait("alice hears both", lambda: min(alice.trace_of(BOB, since), alice.trace_of(CAROL, since)) > 0.4, 10, every=0.1)
    check(alice.trace_of(ALICE, since) < 0.2, "alice hears herself")
    # the moderator keeps carol's voice from the others, and gives it back
    check(cas.refused("tel", "mute", call=call, user="alice", party="carol"), "only the moderator silences others")
    cas.ask("tel", "mute", call=call, user="bob", party="carol")
    equal(cas.call(call)["parties"][1]["muted"], ["audio"], "what of carol is muted")
    ear, since = bob.ear(), time.monotonic() + 0.3
    world.wait("bob hears alice alone", lambda: ear.heard(ALICE, since) > 0.3, 5)
    said = cas.refused("tel", "unmute", call=call, user="carol")
    check(said["error"] == "not-now" and "the moderator has muted this" in said["detail"], f"carol cannot undo it: {said}")
    cas.ask("tel", "unmute", call=call, user="bob", party="carol")
    hears(world, "bob", bob.ear(), (CAROL, ALICE), BOB)
    # one is removed, and two have a plain call
    at_carol = carol.mark()
    cas.ask("tel", "kick", call=call, user="bob", party="carol")
    carol.wait_event("CALL_CLOSED", at_carol)
    world.wait("carol's history has the call", lambda: [e["kind"] for e in cas.ask("history", "list", user="carol")["entries"]] == ["received"], 5)
    ear, since = bob.ear(), time.monotonic()
    world.wait("bob hears alice", lambda: ear.heard(ALICE, since) > 0.3, 5)
    bob.hang_up()
    alice.wait_event("CALL_CLOSED", at_alice)
    switch.finish()


@case
def a_phone_joins_its_two_calls(world):
    needs_tandem()
    switch = Switch(world, users=("alice", "bob", "carol", "dave"))
    cas = Cas(switch)
    alice, bob, carol = (Agent(world, switch, name).registered() for name in ("alice", "bob", "carol"))
    calls, media = [], {}
    for peer, hertz in ((bob, BOB), (carol, CAROL)):
        ours, theirs = Media(world, alice.wire.address, ALICE), Media(world, peer.wire.address, hertz)
        outgoing = alice.invite(peer.user, ours.sdp())
        incoming = peer.incoming()
        incoming.answer(theirs.sdp())
        ours.aim(outgoing.answered().body)
        incoming.wait_ack()
        theirs.aim(incoming.invite.body)
        ours.play(), theirs.play()
        calls.append((next(c["id"] for c in cas.calls() if any(p.get("user") == peer.user for p in c["parties"])), outgoing, incoming))
        media[peer.user], media["alice " + peer.user] = theirs, ours
    (first, _, at_bob), (second, leaves, _) = calls
    cas.ask("tel", "conference", call=first, user="alice", calls=[second])
    leaves.wait_bye()

    def mixed(who, others, own):
        def heard():
            last = [[ULAW[b] for b in d[12:]] for _, _, d in media[who].received[-25:]]
            together = sum(all(share(block, other, 8000) > 0.15 for other in others) for block in last)
            return together > 20 and sum(share(block, own, 8000) > 0.1 for block in last) < 3
        world.wait(f"{who} hears {others} Hz and not itself", heard, 8, every=0.1)

    mixed("alice bob", (BOB, CAROL), ALICE)
    mixed("bob", (ALICE, CAROL), BOB)
    mixed("carol", (ALICE, BOB), CAROL)
    equal(sorted(p["user"] for p in cas.call(first)["parties"]), ["alice", "bob", "carol"], "parties")
    # RFC 4579 5.5: a phone brings somebody in by its REFER
    dave = Agent(world, switch, "dave").registered()
    equal(at_bob.request("REFER", headers=[f"Refer-To: <sip:dave@{switch.domain}>"]).status, 202, "answer to bob's REFER")
    guest, hears = dave.incoming(), Media(world, dave.wire.address, DAVE)
    guest.answer(hears.sdp())
    guest.wait_ack()
    hears.aim(guest.invite.body)
    hears.play()
    notified(bob, at_bob, 200)
    media["dave"] = hears
    mixed("dave", (ALICE, BOB, CAROL), DAVE)
    equal(sorted(p["user"] for p in cas.call(first)["parties"]), ["alice", "bob", "carol", "dave"], "parties")
    cas.ask("tel", "drop", call=first, user="dave")
    guest.wait_bye()
    at_bob.bye()
    cas.ask("tel", "drop", call=first, user="alice")
    switch.finish()


@case
def calls_whose_media_is_on_two_threads_become_one(world):
    # calls take turns on the media threads, and each further call of a user is where that user's first one is: bob is on two then
    needs_tandem()
    switch = Switch(world, users=("alice", "bob", "carol", "dave"), ws=True, sip_extra=ORIGINS)
    cas, browser = Cas(switch), Browser(world)
    bob, carol, dave = (Agent(world, switch, name).registered() for name in ("bob", "carol", "dave"))
    alice = browser.phone(switch, "alice", ALICE)
    at_alice, to_alice = alice.mark(), Media(world, bob.wire.address, BOB)
    with_alice = bob.invite("alice", to_alice.sdp())
    alice.wait_event("CALL_INCOMING", at_alice)
    alice.answer()
    to_alice.aim(with_alice.answered(15).body)
    to_alice.play()
    to_alice.wait_hears(ALICE, within=10)

    def talk(callee, hertz):
        ours, theirs = Media(world, carol.wire.address, CAROL), Media(world, callee.wire.address, hertz)
        outgoing = carol.invite(callee.user, ours.sdp())
        incoming = callee.incoming()
        incoming.answer(theirs.sdp())
        ours.aim(outgoing.answered().body)
        incoming.wait_ack()
        theirs.aim(incoming.invite.body)
        ours.play(), theirs.play()
        ours.wait_hears(hertz)
        return outgoing, incoming, ours

    aside, _, _ = talk(dave, DAVE)
    _, at_bob, hears = talk(bob, BOB)
    calls = {tuple(sorted(p["user"] for p in c["parties"])): c["id"] for c in cas.calls()}
    since = time.monotonic()
    cas.ask("tel", "conference", call=calls["bob", "carol"], user="bob", calls=[calls["alice", "bob"]])
    with_alice.wait_bye()
    # the browser's media goes to the other thread, and the browser is told nothing
    trace = lambda hertz: sum(0.02 for at, _, d in list(hears.received) if at > since and share([ULAW[b] for b in d[12:]], hertz, 8000) > 0.15)
    world.wait("carol hears both", lambda: min(trace(ALICE), trace(BOB)) > 0.4, 8, every=0.1)
    world.wait("alice hears both", lambda: min(alice.trace_of(BOB, since), alice.trace_of(CAROL, since)) > 0.4, 10, every=0.1)
    equal(len({d[8:12] for _, _, d in hears.received}), 1, "carol gets one stream from first to last")
    check("its media goes to another thread" in switch.errors(), "the calls were on two threads")
    check("different media threads" not in switch.errors(), "each bridge is on one thread")
    aside.bye()
    at_bob.bye()
    cas.ask("tel", "drop", call=calls["bob", "carol"], user="alice")
    switch.finish()


@case
def a_room_asks_for_its_pin_and_a_lock_keeps_people_out(world):
    needs_tandem()
    switch = Switch(world, extra=ROOMS)
    cas = Cas(switch)
    alice, bob, carol = (Phone(world, switch, name, hertz) for name, hertz in (("alice", ALICE), ("bob", BOB), ("carol", CAROL)))

    def into_room(phone):
        at, ear = phone.mark(), phone.ear()
        phone.dial("801")
        phone.wait_event("CALL_ESTABLISHED", at)
        world.wait("music at the door", lambda: len(ear.packets) > 10, 5)
        phone.digits("2468")

    into_room(alice)
    world.wait("alice moderates", lambda: cas.calls()[0]["parties"][0].get("moderator"), 8, every=0.1)
    into_room(bob)
    world.wait("both are in", lambda: len(cas.calls()) == 1 and len(cas.calls()[0]["parties"]) == 2, 8, every=0.1)
    call = cas.only_call()
    equal(cas.call(call)["room"], "801", "the room")
    ear, since = alice.ear(), time.monotonic()
    world.wait("alice hears bob", lambda: ear.heard(BOB, since) > 0.4, 8, every=0.1)
    # three wrong ones, and out
    at = carol.mark()
    carol.dial("801")
    carol.wait_event("CALL_ESTABLISHED", at)
    carol.digits("1#2#3#")
    carol.wait_event("CALL_CLOSED", at, 15)
    # a REFER into the other room works as dialling it
    cas.ask("tel", "lock", call=call)
    check(cas.call(call)["locked"], "the room is locked")
    at_bob = bob.mark()
    cas.ask("tel", "kick", call=call, party="bob")
    bob.wait_event("CALL_CLOSED", at_bob)
    at_bob, at_carol = bob.mark(), carol.mark()
    bob.dial("carol")
    carol.wait_event("CALL_INCOMING", at_carol)
    carol.command("accept")
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    carol.command("transfer", f"sip:800@{switch.domain}")
    carol.wait_event("CALL_CLOSED", at_carol)
    other = world.wait("bob is in the other room", lambda: [c for c in cas.calls() if c.get("room") == "800"], 8, every=0.1)
    equal([p["user"] for p in [c for c in cas.calls() if c.get("room") == "800"][0]["parties"]], ["bob"], f"who is in it {other}")
    switch.finish()


@case
def an_application_has_rooms_called_and_sends_calls_into_them(world):
    # a room is a destination like any other: of a call that is made, of a transfer, of a conference, and of a guided call
    needs_tandem()
    switch = Switch(world, extra=ROOMS)
    cas = Cas(switch)
    alice, bob, carol = (Phone(world, switch, name, hertz) for name, hertz in (("alice", ALICE), ("bob", BOB), ("carol", CAROL)))
    names = lambda call: [p["user"] for p in cas.call(call)["parties"]]

    def called(phone, destination, **besides):
        at = phone.mark()
        made = cas.begin("tel", "make-call", user=phone.user, device=cas.device(phone.user), destination=destination, **besides)
        incoming = phone.wait_event("CALL_INCOMING", at)
        taken(phone, at)
        return made()["call"], incoming

    def all_hear():
        hears(world, "alice", alice.ear(), (BOB, CAROL), ALICE)
        hears(world, "bob", bob.ear(), (ALICE, CAROL), BOB)
        hears(world, "carol", carol.ear(), (ALICE, BOB), CAROL)

    def leaves(phone):
        at = phone.mark()
        cas.ask("tel", "drop", call=room, user=phone.user)
        phone.wait_event("CALL_CLOSED", at)

    def talk_to_bob():
        at_bob, at_carol = bob.mark(), carol.mark()
        carol.dial("bob")
        taken(bob, at_bob)
        carol.wait_event("CALL_ESTABLISHED", at_carol)
        return next(c["id"] for c in cas.calls() if c["id"] != room)

    shown, incoming = called(alice, "800")
    room = shown["id"]
    check("800" in incoming["peeruri"], f"alice's phone is shown {incoming['peeruri']}")
    equal((shown["room"], shown["state"], shown["parties"][0]["state"]), ("800", "connected", "connected"), "the reply when she is in the room")
    at = bob.mark()
    bob.dial("800")
    bob.wait_event("CALL_ESTABLISHED", at)
    shown, _ = called(carol, f"sip:800@{switch.domain}")
    equal((shown["id"], [p["user"] for p in shown["parties"]]), (room, ["alice", "bob", "carol"]), "the call that carol is in")
    all_hear()
    # what rooms and codes refuse is said at once
    leaves(carol)
    cas.ask("tel", "lock", call=room, user="alice")
    at, ask = carol.mark(), {"user": "carol", "device": cas.device("carol"), "destination": "800"}
    said = cas.refused("tel", "make-call", **ask)
    equal((said["error"], said["detail"]), ("not-now", "the conference is locked"), "a call to a locked room")
    cas.ask("tel", "unlock", call=room, user="alice")
    for code in ("*717", "*8", "**bob", "*70", "*11"):
        said = cas.refused("tel", "make-call", **{**ask, "destination": code})
        check((said["error"], said["field"]) == ("bad-message", "destination") and "ask for pickup, park or move" in said["detail"], f"{code}: {said}")
    equal(carol.count("CALL_INCOMING", at), 0, "calls of carol's phone")
    entry = world.wait("carol's history", lambda: cas.ask("history", "list", user="carol")["entries"], 5)[0]
    equal((entry["kind"], entry["number"], entry["call"]), ("placed", "800", room), "her entry")
    equal(cas.ask("tel", "why", call=room)["why"], "the call goes on", "why")
    # who is transferred there, and who takes a call along
    leaves(bob)
    call, at = talk_to_bob(), carol.mark()
    said = cas.refused("tel", "conference", call=call, user="carol", destinations=["800", "alice"])
    equal((said["error"], said["field"]), ("bad-message", "destinations"), "a room and somebody else")
    equal(cas.refused("tel", "conference", call=call, user="carol", destinations=["801"])["error"], "not-now", "a room with a PIN")
    sent = cas.ask("tel", "transfer", call=call, user="carol", destination="800")["call"]
    equal((sent["id"], sent["why"]), (call, f"joined with call {room}"), "the call that was transferred")
    carol.wait_event("CALL_CLOSED", at)
    equal(names(room), ["alice", "bob"], "who is in the room")
    leaves(bob)
    call = talk_to_bob()
    equal(cas.ask("tel", "conference", call=call, user="carol", destinations=["800"])["call"]["id"], room, "the call that carol is in")
    equal(sorted(names(room)), ["alice", "bob", "carol"], "who is in the room")
    all_hear()
    leaves(bob), leaves(carol)
    # a call waits while the room is called
    call, at = talk_to_bob(), carol.mark()
    called(carol, "800", guided={"call": call, "purpose": "transfer"})
    world.wait("bob is in the room, and carol is not", lambda: sorted(names(room)) == ["alice", "bob"], 5)
    world.wait("carol's phone is free", lambda: carol.count("CALL_CLOSED", at) == 2, 5)
    # the PIN by command
    shown, _ = called(carol, "801")
    check(shown["asks-pin"] and "conference" not in shown["actions"], f"at the door: {shown}")
    shown = cas.ask("tel", "dtmf", call=shown["id"], user="carol", digits="2468")["call"]
    equal((shown["room"], shown.get("asks-pin"), shown["state"]), ("801", None, "connected"), "in the room")
    switch.finish()


@case(seconds=60)
def fifty_people_are_in_a_room(world):
    # each of fifty is heard by each other one, and by nobody else: ten at a time have a tone of their own
    needs_tandem()
    trunk = world.address(50)
    switch = Switch(world, trunks=[("test", trunk)], extra=ROOMS, limits="calls_per_trunk = 50", capture=False)
    crowd = Crowd(trunk, (switch.address, switch.ports["udp"]), switch.domain)
    people = [crowd.dial("800") for _ in range(50)]
    equal(len(Cas(switch).calls()[0]["parties"]), 50, "parties")
    tones = [250 + 150 * n for n in range(10)]
    for first in range(0, 50, 10):
        for n, person in enumerate(people):
            person.says = tone(tones[n - first], 2500) if first <= n < first + 10 else SILENCE
        blocks = lambda: [[ULAW[b] for _, payload in list(person.heard)[-6:] for b in payload] for person in people]

        def unheard():
            pairs = ((n, k) for n in range(50) for k in range(10) if first + k != n)
            now = blocks()
            return [(n, first + k) for n, k in pairs if share(now[n], tones[k], 8000) <= 0.5 / 10]

        world.wait(f"each hears all of the ten from {first} on", lambda: not unheard(), 8)
        for n, block in list(enumerate(blocks()))[first:first + 10]:
            check(share(block, tones[n - first], 8000) < 0.02, f"{n} hears itself")
    crowd.hang_up()
    equal(Cas(switch).calls(), [], "calls in the end")
    switch.finish()
