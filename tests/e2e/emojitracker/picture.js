// Takes pictures of the page of a running example: `node picture.js URL FOLDER`.
import { join } from "node:path";
import { browser } from "../browser.js";

const USES = 60_000;

const [url, folder] = process.argv.slice(2);

async function take(name, width, height, colorScheme, address) {
  const page = await browser.newPage();
  page.setDefaultTimeout(120_000);
  page.on("pageerror", (error) => {
    throw error;
  });
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme });
  await page.goto(url + address);
  await page.waitForFunction(
    (uses) => Number(document.getElementById("total").textContent.replace(/\D/g, "")) > uses,
    USES,
  );
  if (address)
    await page.waitForFunction(() => document.getElementById("posts").childElementCount > 9);
  // Many cells have lit up, and none is moving.
  await page.waitForFunction(() => {
    window.lit =
      (window.lit ?? 0) + document.getElementById("glows").getAnimations({ subtree: true }).length;
    return (
      lit > 3000 && document.getElementById("grid").getAnimations({ subtree: true }).length === 0
    );
  });
  await page.screenshot({ path: join(folder, `${name}.jpg`), type: "jpeg", quality: 88 });
  await page.close();
}

try {
  await take("picture", 1280, 720, "dark", "");
  await take("light", 1280, 720, "light", "");
  await take("wide", 2560, 1200, "dark", "");
  await take("phone", 390, 844, "dark", "");
  await take("details", 1280, 720, "dark", "#1F602");
  await take("phone-details", 390, 844, "light", "#1F602");
} finally {
  await browser.close();
}
