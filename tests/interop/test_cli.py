"""Every `tandem call` command on calls of real phones: what it prints has the schema that the manual names."""

import json
import os
import re
import subprocess

from harness.cas import Cas
from harness.cases import case
from harness.phone import Phone
from harness.sut import Switch, needs_tandem
from harness.switch import BINARY
from harness.world import Skip, check, equal
from test_orders import taken

PYTHON = os.path.abspath("target/interop-python/bin/python")
MANUAL = os.path.abspath("docs/cli.md")
# Run by the Python that has a validator: each line of its input is a schema's name and what should have it.
VALIDATE = """
import json, sys, jsonschema_rs
components = json.load(open(sys.argv[1]))["components"]
for line in sys.stdin:
    command, name, value = json.loads(line)
    schema = {"$ref": f"#/components/schemas/{name}/properties/body", "components": components}
    for fault in jsonschema_rs.validator_for(schema).iter_errors(value):
        print(f"{command}: {fault}")
"""


class Console:
    """The command line on the switch's own machine."""

    def __init__(self, world, switch):
        self.world, self.switch, self.said = world, switch, []

    def command(self, *words):
        return [os.path.abspath(BINARY), "call", *words, "--json", "--config", self.switch.config]

    def run(self, *words):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=self.world.left(), stdin=subprocess.DEVNULL)
        equal((done.returncode, done.stderr), (0, ""), f"what became of `call {' '.join(words)}`")
        value = json.loads(done.stdout)
        self.said.append((words, value))
        return value

    def begin(self, *words):
        """Runs a command that ends when somebody answers; returns what waits for it."""
        return self.world.begin(f"`call {' '.join(words)}`", lambda: self.run(*words))

    def validate(self):
        with open(MANUAL) as manual:
            named = dict(re.findall(r"^\| `call (\w+)` \| `([\w.-]+)`", manual.read(), re.M))
        schema = lambda words: {"mute": "tel.unmute.reply", "lock": "tel.unlock.reply"}[words[0]] if "--off" in words else named[words[0]]
        lines = [json.dumps([" ".join(words), schema(words), value]) for words, value in self.said]
        document = self.world.write("openapi.json", json.dumps(Cas(self.switch).document()))
        done = subprocess.run([PYTHON, "-c", VALIDATE, document], input="\n".join(lines), capture_output=True, text=True, timeout=30)
        equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "what is wrong with the output")
        equal(sorted({words[0] for words, _ in self.said}), sorted(set(named) - {"split"}), "the commands that were tried")


@case(seconds=60)
def every_call_command_does_what_the_manual_says(world):
    needs_tandem()
    if not os.path.exists(PYTHON):
        raise Skip("the Python packages are not installed; tests/run installs them")
    switch = Switch(world)
    cas, console = Cas(switch), Console(world, switch)
    desk = Phone(world, switch, "alice", 400)
    (desk_id,) = [d["device"] for d in cas.devices("alice")]
    other, bob, carol = Phone(world, switch, "alice", 500), Phone(world, switch, "bob", 650), Phone(world, switch, "carol", 1000)
    (other_id,) = [d["device"] for d in cas.devices("alice") if d["device"] != desk_id]
    watch = subprocess.Popen(console.command("watch"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
    world.closers.append(watch.kill)

    at_desk, at_bob = desk.mark(), bob.mark()
    made = console.begin("make", "bob", "--user", "alice", "--device", desk_id)
    taken(desk, at_desk)
    taken(bob, at_bob)
    call = made()["call"]["id"]
    equal([c["id"] for c in console.run("list")["calls"]], [call], "the calls")
    console.run("show", call)
    console.run("why", call)
    for words in (("hold", call), ("resume", call), ("dtmf", call, "12#"), ("mute", call), ("mute", call, "--off")):
        console.run(*words, "--user", "alice")
    at = other.mark()
    moved = console.begin("move", call, "--user", "alice", "--to", other_id)
    taken(other, at)
    moved()
    equal(list(cas.carried(call, "alice")), [other_id], "Alice's devices in the call")
    done = subprocess.run(console.command("split", call, "--user", "alice", "--audio", other_id, "--video", desk_id), capture_output=True,
                          text=True, timeout=20, stdin=subprocess.DEVNULL)
    check(done.returncode not in (0, 2) and len(done.stderr.splitlines()) == 1, f"a split without video is refused: {done}")

    console.run("park", call, "--user", "alice")
    at = desk.mark()
    picked = console.begin("pickup", call, "--user", "alice", "--device", desk_id)
    taken(desk, at)
    picked()
    at = carol.mark()
    sent = console.begin("transfer", call, "--user", "alice", "--to", "carol")
    taken(carol, at)
    sent()

    at = desk.mark()
    joined = console.begin("conference", call, "--user", "bob", "--to", "alice")
    taken(desk, at)
    joined()
    equal(sorted(p["user"] for p in cas.call(call)["parties"]), ["alice", "bob", "carol"], "who confers")
    console.run("lock", call, "--user", "bob")
    console.run("lock", call, "--off", "--user", "bob")
    console.run("moderate", call, "carol", "--user", "bob")
    at = desk.mark()
    console.run("kick", call, "alice", "--user", "carol")
    desk.wait_event("CALL_CLOSED", at)
    at = carol.mark()
    console.run("drop", call, "--user", "bob", "--yes")
    carol.wait_event("CALL_CLOSED", at)

    # baresip answers what it is told to answer when somebody presses the button for it
    at, at_carol = bob.mark(), carol.mark()
    carol.dial("bob")
    bob.wait_event("CALL_INCOMING", at)
    ringing = cas.only_call()
    at = bob.mark()
    answered = console.begin("answer", ringing, "--user", "bob")
    taken(bob, at)
    answered()
    carol.wait_event("CALL_ESTABLISHED", at_carol)
    at = bob.mark()
    console.run("drop", ringing, "--user", "carol", "--yes")
    bob.wait_event("CALL_CLOSED", at)

    at, at_carol = bob.mark(), carol.mark()
    carol.dial("bob")
    bob.wait_event("CALL_INCOMING", at)
    console.run("decline", cas.only_call(), "--user", "bob", "--busy")
    carol.wait_event("CALL_CLOSED", at_carol)

    watch.terminate()
    seen = [json.loads(line) for line in watch.communicate(timeout=10)[0].splitlines()]
    check(len(seen) > 10, f"what was watched: {seen}")
    console.said += [(("watch",), event) for event in seen]
    console.validate()
    switch.finish()
