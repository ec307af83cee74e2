"""What applications have done with calls over CAS: made, answered, transferred, parked, picked up, and refused with the reason."""

import os
import subprocess
import time

from harness.cas import Cas
from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.switch import BINARY
from harness.tone import hears_music
from harness.wire import Agent, Media
from harness.world import check, equal, fails

ALICE, BOB, CAROL, RINGBACK = 400, 650, 1000, 425  # Hz
GROUP = '[[group]]\nname = "house"\nmembers = ["bob", "carol"]\n[[user]]\nname = "dave"\npassword = "dave-secret"\n'


def house(world, *names, extra=""):
    """A switch, its CAS, and a phone for each of these people."""
    needs_tandem()
    switch = Switch(world, extra=extra)
    tones = {"alice": ALICE, "bob": BOB, "carol": CAROL}
    return switch, Cas(switch), *(Phone(world, switch, name, tones[name]) for name in names)


def connect(caller, callee):
    at_caller, at_callee = caller.mark(), callee.mark()
    caller.dial(callee.user)
    callee.wait_event("CALL_INCOMING", at_callee)
    callee.command("accept")
    caller.wait_event("CALL_ESTABLISHED", at_caller)


def hear_each_other(world, a, b):
    at_a, at_b, since = a.ear(), b.ear(), time.monotonic()
    world.wait(f"{a.user} hears {b.user}", lambda: at_a.heard(b.tone, since) > 0.5, 8)
    world.wait(f"{b.user} hears {a.user}", lambda: at_b.heard(a.tone, since) > 0.5, 8)


def taken(phone, at):
    """A phone answers what comes."""
    phone.wait_event("CALL_INCOMING", at)
    phone.command("accept")
    phone.wait_event("CALL_ESTABLISHED", at)


def entries(cas, user, call):
    """What a user's history has of a call, the last part first: kind, number, why."""
    of_call = (e for e in cas.ask("history", "list", user=user)["entries"] if e["call"] == call)
    return [(e["kind"], e.get("number"), e.get("why")) for e in of_call]


def states(cas, call):
    return {p["user"]: p["state"] for p in cas.call(call)["parties"]}


@case
def a_call_is_made_from_a_chosen_phone(world):
    switch, cas, alice, bob = house(world, "alice", "bob")
    at_alice, at_bob, ear = alice.mark(), bob.mark(), alice.ear()
    there = f"sip:%62ob@{switch.host}:{switch.ports['udp']}"  # bob, as a phone may write it, too
    made = cas.begin("tel", "make-call", user="alice", device=cas.device("alice"), destination=there)
    incoming = alice.wait_event("CALL_INCOMING", at_alice)
    check("bob" in incoming["peeruri"], f"alice's phone is shown {incoming['peeruri']}")
    equal(bob.count("CALL_INCOMING", at_bob), 0, "calls of bob before alice has answered")
    call = cas.only_call()
    equal(states(cas, call), {"alice": "dialing"}, "the parties before she has answered")
    alice.command("accept")
    bob.wait_event("CALL_INCOMING", at_bob)
    reply = made()["call"]
    equal((reply["id"], reply["state"], reply["constructed"]["how"]), (call, "ringing", "direct"), "the reply when it rings")
    world.wait("alice hears ringing", lambda: ear.heard(RINGBACK) > 0.3, 6)
    bob.command("accept")
    hear_each_other(world, alice, bob)
    equal(states(cas, call), {"alice": "connected", "bob": "connected"}, "the parties")
    at_alice = alice.mark()
    cas.ask("tel", "drop", call=call, user="alice")
    alice.wait_event("CALL_CLOSED", at_alice)
    entry = world.wait("alice's entry of it", lambda: entries(cas, "alice", call), 4, every=0.1)
    equal(entry[0][:2], ("placed", "bob"), "kind and number in alice's history")
    switch.finish()


