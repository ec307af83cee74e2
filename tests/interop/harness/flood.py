"""A plug-in without manners: `flood.py ws://HOST:PORT KEY EVENTS` publishes so many events of 1 kB as fast as the connection takes them,
reads what is said to it, and prints how many of them were taken and how many refused.  Needs the package `websockets`."""

import asyncio
import json
import sys

import websockets


async def main(base, key, events):
    async with websockets.connect(f"{base}/cas/events", subprotocols=["cas"]) as socket:
        async def send(number, topic, message, body):
            header = {"topic": topic, "message": message, "timestamp": 1, "sequence-id": number, "request-id": number}
            await socket.send(json.dumps({**header, "body": body}))

        said = {}

        async def heard():
            reply = json.loads(await socket.recv())
            if "response" in reply:
                said[reply["response"]] = said.get(reply["response"], 0) + 1

        await send(1, "login", "login", {"key": key})
        await heard()
        await send(2, "plugin", "register", {"topics": ["flood"], "version": 1})

        async def publish():
            for number in range(3, events + 3):
                await send(number, "plugin", "publish", {"topic": "flood", "message": "drop", "body": {"text": "x" * 1000}})

        publishing = asyncio.create_task(publish())
        while sum(said.values()) < events + 2:
            await heard()
        await publishing
        print(json.dumps(said))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
