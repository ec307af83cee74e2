"""Two desk phones (baresip) and the switch between them: they register, call, hear each other and hang up."""

from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch
from harness.world import check, equal

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


@case(rows=[(a, b) for a in TRANSPORTS for b in TRANSPORTS], row="{}_to_{}")
def phones_call_and_hear_each_other(world, a, b):
    switch = Switch(world)
    alice = Phone(world, switch, "alice", ALICE, transport=a)
    bob = Phone(world, switch, "bob", BOB, transport=b)
    connect(alice, bob)
    hear_each_other(alice, bob)
    hang_up(alice, bob) if a <= b else hang_up(bob, alice)
    switch.finish()