@case
def a_call_that_cannot_be_made_says_why(world):
    switch, cas, alice, bob = house(world, "alice", "bob")
    device = cas.device("alice")
    ask = {"user": "alice", "device": device, "destination": "bob"}
    at = alice.mark()
    made = cas.begin("tel", "make-call", **ask)
    alice.wait_event("CALL_INCOMING", at)
    alice.hang_up()
    check("declined" in (why := fails(made)) or "busy" in why, f"alice's phone: {why}")
    at, at_bob = alice.mark(), bob.mark()
    made = cas.begin("tel", "make-call", **ask)
    taken(alice, at)
    bob.wait_event("CALL_INCOMING", at_bob)
    bob.hang_up()
    alice.wait_event("CALL_CLOSED", at)
    call = made()["call"]["id"]
    check("callee" in (why := cas.call(call)["why"]), f"bob's phone: {why}")
    for wrong, fault, field in [({"destination": "nobody"}, "not-found", "destination"), ({"destination": "sip:bob@example.com"}, "not-found", "destination"),
                                ({"destination": "alice"}, "bad-message", "destination"),
                                ({"device": "nothing"}, "not-found", "device"), ({"user": "carol"}, "not-found", "device"),
                                ({"destination": "carol"}, "conflict", None)]:
        said = cas.refused("tel", "make-call", **{**ask, **wrong})
        equal((said["error"], said.get("field")), (fault, field), f"make-call with {wrong}: {said}")
    switch.finish()


@case
def an_application_transfers_blind_and_attended(world):
    switch, cas, alice, bob, carol = house(world, "alice", "bob", "carol")
    connect(alice, bob)
    call = cas.only_call()
    at_carol, at_bob = carol.mark(), bob.mark()
    sent = cas.begin("tel", "transfer", call=call, user="bob", destination="carol")
    carol.wait_event("CALL_INCOMING", at_carol)
    equal(states(cas, call), {"alice": "connected", "bob": "connected", "carol": "ringing"}, "the parties while it rings")
    carol.command("accept")
    reply = sent()["call"]
    equal((reply["constructed"], sorted(p["user"] for p in reply["parties"])), ({"how": "transferred", "by": "bob"}, ["alice", "carol"]), "reply")
    bob.wait_event("CALL_CLOSED", at_bob)
    hear_each_other(world, alice, carol)
    # back to bob: carol asks him first
    at_carol = carol.mark()
    connect(carol, bob)
    other = next(c["id"] for c in cas.calls() if c["id"] != call)
    cas.ask("tel", "transfer", call=call, user="carol", consult=other)
    carol.wait_event("CALL_CLOSED", at_carol)
    hear_each_other(world, alice, bob)
    equal(states(cas, call), {"alice": "connected", "bob": "connected"}, "the parties")
    # one that is declined leaves all as it is
    at_carol = carol.mark()
    sent = cas.begin("tel", "transfer", call=call, user="bob", destination="carol")
    carol.wait_event("CALL_INCOMING", at_carol)
    cas.ask("tel", "decline", call=call, user="carol", reason="busy")
    check("busy" in (why := fails(sent)), why)
    hear_each_other(world, alice, bob)
    for wrong, fault in [({"destination": "nobody"}, "not-found"), ({"consult": other}, "not-now"), ({"consult": call}, "not-now"),
                         ({"consult": "ff"}, "not-found"), ({}, "bad-message")]:
        said = cas.refused("tel", "transfer", call=call, user="bob", **wrong)
        check(said["error"] in (fault, "not-found"), f"transfer with {wrong}: {said}")
    alice.hang_up()
    world.wait("the call is over", lambda: not cas.calls())
    equal(cas.refused("tel", "transfer", call=call, user="bob", destination="carol")["error"], "not-now", "transfer after the end")
    switch.finish()


