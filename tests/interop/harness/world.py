"""One test's world: a name, a deadline, a folder, a loopback network of its own, and everything it started."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class Skip(Exception):
    """The test cannot run here; the message says why."""


class Failed(AssertionError):
    """The system under test did something else than the test's name says."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def equal(got, expected, what):
    if got != expected:
        raise Failed(f"{what}: got {got!r}, expected {expected!r}")


class World:
    """Gives out addresses and ports nobody else uses, keeps logs, and ends what it started."""

    def __init__(self, name, seconds=60):
        self.name = name
        self.deadline = time.monotonic() + seconds
        self.folder = tempfile.mkdtemp(prefix="tandem-interop-")
        self.closers = []
        self.logs = []  # (title, path or callable) shown when the test fails
        self._claim_network()
        self._next_host = 10

    def _claim_network(self):
        """Takes 127.A.B.0/24 by holding a socket in it: two tests, or two runs, never share one."""
        for _ in range(500):
            a, b = random.randint(32, 254), random.randint(0, 255)
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                claim.bind((f"127.{a}.{b}.254", 47))
            except OSError:
                claim.close()
                continue
            self.network = f"127.{a}.{b}"
            self.closers.append(claim.close)
            return
        raise Skip("no free network in 127.0.0.0/8")

    def address(self, host=None):
        """A loopback address of this test's network; without a number, one not given out before."""
        if host is None:
            self._next_host += 1
            host = self._next_host
        return f"{self.network}.{host}"

    def port(self, address, room=1, even=False):
        """A port free for UDP and TCP on `address`, with `room - 1` free ones after it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for _ in range(500):
            first = random.randint(10000, 19000)  # below the ephemeral range, above the well-known ones
            first -= first % 2 if even else 0
            held = []
            try:
                for port in range(first, first + room):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        held.append(socket.socket(family, kind))
                        held[-1].bind((address, port))
                return first
            except OSError:
                continue
            finally:
                for s in held:
                    s.close()
        raise Skip(f"no free port on {address}")

    def path(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def left(self):
        return max(0.0, self.deadline - time.monotonic())

    def wait(self, what, condition, seconds=10.0, every=0.02):
        """Waits until `condition()` is true and returns its value; fails saying `what` did not happen."""
        until = min(time.monotonic() + seconds, self.deadline)
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() >= until:
                raise Failed(f"within {seconds:g} s this did not happen: {what}")
            time.sleep(every)

    def holds(self, what, condition, seconds, every=0.05):
        """Checks that `condition()` stays true for `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            check(condition(), f"this did not hold for {seconds:g} s: {what}")
            time.sleep(every)

    def start(self, title, command, env=None, cwd=None, stdin=subprocess.DEVNULL, patience=2.0, **kw):
        """Starts a process whose output goes to a log, and which ends with the test, after `patience` seconds by force."""
        log = self.path("log", f"{len(self.logs):02}-{title}.log")
        self.logs.append((title, log))
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=kw.pop("stdout", out),
                stderr=out,
                cwd=cwd or self.folder,
                env={**os.environ, **(env or {})},
                **kw,
            )
        process.log = log
        process.title = title
        self.closers.append(lambda: end(process, patience))
        return process

    def failure_logs(self, tail=60):
        for title, log in self.logs:
            text = log() if callable(log) else read(log)
            lines = [line for line in text.splitlines() if line.strip()]
            yield title, "\n".join(lines[-tail:])

    def close(self):
        for closer in reversed(self.closers):
            try:
                closer()
            except Exception as error:  # a broken closer must not keep the others from ending their processes
                print(f"(cleaning up: {error!r})")
        if os.environ.get("INTEROP_KEEP"):
            print(f"(kept {self.folder})")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def read(path, mode="r"):
    try:
        with open(path, mode, **({} if "b" in mode else {"errors": "replace"})) as f:
            return f.read()
    except FileNotFoundError:
        return b"" if "b" in mode else ""


def end(process, patience=2.0):
    """Ends a process we started: politely, then not."""
    if process.poll() is not None:
        return
    try:
        if patience:
            process.send_signal(signal.SIGTERM)
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
