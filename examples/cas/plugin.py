#!/usr/bin/env python3
"""A sample plug-in: another process that offers a topic of its own, `notes`, to every client of CAS.

It keeps a note for each user: `notes.get`, `notes.set {"text": …}`; who subscribed to `notes` hears of changes.
Usage: plugin.py wss://switch.example:8443 KEY        needs the package `websockets`; TANDEM_CA names a certificate to trust

The key comes from an administrator, whose command line knows the rights that it needs:
  tandem key add notes --user bob --scope plugin.register --scope plugin.publish
  tandem permission set bob plugin.register=own plugin.publish=own
"""
import asyncio
import json
import os
import ssl
import sys
import time

import websockets

TOPIC = "notes"


def message(topic, name, number, body):
    return {"topic": topic, "message": name, "timestamp": int(time.time() * 1000), "sequence-id": number, "request-id": number, "body": body}


def serve(notes, request):
    """Returns the response's number and body, and the event to publish if something changed."""
    user, body = request.get("user", "somebody"), request.get("body") or {}
    if request["message"] == "get":
        return 0, {"text": notes.get(user)}, None
    if request["message"] == "set" and isinstance(body.get("text"), str):
        notes[user] = body["text"]
        return 0, {}, {"user": user, "text": body["text"]}
    return 400, {"error": "bad-message", "detail": "expected notes.get, or notes.set with the field text"}, None


async def run(base, key, notes):
    context = ssl.create_default_context(cafile=os.environ.get("TANDEM_CA")) if base.startswith("wss:") else None
    number = 0
    async with websockets.connect(f"{base}/cas/events", subprotocols=["cas"], ssl=context) as socket:
        async def send(topic, name, body):
            nonlocal number
            number += 1
            await socket.send(json.dumps(message(topic, name, number, body)))

        await send("login", "login", {"key": key, "application": "notes"})
        login = json.loads(await socket.recv())
        if login["response"] != 0:
            sys.exit(login["body"]["detail"])
        await send("plugin", "register", {"topics": [TOPIC], "version": 1})
        refresh_at = time.monotonic() + login["body"]["expires-in"] * 0.8
        while True:
            try:
                received = json.loads(await asyncio.wait_for(socket.recv(), max(0.1, refresh_at - time.monotonic())))
            except TimeoutError:
                await send("login", "refresh", {})
                refresh_at = time.monotonic() + login["body"]["expires-in"] * 0.8
                continue
            if "response" in received:  # to a request of ours
                if received["response"] >= 400:
                    print(received["body"]["detail"], file=sys.stderr)
                continue
            if received["topic"] != TOPIC:
                continue
            response, body, changed = serve(notes, received)
            reply = dict(received, response=response, body=body, timestamp=int(time.time() * 1000))
            await socket.send(json.dumps(reply))
            if changed:
                await send("plugin", "publish", {"topic": TOPIC, "message": "changed", "body": changed})


async def main(base, key):
    notes = {}  # of the process, not of a connection
    while True:  # a switch that restarts finds its plug-ins again
        try:
            await run(base, key, notes)
        except (OSError, websockets.ConnectionClosed) as error:
            print(f"{error}; trying again", file=sys.stderr)
            await asyncio.sleep(2)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
