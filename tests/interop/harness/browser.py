"""A browser phone: a page of headless Chromium with JsSIP over secure WebSocket, that sends a tone and a colour.

One node process (`browser/driver.mjs`) drives one Chromium; each page is a phone.  `BrowserPhone` has the methods and event names of
`phone.Phone`, so that a test need not know which of the two it has.  What Chromium needs to talk on loopback is said in the driver.
"""

import fcntl
import json
import os
import subprocess
import threading
import time

from .world import Failed, Skip, check, needs_program

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
DRIVER = os.path.join(HERE, "..", "browser", "driver.mjs")
MODULES = os.path.join(ROOT, "target", "interop-browser", "node_modules")  # `tests/run` installs them
AT_ONCE = 2  # browsers of all running tests together; further ones wait: each has half a dozen processes, and media that must not stall
SCREENSHOTS = os.path.join(ROOT, "target", "tmp", "screenshots")
COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (40, 80, 230), "yellow": (220, 210, 40)}

BARESIP_WORDS = {  # what JsSIP tells, and the word for it in baresip's events
    "registered": "REGISTER_OK",
    "registrationFailed": "REGISTER_FAIL",
    "incoming": "CALL_INCOMING",
    "progress": "CALL_RINGING",
    "confirmed": "CALL_ESTABLISHED",
    "ended": "CALL_CLOSED",
    "failed": "CALL_CLOSED",
    "newDTMF": "CALL_DTMF_START",
}


