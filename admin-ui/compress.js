// Writes FILE.gz for each file of `dist`, and fails if the page is too large. The output of Node's
// zlib differs between versions; that of this library is fixed by its version. There is no .br,
// since browsers accept it only over TLS.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "fflate";

const LIMIT = 60 * 1024;

let sum = 0;
for (const name of readdirSync("dist")
  .filter((name) => !name.endsWith(".gz"))
  .sort()) {
  const packed = gzipSync(readFileSync(`dist/${name}`), { level: 9, mem: 12, mtime: 0 });
  // The header byte for the operating system: 255 means unknown.
  packed[9] = 255;
  writeFileSync(`dist/${name}.gz`, packed);
  sum += packed.length;
  console.log(`${name}.gz ${packed.length}`);
}
if (sum > LIMIT)
  throw new Error(`the page is ${sum} bytes compressed, more than the limit of ${LIMIT}`);
