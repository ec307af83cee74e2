"""A client behind two links of its own (network namespaces): one link can be taken away in the middle of a call.

The test's process moves into a new network namespace, where the switch and every other peer live; the client gets another one, joined
to it by two pairs of veth.  All of it is gone with the test's processes.
"""

import ctypes
import os
import subprocess
import time

from .world import LIBC, Skip, needs_program

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
NETWORK = "10.77.0"  # of the switch's side; link N of the client is 10.77.N.0/24


class TwoLinks:
    """`prefix` runs a command on the client's side.  The first link is preferred while it is there; `world.network` is the switch's."""

    def __init__(self, world, up=(1, 2)):
        for program in ("ip", "nsenter", "unshare"):
            needs_program(program)
        if LIBC.unshare(NEW_NETWORK) != 0:
            raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno()) or 'not permitted'} (root can)")
        world.network = NETWORK
        ip("link", "set", "lo", "up")
        ip("address", "add", f"{NETWORK}.1/24", "dev", "lo")
        client = world.start("client-network", ["unshare", "--net", "sleep", "infinity"], patience=0)
        ours = os.readlink("/proc/self/ns/net")
        world.wait("the client's namespace is there", lambda: os.readlink(f"/proc/{client.pid}/ns/net") != ours)
        self.prefix = ["nsenter", f"--net=/proc/{client.pid}/ns/net", "--"]
        self._client("link", "set", "lo", "up")
        for n in (1, 2):
            ip("link", "add", f"ours{n}", "type", "veth", "peer", "name", f"link{n}", "netns", str(client.pid))
            ip("address", "add", f"10.77.{n}.1/24", "dev", f"ours{n}")
            ip("link", "set", f"ours{n}", "up")
            # What has this link's address leaves by this link, whichever is preferred.
            self._client("rule", "add", "from", f"10.77.{n}.2", "table", str(n))
        for n in up:
            self.up(n)

    def _client(self, *command):
        subprocess.run([*self.prefix, "ip", *command], check=True, capture_output=True)

    def up(self, n):
        """Brings a link up with its address and its routes; returns the moment."""
        device, gateway = f"link{n}", f"10.77.{n}.1"
        subprocess.run([*self.prefix, "ip", "-batch", "-"], check=True, capture_output=True, text=True, input="\n".join([
            f"link set {device} up", f"address add 10.77.{n}.2/24 dev {device}",
            f"route add default via {gateway} dev {device} metric {n}", f"route add default via {gateway} dev {device} table {n}"]))
        return time.monotonic()

    def down(self, n):
        """Takes a link away with its address; returns the moment."""
        self._client("link", "set", f"link{n}", "down")
        self._client("address", "flush", "dev", f"link{n}")
        return time.monotonic()


def ip(*command):
    subprocess.run(["ip", *command], check=True, capture_output=True)
