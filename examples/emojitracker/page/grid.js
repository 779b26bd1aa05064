// The grid: every emoji at the place of its rank, lit up when it is used.
//
// The loop never asks the browser for a layout. Where a cell is follows from its rank and the width that a ResizeObserver told; moving is a
// transform, glowing the opacity of one of a few hundred lights that lie under the grid and are lent to the cells in sight.

const LIGHTS = 400;
/** A light fades to a third of its strength in this time. */
const FADE_MS = 420;
const RANK_EVERY_MS = 3000;
/** Nothing moves under a pointer that was moved so lately. */
const POINTER_REST_MS = 1500;
/** Counts out of sight that are written in one frame. */
const HIDDEN_WRITES = 40;

const number = new Intl.NumberFormat("en");

export class Grid {
  constructor(stage, pick) {
    this.stage = stage;
    this.root = stage.querySelector("#grid");
    this.cells = [];
    this.byId = new Map();
    this.ranked = [];
    this.shown = [];
    this.changed = new Set();
    this.lit = new Set();
    this.matches = () => true;
    this.geometry = { columns: 1, left: 0, width: 76, height: 88 };
    this.sight = { first: 0, last: 0 };
    this.rankedAt = 0;
    this.pointedAt = -Infinity;
    this.lights = Array.from({ length: LIGHTS }, () => {
      const light = document.createElement("div");
      light.className = "glow";
      return light;
    });
    stage.querySelector("#glows").append(...this.lights);
    this.root.addEventListener("click", (event) => {
      const cell = this.cells[event.target.closest(".cell")?.dataset.place];
      if (cell) pick(cell);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") this.pointedAt = performance.now();
    });
    this.root.addEventListener("keydown", (event) => this.step(event));
    addEventListener("scroll", () => this.look(), { passive: true });
    new ResizeObserver(([entry]) => this.fit(entry.contentRect.width)).observe(stage);
  }

  /** Makes the cells: rows of [emoji, name, late]. One that is late has a place once it is used. */
  fill(rows) {
    this.cells = rows.map(([emoji, name, late], place) => {
      const node = document.createElement("button");
      const glyph = document.createElement("span");
      const text = document.createTextNode("0");
      node.className = "cell";
      node.title = name;
      node.dataset.place = place;
      node.dataset.id = idOf(emoji);
      node.tabIndex = -1;
      node.hidden = true;
      glyph.textContent = emoji;
      node.append(glyph, text);
      return { id: node.dataset.id, emoji, name, late: late === 1, node, text, count: 0, rank: place, index: -1, heat: 0, light: null };
    });
    this.byId = new Map(this.cells.map((cell) => [cell.id, cell]));
    this.ranked = [...this.cells];
    this.root.replaceChildren(...this.cells.map((cell) => cell.node));
    this.arrange(false);
  }

  /** Takes all counts as they are. */
  reset(rankings) {
    for (const cell of this.cells) {
      if (cell.count > 0) this.set(cell, 0);
    }
    for (const { id, score } of rankings) {
      const cell = this.byId.get(id);
      if (cell) this.set(cell, score);
    }
    this.rank(false);
  }

  /** Counts uses, and lights up what is in sight. */
  use(id, uses) {
    const cell = this.byId.get(id);
    if (!cell) return;
    this.set(cell, cell.count + uses);
    if (!this.inSight(cell.index)) return;
    cell.heat = Math.min(1, cell.heat + 0.6 + uses * 0.1);
    this.lit.add(cell);
  }

  set(cell, count) {
    cell.count = count;
    this.changed.add(cell);
  }

  /** Draws what has changed since the last frame. */
  frame(now, elapsed) {
    if (now - this.rankedAt > RANK_EVERY_MS && now - this.pointedAt > POINTER_REST_MS) {
      this.rankedAt = now;
      this.rank(true);
    }
    this.write();
    this.fade(Math.exp(-elapsed / FADE_MS));
  }

  write() {
    let hidden = HIDDEN_WRITES;
    for (const cell of this.changed) {
      if (!this.inSight(cell.index) && hidden-- <= 0) continue;
      cell.text.data = number.format(cell.count);
      cell.node.classList.toggle("used", cell.count > 0);
      this.changed.delete(cell);
    }
  }

