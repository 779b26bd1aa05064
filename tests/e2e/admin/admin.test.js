// The status page in a real browser, served by the real program.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { after, afterEach } from "node:test";
import axe from "axe-core";
import { browser } from "../browser.js";
import { test } from "../program.js";
import { cleanUp, eventually, open, publish, rows, serve, subscribe, tile } from "./support.js";

afterEach(cleanUp);
after(() => browser.close());

test("the page shows the server, and its numbers follow the traffic", async () => {
  const server = await serve();
  const { page, close } = await open(server);
  await page.getByText("Serving").waitFor();
  assert.match(await page.locator("header").innerText(), /fanfare.*Version\s+\d+\.\d+\.\d+/s);
  const clients = await Promise.all([
    subscribe(server, "/pets"),
    subscribe(server, "/pets/dogs"),
    subscribe(server, "/time"),
  ]);
  await publish(
    server,
    Array.from({ length: 40 }, (_, n) => ({ namespace: "/pets/dogs", data: `event ${n}` })),
  );
  await eventually(async () => {
    assert.match(await tile(page, "Events in"), /40 in total$/);
    assert.match(await tile(page, "Deliveries"), /80 in total$/);
    assert.match(await tile(page, "Connections"), /^Connections\s+[1-9]/);
    assert.match(await page.getByRole("region", { name: "Now" }).innerText(), /Subscribers\s+3$/);
  });
  // The label of the chart has the maximum, which is at most 40 in a second.
  const chart = page.getByRole("img", { name: "Events in per second" });
  await eventually(async () =>
    assert.match(
      await chart.getAttribute("aria-label"),
      /minimum 0, average [\d.]+, maximum [1-9]/,
    ),
  );
  clients[2].end();
  await eventually(async () => {
    const reasons = await page.getByRole("region", { name: "Disconnects by reason" }).innerText();
    assert.match(reasons, /client the client disconnected\s+1\b/);
  });
  await page.getByRole("button", { name: "As a table" }).click();
  const minute = page
    .getByRole("table", { name: "Averages per minute" })
    .locator("tbody tr")
    .first();
  assert.match(await minute.innerText(), /^\d\d:\d\d\s/);
  await close();
  for (const client of clients) client.end();
  await server.stop();
});

test("the tree of namespaces expands level by level, and polls only expanded nodes", async () => {
  const server = await serve();
  const clients = await Promise.all(
    ["/pets/dogs", "/pets/cats/tabby", "/petshop"].map((namespace) => subscribe(server, namespace)),
  );
  await publish(server, [{ namespace: "/pets/dogs", data: "Corgi" }]);
  const { requested, table, close } = await open(server);
  const tree = table("Namespaces");
  const names = async () =>
    (await rows(tree)).map(([name, own, below]) => `${name} ${own} ${below}`);
  await eventually(async () =>
    assert.deepEqual(await names(), ["/ 0 3", "/pets 0 2", "/petshop 1 1"]),
  );
  const requestedUnder = (under) =>
    requested.some((url) => new URL(url).searchParams.get("under") === under);
  assert.ok(!requestedUnder("/pets"));
  await tree.getByRole("button", { name: "/pets", exact: true }).click();
  await eventually(async () =>
    assert.deepEqual(await names(), [
      "/ 0 3",
      "/pets 0 2",
      "/pets/cats 0 1",
      "/pets/dogs 1 1",
      "/petshop 1 1",
    ]),
  );
  assert.ok(requestedUnder("/pets") && !requestedUnder("/pets/cats"));
  const cats = tree.getByRole("button", { name: "cats" });
  await cats.press("Enter");
  await eventually(async () => assert.equal((await names())[3], "/pets/cats/tabby 1 1"));
  assert.equal(await cats.getAttribute("aria-expanded"), "true");

  await tree.getByRole("textbox", { name: "Filter" }).fill("tab");
  await eventually(async () => assert.deepEqual(await names(), ["/pets/cats/tabby 1 1"]));
  await tree.getByRole("textbox", { name: "Filter" }).fill("");
  await eventually(async () =>
    assert.deepEqual(await names(), [
      "/ 0 3",
      "/pets 0 2",
      "/pets/cats 0 1",
      "/pets/cats/tabby 1 1",
      "/pets/dogs 1 1",
      "/petshop 1 1",
    ]),
  );
  await tree.getByRole("button", { name: "Own" }).click();
  await eventually(async () =>
    assert.deepEqual(await names(), [
      "/ 0 3",
      "/petshop 1 1",
      "/pets 0 2",
      "/pets/dogs 1 1",
      "/pets/cats 0 1",
      "/pets/cats/tabby 1 1",
    ]),
  );
  await close();
  for (const client of clients) client.end();
  await server.stop();
});

