// Writes FILE.gz beside each file of `dist`, and fails when the page has grown too large. Zlib's output differs between versions of Node;
// that of this library is as fixed as its version. There is no .br: browsers ask for it over TLS alone.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "fflate";

const LIMIT = 60 * 1024;

let sum = 0;
for (const name of readdirSync("dist")
  .filter((name) => !name.endsWith(".gz"))
  .sort()) {
  const packed = gzipSync(readFileSync(`dist/${name}`), { level: 9, mem: 12, mtime: 0 });
  // The byte that names the system it was packed on says: unknown.
  packed[9] = 255;
  writeFileSync(`dist/${name}.gz`, packed);
  sum += packed.length;
  console.log(`${name}.gz ${packed.length}`);
}
if (sum > LIMIT) throw new Error(`the page is ${sum} bytes compressed; at the most ${LIMIT}`);
