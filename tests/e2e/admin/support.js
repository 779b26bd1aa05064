// Support for the tests of the status page: the program, subscribers, and pages that record errors,
// dialogs and requests to other servers.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { browser } from "../browser.js";
import { endPrograms, start } from "../program.js";

const contexts = new Set();

/** Ends the programs and pages that a failed test left open. */
export async function cleanUp() {
  for (const context of contexts) await context.close();
  endPrograms();
}

/** Starts the program, on a free port if no address is given. */
export async function serve(...options) {
  const addr = options.includes("--addr") ? [] : ["--addr", "127.0.0.1:0"];
  const server = await start(process.env.FANFARE, "serve", ...addr, ...options);
  return {
    ...server,
    /** The address of the status page, from the log. */
    page: async () => ({
      url: await eventually(() => /status page: (http:\S+)\/admin\//.exec(server.log())[1]),
    }),
  };
}

/** Publishes all events in one request. */
export async function publish({ url }, events, token) {
  const headers = {
    "Content-Type": "application/x-ndjson",
    ...(token && { Authorization: `Bearer ${token}` }),
  };
  const reply = await fetch(`${url}/publish`, {
    method: "POST",
    headers,
    body: events.map((event) => `${JSON.stringify(event)}\n`).join(""),
  });
  assert.equal(reply.status, 200);
}

/**
 * Subscribes with a user agent. `received` is the text of the stream so far; `ended` resolves when
 * the server ends the stream.
 */
export async function subscribe({ host }, namespace, agent = "a test") {
  const socket = connect({ host: host.split(":")[0], port: Number(host.split(":")[1]) });
  const client = { received: "", end: () => socket.destroy(), ended: once(socket, "close") };
  socket.on("error", () => {});
  socket.write(
    `GET /subscribe${namespace} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: ${agent}\r\n\r\n`,
  );
  await new Promise((opened) =>
    socket.on("data", (bytes) => {
      client.received += bytes.toString();
      if (client.received.includes("\r\n\r\n")) opened();
    }),
  );
  return client;
}

/**
 * Opens the page of a server. `close` fails if the page logged an error, opened a dialog, or sent a
 * request to another server.
 */
export async function open({ url }, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  contexts.add(context);
  context.once("close", () => contexts.delete(context));
  const page = await context.newPage();
  const requested = [];
  const faults = [];
  page.on("request", (request) => requested.push(request.url()));
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("dialog", (dialog) => {
    faults.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // The browser logs each error status and each failed connection; some tests cause them.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      faults.push(message.text());
  });
  await page.goto(`${url}/admin/`);
  const close = async () => {
    await context.close();
    assert.deepEqual(faults, []);
    assert.deepEqual(
      requested.filter((address) => !address.startsWith(url)),
      [],
    );
  };
  return { page, requested, close, table: (name) => page.getByRole("table", { name }) };
}

/** Repeats a check until it passes, since the page does not signal when it is up to date. */
export async function eventually(check) {
  const until = Date.now() + 30_000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** The text of the tile that begins with `title`: "Events in12.0 per second40 in total". */
export function tile(page, title) {
  return page.locator("figure", { hasText: title }).innerText();
}

/** The rows of a table's body, as arrays of the texts of their cells. */
export function rows(table) {
  return table
    .locator("tbody tr")
    .evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.innerText.trim())));
}
