"""Presence over SIP: scripted watchers over every transport, SIPp, and baresip's contact list."""

import re
import socket
import xml.etree.ElementTree as ElementTree

from harness.cases import case
from harness.phone import Phone
from harness.sipp import Sipp
from harness.sut import Switch, needs_tandem
from harness.wire import Agent, Media, token
from harness.world import check, equal

DIALOG_INFO = "{urn:ietf:params:xml:ns:dialog-info}"
PIDF = "{urn:ietf:params:xml:ns:pidf}"
RPID = "{urn:ietf:params:xml:ns:pidf:rpid}"
DOCUMENT = (
    '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"'
    ' xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:bob@h"><tuple id="a"><status><basic>open</basic></status></tuple>'
    '<dm:person id="p"><rpid:activities><rpid:{}/></rpid:activities><dm:note>{}</dm:note></dm:person></presence>'
)


class Subscription:
    """A subscription of an agent's, which answers each NOTIFY and reads its document."""

    def __init__(self, agent, user, event, expires=600, headers=()):
        self.agent, self.event, self.call_id, self.local_tag = agent, event, token(16), token()
        self.uri = f"sip:{user}@{agent.switch.domain}"
        self.response = self._ask(self.uri, expires, headers)
        self.remote_tag, self.version, self.cseq, self.restarted = self.response.tag("To"), -1, 0, False

    def _ask(self, uri, expires, headers=(), **parts):
        lines = [f"Event: {self.event}", f"Contact: <{self.agent.contact}>", f"Expires: {expires}", *headers]
        return self.agent.ask("SUBSCRIBE", uri, to=self.uri, call_id=self.call_id, from_tag=self.local_tag, headers=lines, **parts)

    def refresh(self, expires):
        return self._ask(self.response.contact(), expires, to_tag=self.remote_tag)

    def notified(self, seconds=5):
        """The next NOTIFY: its Subscription-State and its document."""
        notify = self.agent.wait_request("NOTIFY", seconds, **{"Call-ID": self.call_id})
        self.agent.respond(notify, 200, "OK", contact=False)
        equal(notify.get("Event"), self.event, "Event of the NOTIFY")
        check(notify.cseq()[0] > self.cseq, f"CSeq goes back from {self.cseq}: {notify}")
        self.cseq = notify.cseq()[0]
        document = ElementTree.fromstring(notify.body)
        if document.tag == DIALOG_INFO + "dialog-info":
            version = int(document.get("version"))
            check(version > self.version if self.restarted else version == self.version + 1, f"version {version} after {self.version}")
            self.version, self.restarted = version, False
        return notify.get("Subscription-State"), document

    def until(self, wanted, what, seconds=5):
        """The first document that fits; fewer than a handful may come before it."""
        for _ in range(5):
            state, document = self.notified(seconds)
            if wanted(document):
                return document
        raise AssertionError(f"no NOTIFY shows {what}: {ElementTree.tostring(document)}")


def states(document):
    return [dialog.findtext(DIALOG_INFO + "state") for dialog in document.findall(DIALOG_INFO + "dialog")]


def basic(document):
    return document.findtext(f"{PIDF}tuple/{PIDF}status/{PIDF}basic")


def activities(document):
    return [activity.tag.removeprefix(RPID) for group in document.iter(RPID + "activities") for activity in group]


@case(rows=[("udp",), ("tcp",), ("tls",), ("wss",)], row="over_{}")
def a_lamp_follows_a_call(world, transport):
    needs_tandem()
    switch = Switch(world, ws=transport == "wss")
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered()
    lamp = Subscription(Agent(world, switch, "carol", transport=transport), "bob", "dialog")
    equal(lamp.response.status, 200, "answer to SUBSCRIBE")
    equal(states(lamp.notified()[1]), ["terminated"], "dialogs of an idle user")
    a, b = Media(world, alice.wire.address, 500), Media(world, bob.wire.address, 700)
    outgoing = alice.invite("bob", a.sdp())
    incoming = bob.incoming()
    incoming.ring()
    early = lamp.until(lambda d: states(d) == ["early"], "the ringing device")
    dialog = early.find(DIALOG_INFO + "dialog")
    equal(dialog.get("direction"), "recipient", "direction")
    check("alice" not in ElementTree.tostring(early, "unicode"), "a watcher without the right sees who calls")
    check(not dialog.get("call-id"), "a watcher without the right sees what names the dialog")
    incoming.answer(b.sdp())
    outgoing.answered()
    incoming.wait_ack()
    lamp.until(lambda d: states(d) == ["confirmed"], "the call")
    outgoing.bye(incoming)
    lamp.until(lambda d: states(d) == ["terminated"], "its end")
    equal(lamp.refresh(0).status, 200, "answer to the end of the subscription")
    equal(lamp.notified()[0], "terminated;reason=timeout", "last Subscription-State")
    equal(lamp.refresh(600).status, 481, "answer to a refresh after the end")
    switch.finish()


