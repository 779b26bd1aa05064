// The state of the server at a glance: warnings, charts, and what is kept and lost.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { Chart, hoveredIndex } from "./chart";
import { bytes, clock, count, micros, minute, share, short } from "./format";
import type { Line, Point } from "./history";
import { currentRates, history, lastStatusAt, status } from "./live";

/** All reasons there are, so that each has its place before it first happens. */
const REASONS: Record<string, string> = {
  client: "the client left",
  lagged: "it did not keep up",
  stalled: "its socket took nothing",
  timeout: "it sent no request in time",
  kicked: "it was disconnected here",
  shutdown: "the server stopped",
  overload: "there were too many",
  protocol: "it broke the protocol",
  error: "the network failed",
};

export function Overview() {
  const asTable = useSignal(false);
  const server = status.value!;
  return (
    <section aria-labelledby="overview" class="overview">
      {server.warnings.length > 0 && (
        <ul class="warnings" aria-label="Warnings">
          {server.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <div class="section-head">
        <h2 id="overview">Last 10 minutes</h2>
        <button
          type="button"
          aria-pressed={asTable.value}
          onClick={() => {
            asTable.value = !asTable.value;
          }}
        >
          As a table
        </button>
      </div>
      <div class="tiles">
        {asTable.value ? <Minutes /> : <Charts />}
        <Current />
        <Disconnects />
      </div>
    </section>
  );
}

const formats: Record<Line, (value: number) => string> = {
  connections: short,
  events: short,
  deliveries: short,
  bytes,
  busy: share,
};

function Charts() {
  const server = status.value!;
  const rates = currentRates.value;
  return (
    <>
      <Tile line="connections" title="Connections" value={count(server.connections_now)}>
        peak {count(server.connections_peak)}, in all {count(server.connections_total)}
      </Tile>
      <Tile line="events" title="Events in" unit="per second" value={short(rates?.events ?? null)}>
        in all {count(server.events)}
      </Tile>
      <Tile
        line="deliveries"
        title="Deliveries"
        unit="per second"
        value={short(rates?.deliveries ?? null)}
      >
        in all {count(server.deliveries)}
      </Tile>
      <Tile line="bytes" title="Bytes out" unit="per second" value={bytes(rates?.bytes ?? null)}>
        in all {bytes(server.bytes_sent)}
      </Tile>
      <Tile line="busy" title="Loop busy" value={share(rates?.busy ?? null)}>
        longest turn {micros(server.loop.longest_turn_us)}
      </Tile>
    </>
  );
}

function Tile({
  line,
  title,
  unit,
  value,
  children,
}: {
  line: Line;
  title: string;
  unit?: string;
  value: string;
  children: ComponentChildren;
}) {
  return (
    <figure class="panel tile">
      <figcaption>
        <span class="tile-title">{title}</span>
        <span class="big">
          {value}
          {unit && <small> {unit}</small>}
        </span>
        <span class="tile-note">
          <TileNote line={line}>{children}</TileNote>
        </span>
      </figcaption>
      <Chart line={line} title={unit ? `${title} ${unit}` : title} format={formats[line]} />
    </figure>
  );
}

/** The line below the number: what was under the pointer's place in the charts, or else what there is to say of the whole. */
function TileNote({ line, children }: { line: Line; children: ComponentChildren }) {
  const index = hoveredIndex.value;
  const at_s = index === null || !lastStatusAt.value ? undefined : history.times[index];
  if (index === null || at_s === undefined) return <>{children}</>;
  const value = history.values(line)[index] ?? null;
  return (
    <>
      {value === null ? "–" : formats[line](value)} at {clock(at_s * 1000)}
    </>
  );
}

/** The same as the charts, for those who cannot see them or want figures. */
function Minutes() {
  const cell = (means: Point, line: Line) => (
    <td class="number">{means[line] === null ? "–" : formats[line](means[line])}</td>
  );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: scrolled with the keyboard
    <section class="panel minutes" tabIndex={0} aria-label="Last 10 minutes as a table">
      <table>
        <caption class="hidden">Means of each minute</caption>
        <thead>
          <tr>
            <th scope="col">Minute</th>
            <th scope="col" class="number">
              Connections
            </th>
            <th scope="col" class="number">
              Events in per second
            </th>
            <th scope="col" class="number">
              Deliveries per second
            </th>
            <th scope="col" class="number">
              Bytes out per second
            </th>
            <th scope="col" class="number">
              Loop busy
            </th>
          </tr>
        </thead>
        <tbody>
          {lastStatusAt.value > 0 &&
            history.minutes().map(({ at_s, means }) => (
              <tr key={at_s}>
                <th scope="row">{minute(at_s * 1000)}</th>
                {cell(means, "connections")}
                {cell(means, "events")}
                {cell(means, "deliveries")}
                {cell(means, "bytes")}
                {cell(means, "busy")}
              </tr>
            ))}
        </tbody>
      </table>
    </section>
  );
}

function Current() {
  const {
    queue_events,
    queue_bytes,
    retained_bytes,
    retained_limit,
    retained_events,
    namespaces,
    subscribers,
  } = status.value!;
  return (
    <section class="panel current" aria-labelledby="current">
      <h3 id="current">Now</h3>
      <dl class="pairs">
        <div>
          <dt>Publish queue</dt>
          <dd>
            {count(queue_events)} <small>events, {bytes(queue_bytes)}</small>
          </dd>
        </div>
        <div>
          <dt>Retained</dt>
          <dd>
            {count(retained_events)}{" "}
            <small>
              events, {bytes(retained_bytes)} of {bytes(retained_limit)}
            </small>
            <meter
              min={0}
              max={Math.max(1, retained_limit)}
              value={retained_bytes}
              aria-label="Memory of retained events"
            />
          </dd>
        </div>
        <div>
          <dt>Namespaces</dt>
          <dd>{count(namespaces)}</dd>
        </div>
        <div>
          <dt>Subscribers</dt>
          <dd>{count(subscribers)}</dd>
        </div>
      </dl>
    </section>
  );
}

function Disconnects() {
  const { disconnects } = status.value!;
  const reasons = [...new Set([...Object.keys(REASONS), ...Object.keys(disconnects)])];
  return (
    <section class="panel disconnects" aria-labelledby="disconnects">
      <h3 id="disconnects">Disconnects by reason</h3>
      <dl>
        {reasons.map((name) => (
          <div key={name} class={disconnects[name] ? "some" : ""}>
            <dt>
              {name} <small>{REASONS[name]}</small>
            </dt>
            <dd>{count(disconnects[name] ?? 0)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
