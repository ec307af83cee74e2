"""Headless Chromium with JsSIP over secure WebSocket: it registers, and talks to other browsers and to desk phones."""

import functools
import os
import time

from harness import cases
from harness.browser import Browser, BrowserPhone
from harness.cas import Cas
from harness.links import TwoLinks
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.switch import user_table
from harness.tone import hears_music
from harness.world import check, equal

ALICE, BOB, CAROL = 400, 650, 1000  # Hz
ORIGINS = 'origins = ["http://127.0.0.1:*"]'  # the pages' own web server


case = functools.partial(cases.case, seconds=75)  # a test may wait for another one's browser to end

def switch_for_browsers(world, **kinds):
    needs_tandem()
    return Switch(world, ws=True, sip_extra=ORIGINS, **kinds)


def two_browsers(world, **kinds):
    switch = switch_for_browsers(world, **kinds)
    browser = Browser(world)
    return switch, browser.phone(switch, "alice", ALICE, colour="red"), browser.phone(switch, "bob", BOB, colour="blue")


def browser_and_desk_phone(world, **kinds):
    """Alice's browser and Bob's desk phone."""
    switch = switch_for_browsers(world)
    bob = Phone(world, switch, "bob", BOB, **kinds)
    return switch, Browser(world).phone(switch, "alice", ALICE), bob


def connect(caller, callee, **how):
    """Sets up a call and waits until both phones say it is established."""
    at_caller, at_callee = caller.mark(), callee.mark()
    caller.dial(callee.user, **how)
    callee.wait_event("CALL_INCOMING", at_callee)
    callee.answer(**how) if how else callee.answer()
    caller.wait_event("CALL_ESTABLISHED", at_caller)
    callee.wait_event("CALL_ESTABLISHED", at_callee)


def see_each_other(a, b):
    a.wait_sees(b.colour)
    b.wait_sees(a.colour)
    for phone in (a, b):
        stream = phone.stream("received", "video")
        check(stream["frames"] >= 10, f"{phone.user} decoded {stream['frames']} frames")
        phone.screenshot()


def hear_each_other(a, b, seconds=1.0):
    """Each phone hears the other's tone, and nothing of its own."""
    at_a, at_b = a.wait_hears(b.tone, seconds), b.wait_hears(a.tone, seconds)
    hears_nothing_of_itself(a, at_a)
    hears_nothing_of_itself(b, at_b)


def hears_nothing_of_itself(phone, ear, since=0.0):
    """Apart from single blocks: the click of a tone that begins has a bit of every tone."""
    trace = ear.trace_of(phone.tone, since)
    check(trace <= 0.1, f"{phone.user} heard itself for {trace:.2f} s")


def hang_up(by, other):
    at_other = other.mark()
    by.hang_up()
    other.wait_event("CALL_CLOSED", at_other)


# -- the harness itself ---------------------------------------------------------------------------------------------


@case
def pages_without_a_switch_hear_and_see_each_other(world):
    browser = Browser(world)
    alice, bob = browser.phone(None, "alice", ALICE, colour="red"), browser.phone(None, "bob", BOB, colour="blue")
    alice.command("answered", answer=bob.command("accept", offer=alice.command("offer", video=True), video=True))
    hear_each_other(alice, bob)
    see_each_other(alice, bob)
    stats = alice.stats()
    equal((stats["dtls"], stats["pair"]["local"].split()[0]), ("connected", "host"), "DTLS and the kind of address in use")
    alice.screenshot()


# -- registration ---------------------------------------------------------------------------------------------------


@case(rows=[("wss",), ("ws",)], row="over_{}")
def browser_registers(world, transport):
    switch = switch_for_browsers(world)
    alice = Browser(world).phone(switch, "alice", ALICE, transport=transport)
    alice.command("unregister")
    alice.wait_event("unregistered")
    switch.finish()


@case
def browser_with_a_wrong_password_is_refused(world):
    switch = switch_for_browsers(world)
    alice = Browser(world).phone(switch, "alice", ALICE, password="guess", wait=False)
    alice.wait_event("REGISTER_FAIL")
    check(not alice.find("REGISTER_OK"), "registered with a wrong password")
    switch.finish()


