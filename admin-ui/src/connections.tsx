// The table of connections, and a panel with the details of one.
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { confirm, Dialog } from "./dialog";
import { ago, bytes, count, date, duration, short } from "./format";
import { usePolled } from "./polled";
import { Meter } from "./rates";
import { type Connection, type Connections as ConnectionsPage, post } from "./server";
import { type Column, Head, query, useView } from "./table";

const COLUMNS: Column[] = [
  { label: "ID", sortBy: "id", text: true, kind: "id" },
  { label: "Namespaces", sortBy: "namespace", text: true, kind: "name" },
  { label: "Address", sortBy: "client_ip", text: true, kind: "address small" },
  { label: "User agent", sortBy: "user_agent", text: true, kind: "agent wide" },
  { label: "Connected", sortBy: "created_at", kind: "figure medium" },
  { label: "Events", sortBy: "msgs_sent", kind: "figure" },
  { label: "Bytes", sortBy: "bytes_sent", kind: "figure medium" },
  { label: "Lag", sortBy: "lag", kind: "figure small" },
  { label: "Last write", sortBy: "last_write", kind: "figure wide" },
  { label: "Action", kind: "act" },
];

export function Connections() {
  const view = useView("id", 25);
  const { data, refresh } = usePolled<ConnectionsPage>(`status.json?${query(view)}`, 2000);
  const selected = useSignal<number | null>(null);
  return (
    <section class="panel table-panel connections" aria-labelledby="connections">
      <table>
        <caption>
          <h2 id="connections">Connections</h2>
        </caption>
        <Head view={view} columns={COLUMNS} page={data} noun="connections" />
        <tbody>
          {data?.connections.map((connection) => (
            <Row
              key={connection.id}
              connection={connection}
              refresh={refresh}
              onSelect={() => {
                selected.value = connection.id;
              }}
            />
          ))}
        </tbody>
      </table>
      {selected.value !== null && (
        <Detail
          id={selected.value}
          refresh={refresh}
          onClose={() => {
            selected.value = null;
          }}
        />
      )}
    </section>
  );
}

function Row({
  connection,
  refresh,
  onSelect,
}: {
  connection: Connection;
  refresh: () => void;
  onSelect: () => void;
}) {
  const [first = connection.namespace, ...others] = connection.namespaces;
  return (
    <tr>
      <th scope="row" class="id">
        <button
          type="button"
          class="plain"
          aria-haspopup="dialog"
          aria-label={`Connection ${connection.id}`}
          onClick={onSelect}
        >
          {connection.id}
        </button>
      </th>
      <td class="name" title={connection.namespaces.join(" ")}>
        {first}
        {others.length > 0 && <small> +{others.length}</small>}
      </td>
      <td class="address small" title={connection.client_ip}>
        {connection.client_ip}
      </td>
      <td class="agent wide" title={connection.user_agent}>
        {connection.user_agent}
      </td>
      <td class="number medium">{duration(Math.max(1000, connection.connected_ms))}</td>
      <td class="number">{count(connection.msgs_sent)}</td>
      <td class="number medium">{bytes(connection.bytes_sent)}</td>
      <td class="number small">{bytes(connection.lag)}</td>
      <td class="number wide">{ago(connection.last_write_ms)}</td>
      <td class="act">
        <button type="button" onClick={() => disconnect(connection, refresh)}>
          Disconnect
        </button>
      </td>
    </tr>
  );
}

function Detail({
  id,
  refresh,
  onClose,
}: {
  id: number;
  refresh: () => void;
  onClose: () => void;
}) {
  const {
    data,
    at_ms,
    errorStatus,
    refresh: refreshDetail,
  } = usePolled<Connection>(`connection.json?id=${id}`, 1000);
  const meter = useRef(new Meter()).current;
  return (
    <Dialog title={`Connection ${id}`} kind="drawer" onClose={onClose}>
      {errorStatus === 404 && (
        <p class="gone" role="status">
          This connection has ended.{data && " Its last known state:"}
        </p>
      )}
      {data && (
        <dl class="pairs">
          <div>
            <dt>
              {data.namespaces.length === 1 ? "Namespace" : `${data.namespaces.length} namespaces`}
            </dt>
            <dd>
              <ul>
                {data.namespaces.map((namespace) => (
                  <li key={namespace}>{namespace}</li>
                ))}
              </ul>
            </dd>
          </div>
          <div>
            <dt>Request</dt>
            <dd>{data.request_path || "–"}</dd>
          </div>
          <div>
            <dt>Address</dt>
            <dd>{data.client_ip || "–"}</dd>
          </div>
          <div>
            <dt>User agent</dt>
            <dd>{data.user_agent || "–"}</dd>
          </div>
          <div>
            <dt>Connected</dt>
            <dd>
              {duration(Math.max(1000, data.connected_ms))}{" "}
              <small>since {date(data.created_at * 1000)}</small>
            </dd>
          </div>
          <div>
            <dt>Events</dt>
            <dd>
              {count(data.msgs_sent)}{" "}
              <small>{short(meter.rate("events", data.msgs_sent, at_ms))} per second</small>
            </dd>
          </div>
          <div>
            <dt>Bytes</dt>
            <dd>
              {bytes(data.bytes_sent)}{" "}
              <small>{bytes(meter.rate("bytes", data.bytes_sent, at_ms))} per second</small>
            </dd>
          </div>
          <div>
            <dt>Lag</dt>
            <dd>{bytes(data.lag)}</dd>
          </div>
          <div>
            <dt>Last write</dt>
            <dd>{ago(data.last_write_ms)}</dd>
          </div>
        </dl>
      )}
      <div class="actions">
        <button type="button" onClick={onClose}>
          Close
        </button>
        <button
          type="button"
          class="danger"
          disabled={!data || errorStatus === 404}
          onClick={() =>
            data &&
            disconnect(data, () => {
              refresh();
              refreshDetail();
            })
          }
        >
          Disconnect
        </button>
      </div>
    </Dialog>
  );
}

function disconnect(connection: Connection, refresh: () => void) {
  const { id } = connection;
  confirm({
    title: `Disconnect connection ${id}?`,
    text: `${describe(connection)} Most clients reconnect within a few seconds.`,
    run: async () => {
      const { disconnected } = await post<{ disconnected: number }>("disconnect", { id });
      refresh();
      return disconnected
        ? `Connection ${id} was disconnected.`
        : `Connection ${id} had already ended.`;
    },
  });
}

function describe({ namespace, client_ip, user_agent }: Connection): string {
  const address = client_ip && ` from ${client_ip}`;
  const agent = user_agent && ` with ${user_agent}`;
  return `It is subscribed to ${namespace}${address}${agent}.`;
}
