"""Headless Chromium with JsSIP over secure WebSocket: it registers, and talks to other browsers and to desk phones."""

import os
import time

from harness.browser import Browser
from harness.cases import case
from harness.sut import Switch, needs_tandem
from harness.world import Skip, check, equal

ALICE, BOB = 400, 650  # Hz
ORIGINS = 'origins = ["http://127.0.0.1:*"]'  # the pages' own web server


# What tandem cannot do yet, and why its tests are skipped; a line is deleted when its reason is gone.
WAITS = {
    "direct": "a request in a dialog with direct media finds no way to a device behind a WebSocket",
    "webrtc": "waits for WebRTC legs",
}


def waits(what):
    if what in WAITS and not os.environ.get("INTEROP_FORCE"):
        raise Skip(WAITS[what])


def switch_for_browsers(world, **kinds):
    needs_tandem()
    return Switch(world, ws=True, sip_extra=ORIGINS, **kinds)


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
    equal(round(at_a.trace_of(a.tone), 2), 0, f"seconds in which {a.user} hears itself")
    equal(round(at_b.trace_of(b.tone), 2), 0, f"seconds in which {b.user} hears itself")


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
    waits("direct")
    switch = switch_for_browsers(world, extra='[policy]\nmedia = "direct"\n')
    browser = Browser(world)
    alice, bob = (browser.phone(switch, "alice", ALICE, colour="red"), browser.phone(switch, "bob", BOB, colour="blue"))
    connect(alice, bob, video=True)
    hear_each_other(alice, bob)
    see_each_other(alice, bob)
    hang_up(alice, bob)
    connect(bob, alice)
    hear_each_other(alice, bob, 0.5)
    hang_up(alice, bob)
    switch.finish()
