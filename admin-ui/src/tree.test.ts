import { expect, test } from "vitest";
import { isWithin, lastSegment, toggled } from "./tree";

test.each([
  ["/", "/"],
  ["/pets", "pets"],
  ["/pets/dogs", "dogs"],
])("the last segment of %s is %s", (namespace, segment) => {
  expect(lastSegment(namespace)).toBe(segment);
});

test.each([
  ["/pets", "/pets", true],
  ["/pets/dogs", "/pets", true],
  ["/petshop", "/pets", false],
  ["/pets", "/pets/dogs", false],
  ["/pets", "/", true],
])("%s within %s: %s", (namespace, ancestor, within) =>
  expect(isWithin(namespace, ancestor)).toBe(within),
);

test("opening adds one, closing takes all below with it", () => {
  const open = ["/pets", "/pets/dogs", "/petshop"].reduce(
    toggled,
    new Set<string>() as ReadonlySet<string>,
  );
  expect([...open]).toEqual(["/pets", "/pets/dogs", "/petshop"]);
  expect([...toggled(open, "/pets")]).toEqual(["/petshop"]);
  expect([...open], "what was there is left alone").toHaveLength(3);
});