test("5,000 connections are paged, sorted and filtered by the server", async () => {
  const server = await serve("--max-connections", "6000");
  const clients = [];
  while (clients.length < 5000) {
    clients.push(
      ...(await Promise.all(
        Array.from({ length: 250 }, (_, n) => {
          const number = String(clients.length + n).padStart(4, "0");
          return subscribe(server, `/room/${number.slice(2)}`, `agent-${number}`);
        }),
      )),
    );
  }
  const { page, table, close } = await open(server);
  const sizes = [];
  page.on("response", async (reply) => {
    if (reply.url().includes("status.json")) sizes.push((await reply.json()).connections.length);
  });
  const connections = table("Connections");
  const agents = async () => (await rows(connections)).map((row) => row[3]);
  await connections.getByText("1–25 of 5,000").waitFor();
  await connections.getByRole("button", { name: "User agent" }).click();
  await eventually(async () =>
    assert.deepEqual((await agents()).slice(0, 2), ["agent-0000", "agent-0001"]),
  );
  await connections.getByRole("button", { name: "Next" }).click();
  await eventually(async () => assert.equal((await agents())[0], "agent-0025"));
  await connections.getByText("26–50 of 5,000").waitFor();
  await connections.getByRole("button", { name: "User agent" }).click();
  await eventually(async () => assert.equal((await agents())[0], "agent-4999"));
  await connections.getByRole("textbox", { name: "Filter" }).fill("AGENT-12");
  await connections.getByText("1–25 of 100 (of 5,000 connections)").waitFor();
  await eventually(async () => assert.equal((await agents())[0], "agent-1299"));
  await connections.getByRole("textbox", { name: "Filter" }).fill("no such client");
  await connections.getByText("None").waitFor();
  assert.ok(sizes.length > 0 && sizes.every((size) => size <= 25), `rows in one answer: ${sizes}`);
  await close();
  for (const client of clients) client.end();
  await server.stop("SIGKILL");
});

