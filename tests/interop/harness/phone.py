"""A desk phone: one baresip process, controlled over its `ctrl_tcp` port, that plays a tone and records what it hears."""

import glob
import json
import os
import re
import socket
import threading
import time
import uuid

from .tone import Recording, WireEar
from .world import Failed, check, needs_program, read

MODULES = "/usr/lib/baresip/modules"
CODECS = {  # the module that has it, and how an account names it
    "opus": ("opus.so", "opus/48000/2"),
    "G722": ("g722.so", "G722/16000/1"),
    "PCMU": ("g711.so", "PCMU/8000/1"),
    "PCMA": ("g711.so", "PCMA/8000/1"),
}

CONFIG = """
poll_method epoll
net_interface {media}
sip_listen {listen}
{certificate}
call_local_timeout {no_answer}
call_max_calls 8
audio_player ausine,{tone}
audio_source ausine,{tone}
audio_alert ausine,{tone}
ausrc_srate 48000
ausrc_channels 2
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
jitter_buffer_delay 1-5
rtp_ports {rtp}-{rtp_end}
rtp_stats no
rtcp_mux no
module_path {modules}
{codec_modules}
module sndfile.so
module ausine.so
{extra_modules}
module_tmp uuid.so
module_tmp account.so
module_app menu.so
{watching}
module_app ctrl_tcp.so
ctrl_tcp_listen {address}:{control}
snd_path {folder}
opus_bitrate 28000
opus_samplerate 48000
redial_attempts 0
ringback_disabled yes
statmode_default off
"""


