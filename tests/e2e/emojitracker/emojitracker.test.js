// The example in a real browser, with many other subscribers: the page counts the emoji of posts.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { after, afterEach } from "node:test";
import { browser } from "../browser.js";
import { endPrograms, start, test } from "../program.js";

afterEach(endPrograms);
after(() => browser.close());

async function serve(...options) {
  const server = await start(process.env.EMOJITRACKER, "-", ...options);
  const feed = async (lines) => {
    if (!server.input.write(lines.map((line) => `${line}\n`).join("")))
      await once(server.input, "drain");
  };
  return { ...server, feed };
}

/** Posts with random emoji, and the expected count of each. */
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
        // A few emoji are used much more than the others.
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
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (error) => {
    throw error;
  });
  await page.goto(url);
  await live(page);
  return page;
}

const live = (page) =>
  page.waitForFunction(() => document.getElementById("state").dataset.state === "live");

/** Waits until the page shows the total of the posts, and compares every count. */
async function expectCounts(page, posts) {
  await page.waitForFunction((total) => {
    const countOf = (node) => Number(node.textContent.replace(/\D/g, ""));
    const counts = Array.from(document.querySelectorAll(".count"), countOf);
    return [
      countOf(document.getElementById("total")),
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

test("the page counts the posts, with a thousand other subscribers", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const posts = new Posts(await emojiOf(server.url));
  const sums = [];
  const sockets = await Promise.all(
    Array.from({ length: 1000 }, () => subscribe(server.url, sums)),
  );
  await server.feed(posts.make(3000));
  // The page is opened between two roll-ups: it gets a snapshot, and the stream from there on.
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
  // The emoji are ordered by their counts, as seen on the screen.
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
  await server.stop("SIGKILL");
});

test("after a cut the page reconnects, and no use is missed or counted twice", async () => {
  const server = await serve("--addr", "127.0.0.1:0");
  const { port } = new URL(server.url);
  const sockets = new Set();
  const proxy = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    sockets.add(near);
    near.pipe(far).pipe(near);
    const end = () => {
      near.destroy();
      far.destroy();
      sockets.delete(near);
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const posts = new Posts(await emojiOf(server.url));
  await server.feed(posts.make(100));
  const page = await open(`http://127.0.0.1:${proxy.address().port}`);
  for (let n = 0; n < 3; n += 1) {
    await server.feed(posts.make(200));
    for (const socket of sockets) socket.destroy();
    await server.feed(posts.make(200));
    await live(page);
    await expectCounts(page, posts);
  }
  await page.close();
  proxy.close();
  await server.stop("SIGKILL");
});

test("after a restart the page shows the counts of the new server", async () => {
  const first = await serve("--addr", "127.0.0.1:0");
  const page = await open(first.url);
  const before = new Posts(await emojiOf(first.url));
  await first.feed(before.make(500));
  await expectCounts(page, before);
  await first.stop("SIGKILL");
  const second = await serve("--addr", new URL(first.url).host);
  const after = new Posts(await emojiOf(second.url));
  await second.feed(after.make(300));
  await expectCounts(page, after);
  await page.close();
  await second.stop("SIGKILL");
});

test("the page counts without history", async () => {
  const server = await serve("--addr", "127.0.0.1:0", "--no-history");
  const page = await open(server.url);
  const posts = new Posts(await emojiOf(server.url));
  await server.feed(posts.make(500));
  await expectCounts(page, posts);
  await page.close();
  await server.stop("SIGKILL");
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
  // The stream may not be open yet. With history it begins with the past posts.
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
  // With the keyboard: from the first cell to the next one, and into it.
  await page.fill("#search", "");
  await page.focus('.cell[tabindex="0"]');
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#details[open]");
  await page.close();
  await server.stop("SIGKILL");
});
