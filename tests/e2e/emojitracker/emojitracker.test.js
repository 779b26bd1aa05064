// The example in a browser, with a thousand other subscribers: what the page shows is what was fed in.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

let browser, profile;

before(async () => {
  profile = mkdtempSync(join(tmpdir(), "fanfare-emojitracker-"));
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
  browser.setDefaultTimeout(60_000);
});

after(async () => {
  await browser?.close();
  rmSync(profile, { recursive: true, force: true });
});

async function serve(...options) {
  const program = spawn(process.env.EMOJITRACKER, ["-", ...options], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = await once(program.stdout, "data");
  const url = /http:\S+/.exec(line.toString())[0];
  return {
    url,
    feed: async (lines) => {
      if (!program.stdin.write(lines.map((line) => `${line}\n`).join("")))
        await once(program.stdin, "drain");
    },
    stop: async () => {
      program.kill("SIGKILL");
      await once(program, "exit");
    },
  };
}

/** Posts made of emoji that the test picks, so that it knows what they come to without reading them. */
class Posts {
  constructor(rows) {
    this.emoji = rows.map(([emoji]) => emoji);
    this.expected = new Map();
    this.total = 0;
    this.seed = 1;
  }

  below(end) {
    this.seed = (Math.imul(this.seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.seed / 2 ** 32) * end);
  }

  make(count) {
    return Array.from({ length: count }, (_, index) => {
      const used = Array.from({ length: this.below(4) }, () => {
        // A few are used much, as in life.
        const emoji = this.emoji[Math.floor((this.below(1000) ** 3 / 1e9) * this.emoji.length)];
        this.expected.set(emoji, (this.expected.get(emoji) ?? 0) + 1);
        this.total += 1;
        return emoji;
      });
      const text = `post ${index} ${used.join("")} ends`;
      return index % 2 ? text : JSON.stringify({ text, name: "a test" });
    });
  }
}

/** A subscriber of roll-ups that adds them up. */
async function subscribe(url, sums) {
  const { hostname, port } = new URL(url);
  const socket = connect(port, hostname);
  socket.write("GET /subscribe/eps HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const sum = { total: 0, opened: false };
  let rest = "";
  sums.push(sum);
  socket.setEncoding("latin1");
  socket.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      for (const count of Object.values(JSON.parse(line.slice(5)))) sum.total += count;
    }
  });
  await once(socket, "data");
  return socket;
}

async function emojiOf(url) {
  return (await fetch(`${url}/emoji.json`)).json();
}

async function open(url) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => {
    throw error;
  });
  await page.goto(url);
  await live(page);
  return page;
}

const live = (page) =>
  page.waitForFunction(() => document.getElementById("state").dataset.state === "live");

/** Waits until the page shows as many uses, and compares every count. */
async function expectCounts(page, posts) {
  await page.waitForFunction((total) => {
    const shown = (node) => Number(node.textContent.replace(/\D/g, ""));
    const counts = Array.from(document.querySelectorAll(".count"), shown);
    return [
      shown(document.getElementById("total")),
      counts.reduce((sum, count) => sum + count, 0),
    ].every((sum) => sum === total);
  }, posts.total);
  const shown = await page.evaluate(() =>
    Array.from(document.querySelectorAll(".cell"), (cell) => [
      cell.querySelector(".emoji").textContent,
      Number(cell.querySelector(".count").textContent.replace(/\D/g, "")),
    ]),
  );
  assert.deepEqual(
    new Map(shown.filter(([, count]) => count > 0).sort()),
    new Map([...posts.expected].sort()),
  );
}