@case
def whoever_a_call_is_sent_to_in_vain_has_missed_it_and_why_is_known_after_kill_9(world):
    needs_tandem()
    switch = Switch(world)
    cas = Cas(switch)
    alice, bob, carol = (Agent(world, switch, name).registered() for name in ("alice", "bob", "carol"))
    ours, theirs = Media(world, alice.wire.address, ALICE), Media(world, bob.wire.address, BOB)
    outgoing = alice.invite("bob", ours.sdp())
    incoming = bob.incoming()
    incoming.answer(theirs.sdp())
    outgoing.answered()
    incoming.wait_ack()
    call = cas.only_call()
    for status, why in [(486, "the device is busy"), (603, "the call was declined at the device")]:
        sent = cas.begin("tel", "transfer", call=call, user="bob", destination="carol")
        ringing = carol.incoming()
        ringing.respond(status)
        ringing.wait_ack()
        fails(sent)
        missed = lambda: cas.ask("history", "list", user="carol")["entries"]
        world.wait(f"carol's history says {why}", lambda: missed() and missed()[0].get("why") == why, 5)
        equal((missed()[0]["kind"], missed()[0]["call"], missed()[0]["device"]), ("missed", call, cas.device("carol")), "her newest entry")
    equal(len(missed()), 2, "calls that carol missed")
    for wrong, field in [({"destination": "alice"}, "destination"), ({"destination": "bob"}, "destination")]:
        said = cas.refused("tel", "transfer", call=call, user="bob", **wrong)
        equal((said["error"], said["field"]), ("bad-message", field), f"transfer with {wrong}: {said}")
    answer = incoming.request("REFER", headers=[f"Refer-To: <sip:alice@{switch.domain}>"])
    equal(answer.status, 403, "answer to a REFER of alice to herself")
    outgoing.bye(incoming)
    entry = world.wait("alice's history has the call", lambda: cas.ask("history", "list", user="alice")["entries"], 5)[0]
    equal(entry["why"], "the caller hung up", "why in her history")
    outgoing = alice.invite("bob", ours.sdp())
    incoming = bob.incoming()
    incoming.answer(theirs.sdp())
    outgoing.answered()
    incoming.wait_ack()
    goes_on = world.wait("the call is connected", lambda: [c for c in cas.calls() if c["state"] == "connected"], 5)[0]["id"]
    cas.ask("history", "note", entry=entry["id"], text="written down")  # it is on disk then, and what was written before
    switch.kill()
    switch.start()
    cas = Cas(switch)
    equal(cas.ask("tel", "why", call=call)["why"], "the caller hung up", "why after kill -9")
    check("stopped without warning" in (why := cas.ask("tel", "why", call=goes_on)["why"]), f"why of the call that went on: {why}")
    for user, kind in [("alice", "placed"), ("bob", "received")]:
        entries = [entry for entry in cas.ask("history", "list", user=user)["entries"] if entry["call"] == goes_on]
        equal([(entry["kind"], entry["why"]) for entry in entries], [(kind, why)], f"history of {user}")
    done = subprocess.run([os.path.abspath(BINARY), "call", "why", call, "--config", switch.config], capture_output=True, text=True, timeout=20)
    equal((done.returncode, done.stdout.strip()), (0, "The caller hung up."), f"`call why` {done.stderr}")
    equal(cas.refused("tel", "why", call="ff")["error"], "not-found", "of a call that never was")
    switch.finish()


@case
def a_call_made_for_one_that_waits_is_that_ones_transfer_when_it_is_answered(world):
    switch, cas, alice, bob, carol = house(world, "alice", "bob", "carol")
    connect(alice, bob)
    waits = cas.only_call()

    def ask_carol(purpose):
        at_bob, at_carol = bob.mark(), carol.mark()
        made = cas.begin("tel", "make-call", user="bob", device=cas.device("bob"), destination="carol", guided={"call": waits, "purpose": purpose})
        taken(bob, at_bob)
        carol.wait_event("CALL_INCOMING", at_carol)
        equal(states(cas, waits)["bob"], "held", "bob in the call that waits")
        return made()["call"]["id"]

    at_bob = bob.mark()
    asks = ask_carol("transfer")
    carol.hang_up()  # she does not want to: bob has alice back
    world.wait("the call of carol is over", lambda: cas.call(asks)["state"] == "ended", 5)
    world.wait("bob has alice back", lambda: states(cas, waits)["bob"] == "connected", 5)
    asks = ask_carol("transfer")
    at_bob = bob.mark()
    carol.command("accept")
    hear_each_other(world, alice, carol)
    world.wait("bob is free", lambda: bob.count("CALL_CLOSED", at_bob) == 2, 5)
    equal((cas.only_call(), cas.call(waits)["constructed"]), (waits, {"how": "transferred", "by": "bob"}), "the call that is left")
    switch.finish()


