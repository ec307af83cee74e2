"""A client of CAS on the switch's own Unix socket, with the administrator's rights (what `tandem call …` is, in a few lines), or a user's."""

import http.client
import itertools
import json
import os
import socket
import time

from .world import Failed, check


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Cas:
    """`Cas(switch).ask("tel", "list")` returns the body of the reply; a refusal fails the test, unless `refused` takes it."""

    def __init__(self, switch, user=None):
        self.switch, self.world = switch, switch.world
        self._numbers = itertools.count(1)
        self._token, self._heard, self._events = None, 0, []
        if user:
            self._token = self.ask("login", "login", user=user, password=f"{user}-secret")["token"]

    def _post(self, topic, message, body, wait):
        number = next(self._numbers)
        connection = _UnixConnection(os.path.join(self.switch.data, "tandem.sock"), (wait or 20) + 5)
        try:
            request = {"topic": topic, "message": message, "timestamp": int(time.time() * 1000), "sequence-id": number,
                       "request-id": number, "body": body}
            headers = {"Content-Type": "application/json", "Accept": "application/json"} | self._credential()
            if wait is not None:
                headers["Prefer"] = f"wait={wait}"
            connection.request("POST", "/cas", json.dumps(request), headers)
            reply = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        check(reply.get("request-id") == number, f"a reply to another request: {reply}")
        return reply

    def _credential(self):
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def events(self, message):
        """The bodies of the events `message` that the user's login has had since it began."""
        return [body for name, body in self.all_events() if name == message]

    def all_events(self):
        """All events that the user's login has had since it began: topic.message and body."""
        connection = _UnixConnection(os.path.join(self.switch.data, "tandem.sock"), 25)
        try:
            connection.request("GET", f"/cas/events?wait=0&after={self._heard}", headers=self._credential())
            for event in json.loads(connection.getresponse().read())["body"]["events"]:
                self._heard = event["sequence-id"]
                self._events.append((f"{event['topic']}.{event['message']}", event["body"]))
        finally:
            connection.close()
        return self._events

    def ask(self, topic, message, /, wait=20, **body):
        reply = self._post(topic, message, {name.replace("_", "-"): value for name, value in body.items()}, wait)
        if reply.get("response") != 0:
            raise Failed(f"{topic} {message} {body or ''} was answered {reply.get('response')}: {reply.get('body')}")
        return reply["body"]

    def refused(self, topic, message, /, wait=20, **body):
        """Asks for what must be refused, and returns what is said of it."""
        reply = self._post(topic, message, {name.replace("_", "-"): value for name, value in body.items()}, wait)
        check(reply.get("response") not in (0, 202), f"{topic} {message} {body or ''} was not refused: {reply}")
        return reply["body"]

    def document(self):
        """Returns `/cas/openapi.json`."""
        connection = _UnixConnection(os.path.join(self.switch.data, "tandem.sock"), 25)
        try:
            connection.request("GET", "/cas/openapi.json")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def begin(self, topic, message, **body):
        """Asks for something that ends when somebody answers; returns what waits for its end, and raises what it came to."""
        return self.world.begin(f"{topic} {message}", lambda: self.ask(topic, message, **body))

    def device(self, user):
        """The only device of a user."""
        (device,) = self.devices(user)
        return device["device"]

    # -- what tests look at ---------------------------------------------------------------------------------------

    def calls(self):
        return self.ask("tel", "list")["calls"]

    def call(self, call):
        return self.ask("tel", "show", call=call)["call"]

    def only_call(self):
        """The number of the one call there is."""
        calls = self.calls()
        check(len(calls) == 1, f"one call is expected, there are {calls}")
        return calls[0]["id"]

    def devices(self, user):
        """The user's devices: each has `device` and what the switch knows of it."""
        return self.ask("admin", "list-devices", user=user)["devices"]

    def carried(self, call, user):
        """What each device of a user carries in a call."""
        party = next((p for p in self.call(call)["parties"] if p.get("user") == user), {})
        return {d["device"]: sorted(d["media"]) for d in party.get("devices", ())}
