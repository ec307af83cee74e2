"""One person, several devices: a call moves between desk phone and browser, is split over both, and the other side notices nothing."""

import functools
import time

from harness import cases
from harness.browser import Browser
from harness.cas import Cas
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.tone import share
from harness.world import check, equal, fails

DESK, MOBILE, FAR, FAR_MOBILE = 400, 850, 650, 1050  # Hz
ORIGINS = 'origins = ["http://127.0.0.1:*"]'  # the pages' own web server
TIMES = 20

case = functools.partial(cases.case, seconds=120)  # a test may wait for another one's browser to end


class Person:
    """Alice with a desk phone and a browser, Bob with a desk phone, and a call between the two."""

    def __init__(self, world, codecs=("PCMU",), far_codecs=("PCMU",), video=False, extra=""):
        needs_tandem()
        self.world = world
        self.switch = Switch(world, ws=True, sip_extra=ORIGINS, extra=extra)
        self.cas = Cas(self.switch)
        self.bob = Phone(world, self.switch, "bob", FAR, codecs=far_codecs)
        self.desk = Phone(world, self.switch, "alice", DESK, codecs=codecs)
        (desk,) = self.cas.devices("alice")
        self.browser = Browser(world)
        self.mobile = self.browser.phone(self.switch, "alice", MOBILE, colour="red", video=video)
        (mobile,) = [d for d in self.cas.devices("alice") if d["device"] != desk["device"]]
        self.ids = {self.desk: desk["device"], self.mobile: mobile["device"]}

    def connect(self, phone):
        """Bob calls Alice, who answers there."""
        at = {p: p.mark() for p in (self.desk, self.mobile, self.bob)}
        self.bob.dial("alice")
        for p in (self.desk, self.mobile):
            p.wait_event("CALL_INCOMING", at[p])
        phone.answer()
        self.bob.wait_event("CALL_ESTABLISHED", at[self.bob])
        self.call = self.cas.only_call()
        self.at_bob = self.bob.mark()
        other = self.mobile if phone is self.desk else self.desk
        other.wait_event("CALL_CLOSED", at[other])

    def move(self, to):
        """Alice takes the call on another device; returns the moment it was asked for."""
        began, at = time.monotonic(), to.mark()
        leaves = self.desk if to is self.mobile else self.mobile
        at_leaves = leaves.mark()
        command = self.cas.begin("tel", "move", call=self.call, user="alice", device=self.ids[to])
        to.wait_event("CALL_INCOMING", at)
        to.command("accept") if to is self.desk else to.command("answer", video=False)
        leaves.wait_event("CALL_CLOSED", at_leaves)
        command()
        equal(list(self.cas.carried(self.call, "alice")), [self.ids[to]], "Alice's devices in the call")
        return began

    def end(self):
        """Alice hangs up; Bob's phone got no new offer before."""
        check(not self.bob.find("CALL_CLOSED", self.at_bob), "Bob's phone was hung up")
        at = self.bob.mark()
        self.cas.ask("tel", "drop", call=self.call, user="alice")
        self.bob.wait_event("CALL_CLOSED", at)
        self.switch.finish()
        offers = f"udp.dstport == {self.bob.port} and (sip.Method == INVITE or sip.Method == UPDATE)"
        equal(self.switch.capture.from_switch(offers, "sip.Method"), [], "offers that Bob's phone got")


def breaks(ear, since):
    """Where the numbers of a stream do not go on: how far they jump, and whose voice is heard before and after."""
    voice = lambda p: next((name for name, tone in (("desk phone", DESK), ("browser", MOBILE)) if share(p.samples, tone, 8000) > 0.5), "?")
    packets = ear.since(since)
    steps = ((a, b, (b.sequence - a.sequence) & 0xFFFF) for a, b in zip(packets, packets[1:]))
    return [f"{voice(a)} +{step} {voice(b)} after {(b.at - a.at) * 1000:.0f} ms" for a, b, step in steps if step != 1]


