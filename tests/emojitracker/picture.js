// Takes the pictures of the page: `node picture.js URL FOLDER`, desktop, phone and details, dark and light.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "fanfare-picture-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
try {
  for (const [name, width, height, colorScheme, address] of [
    ["desktop", 1280, 800, "dark", ""],
    ["light", 1280, 800, "light", ""],
    ["phone", 390, 844, "dark", ""],
    ["details", 1280, 800, "dark", "#1F602"],
    ["phone-details", 390, 844, "light", "#1F602"],
  ]) {
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.error(`${name}: ${error}`));
    page.on("console", (message) => message.type() === "error" && console.error(`${name}: ${message.text()}`));
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.goto(url + address);
    await page.waitForFunction(() => document.getElementById("state").dataset.state === "live");
    await page.waitForFunction((open) => open ? document.getElementById("posts").childElementCount > 6
      : Number(document.getElementById("rate").textContent.replace(/\D/g, "")) > 0, address !== "");
    await page.waitForTimeout(2500);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.close();
  }
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