@case
def an_application_parks_and_picks_up(world):
    switch, cas, alice, bob, carol = house(world, "alice", "bob", "carol", extra=GROUP)
    connect(alice, bob)
    call = cas.only_call()
    panel, stranger, caller = Cas(switch, "carol"), Cas(switch, "dave"), Cas(switch, "alice")
    for client in (panel, stranger):
        equal(client.ask("tel", "list", pickup=True, subscribe=True)["calls"], [], "nothing waits")
    ear, at_bob = alice.ear(), bob.mark()
    for wrong in ("0", "100", "x"):
        equal(cas.refused("tel", "park", call=call, user="bob", slot=wrong)["field"], "slot", f"slot {wrong}")
        equal(panel.refused("tel", "pickup", slot=wrong)["field"], "slot", f"slot {wrong}")
    empty = panel.refused("tel", "pickup", slot="7")
    equal((empty["error"], empty["field"]), ("not-found", "slot"), "an empty slot")
    equal(cas.ask("tel", "park", call=call, user="bob", slot="7")["call"]["slot"], "7", "the slot")
    bob.wait_event("CALL_CLOSED", at_bob)
    world.wait("alice hears music", lambda: not ear.silent(0.2), 5)
    for client in (panel, stranger):
        (waits,) = client.ask("tel", "list", pickup=True)["calls"]
        equal((waits["id"], waits["slot"], waits["actions"]), (call, "7", ["pickup"]), "a parked call is for everybody")
        equal([(p["user"], p["state"]) for p in waits["parties"]], [("alice", "parked")], "who waits")
        equal([event["call"] for event in client.events("tel.pickup")], [waits], "the event")
    at_carol = carol.mark()
    picked = panel.begin("tel", "pickup", slot="7", device=cas.device("carol"))
    taken(carol, at_carol)
    equal("slot" in picked()["call"], False, "a slot after it was picked up")
    gone = stranger.events("tel.pickup")[-1]["call"]
    equal((gone["id"], gone["parties"], gone["actions"]), (call, [], []), "it waits no more, and who took it is nobody's affair")
    equal(stranger.ask("tel", "list", pickup=True)["calls"], [], "nothing waits")
    hear_each_other(world, alice, carol)
    at_alice = alice.mark()
    carol.hang_up()
    alice.wait_event("CALL_CLOSED", at_alice)
    hung_up = "the callee hung up"
    world.wait("the histories have it", lambda: entries(cas, "alice", call) and entries(cas, "carol", call), 5)
    equal([entries(cas, user, call) for user in ("alice", "bob", "carol")],
          [[("placed", "bob", f"taken by carol; {hung_up}")], [("received", "alice", "parked in slot 7")], [("received", "alice", hung_up)]],
          "the histories of alice, bob and carol")
    # what rings at bob is answered by carol, who is in a group with him, and not by one who is not
    at_alice, at_bob, at_carol = alice.mark(), bob.mark(), carol.mark()
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING", at_bob)
    (rings,) = (e["call"] for e in panel.events("tel.pickup") if e["call"]["state"] == "ringing")
    call = rings["id"]
    equal([(p["user"], p["state"]) for p in rings["parties"]], [("alice", "dialing"), ("bob", "ringing")], "who calls whom")
    equal(panel.ask("tel", "list", pickup=True)["calls"], [rings], "what may be picked up")
    equal((stranger.ask("tel", "list", pickup=True)["calls"], len(stranger.events("tel.pickup"))), ([], 2), "nobody's colleague")
    equal(stranger.refused("tel", "pickup", call=call)["error"], "missing-right", "pickup by a stranger")
    picked = panel.begin("tel", "pickup", call=call)
    taken(carol, at_carol)
    bob.wait_event("CALL_CLOSED", at_bob)
    equal(picked()["call"]["constructed"], {"how": "picked-up", "by": "carol"}, "how it came about")
    hear_each_other(world, alice, carol)
    carol.hang_up()
    alice.wait_event("CALL_CLOSED", at_alice)
    world.wait("the histories have it", lambda: entries(cas, "alice", call) and entries(cas, "carol", call), 5)
    equal([entries(cas, user, call) for user in ("alice", "bob", "carol")],
          [[("placed", "bob", f"picked up by carol; {hung_up}")], [("missed", "alice", "picked up by carol")],
           [("received", "alice", f"picked up; {hung_up}")]], "the histories of alice, bob and carol")
    # each event shows something else than the one before
    told = [(name, body["call"]) for name, body in caller.all_events() if body.get("call", {}).get("id") == call]
    equal([name for name, _ in told][:1] + [name for name, _ in told][-1:], ["tel.ringing", "tel.ended"], "the first and the last event of alice")
    equal([after for (_, before), (_, after) in zip(told, told[1:]) if before == after], [], "events that say the same again")
    # a number that nobody has
    at_alice = alice.mark()
    alice.dial("nobody")
    check("404" in alice.wait_event("CALL_CLOSED", at_alice)["param"], "alice is told that there is no such number")
    newest = lambda: cas.ask("history", "list", user="alice")["entries"][0]
    world.wait("alice's history has it", lambda: newest().get("why") == "no such number", 5)
    equal((newest()["kind"], newest()["number"]), ("placed", "nobody"), "her newest entry")
    equal(cas.ask("tel", "why", call=newest()["call"])["why"], "no such number", "why")
    equal(cas.refused("tel", "make-call", user="alice", destination="no-one")["error"], "not-found", "a call by CAS to a number that nobody has")
    world.wait("alice's history has it, too", lambda: newest()["number"] == "no-one", 5)
    # declined as busy
    at_alice, at_bob = alice.mark(), bob.mark()
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING", at_bob)
    cas.ask("tel", "decline", call=cas.only_call(), user="bob", reason="busy")
    check("486" in alice.wait_event("CALL_CLOSED", at_alice)["param"], "alice is told that he is busy")
    # whose phones are all off has missed it
    at_alice = alice.mark()
    carol.quit()
    alice.dial("carol")
    check("480" in alice.wait_event("CALL_CLOSED", at_alice)["param"], "alice is told that nothing can ring")
    world.wait("alice's history has it", lambda: newest()["number"] == "carol", 5)
    call, why = newest()["call"], "no device can be reached"
    equal([entries(cas, user, call) for user in ("alice", "carol")], [[("placed", "carol", why)], [("missed", "alice", why)]], "their histories")
    equal(cas.ask("tel", "why", call=call)["why"], why, "why")
    switch.finish()