test("counts on the page are those of the posts, with a thousand other subscribers", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const posts = new Posts(await emojiOf(server.url));
  const sums = [];
  const sockets = await Promise.all(
    Array.from({ length: 1000 }, () => subscribe(server.url, sums)),
  );
  await server.feed(posts.make(3000));
  // The page comes in the middle of it, one roll-up after the other: a snapshot of what was, and the stream from there.
  let page;
  const opening = open(server.url).then((opened) => {
    page = opened;
  });
  for (let left = 50; left > 0; left -= page ? 1 : 0) {
    await server.feed(posts.make(50));
    while (sums[0].total < posts.total) await once(sockets[0], "data");
  }
  await opening;
  await expectCounts(page, posts);
  while (sums.some((sum) => sum.total < posts.total))
    await Promise.race(sockets.map((socket) => once(socket, "data")));
  assert.ok(sums.every((sum) => sum.total === posts.total));
  // The first in the grid are the most used, by where they are on the screen.
  await page.waitForFunction(() => {
    const cells = Array.from(document.querySelectorAll(".cell:not([hidden])"), (cell) => ({
      x: parseFloat(cell.style.left),
      y: parseFloat(cell.style.top),
      count: Number(cell.querySelector(".count").textContent.replace(/\D/g, "")),
    }));
    cells.sort((a, b) => a.y - b.y || a.x - b.x);
    return (
      cells.length > 50 &&
      cells.every((cell, index) => index === 0 || cells[index - 1].count >= cell.count)
    );
  });
  for (const socket of sockets) socket.destroy();
  await page.close();
  await server.stop();
});

test("a connection that is cut is made again, and nothing is missed or counted twice", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const { port } = new URL(server.url);
  const carried = new Set();
  const proxy = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    carried.add(near);
    near.pipe(far).pipe(near);
    const end = () => {
      near.destroy();
      far.destroy();
      carried.delete(near);
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const posts = new Posts(await emojiOf(server.url));
  await server.feed(posts.make(100));
  const page = await open(`http://127.0.0.1:${proxy.address().port}`);
  for (let n = 0; n < 3; n += 1) {
    await server.feed(posts.make(200));
    for (const socket of carried) socket.destroy();
    await server.feed(posts.make(200));
    await live(page);
    await expectCounts(page, posts);
  }
  await page.close();
  proxy.close();
  await server.stop();
});

test("a new server's counts are taken as they are", async () => {
  const first = await serve("--addr", "127.0.0.1:0");
  const page = await open(first.url);
  const before = new Posts(await emojiOf(first.url));
  await first.feed(before.make(500));
  await expectCounts(page, before);
  await first.stop();
  const second = await serve("--addr", new URL(first.url).host);
  const after = new Posts(await emojiOf(second.url));
  await second.feed(after.make(300));
  await expectCounts(page, after);
  await page.close();
  await second.stop();
});

test("without history the page counts too", async () => {
  const server = await serve("--addr", "127.0.0.1:0", "--no-history");
  const page = await open(server.url);
  const posts = new Posts(await emojiOf(server.url));
  await server.feed(posts.make(500));
  await expectCounts(page, posts);
  await page.close();
  await server.stop();
});

test("details show posts as text, search narrows the grid", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const page = await open(server.url);
  await page.fill("#search", "grinning cat");
  await page.waitForFunction(() => document.querySelectorAll(".cell:not([hidden])").length === 2);
  await page.fill("#search", "no emoji is called that");
  assert.ok(await page.isVisible("#nothing"));
  await page.fill("#search", "😺");
  await page.click(".cell:not([hidden])");
  await page.waitForSelector("#details[open]");
  assert.equal(await page.textContent("#details-id"), "1F63A");
  const hostile = '<img src=x onerror="document.title=1"> 😺';
  // The stream may not be open yet; with history it begins with what came before.
  await server.feed([JSON.stringify({ text: hostile, name: "<b>name" })]);
  await page.waitForSelector("#posts li");
  assert.equal(await page.textContent("#posts li p"), hostile);
  assert.equal(await page.textContent("#posts li b"), "<b>name");
  assert.equal(await page.locator("#posts img").count(), 0);
  await page.waitForFunction(() => document.getElementById("details-count").textContent === "1");
  await page.keyboard.press("Escape");
  await page.waitForFunction(
    () => !document.getElementById("details").open && location.hash === "",
  );
  // From the keyboard: the first cell, the next one, and in.
  await page.fill("#search", "");
  await page.focus('.cell[tabindex="0"]');
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#details[open]");
  await page.close();
  await server.stop();
});
