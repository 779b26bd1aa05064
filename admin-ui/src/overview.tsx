// The state of the server: warnings, charts, current totals, and disconnects by reason.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { Chart, hoveredIndex } from "./chart";
import { bytes, clock, count, micros, minute, percent, short } from "./format";
import type { Line, Point } from "./history";
import { currentRates, history, lastStatusAt } from "./live";
import type { Status } from "./server";

/** All reasons and their meaning, listed also while their count is 0. */
const REASONS: Record<string, string> = {
  client: "the client disconnected",
  lagged: "it lagged by more than max-lag",
  stalled: "its socket took no data",
  timeout: "its request was not complete in time",
  kicked: "it was disconnected on request",
  shutdown: "the server shut down",
  overload: "there were too many connections",
  protocol: "it violated HTTP",
  idle: "it sent no further request",
  error: "the network failed",
};

export function Overview({ server }: { server: Status }) {
  const asTable = useSignal(false);
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
        {asTable.value ? <Minutes /> : <Charts server={server} />}
        <Current server={server} />
        <Disconnects counts={server.disconnects} />
      </div>
    </section>
  );
}

const formats: Record<Line, (value: number) => string> = {
  connections: short,
  events: short,
  deliveries: short,
  bytes,
  busy: percent,
};

function Charts({ server }: { server: Status }) {
  const rates = currentRates.value;
  return (
    <>
      <Tile line="connections" title="Connections" value={count(server.connections_now)}>
        peak {count(server.connections_peak)}, {count(server.connections_total)} in total
      </Tile>
      <Tile line="events" title="Events in" unit="per second" value={short(rates?.events ?? null)}>
        {count(server.events)} in total
      </Tile>
      <Tile
        line="deliveries"
        title="Deliveries"
        unit="per second"
        value={short(rates?.deliveries ?? null)}
      >
        {count(server.deliveries)} in total
      </Tile>
      <Tile line="bytes" title="Bytes out" unit="per second" value={bytes(rates?.bytes ?? null)}>
        {bytes(server.bytes_sent)} in total
      </Tile>
      <Tile line="busy" title="Loop busy" value={percent(rates?.busy ?? null)}>
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

/** The line below the number: the value under the pointer if there is one, otherwise the total. */
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

/** The data of the charts as a table of minutes. */
function Minutes() {
  const cell = (means: Point, line: Line) => (
    <td class="number">{means[line] === null ? "–" : formats[line](means[line])}</td>
  );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: scrolled with the keyboard
    <section class="panel minutes" tabIndex={0} aria-label="Last 10 minutes as a table">
      <table>
        <caption class="hidden">Averages per minute</caption>
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

function Current({ server }: { server: Status }) {
  return (
    <section class="panel current" aria-labelledby="current">
      <h3 id="current">Now</h3>
      <dl class="pairs">
        <div>
          <dt>Publish queue</dt>
          <dd>
            {count(server.queue_events)} <small>events, {bytes(server.queue_bytes)}</small>
          </dd>
        </div>
        <div>
          <dt>Retained</dt>
          <dd>
            {count(server.retained_events)}{" "}
            <small>
              events, {bytes(server.retained_bytes)} of {bytes(server.retained_limit)}
            </small>
            <meter
              min={0}
              max={Math.max(1, server.retained_limit)}
              value={server.retained_bytes}
              aria-label="Memory used by retained events"
            />
          </dd>
        </div>
        <div>
          <dt>Namespaces</dt>
          <dd>{count(server.namespaces)}</dd>
        </div>
        <div>
          <dt>Subscribers</dt>
          <dd>{count(server.subscribers)}</dd>
        </div>
      </dl>
    </section>
  );
}

function Disconnects({ counts }: { counts: Status["disconnects"] }) {
  const reasons = [...new Set([...Object.keys(REASONS), ...Object.keys(counts)])];
  return (
    <section class="panel disconnects" aria-labelledby="disconnects">
      <h3 id="disconnects">Disconnects by reason</h3>
      <dl>
        {reasons.map((name) => (
          <div key={name} class={counts[name] ? "some" : ""}>
            <dt>
              {name} <small>{REASONS[name]}</small>
            </dt>
            <dd>{count(counts[name] ?? 0)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
