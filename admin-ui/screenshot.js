// Runs a server with generated traffic for the length of the charts, then takes a screenshot.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { get } from "node:http";
import { chromium } from "playwright-core";

const minutes = Number(process.env.MINUTES ?? 10);
// Without tokens the page would show warnings.
const token = "screenshot";
const agents = [
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
  "curl/8.14.1",
];
const namespaces = [
  "/time",
  "/pets",
  "/pets/dogs",
  "/pets/cats",
  "/news/sports",
  "/news/weather/berlin",
  "/orders/eu",
  "/orders/us",
];

const program = spawn(
  process.env.FANFARE,
  ["serve", "--demo", "--addr", "127.0.0.1:0", "--publish-token", token, "--admin-token", token],
  { stdio: ["ignore", "pipe", "ignore"] },
);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu"],
});
try {
  const url = /http:\S+/.exec((await once(program.stdout, "data")).toString())[0];
  const clients = [];
  const join = () => {
    const number = clients.length;
    const options = { agent: false, headers: { "User-Agent": agents[number % agents.length] } };
    const client = get(
      `${url}/subscribe${namespaces[(number * 5) % namespaces.length]}`,
      options,
      (stream) => stream.on("error", () => {}).resume(),
    );
    clients.push(client.on("error", () => {}));
  };
  while (clients.length < 180) join();
  const page = await browser.newPage({ viewport: { width: 1280, height: 1400 } });
  await page.goto(`${url}/admin/`);
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "/news", exact: true }).click();

  for (let tick = 0; tick < minutes * 120; tick += 1) {
    const wave =
      60 +
      40 * Math.sin(tick / 60) +
      25 * Math.sin(tick / 17) +
      15 * Math.random() +
      (tick % 300 < 24 ? 90 : 0);
    const events = Array.from({ length: Math.round(wave / 2) }, (_, n) =>
      JSON.stringify({
        namespace: namespaces[(tick + n) % namespaces.length],
        data: "x".repeat(100),
      }),
    );
    const headers = { "Content-Type": "application/x-ndjson", Authorization: `Bearer ${token}` };
    await fetch(`${url}/publish`, { method: "POST", headers, body: events.join("\n") });
    if (tick % 6 === 0) join();
    if (tick % 20 === 0) clients[Math.floor(tick / 20)].destroy();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  await page.mouse.move(0, 0);
  await page.screenshot({ path: "screenshot.png" });
} finally {
  await browser.close();
  program.kill("SIGKILL");
}
