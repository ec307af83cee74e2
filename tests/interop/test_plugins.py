"""Plug-ins that fail: the sample plug-in of `examples/`, stopped and killed in the middle of requests, and one that floods.  Calls and
other clients must not notice."""

import json
import os
import signal
import threading
import time

from harness.cas import Cas
from harness.cases import case
from harness.sut import Switch, needs_tandem
from harness.wire import Agent, Media
from harness.world import Skip, check, equal

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PYTHON = os.path.join(ROOT, "target", "interop-python", "bin", "python")
AT_ONCE = 1.0  # seconds within which a client is answered whom all this is no business of


def a_switch(world):
    needs_tandem()
    if not os.path.exists(PYTHON):
        raise Skip("the Python packages are not installed; tests/run installs them")
    return Switch(world, capture=False)


def key_for(host, topic):
    """A key of bob's with the rights of a plug-in."""
    for right in ("plugin.register", "plugin.publish"):
        host.ask("permission", "set", user="bob", right=right, reach="own")
    return host.ask("admin", "add-key", key=topic, user="bob", scopes=["plugin.register", "plugin.publish"])["secret"]


def plugin(world, switch, host, key):
    """Starts the sample plug-in and waits until it serves its topic."""
    script = os.path.join(ROOT, "examples", "cas", "plugin.py")
    process = world.start("plugin", [PYTHON, script, f"ws://{switch.host}:{switch.ports['http']}", key])
    world.wait("the plug-in has registered", lambda: host.ask("plugin", "list")["plugins"], 10)
    return process


class Asking:
    """Requests to a topic, each on a connection of its own, that are answered in their time."""

    def __init__(self, host, count):
        self.host, self.replies, self.began = host, [], time.monotonic()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self):
        reply = self.host._post("notes", "get", {}, 20)
        self.replies.append((reply["response"], (reply.get("body") or {}).get("error"), time.monotonic() - self.began))

    def wait(self, world, seconds):
        world.wait("all requests are answered", lambda: len(self.replies) == len(self.threads), seconds)
        return self.replies


class Neighbours:
    """A call that is up, and what else goes on meanwhile."""

    def __init__(self, world, switch, host):
        self.host, self.alice, self.carol = host, Agent(world, switch, "alice").registered(), Agent(world, switch, "carol").registered()
        self.world = world
        self.up = self.call()

    def call(self):
        outgoing = self.alice.invite("carol", Media(self.world, self.alice.wire.address).sdp())
        incoming = self.carol.incoming()
        incoming.answer(Media(self.world, self.carol.wire.address).sdp())
        outgoing.answered()
        return outgoing, incoming

    def notice_nothing(self):
        """A client is answered at once, and a call comes and goes as ever, beside the one that is up."""
        began = time.monotonic()
        check(self.host.ask("tel", "list")["calls"], "the call is up")
        took = time.monotonic() - began
        check(took < AT_ONCE, f"another client's request took {took:.2f} s")
        outgoing, incoming = self.call()
        took = time.monotonic() - began
        check(took < 2 * AT_ONCE, f"a call took {took:.2f} s to be answered")
        outgoing.bye(incoming)

    def end(self):
        outgoing, incoming = self.up
        outgoing.bye(incoming)


@case
def plug_in_killed_in_the_middle_of_requests_is_unavailable_and_disturbs_nobody(world):
    switch = a_switch(world)
    host = Cas(switch)
    key = key_for(host, "notes")
    process = plugin(world, switch, host, key)
    neighbours = Neighbours(world, switch, host)
    equal(host.ask("notes", "get"), {"text": None}, "what the plug-in answers")
    process.send_signal(signal.SIGSTOP)
    asking = Asking(host, 20)
    world.wait("the requests have reached the plug-in", lambda: host.ask("plugin", "list")["plugins"][0]["waiting"] == 20)
    neighbours.notice_nothing()
    process.kill()
    killed = time.monotonic()
    for response, error, _ in asking.wait(world, 5):
        equal((response, error), (503, "unavailable"), "the answer to a request in the middle of which the plug-in was killed")
    check(time.monotonic() - killed < AT_ONCE, "the answers come at once")
    equal(host.ask("plugin", "list")["plugins"], [], "plug-ins")
    equal(host.refused("notes", "get")["error"], "unavailable", "the answer while it is away")
    neighbours.notice_nothing()
    plugin(world, switch, host, key)
    equal(host.ask("notes", "get"), {"text": None}, "what the next one answers")
    neighbours.end()
    switch.finish()


@case
def plug_in_that_is_slow_delays_nobody_but_those_who_ask_it(world):
    switch = a_switch(world)
    host = Cas(switch)
    process = plugin(world, switch, host, key_for(host, "notes"))
    neighbours = Neighbours(world, switch, host)
    process.send_signal(signal.SIGSTOP)
    asking = Asking(host, 10)
    while time.monotonic() - asking.began < 9:
        neighbours.notice_nothing()
        time.sleep(0.5)
    for response, error, took in asking.wait(world, 5):
        equal((response, error), (504, "timeout"), "the answer to a request that took too long")
        check(9 < took < 12, f"it came after {took:.1f} s, not 10")
    equal(host.ask("plugin", "list")["plugins"][0]["timeouts"], 10, "time-outs of the plug-in")
    process.send_signal(signal.SIGCONT)  # its answers come after all: nobody waits for them
    equal(host.ask("notes", "get"), {"text": None}, "what it answers when it is awake")
    neighbours.end()
    switch.finish()


@case
def plug_in_that_floods_is_held_back_and_fills_nothing(world):
    switch = a_switch(world)
    host = Cas(switch)
    key = key_for(host, "flood")
    neighbours = Neighbours(world, switch, host)
    before = switch.memory()
    events = 10_000
    flood = world.start("flood", [PYTHON, os.path.join(ROOT, "tests/interop/harness/flood.py"),
                                  f"ws://{switch.host}:{switch.ports['http']}", key, str(events)])
    listed = world.wait("the plug-in has registered", lambda: host.ask("plugin", "list")["plugins"], 10)[0]
    host.ask("subscription", "add", topic="flood")  # and never asks for its events: so many are kept, and no more
    while flood.poll() is None:
        neighbours.notice_nothing()
        listed = (host.ask("plugin", "list")["plugins"] or [listed])[0]
        time.sleep(0.2)
    equal(flood.returncode, 0, "exit status of the plug-in")
    with open(flood.log) as log:
        said = {int(response): count for response, count in json.loads(log.read()).items()}
    check(said.get(429, 0) > events // 2 and said.get(0, 0) >= 502, f"what the plug-in was told: {said}")
    equal(sum(said.values()), events + 2, "replies, each to one request")
    check(listed["refused-events"] > 0, f"refused events are counted: {listed}")
    grown = switch.memory() - before
    check(grown < 40 * 2**20, f"memory grew by {grown >> 20} MiB")
    neighbours.end()
    switch.finish()
