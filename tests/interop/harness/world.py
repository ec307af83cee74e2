"""One test's world: a name, a deadline, a folder, a loopback network of its own, and everything it started."""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time


LIBC = ctypes.CDLL(None)


def die_with_the_test():
    """Runs in a child before it becomes the program: a killed test leaves nothing behind."""
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Skip(Exception):
    """The test cannot run here; the message says why."""


class Failed(AssertionError):
    """The system under test did something else than the test's name says."""


def fails(outcome):
    """Waits for something that must be refused, and returns what was said of it."""
    try:
        done = outcome()
    except Failed as error:
        return str(error)
    raise Failed(f"it was said to be done: {done}")


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
        """Takes 127.A.B.0/24 and some ports of 127.0.0.1 by holding a socket: two tests, or two runs, never share them."""
        for _ in range(500):
            a, b = random.randint(32, 250), random.randint(0, 255)
            if self._claim(f"127.{a}.{b}.254", 47):
                self.network = f"127.{a}.{b}"
                break
        else:
            raise Skip("no free network in 127.0.0.0/8")
        for block in random.sample(range(80), 80):
            if self._claim("127.255.255.253", 1000 + block):
                self._ports = iter(range(10000 + 250 * block, 10250 + 250 * block))  # below the ephemeral range
                self.media_ports = (40000 + 250 * block, 40249 + 250 * block)
                break
        else:
            raise Skip("no free ports on 127.0.0.1")

    def _claim(self, address, port):
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind((address, port))
        except OSError:
            claim.close()
            return False
        self.closers.append(claim.close)
        return True

    def address(self, host=None):
        """A loopback address of this test's network; without a number, one not given out before."""
        if host is None:
            self._next_host += 1
            host = self._next_host
        return f"{self.network}.{host}"

    def port(self, address, room=1, even=False):
        """A port free for UDP and TCP on `address`, with `room - 1` free ones after it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for first in self._ports:
            if even and first % 2:
                continue
            held = []
            try:
                for port in range(first, first + room):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        held.append(socket.socket(family, kind))
                        held[-1].bind((address, port))
                for _ in range(room - 1):
                    next(self._ports)
                return first
            except OSError:
                continue
            finally:
                for s in held:
                    s.close()
        raise Skip(f"no free port on {address}")

    @staticmethod
    def needs_ipv6():
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
                s.bind(("::1", 0))
        except OSError:
            raise Skip("no ::1 on this machine") from None

    def path(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def begin(self, what, act):
        """Does beside the test what ends when somebody answers; returns what waits for its end, and raises what it came to."""
        result = []

        def run():
            try:
                result.append(act())
            except Exception as error:  # noqa: BLE001: handed to whoever waits
                result.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def wait():
            thread.join(self.left())
            check(result, f"{what} did not end")
            if isinstance(result[0], Exception):
                raise result[0]
            return result[0]

        return wait

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
                preexec_fn=die_with_the_test,
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


def needs_program(name):
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")


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
