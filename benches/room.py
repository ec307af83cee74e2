#!/usr/bin/env python3
"""What a participant of a conference costs the whole switch (docs/performance.md): rooms of 5, everyone talking, G.711 over loopback.

    benches/room.py BINARY [ROOMS] [SECONDS]

Starts a switch with a store of its own; one thread plays and hears all participants, who dial in as callers of a trunk.  Prints the
milliseconds of the switch's CPU per participant and second, and the packets that each got in a second: fewer than 50 say that the crowd,
or the switch, does not keep up."""
import os, random, socket, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "interop"))
from harness.crowd import Crowd, tone  # noqa: E402

binary = sys.argv[1]
rooms = int(sys.argv[2]) if len(sys.argv) > 2 else 10
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
SIZE = 5
address, trunk = f"127.0.78.{random.randrange(2, 120)}", f"127.0.78.{random.randrange(130, 250)}"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.bind((address, 0))
    port = probe.getsockname()[1]
folder = tempfile.mkdtemp()
config = os.path.join(folder, "tandem.toml")
with open(config, "w") as file:
    file.write(f'domain = "tandem.test"\ndata_dir = "{folder}/data"\n[sip]\nudp = ["{address}:{port}"]\ndns = false\n'
               f'[media]\naddress = "{address}"\nrtp_ports = "20000-29999"\nwebrtc_port = 0\nallow_loopback = true\n'
               f'[[trunk]]\nname = "crowd"\nkind = "ip"\naddresses = ["{trunk}"]\n'
               + "".join(f'[[room]]\nnumber = "{8000 + n}"\n' for n in range(rooms)))
switch = subprocess.Popen([binary, "serve", "--config", config], stdout=subprocess.PIPE, env={**os.environ, "TANDEM_LOG": "warn"})


def cpu():
    with open(f"/proc/{switch.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


try:
    switch.stdout.readline()
    crowd = Crowd(trunk, (address, port), "tandem.test")
    people = [crowd.dial(str(8000 + n // SIZE)) for n in range(rooms * SIZE)]
    for n, person in enumerate(people):
        person.says = tone(300 + 150 * (n % SIZE), 5000)
    time.sleep(2)
    before, began, used = [person.packets for person in people], time.monotonic(), cpu()
    time.sleep(seconds)
    used, took = cpu() - used, time.monotonic() - began
    rates = [(person.packets - earlier) / took for person, earlier in zip(people, before)]
    print(f"{len(people)} participants in rooms of {SIZE}: {used / took / len(people) * 1000:.2f} ms of CPU per participant and second "
          f"({100 * used / took:.0f} % of a core); packets each got in a second: {min(rates):.1f} to {max(rates):.1f}")
    crowd.close()
finally:
    switch.kill()