@case
def page_of_a_foreign_origin_cannot_connect(world):  # S14
    needs_tandem()
    switch = Switch(world, ws=True)
    alice = Browser(world).phone(switch, "alice", ALICE, wait=False)
    alice.wait_event("disconnected")
    check(not alice.find("connected"), "a page that tandem does not know opened a WebSocket")
    switch.finish()


# -- media between the browsers alone -------------------------------------------------------------------------------


@case
def browsers_with_direct_media_hear_and_see_each_other(world):
    switch, alice, bob = two_browsers(world, extra='[policy]\nmedia = "direct"\n')
    connect(alice, bob, video=True)
    hear_each_other(alice, bob)
    see_each_other(alice, bob)
    hang_up(alice, bob)
    connect(bob, alice)
    hear_each_other(alice, bob, 0.5)
    hang_up(alice, bob)
    switch.finish()


@case
def browser_and_desk_phone_are_anchored_where_others_talk_directly(world):
    switch = switch_for_browsers(world, extra='[policy]\nmedia = "direct"\n')
    bob = Phone(world, switch, "bob", BOB)
    alice = Browser(world).phone(switch, "alice", ALICE)
    for caller, callee in ((alice, bob), (bob, alice)):
        connect(caller, callee)
        hear_each_other(alice, bob)
        hang_up(caller, callee)
    switch.finish()


# -- browsers -------------------------------------------------------------------------------------------------------


@case(rows=[("caller",), ("callee",)], row="{}_hangs_up")
def browsers_hear_and_see_each_other(world, who):
    switch, alice, bob = two_browsers(world)
    connect(alice, bob, video=True)
    hear_each_other(alice, bob)
    see_each_other(alice, bob)
    for phone in (alice, bob):
        remote = phone.stats()["pair"]["remote"]
        equal(remote, f"host {switch.address}:{switch.ports['webrtc']}", f"where {phone.user} sends its media")
    hang_up(*((alice, bob) if who == "caller" else (bob, alice)))
    switch.finish()


@case
def picture_is_added_to_a_call_and_taken_away_again(world):
    switch, alice, bob = two_browsers(world)
    connect(alice, bob)
    hear_each_other(alice, bob, 0.5)
    alice.command("video", on=True)
    bob.wait_sees("red")
    bob.screenshot()
    check(alice.stream("received", "video") is None, "alice sees a picture that nobody sends")
    alice.command("video", on=False)
    world.wait("no more frames come", lambda: frames_in(bob, 0.5) == 0, 8)
    since = time.monotonic()
    bob.wait_hears(ALICE, 0.5, since=since), alice.wait_hears(BOB, 0.5, since=since)
    hang_up(bob, alice)
    switch.finish()


def frames_in(phone, seconds):
    before = phone.command("seen")["frames"]
    time.sleep(seconds)
    return phone.command("seen")["frames"] - before


@case
def two_calls_of_one_browser_do_not_mix(world):
    switch, alice, bob = two_browsers(world)
    carol = Phone(world, switch, "carol", 1000)
    connect(alice, bob)
    alice.wait_hears(BOB, 0.5)
    alice.hold()
    world.wait("the held browser hears music", lambda: hears_music(bob, ALICE), 8)
    connect(alice, carol)
    alice.wait_hears(1000, 0.5)
    carol.wait_hears(ALICE, 0.5)
    check(alice.trace_of(BOB) <= 0.1, "the held call is heard in the other")
    hang_up(carol, alice)
    switch.finish()


# -- a browser and a desk phone ---------------------------------------------------------------------------------------


@case(rows=[("PCMU",), ("PCMA",), ("G722",), ("opus",)], row="{}")
def browser_calls_a_desk_phone(world, codec):
    switch, alice, bob = browser_and_desk_phone(world, codecs=(codec,))
    connect(alice, bob)
    hear_each_other(alice, bob)
    equal((alice.codec(), bob.codec()), (codec, codec), "codecs in use")
    alice.screenshot()
    hang_up(alice, bob)
    switch.finish()


