#!/usr/bin/env python3
"""Calls beyond what the switch can take (docs/performance.md, "Overload").

    benches/overload/run.py BINARY RATE SECONDS

Starts a switch with a store of its own on one core, SIPp as a trunk that calls and as the phone that answers on the other, and one
known device that registers again five times a second.  Prints the completed calls of a second, and of a second of the switch's CPU."""
import hashlib, os, random, re, socket, subprocess, sys, tempfile, time

binary, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
here = os.path.dirname(os.path.abspath(__file__))
address = f"127.0.77.{random.randrange(2, 250)}"


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


class Device:
    """Registers by digest, and reuses the nonce."""

    def __init__(self, user, contact):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.user, self.contact, self.call_id, self.number, self.count, self.nonce = user, contact, os.urandom(6).hex(), 0, 0, None

    def credentials(self):
        if not self.nonce:
            return ""
        self.count += 1
        nc, uri = f"{self.count:08x}", "sip:tandem.test"
        response = md5(f"{md5(f'{self.user}:tandem.test:secret')}:{self.nonce}:{nc}:abcd:auth:{md5('REGISTER:' + uri)}")
        return (f'Authorization: Digest username="{self.user}", realm="tandem.test", nonce="{self.nonce}", uri="{uri}", '
                f'response="{response}", algorithm=MD5, qop=auth, nc={nc}, cnonce="abcd"\r\n')

    def register(self, limit=4):
        """Returns the status, or None, and the seconds it took."""
        began = time.monotonic()
        for _ in range(3):
            self.number += 1
            request = (f"REGISTER sip:tandem.test SIP/2.0\r\nVia: SIP/2.0/UDP {address}:{self.socket.getsockname()[1]};"
                       f"branch=z9hG4bK{os.urandom(6).hex()}\r\nMax-Forwards: 70\r\nFrom: <sip:{self.user}@tandem.test>;tag={self.call_id}\r\n"
                       f"To: <sip:{self.user}@tandem.test>\r\nCall-ID: {self.call_id}\r\nCSeq: {self.number} REGISTER\r\n"
                       f"Contact: <sip:{self.user}@{self.contact}>\r\n{self.credentials()}Expires: 3600\r\nContent-Length: 0\r\n\r\n")
            answer = self.exchange(request.encode(), began + limit)
            if answer is None:
                return None, time.monotonic() - began
            status = int(answer.split()[1])
            if status != 401:
                return status, time.monotonic() - began
            self.nonce, self.count = re.search(r'nonce="([^"]*)"', answer)[1], 0
        return 401, time.monotonic() - began

    def exchange(self, request, until):
        wait = 0.5
        while time.monotonic() < until:
            self.socket.sendto(request, (address, port))
            self.socket.settimeout(wait)
            wait = min(2 * wait, 4)
            try:
                while True:
                    answer = self.socket.recv(9000).decode()
                    if re.search(rf"(?mi)^CSeq: {self.number} ", answer):
                        return answer
            except TimeoutError:
                pass
        return None


def sipp(scenario, *arguments):
    command = ["taskset", "-c", "1", "sipp", "-sf", f"{here}/{scenario}", "-i", address, "-nostdin", "-buff_size", "4194304",
               "-trace_screen", "-screen_file", f"{folder}/{scenario}.screen", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd=folder)


def cpu():
    with open(f"/proc/{switch.pid}/stat") as stat:
        return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


folder = tempfile.mkdtemp()
port = free_port()
user = '[[user]]\nname = "{}"\npassword = "secret"\n'
with open(f"{folder}/tandem.toml", "w") as config:
    config.write(f'domain = "tandem.test"\ndata_dir = "{folder}/data"\n[sip]\nudp = ["{address}:{port}"]\ndns = false\n[media]\n'
                 f'address = "{address}"\nallow_loopback = true\nrtp_ports = "10000-31999"\n{user.format("bob")}{user.format("carol")}'
                 f'[[trunk]]\nname = "peer"\nkind = "ip"\naddresses = ["{address}"]\n')
switch = subprocess.Popen(["taskset", "-c", "0", binary, "serve", "--config", f"{folder}/tandem.toml"], stdout=subprocess.PIPE,
                          env={**os.environ, "TANDEM_LOG": "error"})
switch.stdout.readline()
callee_port = free_port()
bob, carol = Device("bob", f"{address}:{callee_port}"), Device("carol", f"{address}:9")
assert bob.register()[0] == 200 and carol.register()[0] == 200
callee = sipp("callee.xml", "-p", callee_port)
time.sleep(0.3)
before, began = cpu(), time.monotonic()
caller = sipp("caller.xml", f"{address}:{port}", "-p", free_port(), "-s", "bob", "-d", 100, "-l", 100000, "-m", int(rate * seconds), "-r", rate,
              "-timeout", int(seconds + 12))
registrations = []
while time.monotonic() < began + seconds and caller.poll() is None:
    registrations.append(carol.register())
    time.sleep(0.2)
used = cpu() - before
caller.wait()
callee.terminate()
switch.terminate()
switch.wait()
screen = open(f"{folder}/caller.xml.screen").read()


def messages(line):
    """The messages of a line of SIPp's last screen."""
    return int((re.findall(line + r".*?<--\D*(\d+)", screen) or ["0"])[-1])


completed, refused = messages(r"\n\s+200 "), messages(r"\n\s+503 ")
failed = int(re.findall(r"Failed call\s*\|\s*\S+\s*\|\s*(\d+)", screen)[-1])
print(f"{rate}/s for {seconds:.0f} s: completed {completed / seconds:.0f}/s ({completed / used:.0f} a CPU second, {used / seconds:.2f} cores), "
      f"refused {refused}, failed otherwise {failed}; registered again {sum(status == 200 for status, _ in registrations)} of "
      f"{len(registrations)}, the slowest in {max(took for _, took in registrations):.2f} s")
