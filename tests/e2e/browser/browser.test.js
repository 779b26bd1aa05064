// The EventSource of a real browser, with the real program: it opens before any event, receives
// each event once and in order, and reconnects after a restart without missing any.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before } from "node:test";
import { browser } from "../browser.js";
import { endPrograms, start, test } from "../program.js";

let site;

before(async () => {
  // A site of another origin: its pages can read streams but cannot publish.
  site = createServer((_, reply) => reply.end("<title>a site</title>")).listen(0, "127.0.0.1");
  await once(site, "listening");
});

afterEach(endPrograms);

after(async () => {
  await browser.close();
  site.close();
});

const serve = (...options) => start(process.env.FANFARE, "serve", ...options);

async function publish(url, events) {
  const body = events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const reply = await fetch(`${url}/publish`, {
    method: "POST",
    body,
    headers: { "Content-Type": "application/x-ndjson" },
  });
  assert.deepEqual(await reply.json(), { published: events.length });
}

async function listen(url, namespaces) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(
    ({ url, namespaces }) => {
      window.seen = [];
      window.opened = 0;
      window.source = new EventSource(
        `${url}/subscribe?${namespaces.map((ns) => `ns=${ns}`).join("&")}`,
      );
      source.onopen = () => {
        opened += 1;
        seen.push("open");
      };
      source.onmessage = (event) => seen.push(event.data);
      source.addEventListener("new-dog", (event) =>
        seen.push(`dog ${event.data} ${event.lastEventId}`),
      );
    },
    { url, namespaces },
  );
  await page.waitForFunction(() => window.opened > 0);
  return page;
}

test("the stream opens before any event, and each event arrives once and in order", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const page = await listen(server.url, ["/pets", "/time"]);
  const events = Array.from({ length: 1000 }, (_, n) => ({
    namespace: n % 2 ? "/pets/cats" : "/time",
    data: `line ${n}\n second`,
  }));
  await publish(server.url, [
    ...events,
    { namespace: "/pets/dogs", data: "Corgi", event: "new-dog", id: "7" },
  ]);
  await page.waitForFunction(() => window.seen.length === 1002);
  const expected = ["open", ...events.map((event) => event.data), "dog Corgi 7"];
  assert.deepEqual(await page.evaluate(() => window.seen), expected);
  // A page of another origin cannot publish: its event has not arrived when the next one does.
  await page.evaluate(
    (url) => fetch(`${url}/publish/pets`, { method: "POST", body: "forged", mode: "no-cors" }),
    server.url,
  );
  await publish(server.url, [{ namespace: "/pets", data: "end" }]);
  await page.waitForFunction(() => window.seen.includes("end"));
  assert.deepEqual(await page.evaluate(() => window.seen), [...expected, "end"]);
  await page.close();
  await server.stop();
});

test("a browser reconnects after a restart of the server", async () => {
  const first = await serve("--addr", "127.0.0.1:0", "--retry", "100ms", "--drain", "1s");
  const page = await listen(first.url, ["/a"]);
  await first.stop();
  const second = await serve("--addr", new URL(first.url).host);
  await page.waitForFunction(() => window.opened === 2);
  await publish(second.url, [{ namespace: "/a", data: "again" }]);
  await page.waitForFunction(() => window.seen.includes("again"));
  await page.close();
  await second.stop();
});

test("a browser misses no event when the server is killed, and receives them in order", async () => {
  const data = mkdtempSync(join(tmpdir(), "fanfare-history-"));
  const options = ["--retry", "100ms", "--data-dir", data];
  let server = await serve("--addr", "127.0.0.1:0", ...options);
  // The first server is killed before the browser has seen any event; it resumes without a gap.
  const page = await listen(server.url, ["/a", "/b/c"]);
  const host = new URL(server.url).host;
  const expected = [];
  for (let round = 0; round < 4; round += 1) {
    await server.stop("SIGKILL");
    // Published through a server at another address, which the browser does not know.
    const elsewhere = await serve("--addr", "127.0.0.1:0", ...options);
    const events = Array.from({ length: 50 }, (_, n) => ({
      namespace: n % 2 ? "/a" : "/b/c/d",
      data: `${round} ${n}`,
    }));
    await publish(elsewhere.url, events.slice(0, 30));
    await elsewhere.stop("SIGKILL");
    server = await serve("--addr", host, ...options);
    await publish(server.url, events.slice(30));
    expected.push(...events.map((event) => event.data));
    await page.waitForFunction(
      (count) => window.seen.filter((data) => data !== "open").length >= count,
      expected.length,
    );
  }
  const seen = await page.evaluate(() => window.seen);
  assert.deepEqual(
    seen.filter((data) => data !== "open"),
    expected,
  );
  await page.close();
  await server.stop();
  rmSync(data, { recursive: true, force: true });
});
