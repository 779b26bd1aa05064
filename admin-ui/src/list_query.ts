// The query of a list that the server sorts, filters and divides into pages.

export interface ListQuery {
  /** A column, with `-` in front for descending order. */
  sort: string;
  filter: string;
  offset: number;
  limit: number;
}

export type Direction = "ascending" | "descending";

/** The query as part of a URL. */
export function listQuery({ sort, filter, offset, limit }: ListQuery): string {
  const params = new URLSearchParams({ limit: String(limit), offset: String(offset), sort });
  if (filter) params.set("filter", filter);
  return params.toString();
}

/** The direction in which `sort` orders a column; `none` if it sorts by another column. */
export function sortDirection(sort: string, column: string): Direction | "none" {
  if (sort === column) return "ascending";
  return sort === `-${column}` ? "descending" : "none";
}

/** The order after a click on a column: `first` for a new column, otherwise the reverse order. */
export function nextSort(sort: string, column: string, first: Direction): string {
  const current = sortDirection(sort, column);
  const descending = current === "none" ? first === "descending" : current === "ascending";
  return descending ? `-${column}` : column;
}

/** The offset of the last page of `matched` rows. */
export function lastOffset(matched: number, limit: number): number {
  return Math.max(0, Math.ceil(matched / limit) - 1) * limit;
}
