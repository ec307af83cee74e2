#!/usr/bin/env python3
"""A client of CAS over one WebSocket: signs in, follows events, and answers commands typed at it.

Usage: client.py wss://switch.example:8443 USER PASSWORD     needs the package `websockets`; TANDEM_CA names a certificate to trust

Type `TOPIC MESSAGE {JSON}`, for instance: tel make-call {"destination": "501"}
"""
import asyncio
import json
import os
import ssl
import sys
import time

import websockets


class Client:
    """Requests and their replies on one stream; everything else on it is an event."""

    def __init__(self, socket):
        self.socket, self.number, self.waiting = socket, 0, {}
        self.events = asyncio.Queue()

    async def read(self):
        async for text in self.socket:
            message = json.loads(text)
            reply = self.waiting.pop(message.get("request-id"), None) if "response" in message and "pending-id" not in message else None
            if reply and not reply.done():
                reply.set_result(message)
            else:
                await self.events.put(message)

    async def ask(self, topic, message, body=None, wait=20):
        self.number += 1
        request = {"topic": topic, "message": message, "timestamp": int(time.time() * 1000), "sequence-id": self.number,
                   "request-id": self.number, "prefer": f"wait={wait}", "body": body or {}}
        self.waiting[self.number] = asyncio.get_running_loop().create_future()
        reply = self.waiting[self.number]
        await self.socket.send(json.dumps(request))
        return await reply


async def main(base, user, password):
    context = None
    if base.startswith("wss:"):
        context = ssl.create_default_context(cafile=os.environ.get("TANDEM_CA"))
    async with websockets.connect(f"{base}/cas/events", subprotocols=["cas"], ssl=context) as socket:
        client = Client(socket)
        reading = asyncio.create_task(client.read())
        login = await client.ask("login", "login", {"user": user, "password": password, "application": "client.py"})
        if login["response"] != 0:
            sys.exit(login["body"]["detail"])
        print("signed in; a token lasts", login["body"]["expires-in"], "seconds")
        typing = asyncio.create_task(read_commands(client))
        refreshing = asyncio.create_task(refresh(client, login["body"]["expires-in"]))
        showing = asyncio.create_task(show(client))
        await asyncio.wait([reading, typing], return_when=asyncio.FIRST_COMPLETED)
        for task in (typing, refreshing, showing):
            task.cancel()


async def show(client):
    while True:
        print("event:", json.dumps(await client.events.get()))


async def refresh(client, lifetime):
    """A login ends with its token: get a new one in time."""
    while True:
        await asyncio.sleep(lifetime * 0.8)
        await client.ask("login", "refresh")


async def read_commands(client):
    while line := await asyncio.to_thread(sys.stdin.readline):
        topic, _, rest = line.strip().partition(" ")
        message, _, body = rest.partition(" ")
        if message:
            print(json.dumps(await client.ask(topic, message, json.loads(body or "{}")), indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