@case(rows=[("udp",), ("tcp",), ("tls",)], row="over_{}")
def desk_phone_calls_a_browser(world, transport):
    switch, alice, bob = browser_and_desk_phone(world, transport=transport, codecs=("G722", "PCMA"))
    connect(bob, alice)
    hear_each_other(alice, bob)
    hang_up(bob, alice)
    switch.finish()


@case
def browser_hangs_up_a_call_of_a_desk_phone(world):
    switch, alice, bob = browser_and_desk_phone(world)
    for _ in range(2):  # and a new call works at once
        connect(bob, alice)
        alice.wait_hears(BOB, 0.3, since=time.monotonic())
        hang_up(alice, bob)
    switch.finish()


@case
def desk_phone_without_video_answers_a_call_with_video(world):
    switch, alice, bob = browser_and_desk_phone(world)
    since = alice.dial("bob", video=True)
    bob.answer()
    alice.wait_event("CALL_ESTABLISHED", since)
    hear_each_other(alice, bob)
    video = alice.command("descriptions")["remote"].split("m=video ")[1]
    check(not video.startswith("0 ") and "a=inactive" in video, f"the line of the refused picture does not rest: {video}")
    hang_up(alice, bob)
    switch.finish()


@case
def browser_is_offered_nothing_but_protected_media(world):
    switch, alice, bob = browser_and_desk_phone(world)
    connect(bob, alice)
    remote = alice.command("descriptions")["remote"]
    check(all("UDP/TLS/RTP/SAVPF" in line for line in remote.splitlines() if line.startswith("m=")), remote)
    check("a=ice-lite" in remote and "a=fingerprint:sha-256" in remote, remote)
    check("a=candidate" not in bob.trace() and "a=fingerprint" not in bob.trace(), "the desk phone was shown ICE or DTLS")
    hang_up(alice, bob)
    switch.finish()


@case(rows=[("browser",), ("desk_phone",)], row="by_the_{}")
def hold_brings_music_and_resume_the_tones_back(world, who):
    switch, alice, bob = browser_and_desk_phone(world)
    connect(alice, bob)
    hear_each_other(alice, bob, 0.5)
    at_bob = bob.ear()  # on the wire: baresip's recording ends at a re-INVITE
    holder, held = (alice, bob) if who == "browser" else (bob, alice)
    cas = Cas(switch)
    order = functools.partial(cas.ask, "tel", call=cas.only_call(), user=holder.user)
    for hold, resume in ((holder.hold, holder.resume), (lambda: order("hold"), lambda: order("resume"))):
        since = alice.mark()
        hold()
        if held is alice:
            alice.wait_event("hold", since, by="remote")
        ears = {alice: (alice, BOB), bob: (at_bob, ALICE)}
        world.wait("the held side hears music", lambda: hears_music(*ears[held]), 8)
        world.wait("who holds hears nothing", ears[holder][0].silent, 8)
        resumed = time.monotonic()
        resume()
        if held is alice:
            alice.wait_event("unhold", since, by="remote")
        world.wait("the desk phone hears the browser again", lambda: at_bob.heard(ALICE, resumed) > 0.5)
        world.wait("the browser hears the desk phone again", lambda: alice.heard(BOB, resumed) > 0.5)
    hang_up(held, holder)
    switch.finish()


@case
def muted_browser_is_silent_and_goes_on_hearing(world):
    switch, alice, bob = browser_and_desk_phone(world)
    connect(alice, bob)
    hear_each_other(alice, bob, 0.5)
    at_bob = bob.ear()
    alice.command("mute")
    world.wait("the desk phone hears nothing", at_bob.silent, 5)
    muted = time.monotonic()
    alice.wait_hears(BOB, 0.5, since=muted)
    alice.command("unmute")
    world.wait("the desk phone hears the browser again", lambda: at_bob.heard(ALICE, muted) > 0.5)
    hang_up(alice, bob)
    switch.finish()


@case(rows=[("events",), ("INFO",)], row="as_{}")
def digits_of_a_browser_arrive_at_a_desk_phone(world, how):
    switch, alice, bob = browser_and_desk_phone(world)
    connect(alice, bob)
    bob.wait_hears(ALICE, 0.3)
    since = bob.mark()
    alice.digits("1590#*", info=how == "INFO")
    digits = lambda: "".join(e["param"] for e in bob.events[since:] if e["type"] == "CALL_DTMF_START")  # noqa: E731
    world.wait("six digits arrive", lambda: len(digits()) >= 6, 10)
    equal(digits(), "1590#*", "digits at the desk phone")
    hang_up(alice, bob)
    switch.finish()


