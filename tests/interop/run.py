#!/usr/bin/env python3
"""Interop tests: real phones, SIPp and hostile peers against the tandem binary.

    run.py [pattern ...] [--list] [--jobs N] [--repeat N]

Each test runs in a process of its own, with its own switch on its own loopback network; patterns are regular expressions
on names.  TANDEM names the binary (default target/debug/tandem).  INTEROP_KEEP=1 keeps each test's folder.
INTEROP_SWITCH=kamailio puts Kamailio in tandem's place, to try the clients themselves.  Ends in `N passed, M failed, K skipped`.
"""

import argparse
import importlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from harness.cases import CASES  # noqa: E402
from harness.world import Skip, World  # noqa: E402

SKIPPED = 77


def load():
    for name in sorted(os.listdir(HERE)):
        if name.startswith("test_") and name.endswith(".py"):
            importlib.import_module(name[:-3])


def run_one(name):
    """Runs one test in this process; the exit status tells how it went."""
    case = CASES[name]
    world = World(name, case.seconds)

    def give_up(_signal, _frame):
        raise TimeoutError(f"the test did not end within {case.seconds} s")

    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(case.seconds)
    status = 0
    try:
        case.function(world, *case.arguments)
    except Skip as reason:
        print(f"skipped: {reason}")
        status = SKIPPED
    except Exception as error:
        status = 1
        print("".join(traceback.format_tb(error.__traceback__, -4)).rstrip())
        print(f"{type(error).__name__}: {error}")
        for title, text in world.failure_logs():
            print(f"--- {title} ---\n{text}")
    finally:
        signal.alarm(0)
        world.close()
    return status


def colour(code, text):
    return f"\x1b[{code}m{text}\x1b[m" if sys.stdout.isatty() else text


class Running:
    def __init__(self, case):
        self.case = case
        self.began = time.monotonic()
        self.output = open(os.path.join(OUT, case.name + ".log"), "w+", errors="replace")
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--one", case.name],
            stdout=self.output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        self.killed = False

    def done(self):
        code = self.process.poll()
        if code is None and time.monotonic() - self.began > self.case.seconds + 15:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: it and what it started
            self.killed = True
            code = self.process.wait()
        return code

    def report(self, code):
        took = time.monotonic() - self.began
        self.output.seek(0)
        text = self.output.read()
        self.output.close()
        if code == 0:
            print(f"{colour(32, 'pass')}  {self.case.name}  ({took:.1f} s)")
        elif code == SKIPPED:
            why = [line for line in text.splitlines() if line.startswith("skipped: ")]
            print(f"{colour(33, 'skip')}  {self.case.name}: {why[-1][9:] if why else '?'}")
        else:
            print(f"{colour(31, 'FAIL')}  {self.case.name}  ({took:.1f} s){' killed at its deadline' if self.killed else ''}")
            print("\n".join("      " + line for line in text.splitlines()))
        sys.stdout.flush()


def run_all(cases, jobs):
    waiting = sorted(cases, key=lambda c: not c.slow)
    running, counts, failed = [], {0: 0, 1: 0, SKIPPED: 0}, []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Running(waiting.pop(0)))
            time.sleep(0.02)
            for r in list(running):
                code = r.done()
                if code is None:
                    continue
                running.remove(r)
                r.report(code)
                counts[code if code in (0, SKIPPED) else 1] += 1
                if code not in (0, SKIPPED):
                    failed.append(r.case.name)
    finally:
        for r in running:
            r.process.terminate()  # the test cleans up behind itself
    if failed:
        print("failed: " + " ".join(failed))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("INTEROP_JOBS", 4)))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--one")
    arguments = parser.parse_args()
    load()
    if arguments.one:
        sys.exit(run_one(arguments.one))
    cases = [c for c in CASES.values() if not arguments.patterns or any(re.search(p, c.name) for p in arguments.patterns)]
    if arguments.list:
        print("\n".join(c.name for c in cases))
        return
    began = time.monotonic()
    counts = {0: 0, 1: 0, SKIPPED: 0}
    for _ in range(arguments.repeat):
        for code, n in run_all(cases, arguments.jobs).items():
            counts[code] += n
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{counts[0]} passed, {counts[1]} failed, {counts[SKIPPED]} skipped")
    sys.exit(1 if counts[1] or not counts[0] else 0)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="interop-out-") as OUT:
        main()