  fade(factor) {
    for (const cell of this.lit) {
      if (!cell.light) {
        cell.light = this.lights.pop();
        if (!cell.light) {
          // More are hot than there are lights: the next use asks again.
          this.lit.delete(cell);
          continue;
        }
        cell.light.classList.remove("glides");
        cell.light.style.transform = cell.node.style.transform;
      }
      cell.light.style.opacity = cell.heat.toFixed(2);
      cell.heat *= factor;
      if (cell.heat < 0.02 || !this.inSight(cell.index)) this.darken(cell);
    }
  }

  darken(cell) {
    cell.light.style.opacity = 0;
    this.lights.push(cell.light);
    cell.light = null;
    cell.heat = 0;
    this.lit.delete(cell);
  }

  /** Shows only the cells for which `matches` holds. */
  filter(matches) {
    this.matches = matches;
    this.arrange(false);
  }

  rank(glide) {
    // Among equals whoever was ahead stays ahead, so that nothing moves without a reason.
    this.ranked.sort((a, b) => b.count - a.count || a.rank - b.rank);
    this.ranked.forEach((cell, rank) => { cell.rank = rank; });
    this.arrange(glide);
  }

  arrange(glide) {
    const shown = this.ranked.filter((cell) => (!cell.late || cell.count > 0) && this.matches(cell));
    const kept = new Set(shown);
    for (const cell of this.shown) {
      if (!kept.has(cell)) {
        cell.index = -1;
        cell.node.hidden = true;
      }
    }
    shown.forEach((cell, index) => this.place(cell, index, glide));
    this.shown = shown;
    const { columns, height } = this.geometry;
    this.stage.style.height = `${Math.ceil(shown.length / columns) * height}px`;
    if (!shown.some((cell) => cell.node.tabIndex === 0) && shown.length > 0) shown[0].node.tabIndex = 0;
  }

  place(cell, index, glide) {
    if (cell.index === index) return;
    const appears = cell.index < 0;
    const seen = this.inSight(cell.index) || this.inSight(index);
    cell.index = index;
    if (appears) cell.node.hidden = false;
    const glides = glide && seen && !appears;
    const { columns, left, width, height } = this.geometry;
    const transform = `translate(${left + (index % columns) * width}px, ${Math.floor(index / columns) * height}px)`;
    for (const node of cell.light ? [cell.node, cell.light] : [cell.node]) {
      node.classList.toggle("glides", glides);
      node.style.transform = transform;
    }
  }

  /** The stage has a new width. */
  fit(stageWidth) {
    const small = stageWidth < 640;
    const least = small ? 62 : 78;
    const columns = Math.max(1, Math.floor(stageWidth / least));
    const width = Math.floor(stageWidth / columns);
    this.geometry = { columns, left: Math.floor((stageWidth - columns * width) / 2), width, height: small ? 70 : 88 };
    const style = this.stage.style;
    style.setProperty("--width", `${width}px`);
    style.setProperty("--height", `${this.geometry.height}px`);
    style.setProperty("--emoji", small ? "30px" : "38px");
    style.setProperty("--small", small ? "11px" : "12px");
    this.top = this.stage.getBoundingClientRect().top + scrollY;
    for (const cell of this.shown) cell.index = -1;
    this.arrange(false);
    this.look();
  }

  /** Notes which rows are in sight. */
  look() {
    const from = scrollY - (this.top ?? 0);
    const { columns, height } = this.geometry;
    this.sight = {
      first: Math.max(0, Math.floor(from / height)) * columns,
      last: Math.ceil((from + innerHeight) / height) * columns,
    };
  }

  inSight(index) {
    return index >= this.sight.first && index < this.sight.last;
  }

  /** Arrow keys go from cell to cell. */
  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.geometry.columns, ArrowDown: this.geometry.columns }[event.key];
    const from = this.cells[event.target.dataset.place];
    const to = by && from && this.shown[from.index + by];
    if (!to) return;
    event.preventDefault();
    from.node.tabIndex = -1;
    to.node.tabIndex = 0;
    to.node.focus();
    this.pointedAt = performance.now();
  }
}

/** The code points of an emoji as the streams name them: without the one that only asks for colour. */
export function idOf(emoji) {
  const codePoints = Array.from(emoji, (character) => character.codePointAt(0)).filter((codePoint) => codePoint !== 0xfe0f);
  return codePoints.map((codePoint) => codePoint.toString(16).toUpperCase().padStart(4, "0")).join("-");
}