class Phone:
    """`Phone(world, switch, "alice", tone=400)`; registers at once unless `register=False`."""

    def __init__(self, world, switch, user, tone, transport="udp", codecs=("PCMU",), address=None, password=None,
                 register=True, expires=600, answer="manual", mediaenc="", no_answer=120, extra="", wait=True, watches=()):
        needs_program("baresip")
        self.world, self.switch, self.user, self.tone, self.transport = world, switch, user, tone, transport
        self.address = address or "127.0.0.1"  # its RTP comes from there whatever address it is given
        host = f"[{self.address}]" if ":" in self.address else self.address
        self.port = world.port(self.address, room=2)
        self.name = f"phone-{user}-{self.port}"
        if switch.capture:
            switch.capture.ports.add(self.port)
        self.folder = world.path(self.name, "")
        control_address = "127.0.0.1" if ":" in self.address else self.address
        self.control_at = (control_address, world.port(control_address))
        rtp = world.port(self.address, room=20, even=True)
        self.rtp = (rtp, rtp + 19)
        modules = []
        for codec in codecs:
            if CODECS[codec][0] not in modules:
                modules.append(CODECS[codec][0])
        config = CONFIG.format(
            listen=f"{host}:{self.port}", tone=tone, rtp=rtp, rtp_end=rtp + 19, modules=MODULES, folder=self.folder,
            watching="module_app contact.so\nmodule_app presence.so" if watches else "",
            codec_modules="\n".join(f"module {m}" for m in modules), address=control_address,
            media=self.address, control=self.control_at[1], no_answer=no_answer,
            certificate=f"sip_certificate {switch.phone_certificate()}" if transport == "tls" else "",
            extra_modules=f"module {'dtls_srtp' if mediaenc == 'dtls_srtp' else 'srtp'}.so" if mediaenc else "",
        )
        self._write("config", config)
        self._write("uuid", str(uuid.uuid4()))  # a newline at its end would become part of +sip.instance
        self._write("contacts", "".join(f'"{user}" <sip:{user}@{switch.domain}>;presence=p2p\n' for user in watches))
        proxy = switch.uri(transport, self.address)
        self.aor = f"sip:{user}@{switch.domain}"
        account = (
            f'<{self.aor}>;auth_pass={password if password is not None else user + "-secret"};outbound="{proxy}"'
            f';regint={expires if register else 0};answermode={answer};audio_codecs={",".join(CODECS[c][1] for c in codecs)}{extra}'
        )
        if mediaenc:
            account += f";mediaenc={mediaenc}"
        self._write("accounts", "")
        self.account = account
        self.events = []
        self._answers = {}
        self._changed = threading.Condition()
        self._token = 0
        self._control = None
        self._start()
        self.command("uanew", self.account)  # only now, so that we see every event of its registration
        if register and wait:
            self.wait_event("REGISTER_OK")

    # -- life ---------------------------------------------------------------------------------------------------

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def _start(self):
        self.process = self.world.start(self.name, ["baresip", "-f", self.folder, "-s"], cwd=self.folder, patience=0)
        self.world.wait(f"{self.name} opens its control port", self._connect, every=0.03)
        self.world.closers.append(self._control.close)
        threading.Thread(target=self._listen, daemon=True).start()

    def _connect(self):
        check(self.process.poll() is None, f"{self.name} ended by itself")
        try:
            self._control = socket.create_connection(self.control_at, timeout=5)
            self._control.settimeout(None)
            return True
        except OSError:
            return False

    def _listen(self):
        data = b""
        while True:
            try:
                more = self._control.recv(65536)
            except OSError:
                return
            if not more:
                return
            data += more
            while b":" in data:
                size, rest = data.split(b":", 1)
                if len(rest) < int(size) + 1:
                    break
                message, data = rest[: int(size)], rest[int(size) + 1 :]
                self._note(json.loads(message.decode("utf-8", "replace")))

    def _note(self, message):
        with self._changed:
            if message.get("event"):
                message["at"] = time.monotonic()
                self.events.append(message)
            else:
                self._answers[message.get("token")] = message
            self._changed.notify_all()

    def command(self, command, params=""):
        """Runs a baresip command and returns what it printed."""
        self._token += 1
        token = str(self._token)
        text = json.dumps({"command": command, "params": params, "token": token}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))
        with self._changed:
            if not self._changed.wait_for(lambda: token in self._answers, 5):
                raise Failed(f"{self.name} did not answer the command {command!r}")
            answer = self._answers.pop(token)
        check(answer.get("ok"), f"{self.name} refused {command} {params}: {answer.get('data')}")
        return answer.get("data", "")

    def digits(self, digits):
        """Sends digits during a call, as RFC 4733 events."""
        self.command("sndcode", digits)

    def quit(self):
        """Ends the phone as its user would: it unregisters."""
        self.process.terminate()
        self.process.wait(5)

    def vanish(self):
        """Takes the phone off the net without a word."""
        self.process.kill()
        self.process.wait(5)

    # -- events -------------------------------------------------------------------------------------------------

    def mark(self):
        """A point in the phone's events, to wait from."""
        return len(self.events)

    def find(self, kind, since=0, **fields):
        for event in self.events[since:]:
            if event["type"] == kind and all(want in str(event.get(k, "")) for k, want in fields.items()):
                return event
        return None

    def count(self, kind, since=0):
        return sum(1 for event in self.events[since:] if event["type"] == kind)

    def wait_event(self, kind, since=0, seconds=10, **fields):
        until = time.monotonic() + min(seconds, self.world.left())
        with self._changed:
            while True:
                found = self.find(kind, since, **fields)
                if found:
                    return found
                left = until - time.monotonic()
                if left <= 0:
                    seen = ", ".join(f"{e['type']}({e.get('param', '')})" for e in self.events[since:])
                    raise Failed(f"{self.name} saw no {kind} {fields or ''} within {seconds} s; it saw: {seen or 'nothing'}")
                self._changed.wait(left)

    # -- calls --------------------------------------------------------------------------------------------------

    def dial(self, target):
        if not target.startswith("sip:"):
            target = f"sip:{target}@{self.switch.domain}"
        since = self.mark()
        self.command("dial", target)
        return since

    def answer(self, seconds=10):
        self.wait_event("CALL_INCOMING", seconds=seconds)
        self.command("accept")

    def hang_up(self, reason=""):
        self.command("hangup", reason)

    def hold(self):
        self.command("hold")

    def resume(self):
        self.command("resume")

    # -- what it says of itself ---------------------------------------------------------------------------------

    def trace(self):
        """Its SIP trace and its log, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", read(self.process.log))

    def codec(self):
        """The codec it sends with in its latest call."""
        found = re.findall(r"audio: Set audio encoder: (\S+)", self.trace())
        return found[-1] if found else None

    # -- ears ---------------------------------------------------------------------------------------------------

    def recordings(self):
        return [Recording(p) for p in sorted(glob.glob(os.path.join(self.folder, "*-dec.wav")))]

    def recording(self):
        """The newest recording."""
        return self.world.wait(f"{self.name} hears anything at all", self.recordings, 10)[-1]

    def ear(self):
        """An ear on the wire: baresip's recording ends when the media is negotiated anew, PCMU can be heard anyway."""
        return WireEar(self.world, self.rtp)

    def wait_hears(self, tone, seconds=1.0, within=10, since=0.0):
        """Waits until `tone` was heard for `seconds`."""
        recording = self.recording()
        self.world.wait(f"{self.name} hears {tone} Hz for {seconds} s",
                        lambda: recording.heard(tone, since) >= seconds, within, every=0.1)
        return recording