@case
def digits_of_a_desk_phone_arrive_at_a_browser(world):
    switch, alice, bob = browser_and_desk_phone(world)
    connect(alice, bob)
    alice.wait_hears(BOB, 0.3)
    since = alice.mark()
    bob.digits("1")
    # Chromium tells its page of no event, it plays a block or two of the digit: 697 and 1209 Hz.  An INFO would do as well.
    heard = lambda: all(alice.command("heard", tone=tone, least=0.2) > 0 for tone in (700, 1200))  # noqa: E731
    world.wait("the digit is heard or told", lambda: heard() or alice.find("CALL_DTMF_START", since, digit="1"), 8)
    hang_up(alice, bob)
    switch.finish()


# -- calls that do not come about -------------------------------------------------------------------------------------


@case
def desk_phone_refuses_the_call_of_a_browser(world):
    switch, alice, bob = browser_and_desk_phone(world)
    alice.dial("bob")
    bob.wait_event("CALL_INCOMING")
    alice.wait_event("CALL_RINGING")
    bob.hang_up()
    alice.wait_event("CALL_CLOSED", param="486")
    switch.finish()


@case(rows=[(486,), (603,)], row="with_{}")
def browser_refuses_the_call_of_a_desk_phone(world, status):
    switch, alice, bob = browser_and_desk_phone(world)
    bob.dial("alice")
    alice.wait_event("CALL_INCOMING")
    alice.hang_up(status)
    bob.wait_event("CALL_CLOSED", param=str(status))
    switch.finish()


@case(rows=[("browser",), ("desk_phone",)], row="by_the_{}")
def cancelled_call_stops_ringing(world, who):
    switch, alice, bob = browser_and_desk_phone(world)
    caller, callee = (alice, bob) if who == "browser" else (bob, alice)
    caller.dial(callee.user)
    callee.wait_event("CALL_INCOMING")
    caller.wait_event("CALL_RINGING")
    caller.hang_up()
    callee.wait_event("CALL_CLOSED", seconds=3)
    switch.finish()


@case
def browser_and_desk_phone_of_one_user_ring_and_one_wins(world):
    switch = switch_for_browsers(world)
    alice, desk = Phone(world, switch, "alice", ALICE), Phone(world, switch, "bob", 1000)
    page = Browser(world).phone(switch, "bob", BOB)
    for winner, loser in ((page, desk), (desk, page)):
        at_desk, at_page = desk.mark(), page.mark()
        since = alice.dial("bob")
        desk.wait_event("CALL_INCOMING", at_desk)
        page.wait_event("CALL_INCOMING", at_page)
        winner.answer()
        alice.wait_event("CALL_ESTABLISHED", since)
        loser.wait_event("CALL_CLOSED", at_desk if loser is desk else at_page, 3)
        world.wait("the winner hears the caller", lambda: (ear := newest_ear(winner)) and ear.heard(ALICE) > 0.5)
        hang_up(alice, winner)
    switch.finish()


# -- every pair of leg kinds --------------------------------------------------------------------------------------------

KINDS = {  # leg kind: the transports it is tried on, what the desk phone is told, what the switch is told of its user
    "plain": (("udp", "tls"), "", ""),
    "sdes": (("udp", "tls"), "srtp-mand", 'srtp = "require"\n'),
    "dtls": (("udp", "tls"), "dtls_srtp", 'srtp = "require"\n'),
    "webrtc": (("wss",), None, ""),
}


def newest_ear(phone):
    """What a phone hears in its latest call; a recording begins when the media does."""
    if isinstance(phone, BrowserPhone):
        return phone
    recordings = phone.recordings()
    return recordings[-1] if recordings else None


