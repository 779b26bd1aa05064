// What both tables have: a filter, columns that sort, and pages, all done by the server.
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { count } from "./format";
import type { Page } from "./server";

/** Which rows of a table are shown, and in which order. */
export interface View {
  /** A column, with `-` in front for descending order. */
  sort: Signal<string>;
  filter: Signal<string>;
  offset: Signal<number>;
  limit: number;
}

export function useView(sort: string, limit: number): View {
  const view = { sort: useSignal(sort), filter: useSignal(""), offset: useSignal(0), limit };
  return useMemo(() => view, []);
}

export function query({ sort, filter, offset, limit }: View): string {
  const params = new URLSearchParams({
    limit: String(limit),
    offset: String(offset.value),
    sort: sort.value,
  });
  if (filter.value) params.set("filter", filter.value);
  return params.toString();
}

export interface Column {
  label: string;
  /** What the server sorts by. */
  sortBy?: string;
  /** Text reads from the left and sorts upwards at first, numbers the other way. */
  text?: boolean;
  /** Its class in the style sheet: how wide, and from which width of the table on. */
  kind: string;
}

/** The head of a table. The controls stand in it, and keep their place when the table is wider than the window and scrolled. */
export function Head({
  view,
  columns,
  page,
  noun,
}: {
  view: View;
  columns: Column[];
  page: Page | null;
  noun: string;
}) {
  return (
    <>
      <colgroup>
        {columns.map(({ kind, label }) => (
          <col key={label} class={kind} />
        ))}
      </colgroup>
      <thead>
        <tr class="controls">
          {/* Over the columns that are always there: one more would make columns of its own where the table is narrow. */}
          <td colSpan={columns.filter(({ kind }) => !/small|medium|wide/.test(kind)).length}>
            <div>
              <FilterBox view={view} />
              {page && <Pager view={view} page={page} noun={noun} />}
            </div>
          </td>
        </tr>
        <tr>
          {columns.map((column) => (
            <ColumnHead key={column.label} view={view} {...column} />
          ))}
        </tr>
      </thead>
    </>
  );
}

/** A click sorts by this column, a second one turns that round. */
function ColumnHead({ view, label, sortBy, text = false, kind }: Column & { view: View }) {
  const align = `${text ? "" : "number"} ${kind}`;
  if (!sortBy)
    return (
      <th scope="col" class={align}>
        {kind === "act" ? <span class="hidden">{label}</span> : label}
      </th>
    );
  const direction =
    view.sort.value === sortBy
      ? "ascending"
      : view.sort.value === `-${sortBy}`
        ? "descending"
        : "none";
  const toggleSort = () => {
    const descending = direction === "none" ? !text : direction === "ascending";
    view.sort.value = (descending ? "-" : "") + sortBy;
    view.offset.value = 0;
  };
  return (
    <th scope="col" class={align} aria-sort={direction}>
      <button type="button" onClick={toggleSort}>
        {label}
      </button>
    </th>
  );
}

function FilterBox({ view }: { view: View }) {
  const typed = useSignal("");
  useEffect(() => {
    if (typed.value === view.filter.value) return;
    // The server is not asked about half a word.
    const timer = setTimeout(() => {
      view.filter.value = typed.value;
      view.offset.value = 0;
    }, 250);
    return () => clearTimeout(timer);
  }, [typed.value]);
  return (
    <label>
      Filter{" "}
      <input
        type="text"
        spellcheck={false}
        autocomplete="off"
        value={typed}
        onInput={(event) => {
          typed.value = event.currentTarget.value;
        }}
      />
    </label>
  );
}

function Pager({ view, page, noun }: { view: View; page: Page; noun: string }) {
  const last = Math.min(page.offset + page.limit, page.matched);
  // Rows that went may leave this page behind the end.
  useEffect(() => {
    if (view.offset.value > 0 && view.offset.value >= page.matched) {
      view.offset.value = Math.max(0, Math.ceil(page.matched / view.limit) - 1) * view.limit;
    }
  }, [page.matched]);
  const turnPages = (pages: number) => {
    view.offset.value = Math.max(0, view.offset.value + pages * view.limit);
  };
  return (
    <div class="pager">
      <span>
        {page.matched === 0 ? (
          "None"
        ) : (
          <>
            {count(page.offset + 1)}–{count(last)} of {count(page.matched)}
          </>
        )}
        {page.matched < page.total && (
          <>
            {" "}
            (of {count(page.total)} {noun})
          </>
        )}
      </span>
      <button type="button" disabled={view.offset.value === 0} onClick={() => turnPages(-1)}>
        Previous
      </button>
      <button type="button" disabled={last >= page.matched} onClick={() => turnPages(1)}>
        Next
      </button>
    </div>
  );
}