@case
def hold_by_command_is_seen_on_the_phone(world):
    switch, cas, alice, bob = house(world, "alice", "bob")
    connect(alice, bob)
    hear_each_other(world, alice, bob)
    call, at_bob = cas.only_call(), bob.ear()
    for times in (1, 2):
        cas.ask("tel", "hold", call=call, user="alice")
        world.wait("bob hears music", lambda: hears_music(at_bob, ALICE), 8)
        world.wait("bob's phone is held", lambda: bob.trace().count("a=recvonly") >= times, 5)
        equal(states(cas, call), {"alice": "held", "bob": "connected"}, "the parties")
        equal("resume" in cas.call(call)["actions"], True, "resume is offered")
        cas.ask("tel", "resume", call=call, user="alice")
        hear_each_other(world, alice, bob)
    equal((alice.trace().count("a=sendonly"), alice.count("CALL_CLOSED")), (0, 0), "what the holding phone was told")
    cas.ask("tel", "drop", call=call, user="alice")
    switch.finish()


@case
def a_phone_is_told_to_answer(world):
    """One that says that it can be told gets a NOTIFY, another one an INVITE that asks for it, a deaf one is left ringing."""
    needs_tandem()
    switch = Switch(world)
    cas, alice = Cas(switch), Agent(world, switch, "alice").registered()
    bob = Agent(world, switch, "bob").registered()
    at_alice, at_bob = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)

    def call():
        outgoing = alice.invite("bob", at_alice.sdp())
        return outgoing, bob.incoming(), cas.only_call()

    outgoing, incoming, number = call()
    incoming.ring(["Allow-Events: hold, talk"])
    outgoing.ringing()
    answered = cas.begin("tel", "answer", call=number, user="bob")
    notify = bob.wait_request("NOTIFY", **{"Call-ID": incoming.call_id})
    equal((notify.get("Event"), notify.tag("To")), ("talk", incoming.local_tag), "the event, in the early dialog")
    bob.respond(notify, 200, "OK")
    incoming.answer(at_bob.sdp())
    at_alice.aim(outgoing.answered().body), at_bob.aim(incoming.invite.body)
    at_alice.play(), at_bob.play()
    incoming.wait_ack()
    equal(answered()["call"]["state"], "connected", "the reply")
    at_alice.wait_hears(700), at_bob.wait_hears(500)
    outgoing.bye(incoming)

    outgoing, incoming, number = call()
    incoming.ring()
    outgoing.ringing()
    answered = cas.begin("tel", "answer", call=number, user="bob")
    check("completed elsewhere" in incoming.wait_cancel().get("Reason"), "the phone is to note no missed call")
    again = bob.incoming()
    equal("answer-after=0" in again.invite.get("Call-Info") and "alert-autoanswer" in again.invite.get("Alert-Info"), True, "what phones go by")
    again.answer(at_bob.sdp())
    outgoing.answered()
    again.wait_ack()
    equal(answered()["call"]["state"], "connected", "the reply")
    outgoing.bye(again)

    outgoing, incoming, number = call()
    incoming.ring()
    outgoing.ringing()
    answered = cas.begin("tel", "answer", call=number, user="bob")
    incoming.wait_cancel()
    again = bob.incoming()
    again.ring()
    check("by itself" in (why := fails(answered)), why)
    equal(cas.call(number)["state"], "ringing", "the call")
    again.answer(at_bob.sdp())
    outgoing.answered()
    again.wait_ack()
    outgoing.bye(again)
    switch.finish()
