// The tree of namespaces; each expanded node polls its own children. With a filter, a flat list of
// the namespaces that match.
import { useSignal } from "@preact/signals";
import { type ComponentChildren, Fragment } from "preact";
import { useRef } from "preact/hooks";
import { confirm } from "./dialog";
import { ago, bytes, count, plural, short } from "./format";
import { usePolled } from "./polled";
import { Meter } from "./rates";
import { type NamespaceRow, type Namespaces as NamespacesPage, post } from "./server";
import { type Column, Head, query, useView, type View } from "./table";
import { lastSegment, toggled } from "./tree";

const INTERVAL_MS = 2000;
const COLUMNS: Column[] = [
  { label: "Namespace", sortBy: "namespace", text: true, kind: "name" },
  { label: "Own", sortBy: "subscribers", kind: "figure small" },
  { label: "Subscribers", sortBy: "subscribers_below", kind: "figure" },
  { label: "Events", sortBy: "events", kind: "figure medium" },
  { label: "Per second", kind: "figure small" },
  { label: "Retained", sortBy: "retained_bytes", kind: "figure retained medium" },
  { label: "Last event", sortBy: "last_event_at", kind: "figure medium" },
  { label: "Action", kind: "act" },
];
/** How many children of a namespace are shown at first, and how many more with each click. */
const CHILDREN = 50;

/** The state of the tree: its order and the expanded nodes. */
interface TreeState {
  view: View;
  open: ReadonlySet<string>;
  toggle: (namespace: string) => void;
}

export function Namespaces() {
  const view = useView("namespace", 25);
  const open = useSignal<ReadonlySet<string>>(new Set());
  const flat = view.filter.value !== "";
  const found = usePolled<NamespacesPage>(
    flat ? `namespaces.json?${query(view)}` : null,
    INTERVAL_MS,
  );
  const toggle = (namespace: string) => {
    open.value = toggled(open.value, namespace);
  };
  return (
    <section class="panel table-panel namespaces" aria-labelledby="namespaces">
      <table>
        <caption>
          <h2 id="namespaces">Namespaces</h2>
        </caption>
        <Head view={view} columns={COLUMNS} page={flat ? found.data : null} noun="in use" />
        <tbody>
          {flat ? (
            <Matches found={found} />
          ) : (
            <Children under="/" depth={0} tree={{ view, open: open.value, toggle }} />
          )}
        </tbody>
      </table>
    </section>
  );
}

function Matches({
  found: { data, at_ms, refresh },
}: {
  found: ReturnType<typeof usePolled<NamespacesPage>>;
}) {
  const meter = useRef(new Meter()).current;
  return (
    <>
      {data?.namespaces.map((row) => (
        <Row key={row.namespace} {...{ row, meter, at_ms, refresh }}>
          <span class="leaf">{row.namespace}</span>
        </Row>
      ))}
    </>
  );
}

/**
 * The rows directly below a namespace, each followed by its children if it is expanded. The root
 * itself comes first on the first level.
 */
function Children({ under, depth, tree }: { under: string; depth: number; tree: TreeState }) {
  const limit = useSignal(CHILDREN);
  const params = new URLSearchParams({
    under,
    limit: String(limit.value),
    sort: tree.view.sort.value,
  });
  const { data, at_ms, refresh } = usePolled<NamespacesPage>(
    `namespaces.json?${params}`,
    INTERVAL_MS,
  );
  const meter = useRef(new Meter()).current;
  if (!data) return null;
  const more = data.matched - data.namespaces.length;
  return (
    <>
      {under === "/" && data.at && (
        <Row row={data.at} {...{ meter, at_ms, refresh }}>
          <span class="leaf">/</span>
        </Row>
      )}
      {data.namespaces.map((row) => (
        <Fragment key={row.namespace}>
          <Row {...{ row, meter, at_ms, refresh }}>
            <Branch row={row} depth={depth} tree={tree} />
          </Row>
          {tree.open.has(row.namespace) && (
            <Children under={row.namespace} depth={depth + 1} tree={tree} />
          )}
        </Fragment>
      ))}
      {more > 0 && (
        <tr>
          <td colSpan={3}>
            <button
              type="button"
              class="plain"
              style={{ marginInlineStart: indent(depth) }}
              onClick={() => {
                limit.value += CHILDREN;
              }}
            >
              Show {count(Math.min(more, CHILDREN))} of {count(more)} more
            </button>
          </td>
        </tr>
      )}
    </>
  );
}

const indent = (depth: number) => `${depth * 1.1}rem`;

/** The last segment. The path before it is invisible text, for screen readers and for copying. */
function Name({ namespace }: { namespace: string }) {
  const last = lastSegment(namespace);
  return (
    <>
      <span class="before">{namespace.slice(0, namespace.length - last.length)}</span>
      {last}
    </>
  );
}

function Branch({ row, depth, tree }: { row: NamespaceRow; depth: number; tree: TreeState }) {
  const { namespace } = row;
  const shared = { style: { paddingInlineStart: indent(depth) }, title: namespace };
  if (!row.children)
    return (
      <span class="leaf" {...shared}>
        <Name namespace={namespace} />
      </span>
    );
  return (
    <button
      type="button"
      class="branch"
      {...shared}
      aria-expanded={tree.open.has(namespace)}
      onClick={() => tree.toggle(namespace)}
    >
      <Name namespace={namespace} />
    </button>
  );
}

function Row({
  row,
  meter,
  at_ms,
  refresh,
  children,
}: {
  row: NamespaceRow;
  meter: Meter;
  at_ms: number;
  refresh: () => void;
  children: ComponentChildren;
}) {
  return (
    <tr>
      <th scope="row" class="name">
        {children}
      </th>
      <td class="number small">{count(row.subscribers)}</td>
      <td class="number">{count(row.subscribers_below)}</td>
      <td class="number medium">{count(row.events)}</td>
      <td class="number small">{short(meter.rate(row.namespace, row.events, at_ms))}</td>
      <td class="number medium">
        {row.retained_events ? (
          <>
            {count(row.retained_events)} <small>{bytes(row.retained_bytes)}</small>
          </>
        ) : (
          "–"
        )}
      </td>
      <td class="number medium">
        {row.last_event_at === null ? "–" : ago(Math.max(0, at_ms - row.last_event_at))}
      </td>
      <td class="act">
        <button
          type="button"
          disabled={!row.subscribers_below}
          onClick={() => disconnect(row, refresh)}
        >
          Disconnect
        </button>
      </td>
    </tr>
  );
}

function disconnect({ namespace, subscribers_below }: NamespaceRow, refresh: () => void) {
  confirm({
    title: `Disconnect all subscribers of ${namespace}?`,
    text: [
      `This ends ${plural(subscribers_below, "connection")},`,
      "including those of the namespaces below it.",
      "Most clients reconnect within a few seconds.",
    ].join(" "),
    run: async () => {
      const { disconnected } = await post<{ disconnected: number }>("disconnect", { namespace });
      refresh();
      return `${plural(disconnected, "connection")} of ${namespace} disconnected.`;
    },
  });
}
