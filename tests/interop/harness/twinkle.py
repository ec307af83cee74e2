"""A desk phone that answers by itself where it is asked to: Twinkle on its console, with a script that reads the INVITE's headers.

It plays a tone and records what it hears by a sound card of ours (`sound_card.c`).  What it does it is told on its standard input, and what
happens it says in sentences, one a line.
"""

import os
import subprocess
import threading
import time

from .tone import Recording
from .world import Failed, check, needs_program

SOUND_CARD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sound_card.c")

SYSTEM = """
dev_ringtone=alsa:default
dev_speaker=alsa:default
dev_mic=alsa:default
validate_audio_dev=no
play_ringtone=no
play_ringback=no
log_show_sip=yes
sip_port={port}
rtp_port={rtp}
"""

PROFILE = """
user_name={user}
user_domain={domain}
auth_name={user}
auth_pass={user}-secret
outbound_proxy={proxy}
all_requests_to_proxy=yes
non_resolvable_to_proxy=yes
register_at_startup=yes
codecs=g711u
script_incoming_call={script}
"""

# the headers that phones agree on, though no RFC names them
ANSWERS = """#!/bin/sh
case "$SIP_CALL_INFO" in
*answer-after=0*) echo action=autoanswer ;;
esac
"""

# what it says, and the word for it in baresip's events
WORDS = {
    "incoming call": "CALL_INCOMING",
    "call established.": "CALL_ESTABLISHED",
    "far end answered call.": "CALL_ANSWERED",
    "far end ended call.": "CALL_CLOSED",
    "far end cancelled call.": "CALL_CLOSED",
    "call ended.": "CALL_CLOSED",
    "call failed.": "CALL_CLOSED",
}


class Twinkle:
    """`Twinkle(world, switch, "bob", tone=650)`; it registers at once.  It has the methods of `phone.Phone` that the tests want of it."""

    def __init__(self, world, switch, user, tone):
        needs_program("twinkle-console")
        needs_program("gcc")
        self.world, self.switch, self.user, self.tone = world, switch, user, tone
        self.port, rtp = world.port("127.0.0.1"), world.port("127.0.0.1", room=8, even=True)
        if switch.capture:
            switch.capture.ports.add(self.port)
        self.name = f"twinkle-{user}-{self.port}"
        self.heard_at = world.path(self.name, "heard.wav")
        folder = os.path.dirname(self.heard_at)
        script = world.write(f"{self.name}/answers", ANSWERS)
        os.chmod(script, 0o755)
        world.write(f"{self.name}/.asoundrc", "pcm.!default { type null }\nctl.!default { type null }\n")
        world.path(f"{self.name}/.twinkle", "")
        world.write(f"{self.name}/.twinkle/twinkle.sys", SYSTEM.format(port=self.port, rtp=rtp))
        profile = PROFILE.format(user=user, domain=switch.domain, proxy=f"{switch.host}:{switch.ports['udp']}", script=script)
        world.write(f"{self.name}/.twinkle/{user}.cfg", profile)
        self.events = []
        self._changed = threading.Condition()
        environment = {"HOME": folder, "LD_PRELOAD": sound_card(world), "TONE": str(tone), "HEARD": self.heard_at}
        self.process = world.start(self.name, ["twinkle-console", f"{user}.cfg"], env=environment, cwd=folder, patience=0,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        world.logs.append((f"{self.name}'s trace", os.path.join(folder, ".twinkle", "twinkle.log")))
        world.logs.append((f"{self.name} says", lambda: "\n".join(event["said"] for event in self.events)))
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_says("registration succeeded")

    def _listen(self):
        for line in self.process.stdout:
            said = line.decode("utf-8", "replace").replace("Twinkle>", "").strip()
            if not said:
                continue
            word = WORDS.get(said.partition(": ")[2], "")
            with self._changed:
                self.events.append({"type": word, "said": said, "at": time.monotonic()})
                self._changed.notify_all()

    def command(self, line):
        """Types a command; what comes of it is said."""
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    # -- events -------------------------------------------------------------------------------------------------

    def mark(self):
        """A point in the phone's events, to wait from."""
        return len(self.events)

    def count(self, kind, since=0):
        return sum(1 for event in self.events[since:] if event["type"] == kind)

    def wait_event(self, kind, since=0, seconds=10):
        return self._wait(kind, lambda event: event["type"] == kind, since, seconds)

    def wait_says(self, words, since=0, seconds=10):
        return self._wait(words, lambda event: words in event["said"], since, seconds)

    def _wait(self, what, wanted, since, seconds):
        def found():
            check(self.process.poll() is None, f"{self.name} ended by itself")
            return next((event for event in self.events[since:] if wanted(event)), None)

        with self._changed:
            if not self._changed.wait_for(found, min(seconds, self.world.left())):
                raise Failed(f"{self.name} did not say {what!r} within {seconds} s, but {[e['said'] for e in self.events[since:]]}")
            return found()

    # -- calls --------------------------------------------------------------------------------------------------

    def dial(self, target):
        since = self.mark()
        self.command(f"call {target}")
        return since

    def answer(self, seconds=10):
        self.wait_event("CALL_INCOMING", seconds=seconds)
        self.command("answer")

    def hang_up(self):
        self.command("bye")

    # -- ears ---------------------------------------------------------------------------------------------------

    def heard(self, tone, since=0.0):
        """Seconds of all that it ever heard, from `since` on, in which `tone` is the loudest thing."""
        return Recording(self.heard_at).heard(tone, since)

    def length(self):
        """The seconds it has heard by now, silence among them."""
        return Recording(self.heard_at).seconds()

    def wait_hears(self, tone, seconds=1.0, within=10, since=0.0):
        self.world.wait(f"{self.name} hears {tone} Hz for {seconds} s", lambda: self.heard(tone, since) >= seconds, within, every=0.1)


def sound_card(world):
    """Builds it once a test."""
    path = world.path("sound_card.so")
    if not os.path.exists(path):
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", path, SOUND_CARD, "-lm"], check=True, stdin=subprocess.DEVNULL)
    return path
