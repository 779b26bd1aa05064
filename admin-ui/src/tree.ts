// Paths of the namespace tree, and the set of expanded nodes.

/** `dogs` of `/pets/dogs`; the root is `/`. */
export function lastSegment(namespace: string): string {
  return namespace.slice(namespace.lastIndexOf("/") + 1) || "/";
}

/**
 * Whether `namespace` is `ancestor` or below it. Compares whole segments: `/petshop` is not below
 * `/pets`.
 */
export function isWithin(namespace: string, ancestor: string): boolean {
  return ancestor === "/" || namespace === ancestor || namespace.startsWith(`${ancestor}/`);
}

/**
 * The set of expanded nodes after `namespace` is expanded or collapsed. Collapsing a node also
 * collapses the nodes below it, so that the page polls only visible rows.
 */
export function toggled(open: ReadonlySet<string>, namespace: string): ReadonlySet<string> {
  if (!open.has(namespace)) return new Set([...open, namespace]);
  return new Set([...open].filter((other) => !isWithin(other, namespace)));
}
