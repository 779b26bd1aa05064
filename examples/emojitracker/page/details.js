// The detail view: one emoji, and the latest posts that use it.

/** Posts in the list at most. */
const MAX_POSTS = 60;
/** The minimum time between two posts, so that they can be read. */
const POST_EVERY_MS = 150;

const number = new Intl.NumberFormat("en");

export class Details {
  constructor(dialog) {
    this.dialog = dialog;
    this.cell = null;
    this.waiting = [];
    this.skipped = 0;
    this.postedAt = 0;
    this.posts = dialog.querySelector("#posts");
    this.part = (name) => dialog.querySelector(`#details-${name}`);
    dialog.addEventListener("close", () => {
      this.stop();
      // Remove the emoji from the address without another entry in the browser's history.
      if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  show(cell) {
    this.stop();
    this.cell = cell;
    this.part("emoji").textContent = cell.emoji;
    this.part("name").textContent = cell.name;
    this.part("id").textContent = cell.id;
    this.part("state").textContent = "waiting for posts…";
    this.posts.replaceChildren();
    this.posts.scrollTop = 0;
    if (!this.dialog.open) this.dialog.showModal();
    this.source = new EventSource(`subscribe/details/${cell.id}?replay=20`);
    this.source.addEventListener(`stream.tweet_updates.${cell.id}`, ({ data }) => this.take(data));
    this.source.onerror = () => {
      this.part("state").textContent = "reconnecting…";
    };
  }

  stop() {
    this.source?.close();
    this.cell = null;
    this.waiting = [];
  }

  take(data) {
    this.waiting.push(data);
    if (this.waiting.length > 20) this.waiting.shift();
  }

  /** Draws what has changed since the last frame. */
  frame(now) {
    if (!this.cell) return;
    this.part("count").textContent = number.format(this.cell.count);
    this.part("rank").textContent = number.format(this.cell.rank + 1);
    if (this.waiting.length === 0 || now - this.postedAt < POST_EVERY_MS) return;
    this.postedAt = now;
    this.part("state").textContent = "live posts, newest first";
    this.posts.prepend(entry(this.waiting.shift()));
    while (this.posts.childElementCount > MAX_POSTS) this.posts.lastElementChild.remove();
  }
}

/** A post as a list entry. Its contents are not trusted, so they are set as text. */
function entry(data) {
  const post = JSON.parse(data);
  const item = document.createElement("li");
  const by = document.createElement("div");
  const name = document.createElement("b");
  const time = document.createElement("time");
  const text = document.createElement("p");
  by.className = "by";
  name.textContent = post.name || "unknown";
  time.textContent = post.created_at ? new Date(post.created_at).toLocaleTimeString() : "";
  text.textContent = post.text;
  by.append(name, post.screen_name ? `@${post.screen_name}` : "", time);
  item.append(by, text);
  return item;
}
