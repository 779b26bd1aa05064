import { expect, test } from "vitest";
import { type Direction, lastOffset, listQuery, nextSort, sortDirection } from "./list_query";

test.each([
  ["", "limit=25&offset=50&sort=-lag"],
  ["a b&c", "limit=25&offset=50&sort=-lag&filter=a+b%26c"],
])("the filter %j is in the query", (filter, expected) => {
  expect(listQuery({ sort: "-lag", filter, offset: 50, limit: 25 })).toBe(expected);
});

test.each([
  ["id", "id", "ascending"],
  ["-id", "id", "descending"],
  ["lag", "id", "none"],
  ["-lag", "id", "none"],
])("%s sorts the column %s: %s", (sort, column, direction) => {
  expect(sortDirection(sort, column)).toBe(direction);
});

test.each<[string, string, Direction, string]>([
  ["id", "id", "ascending", "-id"],
  ["-id", "id", "ascending", "id"],
  ["id", "id", "descending", "-id"],
  ["lag", "id", "ascending", "id"],
  ["-lag", "id", "ascending", "id"],
  ["id", "lag", "descending", "-lag"],
])("sorted by %s, a click on %s, %s at first, sorts by %s", (sort, column, first, expected) => {
  expect(nextSort(sort, column, first)).toBe(expected);
});

test.each([
  [0, 0],
  [1, 0],
  [25, 0],
  [26, 25],
  [75, 50],
])("the last page of %s rows begins at %s", (matched, offset) => {
  expect(lastOffset(matched, 25)).toBe(offset);
});
