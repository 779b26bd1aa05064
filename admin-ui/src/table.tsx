// The parts common to both tables: a filter, sortable columns, and pages. The server does the work.
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { count } from "./format";
import { lastOffset, listQuery, nextSort, sortDirection } from "./list_query";
import type { Page } from "./server";

/** The rows of a table that are shown, and their order. */
export interface View {
  /** The column to sort by, with `-` in front for descending order. */
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
  return listQuery({ sort: sort.value, filter: filter.value, offset: offset.value, limit });
}

export interface Column {
  label: string;
  /** The server's name of the column; a column without it is not sortable. */
  sortBy?: string;
  /** Text is aligned left and sorts in ascending order first; numbers the other way round. */
  text?: boolean;
  /** Its classes in the style sheet: its width, and the width of the table that it needs. */
  kind: string;
}

/** The head of a table, with its controls; they stay in place while the table scrolls sideways. */
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
          {/* Spans only the columns that are always visible: more would add empty columns. */}
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

/** A click sorts by this column, a second one reverses the order. */
function ColumnHead({ view, label, sortBy, text = false, kind }: Column & { view: View }) {
  const align = `${text ? "" : "number"} ${kind}`;
  if (!sortBy)
    return (
      <th scope="col" class={align}>
        {kind === "act" ? <span class="hidden">{label}</span> : label}
      </th>
    );
  const direction = sortDirection(view.sort.value, sortBy);
  const toggleSort = () => {
    view.sort.value = nextSort(view.sort.value, sortBy, text ? "ascending" : "descending");
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
    // Wait for a pause in typing.
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
  // When rows disappear, this page may be past the end.
  useEffect(() => {
    if (view.offset.value > 0 && view.offset.value >= page.matched) {
      view.offset.value = lastOffset(page.matched, view.limit);
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