def call_and_listen(pairs):
    """Sets up all calls at once, listens at all ends, and hangs up."""
    for caller, callee in pairs:
        connect(caller, callee)
    began = time.monotonic()
    for pair in pairs:
        for phone, other in (pair, pair[::-1]):
            since = began if isinstance(phone, BrowserPhone) else 0.0

            def hears():
                ear = newest_ear(phone)
                return ear if ear and ear.heard(other.tone, since) >= 0.6 else None

            hears_nothing_of_itself(phone, phone.world.wait(f"{phone.user} hears {other.user}", hears, 10, every=0.1), since)
    for i, (caller, callee) in enumerate(pairs):
        hang_up(*((caller, callee) if i % 2 else (callee, caller)))


@case(rows=[(a, b) for a in ("plain", "webrtc") for b in ("sdes", "dtls")], row="{}_to_{}")
def phone_that_insists_on_srtp_is_reached_without_being_configured(world, a, b):
    switch = switch_for_browsers(world)
    bob = Phone(world, switch, "bob", BOB, mediaenc=KINDS[b][1])
    alice = Phone(world, switch, "alice", ALICE) if a == "plain" else Browser(world).phone(switch, "alice", ALICE)
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob)
    switch.finish()


@case(rows=[(a, b) for a in KINDS for b in KINDS], row="{}_to_{}", seconds=120)
def legs_of_two_kinds_hear_each_other(world, a, b):
    callers, callees = [f"{a}-{t}-calls" for t in KINDS[a][0]], [f"{b}-{t}-called" for t in KINDS[b][0]]
    users = [(name, a) for name in callers] + [(name, b) for name in callees]
    switch = switch_for_browsers(world, users=[user_table(name, 501 + i) + KINDS[kind][2] for i, (name, kind) in enumerate(users)])
    browser = Browser(world) if "webrtc" in (a, b) else None
    phones = {}
    for tone, (name, kind) in zip((400, 550, 750, 1000), users):
        transports, mediaenc, _ = KINDS[kind]
        if mediaenc is None:
            phones[name] = browser.phone(switch, name, tone)
        else:
            transport = next(t for t in transports if f"-{t}-" in name)
            phones[name] = Phone(world, switch, name, tone, transport=transport, mediaenc=mediaenc)
    longer, shorter = sorted((callers, callees), key=len, reverse=True)
    for turn in range(len(longer)):
        pairs = [(longer[(i + turn) % len(longer)], other) for i, other in enumerate(shorter)]
        call_and_listen([(phones[x], phones[y]) if x in callers else (phones[y], phones[x]) for x, y in pairs])
    switch.finish()


# -- a change of networks -------------------------------------------------------------------------------------------------


def switch_off_loopback(world):
    switch = switch_for_browsers(world, wait=False, capture=False)
    world.write("tandem.toml", open(switch.config).read().replace("plain = true", "plain = false"))  # HTTP is for loopback only
    switch.start()
    return switch


def roaming_call(world, up, addresses):
    links = TwoLinks(world, up)
    switch = switch_off_loopback(world)
    bob = Phone(world, switch, "bob", BOB, address=switch.address)
    alice = Browser(world, links.prefix).phone(switch, "alice", ALICE, roams=True, addresses=addresses)
    connect(alice, bob)
    alice.wait_hears(BOB, 0.5)
    at_bob = bob.ear()
    world.wait("the desk phone hears the browser", lambda: at_bob.heard(ALICE) > 0.5)
    return links, switch, alice, bob, at_bob


def invitations(phone):
    return phone.trace().count("INVITE sip:")


# The call begins on link 1.  "spare": link 2 is up all the time; "new": it comes up when link 1 goes.
@case(slow=True, rows=[("route", "spare", 1), ("route", "new", 1), ("every", "spare", 5), ("every", "new", 5)],
      row="with_sockets_on_{}_addresses_and_a_{}_link")
