"""Kamailio in tandem's place: shows that the phones and scenarios behave before tandem is asked to (INTEROP_SWITCH=kamailio)."""

import re
import socket

from .capture import Capture
from .certificate import make_certificate
from .switch import DOMAIN, USERS, Tandem
from .world import Skip, check, end, read

CONFIG = r"""
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
alias="tandem.test"
dns=no
rev_dns=no
enable_tls=yes
tcp_connection_lifetime=3600
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "sanity.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "nathelper.so"
loadmodule "tls.so"
modparam("tm", "failure_reply_mode", 3)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 60000)
modparam("rr", "enable_full_lr", 1)
modparam("rr", "append_fromtag", 0)
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", 3600)
modparam("registrar", "received_avp", "$avp(received)")
modparam("usrloc", "nat_bflag", 6)
modparam("nathelper", "received_avp", "$avp(received)")
modparam("auth", "nonce_expire", 300)
modparam("tls", "certificate", "@CERT@")
modparam("tls", "private_key", "@KEY@")
modparam("tls", "verify_certificate", 0)
modparam("tls", "tls_method", "TLSv1.2+")

request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
    if (!is_method("ACK")) { if (t_precheck_trans()) { t_check_trans(); exit; } t_check_trans(); }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
        sl_send_reply("481", "Call Does Not Exist"); exit;
    }
    if ($si != "@TRUNK@") {
        $var(secret) = $fU + "-secret";
        if (!pv_auth_check("tandem.test", "$var(secret)", "0", "1")) { auth_challenge("tandem.test", "0"); exit; }
        consume_credentials();
    }
    if (is_method("REGISTER")) {
        if ($proto != "udp") { setbflag(6); fix_nated_register(); }
        if (!save("location")) { sl_reply_error(); }
        exit;
    }
    if (is_method("OPTIONS") && $rU == $null) { sl_send_reply("200", "OK"); exit; }
    record_route();
    if (!($rU =~ "^(@USERS@)$")) { sl_send_reply("404", "Not Found"); exit; }
    if (!lookup("location")) { sl_send_reply("480", "Temporarily Unavailable"); exit; }
    t_relay();
}
"""


class Kamailio(Tandem):
    """Speaks for tandem in the tests whose clients it can satisfy: a registrar and a proxy, media direct."""

    def __init__(self, world, users=USERS, trunks=(), capture=True, wait=True, **_unused):
        self.world = world
        self.users = users
        self.trunk = trunks[0][1] if trunks else "0.0.0.0"
        self.domain = DOMAIN
        self.address = self.host = world.address(1)
        self.ports = {k: world.port(self.address) for k in ("udp", "tls", "ws", "wss", "http")}
        self.ports["tcp"] = self.ports["udp"]
        self.rtp = (1, 2)
        self.certificate, self.key = world.path("switch-cert.pem"), world.path("switch-key.pem")
        make_certificate(self.certificate, self.key, self.domain, self.address)
        text = CONFIG.replace("@CERT@", self.certificate).replace("@KEY@", self.key).replace("@TRUNK@", self.trunk)
        self.config = world.write("kamailio.cfg", text.replace("@USERS@", "|".join(users)))
        self.capture = Capture(world, self) if capture else None
        if wait:
            self.start()

    def start(self, seconds=10):
        p, a = self.ports, self.address
        self.process = self.world.start("kamailio", [
            "/usr/sbin/kamailio", "-f", self.config, "-DD", "-E", "-m", "64", "-M", "8", "-Y", self.world.folder,
            "-l", f"udp:{a}:{p['udp']}", "-l", f"tcp:{a}:{p['tcp']}", "-l", f"tls:{a}:{p['tls']}"])
        self.world.wait("kamailio answers", self._answers, seconds)

    def _answers(self):
        check(self.process.poll() is None, "kamailio ended: " + read(self.process.log)[-500:])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            s.bind((self.world.address(253), 0))
            s.sendto(re.sub("\n", "\r\n", f"""OPTIONS sip:{self.address} SIP/2.0
Via: SIP/2.0/UDP {s.getsockname()[0]}:{s.getsockname()[1]};branch=z9hG4bKready
From: <sip:x@{self.domain}>;tag=1
To: <sip:{self.address}>
Call-ID: ready
CSeq: 1 OPTIONS
Max-Forwards: 5
Content-Length: 0

""").encode(), (self.address, self.ports["udp"]))
            try:
                return s.recv(4096)
            except TimeoutError:
                return False

    def kill(self):
        raise Skip("kamailio's children would stay behind")

    def finish(self):
        check(self.alive(), "kamailio died")
        end(self.process)
        if self.capture:
            self.capture.check_well_formed()
