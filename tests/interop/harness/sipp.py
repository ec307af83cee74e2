"""SIPp: one process per scenario of `sipp/`, ended by its own call count or its time limit."""

import os
import re

from .wire import Agent
from .world import check, needs_program, read

SCENARIOS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sipp")


class Sipp:
    """Starts `scenario` (a file in sipp/ without .xml) towards the switch, from an address and port of its own."""

    def __init__(self, world, switch, scenario, user="alice", peer="bob", address=None, port=None, transport="udp",
                 seconds=20, calls=1, options=(), keys=None):
        needs_program("sipp")
        self.world, self.scenario = world, scenario
        self.address = address or world.address()
        self.port = port or world.port(self.address)
        if switch.capture:
            switch.capture.ports.add(self.port)
        media = world.port(self.address, room=4, even=True)
        self.errors = world.path("log", f"{scenario}-{self.port}.errors")
        self.messages = world.path("log", f"{scenario}-{self.port}.messages")
        text = read(os.path.join(SCENARIOS, scenario + ".xml"))
        for key, value in {"domain": switch.domain, "user": user, "peer": peer, **(keys or {})}.items():
            text = text.replace(f"@{key}@", str(value))
        check(not re.search(r"@[a-z]+@", text.replace("@@", "")), f"{scenario}: a key has no value")
        command = [
            "sipp", f"{switch.address}:{switch.ports[transport]}", "-sf", world.write(f"{scenario}-{self.port}.xml", text),
            "-i", self.address, "-p", str(self.port), "-mi", self.address, "-mp", str(media), "-m", str(calls),
            "-au", user, "-ap", f"{user}-secret", "-t", {"udp": "u1", "tcp": "t1"}[transport], "-nostdin",
            "-timeout", str(seconds), "-timeout_error", "-trace_err", "-error_file", self.errors,
            "-trace_msg", "-message_file", self.messages, *options,
        ]
        self.process = world.start(f"sipp-{scenario}", command, patience=0, env={"TERM": "dumb"})
        world.logs[-1] = (f"sipp {scenario} {self.address}:{self.port}", self._log)

    def _log(self):
        return (read(self.errors) or "no errors") + "\n" + read(self.messages)

    def wait(self, seconds=25):
        """Waits for its end: every call as the scenario says."""
        self.world.wait(f"SIPp ends its scenario {self.scenario}", lambda: self.process.poll() is not None, seconds)
        check(self.process.returncode == 0,
              f"SIPp's scenario {self.scenario} failed (status {self.process.returncode}): {read(self.errors)[-800:].strip()}")
        return self

    def received(self, pattern):
        """Whether a message that SIPp received matches."""
        return re.search(pattern, read(self.messages))


def registered(world, switch, user, address=None):
    """Registers a device at an address and port where SIPp can then listen; returns both."""
    agent = Agent(world, switch, user, address=address).registered()
    agent.wire.close()
    return {"user": user, "address": agent.wire.address, "port": agent.wire.port}
