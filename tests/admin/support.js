// What the tests of the admin page stand on: the program, clients of it, and a browser that tells of everything a page must not do.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { chromium } from "playwright-core";

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
  ],
});

const programs = new Set(),
  contexts = new Set();

/** Ends what a test that failed left behind. */
export async function cleanUp() {
  for (const context of contexts) await context.close();
  for (const program of programs) program.kill("SIGKILL");
}

/** Starts the program, and gives its address and what stops it. */
export async function serve(...options) {
  const addr = options.includes("--addr") ? [] : ["--addr", "127.0.0.1:0"];
  const program = spawn(process.env.FANFARE, ["serve", ...addr, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  program.stderr.on("data", (bytes) => {
    said += bytes;
  });
  programs.add(program);
  program.once("exit", () => programs.delete(program));
  const ended = once(program, "exit").then(([code]) => {
    throw new Error(`the program ended with ${code}: ${said}`);
  });
  const [line] = await Promise.race([once(program.stdout, "data"), ended]);
  const url = /http:\S+/.exec(line.toString())[0];
  return {
    url,
    host: new URL(url).host,
    /** Where its log says that the status page is. */
    page: async () => ({
      url: await eventually(() => /status page: (http:\S+)\/admin\//.exec(said)[1]),
    }),
    signal: (signal) => program.kill(signal),
    stop: async (signal = "SIGTERM") => {
      program.kill(signal);
      await once(program, "exit");
    },
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

/** A subscriber of its own user agent: `got` is the text of its stream so far, `ended` resolves when the server ends it. */
export async function subscribe({ host }, namespace, agent = "a test") {
  const socket = connect({ host: host.split(":")[0], port: Number(host.split(":")[1]) });
  const client = { got: "", end: () => socket.destroy(), ended: once(socket, "close") };
  socket.on("error", () => {});
  socket.write(
    `GET /subscribe${namespace} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: ${agent}\r\n\r\n`,
  );
  await new Promise((opened) =>
    socket.on("data", (bytes) => {
      client.got += bytes.toString();
      if (client.got.includes("\r\n\r\n")) opened();
    }),
  );
  return client;
}

/** Opens the page at a server. `close` fails when it logged an error, ran a script of somebody else's, or asked anybody else. */
export async function open({ url }, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  contexts.add(context);
  context.once("close", () => contexts.delete(context));
  const page = await context.newPage();
  const asked = [],
    wrong = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("dialog", (dialog) => {
    wrong.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // The browser itself logs each refusal and each failed connection, which some tests are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      wrong.push(message.text());
  });
  await page.goto(`${url}/admin/`);
  const close = async () => {
    await context.close();
    assert.deepEqual(wrong, []);
    assert.deepEqual(
      asked.filter((address) => !address.startsWith(url)),
      [],
    );
  };
  return { page, asked, close, table: (name) => page.getByRole("table", { name }) };
}

/** Looks until it is so; the page and the server say nothing when they have settled. */
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

/** The text of the tile that begins with `title`, like "Events in12.0 per secondin all 40". */
export function tile(page, title) {
  return page.locator("figure", { hasText: title }).innerText();
}

/** Rows of a table's body, as arrays of the texts of their cells. */
export function rows(table) {
  return table
    .locator("tbody tr")
    .evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.innerText.trim())));
}