@case(seconds=180, slow=True)
def call_moves_between_desk_phone_and_browser_twenty_times(world):
    person = Person(world)
    person.connect(person.desk)
    ear, desk_ear = person.bob.ear(), person.desk.ear()
    began = time.monotonic()
    world.wait("Bob hears the desk phone", lambda: ear.heard(DESK) > 0.5)
    gaps = []
    for n in range(TIMES):
        to = person.mobile if n % 2 == 0 else person.desk
        asked = person.move(to)
        world.wait("Bob hears the new device", lambda: ear.heard(MOBILE if to is person.mobile else DESK, asked) > 0.3)
        if to is person.mobile:
            world.wait("the browser plays Bob", lambda: person.mobile.bounds(FAR, asked))
            first = person.mobile.bounds(FAR, asked)[0]
            last = max(p.at for p in desk_ear.packets if p.at >= asked - 0.5)
            gaps.append(first - last)
        else:
            world.wait("the desk phone hears Bob", lambda: desk_ear.heard(FAR, asked) > 0.3)
    stream = ear.stream(began)
    print(f"at Bob {stream}; at Alice from desk phone to browser: longest gap {max(gaps) * 1000:.0f} ms")
    equal((stream["sources"], stream["lost"], stream["repeated"], stream["back"]), (1, 0, 0, 0),
          f"SSRCs, packets lost, repeated, out of order ({', '.join(breaks(ear, began))})")
    check(stream["silence"] <= 0.021, f"Bob heard silence of {stream['silence'] * 1000:.0f} ms")
    person.end()


@case
def call_moves_back_to_a_desk_phone_of_another_codec(world):
    person = Person(world, codecs=("PCMA",))
    person.connect(person.mobile)
    ear = person.bob.ear()
    world.wait("Bob hears the browser", lambda: ear.heard(MOBILE) > 0.5)
    began = time.monotonic()
    asked = person.move(person.desk)
    world.wait("Bob hears the desk phone", lambda: ear.heard(DESK, asked) > 0.5)
    stream = ear.stream(began)
    equal((stream["sources"], stream["lost"], stream["repeated"], stream["back"]), (1, 0, 0, 0), "SSRCs, packets lost, repeated, out of order")
    person.end()


@case
def a_declined_move_leaves_the_call_where_it_is(world):
    person = Person(world)
    person.connect(person.desk)
    ear = person.bob.ear()
    at = person.mobile.mark()
    outcome = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    person.mobile.wait_event("CALL_INCOMING", at)
    person.mobile.hang_up(486)
    why = fails(outcome)
    check("486" in why or "busy" in why.lower(), f"Alice is told {why}")
    since = time.monotonic()
    world.wait("Bob still hears the desk phone", lambda: ear.heard(DESK, since) > 0.5)
    equal(list(person.cas.carried(person.call, "alice")), [person.ids[person.desk]], "Alice's devices in the call")
    person.end()


@case
def a_move_that_nobody_answers_leaves_the_call_where_it_is(world):
    person = Person(world, extra='[policy]\nno_answer = "2s"\n')
    person.connect(person.desk)
    ear = person.bob.ear()
    at = person.mobile.mark()
    outcome = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    person.mobile.wait_event("CALL_INCOMING", at)
    why = fails(outcome)
    check("nobody answered" in why, f"Alice is told {why}")
    person.mobile.wait_event("CALL_CLOSED", at)
    since = time.monotonic()
    world.wait("Bob still hears the desk phone", lambda: ear.heard(DESK, since) > 0.5)
    equal(list(person.cas.carried(person.call, "alice")), [person.ids[person.desk]], "Alice's devices in the call")
    person.end()


@case
def old_device_that_vanishes_during_a_move_leaves_the_call_to_the_new_one(world):
    """The desk phone is gone without a word (kill -9) while the browser rings."""
    person = Person(world)
    person.connect(person.desk)
    ear = person.bob.ear()
    at = person.mobile.mark()
    outcome = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    person.mobile.wait_event("CALL_INCOMING", at)
    person.desk.vanish()
    person.mobile.command("answer", video=False)
    outcome()
    since = time.monotonic()
    world.wait("Bob hears the browser", lambda: ear.heard(MOBILE, since) > 0.5)
    person.mobile.wait_hears(FAR, 0.5, since=since)
    equal(list(person.cas.carried(person.call, "alice")), [person.ids[person.mobile]], "Alice's devices in the call")
    person.end()


