// A form that publishes an event, and a panel that follows a namespace live.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { StreamEvent } from "./decoder";
import { clock, count, plural } from "./format";
import { LatestEvents } from "./latest_events";
import { errorText, follow, post, type Session } from "./server";
import { wait } from "./wait";

export function TryIt({ publish }: { publish: Session["publish"] }) {
  if (publish === "elsewhere")
    return (
      <p class="panel">
        This address serves only the status page. Publish and follow events at the server's main
        address.
      </p>
    );
  return (
    <>
      <Publish publish={publish} />
      <Follow />
    </>
  );
}

function Publish({ publish }: { publish: "open" | "token" | "closed" }) {
  const message = useSignal("");
  const failed = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const field = (name: string) => String(form.get(name) ?? "");
    const type = field("event");
    try {
      const { id, subscribers } = await post<{ id: string | null; subscribers: number }>(
        "../publish",
        { namespace: field("namespace"), data: field("data"), ...(type && { event: type }) },
        field("token"),
      );
      message.value = `Published${id ? ` as ${id}` : ""} to ${plural(subscribers, "subscriber")}.`;
      failed.value = false;
    } catch (error) {
      message.value = errorText(error);
      failed.value = true;
    }
  };
  return (
    <form class="panel publish" aria-labelledby="try-it" onSubmit={submit}>
      <h2 id="try-it">Try it</h2>
      <div class="fields">
        <label>
          Namespace{" "}
          <input type="text" name="namespace" defaultValue="/" required spellcheck={false} />
        </label>
        <label>
          Event <input type="text" name="event" placeholder="message" spellcheck={false} />
        </label>
        {publish === "token" && (
          <label>
            Publish token <input type="password" name="token" autocomplete="off" required />
          </label>
        )}
      </div>
      <label>
        Data <textarea name="data" rows={4} spellcheck={false} />
      </label>
      <div class="actions">
        <p role="status" class={failed.value ? "error" : ""}>
          {publish === "closed"
            ? "Publishing is closed: set a publish token on the server."
            : message}
        </p>
        <button type="submit" class="primary" disabled={publish === "closed"}>
          Publish
        </button>
      </div>
    </form>
  );
}

/** The number of latest events shown, and the characters shown of each. */
const MAX_EVENTS = 100;
const MAX_CHARS = 2000;

function Follow() {
  const typed = useSignal("/");
  const namespace = useSignal<string | null>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    namespace.value = namespace.value === null ? typed.value : null;
  };
  return (
    <section class="panel follow" aria-labelledby="follow">
      <h2 id="follow">Follow live</h2>
      <form class="fields" onSubmit={submit}>
        <label>
          Stream of{" "}
          <input
            type="text"
            required
            spellcheck={false}
            value={typed}
            disabled={namespace.value !== null}
            onInput={(event) => {
              typed.value = event.currentTarget.value;
            }}
          />
        </label>
        <button type="submit" class={namespace.value === null ? "primary" : ""}>
          {namespace.value === null ? "Follow" : "Stop"}
        </button>
      </form>
      {namespace.value === null ? (
        <p class="empty">Events appear here as subscribers receive them.</p>
      ) : (
        <Stream namespace={namespace.value} />
      )}
    </section>
  );
}

function Stream({ namespace }: { namespace: string }) {
  const latest = useRef(new LatestEvents(MAX_EVENTS));
  const displayed = useSignal(latest.current.events);
  const total = useSignal(0);
  const paused = useSignal(false);
  const state = useSignal("Connecting …");

  const draw = () => {
    total.value = latest.current.total;
    if (!paused.value) displayed.value = latest.current.events;
  };

  useEffect(() => {
    const stop = new AbortController();
    let frame = 0;
    const onEvents = (events: StreamEvent[]) => {
      state.value = "Live";
      latest.current = latest.current.with(events, Date.now());
      // Draw at most once per frame, however many events arrive.
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    };
    void keepFollowing(namespace, stop.signal, onEvents, (message) => {
      state.value = message;
    });
    return () => {
      stop.abort();
      cancelAnimationFrame(frame);
    };
  }, []);

  const togglePause = () => {
    paused.value = !paused.value;
    draw();
  };
  const sincePause = total.value - (displayed.value.at(-1)?.number ?? 0);
  return (
    <>
      <div class="actions">
        <p role="status">{state}</p>
        <p class="count">
          {plural(total.value, "event")}
          {paused.value && sincePause > 0 && `, ${count(sincePause)} since the pause`}
        </p>
        <button type="button" aria-pressed={paused.value} onClick={togglePause}>
          Pause
        </button>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrolled with the keyboard */}
      <ol class="events" tabIndex={0} aria-label="Followed events, latest first">
        {displayed.value.toReversed().map((event) => (
          <li key={event.number}>
            <span class="event-head">
              <time>{clock(event.at_ms)}</time> <b>{event.type}</b>{" "}
              {event.id && <small>{event.id}</small>}
            </span>
            <pre>
              {event.data.length > MAX_CHARS
                ? `${event.data.slice(0, MAX_CHARS)} … (${count(event.data.length)} characters)`
                : event.data}
            </pre>
          </li>
        ))}
      </ol>
    </>
  );
}

/** Follows a namespace until `stop` is aborted, and reconnects after each failure. */
async function keepFollowing(
  namespace: string,
  stop: AbortSignal,
  onEvents: (events: StreamEvent[]) => void,
  setState: (state: string) => void,
) {
  while (!stop.aborted) {
    try {
      await follow(
        `../subscribe?${new URLSearchParams({ ns: namespace })}`,
        stop,
        onEvents,
        0,
        () => setState("Live"),
      );
      setState("The stream ended. Reconnecting …");
    } catch (error) {
      if (stop.aborted) return;
      setState(errorText(error));
    }
    await wait(stop, 2000);
  }
}
