"""The system under test: a tandem process with a configuration of its own on this test's network."""

import os
import re
import signal
import subprocess
import threading
import time

from .capture import Capture
from .certificate import make_certificate
from .world import Failed, check, read

BINARY = os.environ.get("TANDEM", "target/debug/tandem")
DOMAIN = "tandem.test"
USERS = ("alice", "bob", "carol")


class Tandem:
    """Starts on construction and waits for `ready`; `finish` makes the checks every test ends with."""

    domain = DOMAIN

    def __init__(self, world, users=USERS, trunks=(), ipv6=False, plain=("udp", "tcp"), tls=True, ws=False, extra="",
                 capture=True, limits="", wait=True, sip_extra="", prefix=(), https=False):
        self.world = world
        self.prefix = list(prefix)
        self.address = "::1" if ipv6 else world.address(1)
        self.host = f"[{self.address}]" if ipv6 else self.address
        self.ports = {"udp": world.port(self.address)}
        self.ports["tcp"] = self.ports["udp"]
        self.ports["tls"] = world.port(self.address)
        self.ports["ws"] = world.port(self.address)
        self.ports["wss"] = world.port(self.address)
        self.ports["http"] = world.port(self.address)
        self.ports["webrtc"] = world.port(self.address)
        self.rtp = world.media_ports
        self.data = world.path("data", "")
        self.certificate, self.key = world.path("switch-cert.pem"), world.path("switch-key.pem")
        if tls:
            make_certificate(self.certificate, self.key, self.domain, self.address)
        kinds = [k for k in ("udp", "tcp", "tls", "ws", "wss") if k in plain or k == "tls" and tls or ws and k in ("ws", "wss")]
        listen = "\n".join(f'{k} = ["{self.host}:{self.ports[k]}"]' for k in kinds)
        self.config = world.write("tandem.toml", "\n".join([
            f'domain = "{self.domain}"', f'data_dir = "{self.data}"', "", "[sip]", listen, "dns = false", sip_extra, "",
            f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n' if tls else "",
            f'[http]\nlisten = ["{self.host}:{self.ports["http"]}"]\nplain = {str(not https).lower()}\n',
            f'[media]\naddress = "{self.address}"\nrtp_ports = "{self.rtp[0]}-{self.rtp[1]}"',
            f'webrtc_port = {self.ports["webrtc"]}\nallow_loopback = true\n',
            f"[limits]\n{limits}\n" if limits else "",
            *(user if user.startswith("[[") else user_table(user, 501 + i) for i, user in enumerate(users)),
            *(f'[[trunk]]\nname = "{name}"\nkind = "ip"\naddresses = ["{address}"]\n' for name, address in trunks),
            extra,
        ]))
        self.capture = Capture(world, self) if capture else None
        self.process = None
        if wait:
            self.start()

    def start(self, seconds=10):
        """Starts (again) and waits for the `ready` line."""
        self.ready = None
        environment = {"TANDEM_LOG": os.environ.get("TANDEM_LOG", "debug")}
        command = [*self.prefix, os.path.abspath(BINARY), "serve", "--config", self.config]
        self.process = self.world.start("tandem", command, env=environment, stdout=subprocess.PIPE)
        threading.Thread(target=self._read_stdout, args=(self.process,), daemon=True).start()
        self.world.wait("tandem says `ready`", self._is_ready, seconds)

    def _is_ready(self):
        code = self.process.poll()
        check(code is None or self.ready, f"tandem ended with status {code} before it was ready: {self.errors()[-600:]}")
        return self.ready

    def _read_stdout(self, process):
        for line in process.stdout:
            line = line.decode("utf-8", "replace").strip()
            if re.match(r"ready\b", line) and process is self.process:
                self.ready = line

    def errors(self):
        return read(self.process.log)

    def uri(self, transport, _from_address=None):
        """Where a phone finds us."""
        return f"sip:{self.host}:{self.ports[transport]};transport={transport}"

    def phone_certificate(self):
        """A certificate for phones that accept TLS connections (one file with key and certificate)."""
        path = self.world.path("phone.pem")
        if not os.path.exists(path):
            make_certificate(self.world.path("phone-cert.pem"), self.world.path("phone-key.pem"), "phone.test", self.address)
            self.world.write("phone.pem", read(self.world.path("phone-key.pem")) + read(self.world.path("phone-cert.pem")))
        return path

    # -- how it ends --------------------------------------------------------------------------------------------

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait(5)

    def stop(self):
        """SIGTERM: must end within 5 s with status 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("tandem did not end within 5 s of SIGTERM") from None
        check(code == 0, f"tandem ended with status {code} on SIGTERM, not 0 (after {time.monotonic() - began:.1f} s)")

    def alive(self):
        return self.process.poll() is None

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def finish(self):
        """Alive, no panic, a clean end, and nothing malformed on the wire."""
        check(self.alive(), f"tandem died with status {self.process.poll()}")
        self.stop()
        for title, log in self.world.logs:
            if title == "tandem":
                check("panicked at" not in read(log), "tandem panicked; its log says where")
        if self.capture:
            self.capture.check_well_formed()


def user_table(name, number):
    return f'[[user]]\nname = "{name}"\npassword = "{name}-secret"\nnumbers = ["{number}"]\n'
