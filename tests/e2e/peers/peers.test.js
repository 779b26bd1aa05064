// npm's `eventsource` reads the events of fanfare, and fanfare those of npm's `better-sse`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createSession } from "better-sse";
import { EventSource } from "eventsource";
import { start, test } from "../program.js";

const events = JSON.parse(readFileSync(new URL("events.json", import.meta.url)));

/** The events as published: with an ID only if it differs from the one before. */
const sent = events.map(({ event, id, data }, index) => ({
  event,
  data,
  id: id === (events[index - 1]?.id ?? "") ? undefined : id,
}));

test("eventsource reads fanfare", async () => {
  const { url, stop } = await start(process.env.FANFARE, "serve", "--addr", "127.0.0.1:0");
  const source = new EventSource(`${url}/subscribe/a`);
  try {
    await once(source, "open");
    const seen = [];
    const done = new Promise((resolve) => {
      const receive = ({ type, lastEventId, data }) => {
        seen.push({ event: type, id: lastEventId, data });
        if (seen.length === events.length) resolve();
      };
      for (const type of new Set(events.map(({ event }) => event))) {
        source.addEventListener(type, receive);
      }
    });
    const lines = sent.map(({ event, id, data }) =>
      JSON.stringify({
        namespace: "/a/b",
        data,
        id,
        event: event === "message" ? undefined : event,
      }),
    );
    const reply = await fetch(`${url}/publish`, {
      method: "POST",
      body: lines.join("\n"),
      headers: { "Content-Type": "application/x-ndjson" },
    });
    assert.deepEqual(await reply.json(), { published: events.length });
    await done;
    // The server numbers the events that are published without an ID.
    const [epoch] = seen[0].id.split("-");
    assert.match(epoch, /^[0-9a-z]+$/);
    assert.deepEqual(
      seen,
      sent.map((event, index) => ({ ...event, id: event.id ?? `${epoch}-${index + 1}` })),
    );
  } finally {
    source.close();
    await stop("SIGKILL");
  }
});

test("fanfare reads better-sse, over two connections", async () => {
  const asked = [];
  const server = createServer(async (request, response) => {
    asked.push(request.headers["last-event-id"]);
    const session = await createSession(request, response, { retry: 1 });
    const [from, to] = asked.length === 1 ? [0, 3] : [3, events.length];
    for (const { event, id, data } of events.slice(from, to)) session.push(data, event, id);
    if (asked.length === 1) response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `http://127.0.0.1:${server.address().port}/events`;
    const program = spawn(process.env.FANFARE, [
      "subscribe",
      url,
      "--format",
      "json",
      "--count",
      `${events.length}`,
    ]);
    let output = "";
    program.stdout.on("data", (text) => (output += text));
    const [code] = await once(program, "close");
    assert.equal(code, 0);
    const seen = output
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
      // better-sse sends all data as JSON.
      .map((event) => ({ ...event, data: JSON.parse(event.data) }));
    assert.deepEqual(
      seen,
      events.map((event) => ({ ...event, id: event.id || null })),
    );
    assert.deepEqual(asked, [undefined, "7"]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
