// The tree of namespaces as names: which are open, and what stands in front of each.

/** `dogs` of `/pets/dogs`; the root is `/`. */
export function lastSegment(namespace: string): string {
  return namespace.slice(namespace.lastIndexOf("/") + 1) || "/";
}

/** Whether `namespace` is `ancestor` or below it. Whole segments count: `/petshop` is not below `/pets`. */
export function isWithin(namespace: string, ancestor: string): boolean {
  return ancestor === "/" || namespace === ancestor || namespace.startsWith(`${ancestor}/`);
}

/** Those open after `namespace` was opened or closed. With it closes what is below, so that the server is asked about nothing unseen. */
export function toggled(open: ReadonlySet<string>, namespace: string): ReadonlySet<string> {
  if (!open.has(namespace)) return new Set([...open, namespace]);
  return new Set([...open].filter((other) => !isWithin(other, namespace)));
}