@case
def a_users_own_phone_sees_what_it_takes_to_take_the_call(world):
    needs_tandem()
    switch = Switch(world)
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered()
    desk = Subscription(Agent(world, switch, "bob", transport="tcp"), "bob", "dialog")
    desk.notified()
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.ring()
    early = desk.until(lambda d: d.find(DIALOG_INFO + "dialog").get("local-tag"), "the early dialog's tags")
    dialog = early.find(DIALOG_INFO + "dialog")
    equal(dialog.get("call-id"), incoming.call_id, "Call-ID")
    equal(dialog.get("local-tag"), incoming.local_tag, "tag of the device that rings")
    equal(dialog.get("remote-tag"), incoming.remote_tag, "our tag")
    check("alice@" in dialog.findtext(f"{DIALOG_INFO}remote/{DIALOG_INFO}identity"), "the caller is not shown")
    incoming.respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer to the call")
    switch.finish()


@case
def presence_is_made_of_registration_calls_and_publications(world):
    needs_tandem()
    switch = Switch(world)
    alice, bob = Agent(world, switch, "alice"), Agent(world, switch, "bob")
    watching = Subscription(alice, "bob", "presence", headers=["Accept: application/pidf+xml"])
    equal(basic(watching.notified()[1]), "closed", "basic status of a user without a device")
    bob.registered()
    watching.until(lambda d: basic(d) == "open", "the registration")

    def publish(body="", match=None, expires=600):
        headers = ["Event: presence", f"Expires: {expires}", *([f"SIP-If-Match: {match}"] if match else [])]
        if body:
            headers.append("Content-Type: application/pidf+xml")
        return bob.ask("PUBLISH", bob.aor, headers=headers, body=body)

    first = publish(DOCUMENT.format("away", "lunch &amp; more"))
    equal(first.status, 200, "answer to PUBLISH")
    document = watching.until(lambda d: activities(d) == ["away"], "what was published")
    check("lunch & more" in "".join(document.itertext()), "the note is lost")
    second = publish(match=first.get("SIP-ETag"))
    equal(second.status, 200, "answer to a refresh")
    equal(publish(match=first.get("SIP-ETag")).status, 412, "answer to an old entity tag")
    third = publish(DOCUMENT.format("busy", "x"), match=second.get("SIP-ETag"))
    watching.until(lambda d: activities(d) == ["busy"], "the change")
    equal(publish(match=third.get("SIP-ETag"), expires=0).status, 200, "answer to the removal")
    watching.until(lambda d: activities(d) == [], "the removal")
    equal(publish('<!DOCTYPE presence [<!ENTITY a "b">]><presence/>').status, 400, "answer to a document type")
    bob.register(expires=0)
    watching.until(lambda d: basic(d) == "closed", "that the device is gone")
    switch.finish()


