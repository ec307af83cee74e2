"""Running it: bad configurations, restarts, certificates, no descriptors left."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

from harness.cas import Cas
from harness.cases import case
from harness.certificate import make_certificate
from harness.sut import Switch, needs_tandem
from harness.switch import BINARY
from harness.wire import Agent, Media, Wire
from harness.world import Failed, Skip, check, equal, read


def fails_to_start(world, switch, *expected, forbidden=()):
    """Runs the switch, which must end with status 1 and say why in one sentence that contains `expected`."""
    command = [os.path.abspath(BINARY), "serve", "--config", switch.config]
    began = time.monotonic()
    done = subprocess.run(command, cwd=world.folder, capture_output=True, text=True, timeout=15, stdin=subprocess.DEVNULL)
    said = done.stderr.strip()
    world.logs.append(("tandem's words", lambda: said))
    equal(done.returncode, 1, "exit status")
    check(time.monotonic() - began < 10, "it took too long to give up")
    check("panicked" not in said, "it panicked")
    check("ready" not in done.stdout, "it said `ready` first")
    for part in expected:
        check(re.search(part, said), f"the message does not say {part!r}: {said}")
    for part in forbidden:
        check(not re.search(part, said), f"the message says {part!r}: {said}")
    lines = [line for line in said.splitlines() if line.strip()]
    check(1 <= len(lines) <= 6, f"{len(lines)} lines instead of a sentence:\n{said}")
    return said


def edit(switch, old, new):
    text = read(switch.config)
    check(old in text, f"{old!r} is not in the configuration")
    with open(switch.config, "w") as f:
        f.write(text.replace(old, new, 1))


def line_of(switch, part):
    return next(i for i, line in enumerate(read(switch.config).splitlines(), 1) if part in line)


@case(rows=[
    ("unknown_key", 'dns = false', 'dns = false\nudpp = ["127.0.0.1:1"]', "udpp"),
    ("unknown_section", '[media]', '[mediaa]\nx = 1\n[media]', "mediaa"),
    ("wrong_type", 'dns = false', 'dns = "perhaps"', "dns"),
    ("bad_address", 'dns = false', 'dns = false\nws = ["localhost:http"]', "ws"),
    ("bad_range", 'rtp_ports = "', 'rtp_ports = "9', "rtp_ports"),
    ("missing_password", 'password = "alice-secret"', '', "password|user"),
    ("not_toml", 'dns = false', 'dns = = false', "dns|="),
], row="{0}")
def broken_configuration_names_file_line_and_key(world, name, old, new, key):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    edit(switch, old, new)
    said = fails_to_start(world, switch, "tandem.toml", key)
    check(re.search(r"tandem\.toml:\d+|line \d+", said), f"no line number: {said}")
    checked = subprocess.run([os.path.abspath(BINARY), "config", "check", switch.config], capture_output=True, text=True, timeout=10)
    equal(checked.returncode, 1, "exit status of `config check`")


@case
def good_configuration_passes_the_check(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    done = subprocess.run([os.path.abspath(BINARY), "config", "check", switch.config], capture_output=True, text=True, timeout=10)
    equal(done.returncode, 0, "exit status of `config check`")


@case
def missing_configuration_file_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    os.remove(switch.config)
    fails_to_start(world, switch, r"tandem\.toml")


@case(rows=[("udp",), ("tcp",), ("tls",), ("http",)], row="{}")
def port_in_use_is_one_sentence(world, transport):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    taken.bind((switch.address, switch.ports[transport]))
    if transport != "udp":
        taken.listen()
    world.closers.append(taken.close)
    fails_to_start(world, switch, f"{switch.address}:{switch.ports[transport]}")


@case
def missing_certificate_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    os.remove(switch.certificate)
    fails_to_start(world, switch, "switch-cert.pem")


@case
def certificate_that_is_none_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    world.write("switch-cert.pem", "this is no certificate\n")
    fails_to_start(world, switch, "switch-cert.pem")


@case
def key_of_another_certificate_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    make_certificate(world.path("other.pem"), switch.key, "other.test", switch.address)
    fails_to_start(world, switch, "switch-(key|cert).pem")


@case
def read_only_data_folder_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    # root may write anywhere, so the folder is one that nobody can write to
    edit(switch, f'data_dir = "{switch.data}"', 'data_dir = "/proc/tandem"')
    fails_to_start(world, switch, "/proc/tandem")


@case
def data_folder_that_is_a_file_is_one_sentence(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    edit(switch, f'data_dir = "{switch.data}"', f'data_dir = "{world.write("data.txt", "x")}"')
    fails_to_start(world, switch, "data.txt")


@case
def second_switch_on_the_same_data_folder_is_refused(world):
    needs_tandem()
    switch = Switch(world, capture=False)
    other = Switch(world, capture=False, wait=False)
    edit(other, f'data_dir = "{other.data}"', f'data_dir = "{switch.data}"') if other.data != switch.data else None
    for kind in ("udp", "tls", "http"):
        check(other.ports[kind] != switch.ports[kind], "ports differ")
    fails_to_start(world, other, "data")
    Agent(world, switch, "alice").registered()
    switch.finish()


@case
def S20_secrets_are_in_no_log_and_the_store_is_private(world):
    needs_tandem()
    switch = Switch(world)
    alice = Agent(world, switch, "alice").registered()
    Agent(world, switch, "alice", "wrong-guess").register()
    log = read(switch.process.log)
    check("alice-secret" not in log and "wrong-guess" not in log, "a password is in the log")
    def others_see(folder):
        """Paths in the data folder that another user of the machine can read or change."""
        for entry in os.scandir(folder):
            mode = entry.stat().st_mode
            if mode & 0o006:
                yield f"{entry.path} ({mode & 0o777:o})"
            if entry.is_dir() and mode & 0o001:
                yield from others_see(entry.path)
    os.chmod(switch.data, 0o755)
    equal(list(others_see(switch.data)), [], "what others can see of the store")
    check(alice.bindings(), "no binding")
    switch.finish()


@case
def self_signed_certificate_is_made_once_and_kept(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    edit(switch, f'certificate = "{switch.certificate}"', "")
    edit(switch, f'key = "{switch.key}"', "")
    def shown():
        return ssl.get_server_certificate((switch.address, switch.ports["tls"]), timeout=5)
    switch.start()
    first = shown()
    switch.stop()
    switch.start()
    equal(shown(), first, "certificate after a restart")
    switch.finish()


def serial(switch):
    pem = ssl.get_server_certificate((switch.address, switch.ports["tls"]), timeout=5)
    out = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True).stdout
    return int(out.strip().split("=")[1], 16)


@case
def new_certificate_is_used_without_a_restart(world):
    needs_tandem()
    switch = Switch(world)
    old = serial(switch)
    alice = Agent(world, switch, "alice", transport="tls").registered()
    fresh, key = world.path("fresh-cert.pem"), world.path("fresh-key.pem")
    make_certificate(fresh, key, switch.domain, switch.address, serial=4711)
    os.replace(key, switch.key)
    os.replace(fresh, switch.certificate)
    world.wait("new connections see the new certificate", lambda: serial(switch) == 4711, 15, every=0.3)
    check(old != 4711, "serials differ")
    alice.wire.inbox.clear()
    equal(alice.bindings(), [alice.contact], "the old connection lives on")
    switch.finish()


@case
def half_written_certificate_is_not_taken(world):
    needs_tandem()
    switch = Switch(world)
    before = serial(switch)
    with open(switch.certificate, "w") as f:
        f.write("-----BEGIN CERTIFICATE-----\nMIIB")
    world.holds("TLS works on", lambda: serial(switch) == before, 3, every=0.5)
    switch.finish()


@case
def no_descriptors_left_is_survived(world):
    needs_tandem()
    switch = Switch(world, prefix=["prlimit", "--nofile=80"], limits="connections_per_address = 1000\nhalf_open = \"4s\"")
    bob = Agent(world, switch, "bob").registered()
    held = []
    for _ in range(150):
        s = socket.socket()
        s.settimeout(1)
        try:
            s.connect((switch.address, switch.ports["tcp"]))
            held.append(s)
        except OSError:
            break
    Agent(world, switch, "alice").registered(seconds=4)  # UDP is still served
    outgoing = Agent(world, switch, "alice").invite("bob", Media(world, world.address()).sdp())
    got = world.wait("the call rings or is refused", lambda: bob.wire.read(0.05) or outgoing.agent.wire.read(0.05), 6)
    check(got.method == "INVITE" or got.status, "no answer")
    for s in held:
        s.close()
    def tcp_again():
        try:
            return Agent(world, switch, "carol", transport="tcp").register(seconds=2).status == 200
        except (OSError, Failed):
            return False
    world.wait("TCP is served again", tcp_again, 15, every=0.3)
    switch.finish()


@case(seconds=60)
def full_data_folder_is_told_and_calls_go_on(world):
    needs_tandem()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        raise Skip("no mount namespace may be made here")
    switch = Switch(world, wait=False)
    os.makedirs(switch.data, exist_ok=True)
    switch.prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"', switch.data]
    switch.start()
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered()
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.answer(Media(world, bob.wire.address).sdp())
    outgoing.answered()
    carol = Agent(world, switch, "carol")
    for n in range(4000):
        answer = carol.register(contact=f"<sip:carol@127.0.0.1:9;{n % 2}={'x' * 1900}>", expires=600 + n)
        if answer.status != 200:
            break
    equal(answer.status, 500, "the answer to what cannot be kept")
    check("restart when its disk is mended" in switch.errors(), "the log does not say what to do")
    # what is refused does not happen: neither what failed nor what came later
    expires = re.findall(r"expires=(\d+)", ", ".join(carol.register(contact="", expires=None).all("Contact")))
    check(expires and all(int(left) < 600 + n for left in expires), f"the refused registration is there: {expires} after {n}")
    kept = carol.bindings()
    for contact, left in (("<sip:carol@127.0.0.1:10>", 600), ("*", 0)):
        equal(carol.register(contact=contact, expires=left).status, 500, f"the answer to {contact}")
        equal(carol.bindings(), kept, f"bindings after {contact} was refused")
    inside = SimpleNamespace(data=f"/proc/{switch.process.pid}/root{switch.data}", world=world)  # its socket is on that tmpfs
    Cas(inside).refused("admin", "add-user", user="eve", password="eve-secret-eve")
    equal([user["user"] for user in Cas(inside).ask("admin", "list-users")["users"] if user["user"] == "eve"], [], "refused users")
    outgoing.bye(incoming)
    switch.finish()


# -- kill -9 --------------------------------------------------------------------------------------------------------------


@case(seconds=90)
def kill_9_loses_no_acknowledged_binding_and_revives_none(world):
    needs_tandem()
    users = [f"u{i:02}" for i in range(24)]
    switch = Switch(world, users=users, capture=False)
    for round_ in range(2):
        stop = threading.Event()
        state = {}

        def register(user):
            """Registers and removes bindings as fast as it can; notes what was acknowledged last, and what was asked last."""
            agent = Agent(world, switch, user, address=addresses[user])
            agent.contact = f"sip:{user}@{addresses[user]}:5999"
            known = state[user] = {"sure": None, "asked": None}
            present = False
            try:
                while not stop.is_set():
                    present = not present
                    known["asked"] = present
                    answer = agent.register(expires=600 if present else 0, seconds=1)
                    if answer.status == 200:
                        known["sure"], known["asked"] = present, None
                    if present and user in keepers:
                        return
            except (Failed, OSError):
                return
            finally:
                agent.wire.close()

        addresses = {user: world.address() for user in users} if not round_ else addresses
        keepers = set(users[::3])
        threads = [threading.Thread(target=register, args=(user,)) for user in users]
        for t in threads:
            t.start()
        time.sleep(1.2)  # let them race
        switch.kill()
        stop.set()
        for t in threads:
            t.join(8)
        switch.start()
        for user in users:
            agent = Agent(world, switch, user, address=addresses[user])
            bound = f"sip:{user}@{addresses[user]}:5999" in agent.bindings()
            agent.wire.close()
            known = state[user]
            if known["asked"] is None:  # the last thing asked was acknowledged
                equal(bound, known["sure"] or False, f"binding of {user} after kill -9 (round {round_})")
        check(sum(1 for k in state.values() if k["sure"] is not None) >= 20, f"too few registrations were acknowledged: {state}")
        check(all(state[u]["sure"] for u in keepers), "a keeper was never acknowledged")
    switch.finish()


@case
def restart_forgets_no_binding_of_many(world):
    needs_tandem()
    trunkless = [f"u{i:02}" for i in range(30)]
    switch = Switch(world, users=trunkless, capture=False)
    agents = [Agent(world, switch, user, transport=("udp", "tcp")[i % 2]).registered() for i, user in enumerate(trunkless)]
    contacts = {a.user: a.contact for a in agents}
    switch.stop()
    switch.start()
    for user, contact in contacts.items():
        equal(Agent(world, switch, user).bindings(), [contact], f"bindings of {user} after a restart")
    switch.finish()


@case
def user_taken_out_of_the_configuration_is_gone_after_a_restart(world):
    needs_tandem()
    switch = Switch(world)
    Agent(world, switch, "carol").registered()
    switch.stop()
    edit(switch, '[[user]]\nname = "carol"\npassword = "carol-secret"\nnumbers = ["503"]\n', "")
    switch.start()
    alice = Agent(world, switch, "alice").registered()
    check(Agent(world, switch, "carol").register().status in (401, 403, 404), "carol may still register")
    equal(alice.invite("carol", Media(world, alice.wire.address).sdp()).final().status, 404, "a call to carol")
    switch.finish()


@case
def binding_expires(world):
    needs_tandem()
    switch = Switch(world, sip_extra='min_expires = "1s"')
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered(expires=2)
    world.wait("the binding expires", lambda: not bob.bindings(), 6, every=0.4)
    equal(alice.invite("bob", Media(world, alice.wire.address).sdp()).final().status, 480, "a call after the expiry")
    switch.finish()


@case
def callee_that_does_not_answer_in_time_is_given_up(world):
    needs_tandem()
    switch = Switch(world, extra='[policy]\nno_answer = "2s"\n')
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered()
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.ring()
    incoming.wait_cancel(6)
    check(outgoing.final().status in (408, 480), "status for no answer")
    switch.finish()


# -- the command line -------------------------------------------------------------------------------------------------------


@case(seconds=90)
def demo_runs_to_its_end(world):
    needs_tandem()
    done = subprocess.run([os.path.abspath(BINARY), "demo", "--exit"], cwd=world.folder, capture_output=True, text=True, timeout=80,
                          stdin=subprocess.DEVNULL)
    world.logs.append(("demo", lambda: done.stdout + done.stderr))
    equal(done.returncode, 0, "exit status of the demo")
    check(done.stdout.strip(), "the demo said nothing")


@case
def sigint_ends_the_switch_too(world):
    needs_tandem()
    switch = Switch(world, capture=False)
    switch.process.send_signal(2)
    equal(switch.process.wait(5), 0, "exit status")


@case
def sigterm_right_after_ready_is_a_clean_end(world):
    needs_tandem()
    switch = Switch(world, capture=False, wait=False)
    for _ in range(15):
        process = subprocess.Popen([os.path.abspath(BINARY), "serve", "--config", switch.config], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        world.closers.append(process.kill)
        process.stdout.readline()
        process.terminate()
        equal(process.wait(5), 0, "exit status")