def browser_changes_its_address_in_the_middle_of_a_call(world, addresses, second, most):
    links, switch, alice, bob, at_bob = roaming_call(world, (1, 2) if second == "spare" else (1,), addresses)
    invited = invitations(bob)
    moved = links.down(1)
    if second == "new":
        links.up(2)
    time.sleep(most + 2)
    for ear, tone, name in ((at_bob, ALICE, "desk phone"), (alice, BOB, "browser")):
        check(ear.heard(tone, time.monotonic() - 1) > 0.7, f"the {name} does not hear the other again")
    missed, missed_here = at_bob.gap(ALICE, moved - 0.2), alice.gap(BOB, moved - 0.2)
    print(f"the desk phone missed {missed:.2f} s, the browser {missed_here:.2f} s")
    check(missed < most, f"the desk phone did not hear the browser for {missed:.2f} s")
    check(" 10.77.2.2:" in alice.stats()["pair"]["local"], f"the media does not use the new link: {alice.stats()['pair']}")
    equal(invitations(bob), invited, "INVITEs in the desk phone's trace")
    hang_up(bob, alice)  # the BYE finds the browser at its new place
    switch.finish()


# -- pages without SIP ----------------------------------------------------------------------------------------------


@case
def page_with_nothing_but_fetch_and_webrtc_calls_a_desk_phone_and_is_called_by_it(world):
    """It logs in to CAS over HTTPS, gives and gets descriptions there, and its call goes on when it restarts ICE, and when it is loaded anew."""
    switch = switch_for_browsers(world, https=True)
    bob = Phone(world, switch, "bob", BOB)
    alice = Browser(world).page_without_sip(switch, "alice", ALICE)
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob)
    connect(bob, alice)
    hear_each_other(alice, bob, 0.5)
    for change in (lambda: alice.command("restart"), alice.reload):
        change()
        since, at_bob = time.monotonic(), bob.ear()
        alice.wait_hears(BOB, 0.5, since=since)
        world.wait("the desk phone hears the page again", lambda: at_bob.heard(ALICE) > 0.5)
    hang_up(bob, alice)
    alice.quit()
    world.wait("no device is left of the page", lambda: not Cas(switch).devices("alice"), 5)
    switch.finish()


@case(slow=True)
def page_without_sip_that_vanishes_ends_its_call_and_rings_no_more(world):
    """Killed without a word: so long as a page takes to be loaded anew nothing happens, and then it is as with a phone that is gone."""
    switch = switch_for_browsers(world, https=True)
    bob = Phone(world, switch, "bob", BOB)
    browser = Browser(world)
    alice = browser.page_without_sip(switch, "alice", ALICE)
    connect(alice, bob)
    host, at_bob = Cas(switch), bob.mark()
    call = host.only_call()
    alice.vanish()
    gone = time.monotonic()
    closed = bob.wait_event("CALL_CLOSED", at_bob, seconds=25)
    check(13 < closed["at"] - gone < 20, f"the call ended after {closed['at'] - gone:.1f} s")
    equal(host.ask("tel", "why", call=call)["why"], "a device is gone", "why the call ended")
    equal(host.devices("alice"), [], "devices of who is gone")
    at_bob = bob.mark()
    bob.dial("alice")
    check("480" in bob.wait_event("CALL_CLOSED", at_bob, seconds=3)["param"], "who is gone cannot be reached")
    again = browser.page_without_sip(switch, "alice", ALICE)
    connect(bob, again)
    hear_each_other(again, bob, 0.5)
    switch.finish()


@case
def pages_without_sip_see_each_other(world):
    switch = switch_for_browsers(world, https=True)
    browser = Browser(world)
    alice, bob = (browser.page_without_sip(switch, *who) for who in (("alice", ALICE, "red"), ("bob", BOB, "blue")))
    connect(alice, bob, video=True)
    hear_each_other(alice, bob, 0.5)
    see_each_other(alice, bob)
    hang_up(bob, alice)
    switch.finish()