test("a disconnected connection leaves the table, and its stream ends", async () => {
  const server = await serve();
  const [kept, kicked] = await Promise.all([
    subscribe(server, "/a", "kept"),
    subscribe(server, "/b", "kicked"),
  ]);
  const { page, table, close } = await open(server);
  const row = (name) => table("Connections").getByRole("row", { name });
  await row("kicked").getByRole("button", { name: "Disconnect" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await page.getByRole("dialog").count(), 0);
  await row("kicked").getByRole("button", { name: "Disconnect" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Confirm" }).click();
  await kicked.ended;
  await row("kicked").waitFor({ state: "detached" });
  await page.getByText(/Connection \d+ was disconnected/).waitFor();
  await eventually(async () => {
    assert.match(
      await page.getByRole("region", { name: "Disconnects by reason" }).innerText(),
      /kicked it was disconnected on request\s+1\b/,
    );
  });
  // The other connection still receives its events.
  await publish(server, [{ namespace: "/a", data: "still here" }]);
  await eventually(() => assert.match(kept.received, /data:still here/));
  assert.ok(await row("kept").isVisible());
  await close();
  kept.end();
  await server.stop();
});

test("the subscribers of a namespace are disconnected with the keyboard alone", async () => {
  const server = await serve();
  const others = await subscribe(server, "/other", "other");
  const rooms = await Promise.all(
    ["/rooms", "/rooms/1", "/rooms/2/window"].map((namespace) => subscribe(server, namespace)),
  );
  const { page, table, close } = await open(server);
  const button = table("Namespaces")
    .getByRole("row", { name: "rooms" })
    .getByRole("button", { name: "Disconnect" });
  await button.waitFor();
  await eventually(async () => {
    await page.keyboard.press("Tab");
    assert.ok(await button.evaluate((element) => element === document.activeElement));
  });
  await page.keyboard.press("Enter");
  const confirm = page.getByRole("dialog").getByRole("button", { name: "Confirm" });
  await confirm.waitFor();
  await page.keyboard.press("Escape");
  await confirm.waitFor({ state: "detached" });
  assert.ok(
    await button.evaluate((element) => element === document.activeElement),
    "the focus returns to the button",
  );
  await page.keyboard.press("Enter");
  await eventually(async () => {
    await page.keyboard.press("Tab");
    assert.ok(await confirm.evaluate((element) => element === document.activeElement));
  });
  await page.keyboard.press("Enter");
  await Promise.all(rooms.map((client) => client.ended));
  await page.getByText("3 connections of /rooms disconnected.").waitFor();
  await table("Connections").getByText("1–1 of 1").waitFor();
  await close();
  others.end();
  await server.stop();
});

test("a panel shows one connection, and that it has ended", async () => {
  const server = await serve();
  const client = await subscribe(server, "?ns=/a&ns=/b/c", "an agent");
  const { page, table, close } = await open(server);
  await table("Connections")
    .getByRole("row", { name: "an agent" })
    .getByRole("button", { name: /^Connection/ })
    .click();
  const panel = page.getByRole("dialog", { name: /^Connection/ });
  for (const text of ["/a", "/b/c", "/subscribe", "127.0.0.1", "an agent"])
    await panel.getByText(text, { exact: true }).waitFor();
  await publish(server, [
    { namespace: "/b/c/d", data: "one" },
    { namespace: "/a", data: "two" },
  ]);
  await eventually(async () => assert.match(await panel.innerText(), /Events\s+2 /));
  client.end();
  await panel.getByText("This connection has ended.").waitFor();
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  await close();
  await server.stop();
});

test("an event is published and followed, with a pause", async () => {
  const server = await serve();
  const client = await subscribe(server, "/pets");
  const { page, close } = await open(server);
  const form = page.getByRole("form", { name: "Try it" });
  await page.getByLabel("Stream of").fill("/pets");
  await page.getByRole("button", { name: "Follow" }).click();
  await page.getByText("Live", { exact: true }).waitFor();
  const publishOne = async (data) => {
    await form.getByLabel("Namespace").fill("/pets/dogs");
    await form.getByLabel("Event").fill("new-dog");
    await form.getByLabel("Data").fill(data);
    await form.getByRole("button", { name: "Publish" }).click();
  };
  const followed = page.getByRole("list", { name: "Followed events" });
  await publishOne("Corgi\nof two lines");
  await form.getByText("to 2 subscribers").waitFor();
  await eventually(() =>
    assert.match(client.received, /event:new-dog\ndata:Corgi\ndata:of two lines\n\n/),
  );
  await eventually(async () =>
    assert.match(await followed.innerText(), /new-dog.*Corgi\nof two lines/s),
  );
  await page.getByRole("button", { name: "Pause" }).click();
  await publishOne("unseen as yet");
  await page.getByText("2 events, 1 since the pause").waitFor();
  assert.doesNotMatch(await followed.innerText(), /unseen/);
  await page.getByRole("button", { name: "Pause" }).click();
  await followed.getByText("unseen as yet").waitFor();
  await form.getByLabel("Namespace").fill("/a/../b");
  await form.getByRole("button", { name: "Publish" }).click();
  await eventually(async () => assert.notEqual(await form.locator(".error").innerText(), ""));
  await close();
  client.end();
  await server.stop();
});

test("with a token, the page asks for it and hides it from scripts", async () => {
  const server = await serve("--admin-token", "open-sesame", "--publish-token", "for-publishers");
  const { page, table, close } = await open(server);
  const field = page.getByLabel("Admin token");
  assert.equal(await field.getAttribute("type"), "password");
  await field.fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This is not the admin token.").waitFor();
  assert.equal(await page.getByRole("table").count(), 0);
  await field.fill("open-sesame");
  await page.getByRole("button", { name: "Sign in" }).click();
  await table("Connections").waitFor();
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.doesNotMatch(
    await page.evaluate(() => JSON.stringify([localStorage, sessionStorage])),
    /sesame/,
  );
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  await page.reload();
  await table("Connections").waitFor();
  // Publishing needs the publish token.
  const form = page.getByRole("form", { name: "Try it" });
  await form.getByLabel("Publish token").fill("for-publishers");
  await form.getByLabel("Data").fill("by hand");
  await form.getByRole("button", { name: "Publish" }).click();
  await form.getByText("Published").waitFor();

  await page.getByRole("button", { name: "Sign out" }).click();
  await field.waitFor();
  assert.equal(await page.getByRole("table").count(), 0);
  await page.reload();
  await field.waitFor();
  await close();
  await server.stop();
});

test("the page shows a lost connection, and reconnects when the server is back", async () => {
  const first = await serve("--drain", "1s");
  const { page, table, close } = await open(first);
  await publish(first, [
    { namespace: "/a", data: "one" },
    { namespace: "/a", data: "two" },
  ]);
  await eventually(async () => assert.match(await tile(page, "Events in"), /\b2 in total$/));
  await first.stop();
  const banner = page.getByRole("alert").getByText("The connection to the server was lost.");
  await banner.waitFor();
  await page.getByText("Not connected").waitFor();
  const second = await serve("--addr", first.host);
  await banner.waitFor({ state: "detached" });
  await page.getByText("Serving").waitFor();
  await publish(second, [{ namespace: "/a", data: "again" }]);
  await eventually(async () => assert.match(await tile(page, "Events in"), /\b1 in total$/));
  const client = await subscribe(second, "/a", "a new one");
  await table("Connections").getByRole("row", { name: "a new one" }).waitFor();
  await close();
  client.end();
  await second.stop();
});

test("a silent server counts as lost until it sends again", async () => {
  const server = await serve();
  const { page, close } = await open(server);
  await page.getByText("Serving").waitFor();
  server.signal("SIGSTOP");
  const banner = page.getByRole("alert").getByText("The connection to the server was lost.");
  await banner.waitFor();
  server.signal("SIGCONT");
  await banner.waitFor({ state: "detached" });
  await page.getByText("Serving").waitFor();
  await close();
  await server.stop();
});

test("on a separate listener, the page refers to the main address for publishing", async () => {
  const server = await serve("--admin", "127.0.0.1:0");
  const client = await subscribe(server, "/a", "a-client");
  const { page, table, close } = await open(await server.page());
  await table("Connections").getByRole("row", { name: "a-client" }).waitFor();
  await page.getByText("at the server's main address").waitFor();
  assert.equal(await page.getByRole("form", { name: "Try it" }).count(), 0);
  await close();
  client.end();
  await server.stop();
});

test("markup that clients send is shown as text", async () => {
  const markup = `<img src=x onerror="hacked=1"><script>hacked=1</script>&amp;"'`;
  const server = await serve();
  const namespace = `/${markup.replaceAll("/", "-")}`;
  const client = await subscribe(server, encodeURI(namespace), markup);
  const { page, table, close } = await open(server);
  await page.getByLabel("Stream of").fill(namespace);
  await page.getByRole("button", { name: "Follow" }).click();
  await page.getByText("Live", { exact: true }).waitFor();
  await publish(server, [{ namespace, event: markup, id: markup, data: `${markup}\n${markup}` }]);
  await page
    .getByRole("list", { name: "Followed events" })
    .locator("pre")
    .getByText(`${markup}\n${markup}`)
    .waitFor();
  await table("Namespaces").getByText(namespace, { exact: true }).waitFor();
  const row = table("Connections").getByRole("row").filter({ hasText: markup }).first();
  await row.getByRole("button", { name: "Disconnect" }).click();
  await page.getByRole("dialog").getByText(markup).waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await row.getByRole("button", { name: /^Connection/ }).click();
  await page.getByRole("dialog").getByText(markup, { exact: true }).waitFor();
  assert.equal(
    await page.locator("#app img, #app script").count(),
    1,
    "the page's own icon is the only image",
  );
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await close();
  client.end();
  await server.stop();
});

test("the page works under the path prefix of a reverse proxy", async () => {
  const server = await serve();
  const proxy = createServer((asked, reply) => {
    if (!asked.url.startsWith("/some/where/")) return reply.writeHead(404).end();
    const through = request(
      server.url + asked.url.slice("/some/where".length),
      { method: asked.method, headers: asked.headers },
      (answer) => {
        reply.writeHead(answer.statusCode, answer.headers);
        reply.flushHeaders();
        answer.pipe(reply);
      },
    );
    through.on("error", () => reply.destroy());
    reply.on("close", () => through.destroy());
    asked.pipe(through);
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { page, close } = await open({
    url: `http://127.0.0.1:${proxy.address().port}/some/where`,
  });
  await page.getByText("Serving").waitFor();
  const form = page.getByRole("form", { name: "Try it" });
  await form.getByLabel("Data").fill("through");
  await form.getByRole("button", { name: "Publish" }).click();
  await eventually(async () => assert.match(await tile(page, "Events in"), /\b1 in total$/));
  await close();
  proxy.closeAllConnections();
  proxy.close();
  await server.stop();
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds no violations, ${colorScheme}`, async () => {
    const server = await serve("--admin-token", "T");
    const client = await subscribe(server, "/pets/dogs", "a-client");
    const { page, table, close } = await open(server, { colorScheme });
    const clean = async (what) => {
      await page.evaluate(`${axe.source}; undefined`);
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(
        violations.map(({ id, nodes }) => [what, id, nodes.map((node) => node.html)]),
        [],
      );
    };
    await page.getByLabel("Admin token").waitFor();
    await clean("sign in");
    await page.getByLabel("Admin token").fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("This is not the admin token.").waitFor();
    await clean("sign in, refused");
    await page.getByLabel("Admin token").fill("T");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Follow" }).click();
    await table("Namespaces").getByRole("button", { name: "/pets", exact: true }).click();
    await table("Namespaces").getByText("dogs").waitFor();
    await publish(server, [{ namespace: "/pets", event: "seen", data: "something to see" }]);
    await page.getByText("something to see").waitFor();
    await clean("everything");
    await page.getByRole("button", { name: "As a table" }).click();
    await clean("as a table");
    const row = table("Connections").getByRole("row", { name: "a-client" });
    await row.getByRole("button", { name: /^Connection/ }).click();
    await page.getByRole("dialog").getByText("a-client").waitFor();
    await clean("one connection");
    await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
    await page.getByRole("button", { name: "Confirm" }).waitFor();
    await clean("confirming");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    client.end();
    await server.stop();
    await page.getByText("The connection to the server was lost.").waitFor();
    await clean("lost");
    await close();
  });
}

for (const [width, height, colorScheme] of [
  [360, 780, "dark"],
  [1280, 900, "light"],
  [2560, 1440, "dark"],
]) {
  test(`every button is within the window at ${width} pixels`, async () => {
    const server = await serve("--demo");
    const clients = await Promise.all(
      ["/pets/dogs", "/pets/cats", "/time", "/"].map((namespace) =>
        subscribe(
          server,
          namespace,
          "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
      ),
    );
    const { page, table, close } = await open(server, { viewport: { width, height }, colorScheme });
    await table("Namespaces").getByRole("button", { name: "/pets", exact: true }).click();
    await page.getByRole("button", { name: "Follow" }).click();
    await page
      .getByText(/\d+ events/)
      .first()
      .waitFor();
    await table("Connections").getByRole("row").nth(4).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    for (const button of await page.getByRole("button").all()) {
      const { x, width: wide } = await button.boundingBox();
      assert.ok(x >= 0 && x + wide <= width, `${await button.innerText()} at ${x}`);
    }
    if (process.env.SCREENSHOTS)
      await page.screenshot({
        path: `${process.env.SCREENSHOTS}/${width}-${colorScheme}.png`,
        fullPage: true,
      });
    await close();
    for (const client of clients) client.end();
    await server.stop();
  });
}
