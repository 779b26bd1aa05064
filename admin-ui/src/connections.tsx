// The connections, a page at a time, and everything about one of them.
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { confirm, Dialog } from "./dialog";
import { ago, bytes, count, date, duration, short } from "./format";
import { usePolled } from "./polled";
import { Meter } from "./rates";
import { type Connections as Answer, type Connection, post } from "./server";
import { type Column, Head, query, useView } from "./table";

const COLUMNS: Column[] = [
  { label: "Id", by: "id", text: true, kind: "id" },
  { label: "Namespaces", by: "namespace", text: true, kind: "name" },
  { label: "Address", by: "client_ip", text: true, kind: "address small" },
  { label: "User agent", by: "user_agent", text: true, kind: "agent wide" },
  { label: "Connected", by: "created_at", kind: "figure medium" },
  { label: "Events", by: "msgs_sent", kind: "figure" },
  { label: "Bytes", by: "bytes_sent", kind: "figure medium" },
  { label: "Lag", by: "lag", kind: "figure small" },
  { label: "Last write", by: "last_write", kind: "figure wide" },
  { label: "Act", kind: "act" },
];

export function Connections() {
  const view = useView("id", 25);
  const { data, again } = usePolled<Answer>(`status.json?${query(view)}`, 2000);
  const shown = useSignal<number | null>(null);
  return (
    <section class="panel table-panel connections" aria-labelledby="connections">
      <table>
        <caption>
          <h2 id="connections">Connections</h2>
        </caption>
        <Head view={view} columns={COLUMNS} page={data} what="connections" />
        <tbody>
          {data?.connections.map((connection) => (
            <Row
              key={connection.id}
              connection={connection}
              again={again}
              onShow={() => {
                shown.value = connection.id;
              }}
            />
          ))}
        </tbody>
      </table>
      {shown.value !== null && (
        <Detail
          id={shown.value}
          again={again}
          onClose={() => {
            shown.value = null;
          }}
        />
      )}
    </section>
  );
}

function Row({
  connection,
  again,
  onShow,
}: {
  connection: Connection;
  again: () => void;
  onShow: () => void;
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
          onClick={onShow}
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
        <button type="button" onClick={() => disconnect(connection, again)}>
          Disconnect
        </button>
      </td>
    </tr>
  );
}

function Detail({ id, again, onClose }: { id: number; again: () => void; onClose: () => void }) {
  const {
    data,
    at_ms,
    refused,
    again: look,
  } = usePolled<Connection>(`connection.json?id=${id}`, 1000);
  const meter = useRef(new Meter()).current;
  return (
    <Dialog title={`Connection ${id}`} kind="drawer" onClose={onClose}>
      {refused === 404 && (
        <p class="gone" role="status">
          This connection is gone.{data && " What it last was:"}
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
          disabled={!data || refused === 404}
          onClick={() =>
            data &&
            disconnect(data, () => {
              again();
              look();
            })
          }
        >
          Disconnect
        </button>
      </div>
    </Dialog>
  );
}

function disconnect({ id, namespace, client_ip, user_agent }: Connection, again: () => void) {
  confirm({
    title: `Disconnect connection ${id}?`,
    text: `It listens to ${namespace}${client_ip && ` from ${client_ip}`}${user_agent && ` with ${user_agent}`}. Most clients come back by themselves after a few seconds.`,
    act: async () => {
      const { disconnected } = await post<{ disconnected: number }>("disconnect", { id });
      again();
      return disconnected
        ? `Connection ${id} is disconnected.`
        : `Connection ${id} was gone already.`;
    },
  });
}
