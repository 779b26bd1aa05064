"""PyPI's httpx-sse reads the events of fanfare, and fanfare those of PyPI's sse-starlette."""

import asyncio
import json
import os
import pathlib
import socket
import subprocess
import threading
import unittest

import httpx
import uvicorn
from httpx_sse import connect_sse
from sse_starlette import EventSourceResponse, ServerSentEvent

FANFARE = os.environ["FANFARE"]
EVENTS = json.loads(pathlib.Path(__file__).with_name("events.json").read_text())


def sent(events):
    """The events as published: with an ID only if it differs from the one before."""
    before = ""
    for event in events:
        yield {**event, "id": None if event["id"] == before else event["id"]}
        before = event["id"]


class Reading(unittest.TestCase):
    def test_httpx_sse_reads_fanfare(self):
        command = [FANFARE, "serve", "--addr", "127.0.0.1:0", "--log-level", "off"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            try:
                url = program.stdout.readline().split()[-1]
                seen = list(self.read(url))
                # The server numbers the events that are published without an ID.
                epoch = seen[0]["id"].removesuffix("-1")
                self.assertRegex(epoch, "^[0-9a-z]+$")
                expected = [
                    {**event, "id": event["id"] or f"{epoch}-{number}"} for number, event in enumerate(sent(EVENTS), 1)
                ]
                self.assertEqual(seen, expected)
            finally:
                program.kill()

    def read(self, url):
        with httpx.Client(timeout=30) as client, connect_sse(client, "GET", f"{url}/subscribe/a") as source:
            lines = []
            for event in sent(EVENTS):
                line = {"namespace": "/a/b", "data": event["data"]}
                if event["id"] is not None:
                    line["id"] = event["id"]
                if event["event"] != "message":
                    line["event"] = event["event"]
                lines.append(json.dumps(line))
            head = {"Content-Type": "application/x-ndjson"}
            reply = httpx.post(f"{url}/publish", content="\n".join(lines), headers=head)
            self.assertEqual(reply.json(), {"published": len(EVENTS)})
            # httpx-sse yields an event for a reconnection time, too.
            events = (event for event in source.iter_sse() if event.retry is None)
            for _, event in zip(EVENTS, events):
                yield {"event": event.event, "id": event.id, "data": event.data}

    def test_fanfare_reads_sse_starlette(self):
        async def events():
            for event in sent(EVENTS):
                yield ServerSentEvent(**event)
            await asyncio.sleep(3600)

        async def app(scope, receive, send):
            await EventSourceResponse(events(), sep="\r\n")(scope, receive, send)

        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            command = [FANFARE, "subscribe", url, "--format", "json", "--count", str(len(EVENTS)), "--timeout", "30s"]
            program = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
            seen = [json.loads(line) for line in program.stdout.split("\n")[:-1]]
            self.assertEqual(seen, [{**event, "id": event["id"] or None} for event in EVENTS])
        finally:
            server.should_exit = True
            thread.join(60)
            self.assertFalse(thread.is_alive())


if __name__ == "__main__":
    unittest.main()
