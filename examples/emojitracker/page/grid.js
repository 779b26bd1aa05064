// The grid: all emoji in the order of their counts. An emoji lights up when it is used.
//
// Drawing causes no layout: the position of a cell follows from its index and from the width that a
// ResizeObserver reports. Only cells in or near the visible part are displayed. Cells that move
// glide by a transform. A light is an animation of the opacity, which the browser runs by itself,
// on one of 256 elements below the grid that cells borrow.

const LIGHTS = 256;
const LIGHT_MS = 900;
/** A light is not restarted before this time has passed. */
const LIGHT_AGAIN_MS = 160;
const GLIDE_MS = 700;
const RANK_EVERY_MS = 3000;
/** Cells do not move until the pointer has rested for this time. */
const POINTER_REST_MS = 1500;
/** Counts written per frame: of visible cells, and of other displayed cells. */
const VISIBLE_WRITES = 48;
const OTHER_WRITES = 12;

const number = new Intl.NumberFormat("en");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Grid {
  constructor(stage, pick) {
    this.stage = stage;
    this.root = stage.querySelector("#grid");
    this.cells = [];
    this.byId = new Map();
    /** All cells, most used first; those that match the search; and those near the visible part. */
    this.ranked = [];
    this.shown = [];
    this.displayed = new Set();
    /** Cells whose count is not written yet, and cells used since the last frame. */
    this.changed = new Set();
    this.used = new Set();
    this.matches = () => true;
    this.geometry = { columns: 1, left: 0, width: 78, height: 88 };
    /** The range of visible indexes, and the range of indexes that are displayed. */
    this.range = { from: 0, to: 0, near: 0, far: 0 };
    this.rankedAt = 0;
    this.pointedAt = -Infinity;
    this.lights = Array.from({ length: LIGHTS }, light);
    stage.querySelector("#glows").append(...this.lights.map(({ node }) => node));
    this.root.addEventListener("click", (event) => {
      const cell = this.cells[event.target.closest(".cell")?.dataset.cellIndex];
      if (cell) pick(cell);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") this.pointedAt = performance.now();
    });
    this.root.addEventListener("keydown", (event) => this.moveFocus(event));
    addEventListener("scroll", () => this.updateRange(), { passive: true });
    new ResizeObserver(([entry]) => this.fit(entry.contentRect.width)).observe(stage);
  }

  /** Makes a cell of each row [emoji, name, late]. A late cell is hidden until its first use. */
  fill(rows) {
    this.cells = rows.map(
      ([emoji, name, late], cellIndex) => new Cell(emoji, name, late === 1, cellIndex),
    );
    this.byId = new Map(this.cells.map((cell) => [cell.id, cell]));
    this.ranked = [...this.cells];
    this.root.replaceChildren(...this.cells.map((cell) => cell.node));
    this.arrange(false);
  }

  /** Replaces all counts. */
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

  /** Counts uses. */
  use(id, uses) {
    const cell = this.byId.get(id);
    if (!cell) return;
    this.set(cell, cell.count + uses);
    this.used.add(cell);
  }

  set(cell, count) {
    cell.count = count;
    this.changed.add(cell);
  }

  /** Draws what has changed since the last frame. */
  frame(now) {
    if (now - this.rankedAt > RANK_EVERY_MS && now - this.pointedAt > POINTER_REST_MS) {
      this.rankedAt = now;
      this.rank(true);
    }
    this.write();
    for (const cell of this.used) {
      if (this.isVisible(cell)) this.flash(cell, now);
    }
    this.used.clear();
  }

  write() {
    let visible = VISIBLE_WRITES;
    let others = OTHER_WRITES;
    for (const cell of this.changed) {
      if (this.displayed.has(cell) && (this.isVisible(cell) ? visible-- : others--) <= 0) continue;
      cell.write();
      this.changed.delete(cell);
    }
  }

  isVisible(cell) {
    return cell.index >= this.range.from && cell.index < this.range.to;
  }

  /** Shows only the cells for which `matches` holds. */
  filter(matches) {
    this.matches = matches;
    this.arrange(false);
  }

  rank(glide) {
    // Cells with equal counts keep their order, so that none moves without a reason.
    this.ranked.sort((a, b) => b.count - a.count || a.rank - b.rank);
    this.ranked.forEach((cell, rank) => {
      cell.rank = rank;
    });
    this.arrange(glide);
  }

  arrange(glide) {
    for (const cell of this.shown) cell.index = -1;
    this.shown = this.ranked.filter((cell) => (!cell.late || cell.count > 0) && this.matches(cell));
    this.shown.forEach((cell, index) => {
      cell.index = index;
    });
    const { columns, height } = this.geometry;
    this.stage.style.height = `${Math.ceil(this.shown.length / columns) * height}px`;
    this.display(glide && !calm.matches);
    if (this.shown.length > 0 && !this.shown.some((cell) => cell.node.tabIndex === 0))
      this.shown[0].node.tabIndex = 0;
  }

  /** Displays the cells in and near the visible part, each at its position. */
  display(glide) {
    const near = new Set(this.shown.slice(this.range.near, this.range.far));
    for (const cell of this.displayed) {
      if (near.has(cell)) continue;
      cell.node.hidden = true;
      if (cell.light) this.releaseLight(cell.light);
    }
    for (const cell of near) {
      const { columns, left, width, height } = this.geometry;
      const x = left + (cell.index % columns) * width;
      const y = Math.floor(cell.index / columns) * height;
      const moved = cell.moveTo(x, y);
      if (moved && cell.light) cell.light.moveTo(x, y);
      if (moved && glide && this.displayed.has(cell)) cell.glide(moved);
      cell.node.hidden = false;
    }
    this.displayed = near;
  }

  flash(cell, now) {
    if (cell.light && now - cell.light.startedAt < LIGHT_AGAIN_MS) return;
    // If no light is free, the next use tries again.
    const light = cell.light ?? this.assignLight(cell);
    if (!light) return;
    light.startedAt = now;
    light.animation.currentTime = 0;
    light.animation.play();
  }

  assignLight(cell) {
    const light = this.lights.pop();
    if (!light) return null;
    light.cell = cell;
    light.moveTo(cell.x, cell.y);
    light.animation.onfinish = () => this.releaseLight(light);
    cell.light = light;
    return light;
  }

  releaseLight(light) {
    light.animation.cancel();
    light.cell.light = null;
    this.lights.push(light);
  }

  /** Arranges the cells for a new width. */
  fit(stageWidth) {
    const small = stageWidth < 640;
    const columns = Math.max(1, Math.floor(stageWidth / (small ? 62 : 78)));
    const width = Math.floor(stageWidth / columns);
    const height = small ? 70 : 88;
    this.geometry = {
      columns,
      left: Math.floor((stageWidth - columns * width) / 2),
      width,
      height,
    };
    const style = this.stage.style;
    style.setProperty("--width", `${width}px`);
    style.setProperty("--height", `${height}px`);
    style.setProperty("--emoji", small ? "30px" : "38px");
    style.setProperty("--small", small ? "11px" : "12px");
    this.top = this.stage.getBoundingClientRect().top + scrollY;
    this.updateRange();
    this.arrange(false);
  }

  /** Updates the visible range. */
  updateRange() {
    const { columns, height } = this.geometry;
    const above = scrollY - (this.top ?? 0);
    const row = (pixels) => Math.max(0, Math.floor(pixels / height)) * columns;
    const range = {
      from: row(above),
      to: row(above + innerHeight) + columns,
      near: row(above - innerHeight),
      far: row(above + 2 * innerHeight) + columns,
    };
    const moved = range.near !== this.range.near || range.far !== this.range.far;
    this.range = range;
    if (moved) this.display(false);
  }

  /** Moves the focus with the arrow keys. */
  moveFocus(event) {
    const by = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.geometry.columns,
      ArrowDown: this.geometry.columns,
    }[event.key];
    const from = this.cells[event.target.dataset.cellIndex];
    const to = by && from && this.shown[from.index + by];
    if (!to) return;
    event.preventDefault();
    from.node.tabIndex = -1;
    to.node.tabIndex = 0;
    to.node.focus();
    this.pointedAt = performance.now();
  }
}