@case
def both_sides_move_at_the_same_moment(world):
    person = Person(world)
    old = {d["device"] for d in person.cas.devices("bob")}
    far = person.browser.phone(person.switch, "bob", FAR_MOBILE, colour="blue")
    (far_id,) = {d["device"] for d in person.cas.devices("bob")} - old
    person.connect(person.desk)
    at, at_far, at_desk = person.mobile.mark(), far.mark(), person.desk.mark()
    alice = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    bob = person.cas.begin("tel", "move", call=person.call, user="bob", device=far_id)
    person.mobile.wait_event("CALL_INCOMING", at)
    far.wait_event("CALL_INCOMING", at_far)
    for phone in (person.mobile, far):
        phone.command("answer", video=False)
    alice()
    bob()
    person.desk.wait_event("CALL_CLOSED", at_desk)
    person.bob.wait_event("CALL_CLOSED", person.at_bob)
    since = time.monotonic()
    for _ in ("what the browsers' buffers had of the old devices", "what comes now"):
        since = time.monotonic()
        far.wait_hears(MOBILE, 0.5, since=since)
        person.mobile.wait_hears(FAR_MOBILE, 0.5, since=since)
    check(far.trace_of(DESK, since) == 0 and person.mobile.trace_of(FAR, since) == 0, "an old device is still heard")
    equal([list(person.cas.carried(person.call, user)) for user in ("alice", "bob")], [[person.ids[person.mobile]], [far_id]],
          "the devices in the call")
    person.cas.ask("tel", "drop", call=person.call, user="alice")
    far.wait_event("CALL_CLOSED", at_far)
    person.switch.finish()


@case
def hang_up_during_a_move_ends_the_call(world):
    person = Person(world)
    person.connect(person.desk)
    at, at_desk = person.mobile.mark(), person.desk.mark()
    outcome = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    person.mobile.wait_event("CALL_INCOMING", at)
    person.bob.hang_up()
    person.desk.wait_event("CALL_CLOSED", at_desk)
    person.mobile.wait_event("CALL_CLOSED", at)
    fails(outcome)
    world.wait("the call is over", lambda: not person.cas.calls())
    person.switch.finish()


@case
def both_devices_are_in_the_call_at_once(world):
    """Each sends and receives, neither hears the other, and who hangs up one of them stays in the call with the other."""
    person = Person(world)
    person.connect(person.desk)
    at = person.mobile.mark()
    joined = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile], keep=True)
    person.mobile.wait_event("CALL_INCOMING", at)
    person.mobile.command("answer", video=False)
    joined()
    equal(sorted(person.cas.carried(person.call, "alice")), sorted(person.ids.values()), "Alice's devices in the call")
    since = time.monotonic()
    ear, desk_ear = person.bob.ear(), person.desk.ear()
    trace = lambda tone: sum(share(p.samples, tone, 8000) > 0.2 for p in ear.since(since))
    world.wait("Bob hears both", lambda: trace(DESK) > 50 and trace(MOBILE) > 50)
    world.wait("the desk phone hears Bob", lambda: desk_ear.heard(FAR, since) > 0.5)
    person.mobile.wait_hears(FAR, since=since)
    echo = sum(share(p.samples, MOBILE, 8000) > 0.05 for p in desk_ear.since(since))
    check(not echo and not person.mobile.trace_of(DESK, since), "a device hears the other one")
    at_desk = person.desk.mark()
    person.desk.hang_up()
    person.desk.wait_event("CALL_CLOSED", at_desk)
    since = time.monotonic()
    person.mobile.wait_hears(FAR, since=since)
    world.wait("Bob hears the browser alone", lambda: ear.heard(MOBILE, since) > 0.5)
    equal(list(person.cas.carried(person.call, "alice")), [person.ids[person.mobile]], "Alice's devices in the call")
    person.end()