class Browser:
    """Starts Chromium; `prefix` is put before the command (`ip netns exec …`)."""

    def __init__(self, world, prefix=()):
        needs_program("chromium")
        needs_program("node")
        if not os.path.isdir(os.path.join(MODULES, "playwright-core")):
            raise Skip("the npm packages of tests/interop/browser are not installed: `tests/run interop` does it")
        self.world = world
        self.phones = {}
        self.trouble = []
        self._answers, self._token = {}, 0
        self._changed = threading.Condition()
        self._ready = None
        world.wait("another test's browser ends", self._slot, world.left(), every=0.2)
        self.profile = world.path("chromium", "")
        self.process = world.start(
            "chromium", [*prefix, "node", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, patience=0,
            env={"INTEROP_BROWSER_MODULES": MODULES, "HOME": self.profile, "TMPDIR": self.profile})
        world.closers.append(self.close)  # before the process is killed: Chromium ends with its driver's stdin
        threading.Thread(target=self._listen, daemon=True).start()
        world.wait("Chromium starts", self._is_ready, 20)

    def _slot(self):
        """Takes one of the places for browsers, until the test ends."""
        for n in range(AT_ONCE):
            lock = open(os.path.join(os.path.dirname(MODULES), f"running-{n}"), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self.world.closers.append(lock.close)
            return True
        return False

    def _is_ready(self):
        check(self.process.poll() is None, "the browser's driver ended by itself; its log says why")
        return self._ready

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _listen(self):
        for line in self.process.stdout:
            message = json.loads(line)
            with self._changed:
                if "id" in message:
                    self._answers[message["id"]] = message
                elif message["event"] == "ready":
                    self._ready = message["data"]
                elif message.get("page") in self.phones:
                    self.phones[message["page"]].note(message)
                if message.get("event") in ("error", "trouble"):
                    self.trouble.append(message)
                self._changed.notify_all()

    def command(self, page, do, seconds=15, **given):
        """Runs a command of the page (or of the driver) and returns its value."""
        with self._changed:
            self._token += 1
            token = self._token
            line = json.dumps({"id": token, "page": page, "do": do, "with": given})
            try:
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()
            except OSError:
                raise Failed("the browser's driver is gone; its log says why") from None
            if not self._changed.wait_for(lambda: token in self._answers, min(seconds, self.world.left())):
                raise Failed(f"{page} did not answer the command {do} {given or ''}")
            answer = self._answers.pop(token)
        check("error" not in answer, f"{page} refused {do} {given or ''}: {answer.get('error')}")
        return answer["value"]

    def phone(self, switch, user, tone, **kinds):
        return BrowserPhone(self, switch, user, tone, **kinds)

    def page_without_sip(self, switch, user, tone, colour="red"):
        return PagePhone(self, switch, user, tone, colour)


class Desk:
    """A page without SIP and media, that shows a person's calls and does with them what CAS lets it: `Desk(browser, switch, "bob")`."""

    def __init__(self, browser, switch, user):
        self.browser, self.world, self.user = browser, browser.world, user
        self.name, self.events = f"{user}-{len(browser.phones)}", []
        browser.phones[self.name] = self
        self.command("open", path="/desk", addresses="route")
        self.command("login", base=f"http://{switch.host}:{switch.ports['http']}", name=user, password=f"{user}-secret")

    def note(self, message):
        """Called by the browser, which holds its lock."""
        self.events.append({"type": message["event"], **(message.get("data") or {})})

    def command(self, do, **given):
        return self.browser.command(self.name, do, **given)

    def press(self, does, then=None):
        """Presses a button, and waits until what it asks for is done; `then` is what somebody must do for that."""
        since = len(self.events)
        self.command("press", does=does)
        if then:
            then()
        done = self.wait(lambda e: e["type"] in ("done", "refused"), f"the answer to {does}", since)
        check(done["type"] == "done", f"{does} was refused: {done}")

    def wait(self, wanted, what, since=0, seconds=15):
        """The first event for which `wanted(event)`."""
        def found():
            return next((event for event in self.events[since:] if wanted(event)), None)

        with self.browser._changed:
            check(self.browser._changed.wait_for(found, min(seconds, self.world.left())), f"{self.name} saw no {what}: {self.events}")
        return found()


class BrowserPhone:
    """`browser.phone(switch, "alice", tone=400, colour="red")`; registers at once unless `register=False`.

    With `switch=None` it only sends and hears: `offer`, `accept` and `answered` connect two pages without SIP.
    """

    transport = "wss"

    def __init__(self, browser, switch, user, tone, colour="red", password=None, register=True, expires=600, wait=True, video=False,
                 transport="wss", roams=False, addresses="every"):
        self.browser, self.world, self.switch, self.user, self.tone = browser, browser.world, switch, user, tone
        self.name, self.colour, self.video, self.transport = f"{user}-{len(browser.phones)}", colour, video, transport
        self.events = []
        self._pictures = 0
        browser.phones[self.name] = self
        self.command("open", addresses=addresses)
        red, green, blue = COLOURS[colour]
        self.command("setup", name=user, tone=tone, colour=f"rgb({red}, {green}, {blue})", roams=roams)
        if switch:
            self.aor = f"sip:{user}@{switch.domain}"
            self.command("register", server=f"{transport}://{switch.host}:{switch.ports[transport]}/", uri=self.aor, user=user,
                         password=password if password is not None else user + "-secret", expires=expires, register=register)
            if register and wait:
                self.wait_event("REGISTER_OK")

    def command(self, do, **given):
        return self.browser.command(self.name, do, **given)

    # -- events -------------------------------------------------------------------------------------------------

    def note(self, message):
        """Called by the browser, which holds its lock."""
        data = message.get("data") or {}
        kind = message["event"]
        if kind in ("progress", "newDTMF") and data.get("by") != "remote":
            return  # our own ringing, our own digits
        param = " ".join(str(data[k]) for k in ("status", "cause", "digit", "from", "state", "by") if data.get(k) is not None)
        self.events.append({"type": BARESIP_WORDS.get(kind, kind), "param": param, "at": time.monotonic(), **data})

    def mark(self):
        """A point in the phone's events, to wait from."""
        return len(self.events)

    def find(self, kind, since=0, **fields):
        for event in self.events[since:]:
            if event["type"] == kind and all(str(want) in str(event.get(k, "")) for k, want in fields.items()):
                return event
        return None

    def count(self, kind, since=0):
        return sum(1 for event in self.events[since:] if event["type"] == kind)

    def wait_event(self, kind, since=0, seconds=10, **fields):
        until = time.monotonic() + min(seconds, self.world.left())
        changed = self.browser._changed
        with changed:
            while True:
                found = self.find(kind, since, **fields)
                if found:
                    return found
                left = until - time.monotonic()
                if left <= 0:
                    seen = ", ".join(f"{e['type']}({e['param']})" for e in self.events[since:])
                    raise Failed(f"{self.name} saw no {kind} {fields or ''} within {seconds} s; it saw: {seen or 'nothing'}")
                changed.wait(left)

    # -- calls --------------------------------------------------------------------------------------------------

    def dial(self, target, video=None):
        if not target.startswith("sip:"):
            target = f"sip:{target}@{self.switch.domain}"
        since = self.mark()
        self.command("call", target=target, video=self.video if video is None else video)
        return since

    def answer(self, seconds=10, since=0, video=None):
        self.wait_event("CALL_INCOMING", since, seconds)
        self.command("answer", video=self.video if video is None else video)

    def hang_up(self, status=None):
        """Ends, cancels or refuses the call; `status` is what a refusal says."""
        self.command("hangup", **({"status": status} if status else {}))

    def hold(self):
        self.command("hold")

    def resume(self):
        self.command("resume")

    def digits(self, digits, info=False):
        self.command("dtmf", digits=digits, info=info)

    def quit(self):
        """Ends the phone as its user would: it unregisters."""
        self.command("stop")
        self.wait_event("disconnected")

    def vanish(self):
        """Closes the page without a word."""
        self.command("close")

    # -- what it says of itself ---------------------------------------------------------------------------------

    def stats(self):
        return self.command("stats")

    def stream(self, direction, kind):
        """The digest of one RTP stream: `direction` is received or sent, `kind` audio or video."""
        return next((s for s in self.stats()[direction] if s["kind"] == kind), None)

    def codec(self):
        """The audio codec it sends with, in baresip's words."""
        stream = self.stream("sent", "audio") or {}
        return (stream.get("codec") or "/").split("/")[1]

    def screenshot(self):
        """Kept as output of the test: target/tmp/screenshots/TEST-PHONE-N.png."""
        os.makedirs(SCREENSHOTS, exist_ok=True)
        self._pictures += 1
        path = os.path.join(SCREENSHOTS, f"{self.world.name}-{self.name}-{self._pictures}.png")
        self.command("screenshot", path=path)
        return path

    # -- ears and eyes ------------------------------------------------------------------------------------------

    @staticmethod
    def _wall(moment):
        """Milliseconds of the wall clock, which the page knows, of a moment of `time.monotonic()`."""
        return (moment + time.time() - time.monotonic()) * 1000 if moment else 0

    def heard(self, tone, since=0.0):
        """Seconds, since a moment of `time.monotonic()`, in which `tone` is the loudest thing."""
        return self.command("heard", tone=tone, since=self._wall(since))

    def trace_of(self, tone, since=0.0):
        """Seconds in which `tone` can be heard at all, however softly."""
        return self.command("heard", tone=tone, since=self._wall(since), least=0.05)

    def gap(self, tone, since):
        """The longest silence in a tone, in seconds."""
        return self.command("gap", tone=tone, since=self._wall(since))

    def bounds(self, tone, since):
        """When a tone was first and last heard since a moment, as moments of `time.monotonic()`; None if it was not."""
        found = self.command("bounds", tone=tone, since=self._wall(since))
        return found and tuple(at / 1000 - time.time() + time.monotonic() for at in found)

    def silent(self, seconds=0.4):
        """Whether nothing audible arrives for `seconds`."""
        time.sleep(seconds)
        return self.command("loudness", since=self._wall(time.monotonic() - seconds)) == 0

    def ear(self):
        return self

    def wait_hears(self, tone, seconds=1.0, within=10, since=0.0):
        self.world.wait(f"{self.name} hears {tone} Hz for {seconds} s", lambda: self.heard(tone, since) >= seconds, within, every=0.1)
        return self

    def first_picture(self, since):
        """The moment of `time.monotonic()` of the first frame since a moment; waits for it."""
        found = []

        def has_come():
            flow = self.command("flow", since=self._wall(since))
            found[:] = [flow["first"] / 1000 - time.time() + time.monotonic()] if flow else []
            return flow

        self.world.wait(f"{self.name} sees a picture", has_come, 10, every=0.1)
        return found[0]

    def freeze(self, since):
        """The longest time without a new frame since a moment, in seconds."""
        return self.command("flow", since=self._wall(since))["freeze"] / 1000

    def wait_sees(self, colour, frames=10, within=10):
        """Waits until `frames` more frames came and the newest has the colour."""
        first = self.command("seen")["frames"]

        def sees():
            seen = self.command("seen")
            near = all(abs(a - b) < 40 for a, b in zip(seen["colour"], COLOURS[colour]))
            return seen["frames"] >= first + frames and near

        try:
            self.world.wait(f"{self.name} sees {frames} frames of {colour}", sees, within, every=0.1)
        except Failed as error:
            raise Failed(f"{error}; it sees {self.command('seen')}") from None


class PagePhone(BrowserPhone):
    """A page without SIP: it logs in to CAS and is a device of its user by that."""

    transport = "cas"

    def __init__(self, browser, switch, user, tone, colour):
        self.browser, self.world, self.switch, self.user, self.tone = browser, browser.world, switch, user, tone
        self.name, self.colour, self.video = f"{user}-{len(browser.phones)}", colour, False
        self.events = []
        self._pictures = 0
        browser.phones[self.name] = self
        self.command("open", path="/thin")
        self._set_up()
        self.device = self.command("login", **self._as_device, user=user, password=user + "-secret")

    def _set_up(self):
        red, green, blue = COLOURS[self.colour]
        self.command("setup", name=self.user, tone=self.tone, colour=f"rgb({red}, {green}, {blue})")

    @property
    def _as_device(self):
        return {"base": f"https://{self.switch.host}:{self.switch.ports['http']}", "device": "page"}

    def reload(self):
        """Loads the page anew, as its user would; it goes on with its login and its call."""
        token = self.command("token")
        self.command("reload")
        self._set_up()
        self.command("resume", **self._as_device, token=token)

    def dial(self, target, video=False, **more):
        """`more` is what else `make-call` has."""
        since = self.mark()
        self.command("call", target=target, video=video, more=more)
        return since

    def ask(self, message, **body):
        """Asks for something of the topic `tel`, of the call if nothing else is named."""
        return self.command("ask", message=message, body=body)