/** One emoji and its count. */
class Cell {
  constructor(emoji, name, late, cellIndex) {
    this.id = idOf(emoji);
    this.emoji = emoji;
    this.name = name;
    this.late = late;
    this.count = 0;
    this.rank = cellIndex;
    this.index = -1;
    this.x = this.y = NaN;
    this.light = null;
    this.node = document.createElement("button");
    this.node.className = "cell";
    this.node.title = name;
    this.node.dataset.cellIndex = cellIndex;
    this.node.dataset.id = this.id;
    this.node.tabIndex = -1;
    this.node.hidden = true;
    const glyph = document.createElement("span");
    const count = document.createElement("span");
    glyph.className = "emoji";
    glyph.textContent = emoji;
    count.className = "count";
    this.text = count.appendChild(document.createTextNode("0"));
    this.node.append(glyph, count);
  }

  write() {
    this.text.data = number.format(this.count);
    this.node.classList.toggle("used", this.count > 0);
  }

  /** Returns the distance to the old position, or null if it is the same. */
  moveTo(x, y) {
    if (x === this.x && y === this.y) return null;
    const by = { x: this.x - x, y: this.y - y };
    this.x = x;
    this.y = y;
    this.node.style.left = `${x}px`;
    this.node.style.top = `${y}px`;
    return by;
  }

  glide({ x, y }) {
    const keyframes = [{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }];
    this.node.animate(keyframes, { duration: GLIDE_MS, easing: "cubic-bezier(.4, 0, .1, 1)" });
  }
}

function light() {
  const node = document.createElement("div");
  node.className = "glow";
  const animation = node.animate([{ opacity: 1 }, { opacity: 0 }], {
    duration: LIGHT_MS,
    easing: "cubic-bezier(.3, .1, .6, 1)",
  });
  animation.cancel();
  return {
    node,
    animation,
    cell: null,
    startedAt: 0,
    moveTo(x, y) {
      node.style.transform = `translate(${x}px, ${y}px)`;
    },
  };
}

/** The ID of an emoji: its code points without U+FE0F, which only selects the colored glyph. */
export function idOf(emoji) {
  const codePoints = Array.from(emoji, (character) => character.codePointAt(0)).filter(
    (codePoint) => codePoint !== 0xfe0f,
  );
  return codePoints
    .map((codePoint) => codePoint.toString(16).toUpperCase().padStart(4, "0"))
    .join("-");
}