@case(rows=[("udp", "answers"), ("tcp", "registers"), ("tcp", "listens")], row="over_{}_when_the_phone_{}")
def kill_9_forgets_no_lamp_and_revives_none(world, transport, phone):
    needs_tandem()
    switch = Switch(world, capture=False)
    alice, bob = Agent(world, switch, "alice").registered(), Agent(world, switch, "bob").registered()
    carol = Agent(world, switch, "carol", transport=transport)
    listener = socket.create_server((carol.wire.address, 0)) if phone == "listens" else None
    if listener:
        world.closers.append(listener.close)
        listener.settimeout(5)
        carol.contact = f"sip:carol@{carol.wire.address}:{listener.getsockname()[1]};transport=tcp"
    carol.registered()
    lamp = Subscription(carol, "bob", "dialog")
    lamp.notified()
    ended = Subscription(alice, "bob", "dialog")
    ended.notified()
    equal(ended.refresh(0).status, 200, "answer to the end of a subscription")
    equal(ended.notified()[0], "terminated;reason=timeout", "its last Subscription-State")
    alice.invite("bob", Media(world, alice.wire.address).sdp())
    bob.incoming().ring()
    lamp.until(lambda d: states(d) == ["early"], "the ringing device")
    switch.kill()
    switch.start()
    lamp.restarted = True
    if phone == "registers":
        carol.wire.reconnect()
        carol.registered()
    elif phone == "listens":
        carol.wire.reconnect(listener.accept()[0])
    state, document = lamp.notified()
    equal(states(document), ["terminated"], "dialogs after the restart")
    check(550 < int(state.removeprefix("active;expires=")) <= 600, f"the time that is left: {state}")
    equal(lamp.refresh(600).status, 200, "answer to a refresh")
    equal(states(lamp.notified()[1]), ["terminated"], "dialogs after the refresh")
    outgoing = alice.invite("bob", Media(world, alice.wire.address).sdp())
    incoming = bob.incoming()
    incoming.ring()
    lamp.until(lambda d: states(d) == ["early"], "the next call")
    incoming.respond(486, "Busy Here")
    equal(outgoing.final().status, 486, "answer to the call")
    alice.wire.nothing(lambda m: m.get("Call-ID") == ended.call_id, "word of a subscription that is over", 0.2)
    equal(ended.refresh(600).status, 481, "answer to its refresh")
    switch.finish()


@case
def kill_9_loses_no_publication_and_revives_none(world):
    needs_tandem()
    switch = Switch(world, capture=False)
    bob, alice = Agent(world, switch, "bob"), Agent(world, switch, "alice")

    def publish(activity="", match=None, expires=600):
        headers = ["Event: presence", f"Expires: {expires}", *([f"SIP-If-Match: {match}"] if match else [])]
        if activity:
            headers.append("Content-Type: application/pidf+xml")
        return bob.ask("PUBLISH", bob.aor, headers=headers, body=DOCUMENT.format(activity, "x") if activity else "")

    tag = publish("away").get("SIP-ETag")
    watching = Subscription(alice, "bob", "presence")
    equal(activities(watching.notified()[1]), ["away"], "what is published")
    switch.kill()
    switch.start()
    equal(activities(watching.notified()[1]), ["away"], "what is published, after the restart")
    refreshed = publish(match=tag)
    equal(refreshed.status, 200, "answer to a refresh after the restart")
    equal(publish(match=refreshed.get("SIP-ETag"), expires=0).status, 200, "answer to the removal")
    switch.kill()
    switch.start()
    watching.until(lambda d: activities(d) == [], "the removal, after the next restart")
    equal(publish(match=refreshed.get("SIP-ETag")).status, 412, "answer to the old tag")
    switch.finish()


@case
def sipp_subscribes_and_publishes(world):
    needs_tandem()
    switch = Switch(world)
    Sipp(world, switch, "publish", user="bob").wait()
    Sipp(world, switch, "subscribe", keys={"event": "presence", "document": "rpid:away"}).wait()
    Sipp(world, switch, "subscribe", transport="tcp", keys={"event": "dialog", "document": "terminated"}).wait()
    switch.finish()


@case
def baresip_shows_its_contacts_presence(world):
    needs_tandem()
    switch = Switch(world)
    alice = Phone(world, switch, "alice", 400, watches=["bob"])

    def shown():
        found = re.search(r"(\w+).*sip:bob@", re.sub(r"\x1b\[[;0-9]*m", "", alice.command("contacts")))
        return found and found.group(1)

    world.wait("the contact is offline", lambda: shown() == "Offline", 20)
    bob = Agent(world, switch, "bob").registered()
    world.wait("the contact is online", lambda: shown() == "Online", 10)
    switch.kill()
    switch.start()  # what the phone subscribed to goes on
    headers = ["Event: presence", "Expires: 600", "Content-Type: application/pidf+xml"]
    published = bob.ask("PUBLISH", bob.aor, headers=headers, body=DOCUMENT.format("busy", "x"))
    world.wait("the contact is busy", lambda: shown() == "Busy", 10)
    removal = ["Event: presence", "Expires: 0", f"SIP-If-Match: {published.get('SIP-ETag')}"]
    equal(bob.ask("PUBLISH", bob.aor, headers=removal).status, 200, "answer to the removal")
    bob.register(expires=0)
    world.wait("the contact is offline", lambda: shown() == "Offline", 10)
    switch.finish()