@case
def audio_on_the_desk_phone_and_video_on_the_browser(world):
    """Split: each leg carries only its kind, the other side sees one participant with both."""
    person = Person(world, video=True)
    carol = person.browser.phone(person.switch, "carol", FAR, colour="blue", video=True)
    at = {p: p.mark() for p in (person.desk, person.mobile, carol)}
    carol.dial("alice", video=True)
    person.desk.wait_event("CALL_INCOMING", at[person.desk])
    person.mobile.wait_event("CALL_INCOMING", at[person.mobile])
    person.desk.answer()
    carol.wait_event("CALL_ESTABLISHED", at[carol])
    person.mobile.wait_event("CALL_CLOSED", at[person.mobile])
    person.call = person.cas.only_call()
    at_mobile = person.mobile.mark()
    asked = time.monotonic()
    split = person.cas.begin("tel", "split", call=person.call, user="alice", audio=person.ids[person.desk], video=person.ids[person.mobile])
    person.mobile.wait_event("CALL_INCOMING", at_mobile)
    person.mobile.command("answer", video=True)
    up = person.mobile.wait_event("CALL_ESTABLISHED", at_mobile)["at"]
    split()
    firsts = [phone.first_picture(asked) - up for phone in (person.mobile, carol)]
    print("first picture after the answer at Alice's browser {:.0f} ms, at Carol's {:.0f} ms".format(*(first * 1000 for first in firsts)))
    equal(person.cas.carried(person.call, "alice"), {person.ids[person.desk]: ["audio"], person.ids[person.mobile]: ["video"]},
          "what each of Alice's devices carries")
    person.mobile.wait_sees("blue")
    carol.wait_sees("red")
    since = time.monotonic()
    carol.wait_hears(DESK, since=since)
    ear = person.desk.ear()
    world.wait("the desk phone hears Carol", lambda: ear.heard(FAR) > 0.5)
    check(carol.trace_of(MOBILE, since) <= 0.1, "Carol hears the browser's sound, which is on the desk phone")
    check(not person.mobile.command("loudness", since=0), "the browser plays sound")
    carol.screenshot()
    # The split collapses: everything is on the browser.
    at_desk = person.desk.mark()
    move = person.cas.begin("tel", "move", call=person.call, user="alice", device=person.ids[person.mobile])
    person.desk.wait_event("CALL_CLOSED", at_desk)
    move()
    since = time.monotonic()
    carol.wait_hears(MOBILE, since=since)
    person.mobile.wait_hears(FAR, since=since)
    carol.wait_sees("red")
    at = carol.mark()
    person.cas.ask("tel", "drop", call=person.call, user="alice")
    carol.wait_event("CALL_CLOSED", at)
    person.switch.finish()


@case
def video_moves_from_one_browser_to_another(world):
    """The other side's picture goes on with that of the new device."""
    person = Person(world, video=True)
    old = {d["device"] for d in person.cas.devices("alice")}
    tablet = person.browser.phone(person.switch, "alice", FAR_MOBILE, colour="yellow", video=True)
    (tablet_id,) = {d["device"] for d in person.cas.devices("alice")} - old
    carol = person.browser.phone(person.switch, "carol", FAR, colour="blue", video=True)
    at, at_carol = person.mobile.mark(), carol.mark()
    carol.dial("alice", video=True)
    person.mobile.answer(since=at)
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    carol.wait_sees("red")
    person.call = person.cas.only_call()
    at, at_mobile = tablet.mark(), person.mobile.mark()
    asked = time.monotonic()
    move = person.cas.begin("tel", "move", call=person.call, user="alice", device=tablet_id)
    tablet.answer(since=at)
    up = tablet.wait_event("CALL_ESTABLISHED", at)["at"]
    move()
    person.mobile.wait_event("CALL_CLOSED", at_mobile)
    carol.wait_sees("yellow")
    tablet.wait_sees("blue")
    print(f"first picture at the new device {(tablet.first_picture(asked) - up) * 1000:.0f} ms after its answer; "
          f"Carol's picture stood still for {carol.freeze(asked) * 1000:.0f} ms at most")
    equal(list(person.cas.carried(person.call, "alice")), [tablet_id], "Alice's devices in the call")
    at_carol = carol.mark()
    person.cas.ask("tel", "drop", call=person.call, user="alice")
    carol.wait_event("CALL_CLOSED", at_carol)
    person.switch.finish()
