// Builds dist/: one script, one style sheet, the page, the icon, the licences of what is bundled.
//
//   node build.mjs            writes dist/
//   node build.mjs --check    fails if dist/ is not what the sources give; what `make lint` runs
//
// Names in dist/assets carry a hash of the content, so that browsers keep them for ever. Each file has a copy that is
// already compressed, which the server sends as it is. Compressed bytes differ between versions of Node, so the check
// compares what they decompress to.
//
// The packages stand in ${XDG_CACHE_HOME:-~/.cache}/thalweg/console, not beside the sources: infra/install puts them
// there, at the versions of package-lock.json.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const here = path.dirname(fileURLToPath(import.meta.url));
const cache = path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), ".cache"), "thalweg", "console");
const esbuild = createRequire(path.join(cache, "package.json"))("esbuild");

/** What the page loads, by path below dist/. */
export async function bundle() {
  const result = await esbuild.build({
    absWorkingDir: here,
    entryPoints: { app: "src/main.js", style: "src/style.css" },
    outdir: "dist/assets",
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome109", "firefox115", "safari16.4"],
    charset: "utf8",
    legalComments: "none",
    nodePaths: [path.join(cache, "node_modules")],
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  const files = new Map();
  const named = (name, ending, bytes) => {
    const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
    files.set(`assets/${name}-${hash}.${ending}`, Buffer.from(bytes));
    return `/assets/${name}-${hash}.${ending}`;
  };
  const output = (name) => result.outputFiles.find((file) => path.basename(file.path) === name).contents;
  const addresses = {
    "{{app}}": named("app", "js", output("app.js")),
    "{{style}}": named("style", "css", output("style.css")),
    "{{icon}}": named("icon", "svg", await readFile(path.join(here, "src/icon.svg"))),
    "{{licences}}": named("licences", "txt", await licences(Object.keys(result.metafile.inputs))),
  };
  const page = await readFile(path.join(here, "src/index.html"), "utf8");
  files.set("index.html", Buffer.from(page.replace(/\{\{\w+\}\}/g, (key) => addresses[key])));
  return files;
}

/** The licence texts of the packages that the bundle has a part of. */
async function licences(inputs) {
  const packages = new Set(
    inputs.map((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1]).filter(Boolean),
  );
  const texts = [];
  for (const name of [...packages].sort()) {
    const folder = path.join(cache, "node_modules", name);
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    const { version } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    texts.push(`${name} ${version}\n\n${(await readFile(path.join(folder, file), "utf8")).trim()}\n`);
  }
  return Buffer.from(texts.join(`\n${"-".repeat(80)}\n\n`));
}

const compressed = (bytes) => gzipSync(bytes, { level: 9 });

async function write(files) {
  const dist = path.join(here, "dist");
  await rm(dist, { recursive: true, force: true });
  await mkdir(path.join(dist, "assets"), { recursive: true });
  for (const [name, bytes] of files) {
    await writeFile(path.join(dist, name), bytes);
    await writeFile(path.join(dist, `${name}.gz`), compressed(bytes));
    console.log(`${name}: ${bytes.length} bytes, ${compressed(bytes).length} compressed`);
  }
}

/** Why dist/ is not what the sources give. */
async function differences(files) {
  const dist = path.join(here, "dist");
  const there = (await readdir(dist, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(dist, path.join(entry.parentPath ?? entry.path, entry.name)));
  const expected = [...files.keys()].flatMap((name) => [name, `${name}.gz`]);
  const problems = there.filter((name) => !expected.includes(name)).map((name) => `${name} is superfluous`);
  for (const [name, bytes] of files) {
    for (const [file, read] of [
      [name, (found) => found],
      [`${name}.gz`, gunzipSync],
    ]) {
      if (!there.includes(file)) problems.push(`${file} is missing`);
      else if (!bytes.equals(read(await readFile(path.join(dist, file))))) problems.push(`${file} differs`);
    }
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = await bundle();
  if (process.argv.includes("--check")) {
    const problems = await differences(files);
    for (const problem of problems) console.error(`serving/console/dist: ${problem}`);
    if (problems.length) console.error("serving/console/dist is not built from its sources: npm run build");
    process.exit(problems.length ? 1 : 0);
  }
  await write(files);
}
