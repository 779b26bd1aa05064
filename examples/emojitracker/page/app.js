// The page: connects the counts, the grid and the detail view, and draws them in one loop.

import { follow } from "./counts.js";
import { Details } from "./details.js";
import { Grid, idOf } from "./grid.js";

const RATE_OVER_MS = 2000;
const STATES = { connecting: "connecting", live: "live", reconnecting: "reconnecting" };
const NOTICES = {
  simulated: "These posts are simulated. Use --stdin to read real ones.",
  stdin: "Posts from this server's standard input.",
};

const number = new Intl.NumberFormat("en");
const part = (id) => document.getElementById(id);
const details = new Details(part("details"));
const grid = new Grid(part("stage"), (cell) => {
  location.hash = cell.id;
});

let total = 0;
/** The number of uses in each of the latest tenths of a second, newest last. */
const recent = [];

const response = await fetch("emoji.json");
grid.fill(await response.json());

follow({
  begin({ rankings, source }) {
    grid.reset(rankings);
    total = rankings.reduce((sum, { score }) => sum + score, 0);
    part("notice").textContent = NOTICES[source] ?? "";
    part("notice").hidden = false;
  },
  use(counts) {
    let uses = 0;
    for (const id in counts) {
      grid.use(id, counts[id]);
      uses += counts[id];
    }
    total += uses;
    const now = performance.now();
    const last = recent.at(-1);
    if (last && now - last.at < 100) last.uses += uses;
    else recent.push({ at: now, uses });
    forget(now);
  },
  setState(state) {
    part("state").dataset.state = state;
    part("state").textContent = STATES[state];
  },
});

let figuresAt = 0;
requestAnimationFrame(function draw(now) {
  grid.frame(now);
  details.frame(now);
  if (now - figuresAt > 200) {
    figuresAt = now;
    showFigures(now);
  }
  requestAnimationFrame(draw);
});

function forget(now) {
  while (recent.length > 0 && now - recent[0].at > RATE_OVER_MS) recent.shift();
}

function showFigures(now) {
  forget(now);
  const uses = recent.reduce((sum, { uses }) => sum + uses, 0);
  part("total").textContent = number.format(total);
  part("rate").textContent = number.format(Math.round((uses * 1000) / RATE_OVER_MS));
}

part("search").addEventListener("input", ({ target }) => {
  const text = target.value.trim().toLowerCase();
  const words = text.split(/\s+/);
  const id = idOf(target.value.trim());
  grid.filter(
    (cell) =>
      cell.id === id ||
      cell.id.toLowerCase() === text ||
      words.every((word) => cell.name.includes(word)),
  );
  part("nothing").hidden = grid.shown.length > 0;
});

addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== part("search") && !part("details").open) {
    event.preventDefault();
    part("search").focus();
  }
});

function openAddressed() {
  const cell = grid.byId.get(location.hash.slice(1));
  if (cell) details.show(cell);
  else part("details").close();
}
addEventListener("hashchange", openAddressed);
openAddressed();
