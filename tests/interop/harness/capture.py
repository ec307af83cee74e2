"""What was on the wire: a capture of everything but media, and what tshark thinks of what we sent."""

import os
import signal
import subprocess

from .world import check, needs_program

MALFORMED = "(_ws.malformed or sip.msg_hdr_parse_error)"


class Capture:
    """Captures on `lo` from construction on."""

    def __init__(self, world, switch):
        needs_program("dumpcap")
        needs_program("tshark")
        self.world, self.switch = world, switch
        self.file = world.path("wire.pcap")
        first, last = switch.rtp
        self.ports = set()  # SIP ports of the other side, where a packet of ours may go
        only = f"host {switch.address} and not udp portrange {first}-{last}"
        if ":" in switch.address:  # shared with other tests
            only += " and (" + " or ".join(f"port {p}" for p in set(switch.ports.values())) + ")"
        self.process = world.start("capture", ["dumpcap", "-q", "-P", "-i", "lo", "-f", only, "-w", self.file])
        world.wait("the capture begins", lambda: os.path.exists(self.file) and os.path.getsize(self.file) >= 24, 10)
        world.logs.pop()  # dumpcap has nothing to say

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(5)

    def _tshark(self, display, *fields):
        self.stop()
        p = self.switch.ports
        command = ["tshark", "-n", "-r", self.file, "-o", "nameres.network_name:FALSE", "-Y", display]
        for port in {p["udp"], *self.ports}:
            command += ["-d", f"udp.port=={port},sip", "-d", f"tcp.port=={port},sip"]
        command += ["-d", f"tcp.port=={p['tls']},tls", "-d", f"tcp.port=={p['wss']},tls", "-d", f"tcp.port=={p['ws']},http"]
        if fields:
            command += ["-T", "fields", *(x for f in fields for x in ("-e", f))]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def from_switch(self, display, *fields):
        """Rows of `fields` of the packets the switch sent that match `display`."""
        source = "ipv6.src" if ":" in self.switch.address else "ip.src"
        return self._tshark(f"{source} == {self.switch.address} and {display}", *fields)

    def to_switch(self, display, *fields):
        destination = "ipv6.dst" if ":" in self.switch.address else "ip.dst"
        return self._tshark(f"{destination} == {self.switch.address} and {display}", *fields)

    def check_well_formed(self):
        bad = self.from_switch(MALFORMED)
        check(not bad, "tshark finds malformed messages from tandem:\n" + "\n".join(" ".join(b) for b in bad[:5]))
