// A browser's EventSource against the program: opens before any event, gets each event once and in order,
// comes back after a restart, and has missed nothing.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

let browser, profile, site;

before(async () => {
  // A site of another origin: its pages may read streams, and may not publish.
  site = createServer((_, reply) => reply.end("<title>a site</title>")).listen(0, "127.0.0.1");
  await once(site, "listening");
  profile = mkdtempSync(join(tmpdir(), "fanfare-browser-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});

after(async () => {
  await browser?.close();
  site.close();
  rmSync(profile, { recursive: true, force: true });
});

async function serve(...options) {
  const program = spawn(process.env.FANFARE, ["serve", ...options], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(program.stdout, "data");
  const url = /http:\S+/.exec(line.toString())[0];
  const end = async (signal) => {
    program.kill(signal);
    await once(program, "exit");
  };
  return { url, stop: () => end("SIGTERM"), kill: () => end("SIGKILL") };
}

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

test("each event once, in order, and open before any", async () => {
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
  // A page of another origin must not be able to publish: what it tries is not there when the next event is.
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

test("a browser comes back after the server was stopped and started", async () => {
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

test("a browser misses nothing though the server is killed, and what came meanwhile comes first", async () => {
  const data = mkdtempSync(join(tmpdir(), "fanfare-history-"));
  const options = ["--retry", "100ms", "--data-dir", data];
  let server = await serve("--addr", "127.0.0.1:0", ...options);
  // It has seen no event yet when the first server is gone, and goes on from where it stood all the same.
  const page = await listen(server.url, ["/a", "/b/c"]);
  const host = new URL(server.url).host;
  const expected = [];
  for (let round = 0; round < 4; round += 1) {
    await server.kill();
    // Published where the browser does not look.
    const elsewhere = await serve("--addr", "127.0.0.1:0", ...options);
    const events = Array.from({ length: 50 }, (_, n) => ({
      namespace: n % 2 ? "/a" : "/b/c/d",
      data: `${round} ${n}`,
    }));
    await publish(elsewhere.url, events.slice(0, 30));
    await elsewhere.kill();
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