@case
def page_without_sip_follows_its_call_to_another_device_and_into_another_call(world):
    switch = switch_for_browsers(world, https=True)
    desk, bob, carol = Phone(world, switch, "alice", ALICE), Phone(world, switch, "bob", BOB), Phone(world, switch, "carol", CAROL)
    alice, host = Browser(world).page_without_sip(switch, "alice", ALICE), Cas(switch)
    connect(alice, bob)
    call = host.only_call()
    (page,) = host.carried(call, "alice")
    (other,) = (device["device"] for device in host.devices("alice") if device["device"] != page)

    at_alice, at_desk = alice.mark(), desk.mark()
    moved = host.begin("tel", "move", call=call, user="alice", device=other)
    desk.wait_event("CALL_INCOMING", at_desk)
    desk.command("accept")
    moved()
    alice.wait_event("CALL_CLOSED", at_alice)
    hear_each_other(desk, bob, 0.5)
    at_alice = alice.mark()
    moved = host.begin("tel", "move", call=call, user="alice", device=page)
    alice.answer(since=at_alice)
    moved()
    hear_each_other(alice, bob, 0.5)

    # bob brings who calls him together with the page, whose call has another number then
    at_alice, at_bob, at_carol = alice.mark(), bob.mark(), carol.mark()
    carol.dial("bob")
    bob.wait_event("CALL_INCOMING", at_bob)
    bob.command("accept")
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    (second,) = (other["id"] for other in host.calls() if other["id"] != call)
    host.ask("tel", "transfer", call=second, user="bob", consult=call)
    hear_each_other(alice, carol, 0.5)
    equal(host.only_call(), second, "the call that is left")
    equal(alice.count("CALL_CLOSED", at_alice), 0, "ends of the page's call")
    hang_up(alice, carol)
    switch.finish()


@case
def page_without_sip_takes_a_parked_call_and_is_guided_through_a_transfer(world):
    switch = switch_for_browsers(world, https=True)
    alice = Browser(world).page_without_sip(switch, "alice", ALICE)
    bob, carol = Phone(world, switch, "bob", BOB), Phone(world, switch, "carol", CAROL)
    host = Cas(switch)

    def page_and_bob_talk():
        since, at_bob = time.monotonic(), bob.ear()
        alice.wait_hears(BOB, 0.5, since=since)
        world.wait("bob hears the page", lambda: at_bob.heard(ALICE, since) > 0.5)

    connect(bob, carol)
    call = host.only_call()
    host.ask("tel", "park", call=call, user="carol")
    at_alice = alice.mark()
    taken = world.begin("pickup", lambda: alice.ask("pickup", call=call))
    alice.answer(since=at_alice)
    taken()
    page_and_bob_talk()

    # carol is asked while bob waits; when she answers, the two talk, and the page is free
    at_alice, at_carol = alice.mark(), carol.mark()
    alice.dial("carol", guided={"call": host.only_call(), "purpose": "transfer"})
    carol.wait_event("CALL_INCOMING", at_carol)
    equal([party["state"] for party in host.call(call)["parties"] if party.get("user") == "alice"], ["held"], "the call that waits")
    since = time.monotonic()
    carol.command("accept")
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    at_bob, at_carol = bob.ear(), carol.ear()
    world.wait("bob hears carol", lambda: at_bob.heard(CAROL, since) > 0.5, 8)
    world.wait("carol hears bob", lambda: at_carol.heard(BOB, since) > 0.5, 8)
    alice.wait_event("CALL_CLOSED", at_alice)
    equal({party.get("user") for party in host.call(host.only_call())["parties"] if party["state"] == "connected"}, {"bob", "carol"}, "parties")

    # and nobody answers: the page has bob back
    at_bob, at_carol = bob.mark(), carol.mark()
    carol.hang_up()
    bob.wait_event("CALL_CLOSED", at_bob)
    connect(alice, bob)
    at_alice, at_carol = alice.mark(), carol.mark()
    alice.dial("carol", guided={"call": host.only_call(), "purpose": "conference"})
    carol.wait_event("CALL_INCOMING", at_carol)
    carol.hang_up()
    alice.wait_event("CALL_CLOSED", at_alice)  # it failed
    page_and_bob_talk()
    at_alice, at_carol = alice.mark(), carol.mark()
    alice.dial("carol", guided={"call": host.only_call(), "purpose": "conference"})
    carol.wait_event("CALL_INCOMING", at_carol)
    carol.command("accept")
    since = time.monotonic()
    at_bob, at_carol = bob.ear(), carol.ear()
    world.wait("bob hears carol and alice", lambda: at_bob.heard(CAROL, since) + at_bob.heard(ALICE, since) > 0.5, 8)
    world.wait("all three are in one call", lambda: len(host.call(host.only_call())["parties"]) == 3, 5)
    switch.finish()
