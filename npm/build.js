/**
 * Writes `dist/` and `LICENSE`; `npm pack` and `npm publish` run it first.
 *
 * The tracker's one source is what the collector serves. That module starts from its own script tag; here the ES module
 * only exports, and the IIFE, for pages that take no modules, starts from its tag and is `IfllmTracker`.
 */

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const STATIC = "../ifllm_hub/collect/static/";
const START = "function startFromTag() {";
const RUN = "\nif (globalThis.document) startFromTag();\n";
const COMMENT = /^ *\/\*\*[\s\S]*?\*\/\n|^ *\/\/.*\n/gm;
const EXPORT = /^export (?=function (\w+))/gm;

const at = (path) => new URL(path, import.meta.url);
const read = (path) => readFileSync(at(path), "utf8");

const code = read(`${STATIC}tracker.js`).replace(COMMENT, "");
const { name, version, license } = JSON.parse(read("package.json"));
const banner = `/*! ${name} ${version}, ${license} */\n`;
const begin = code.indexOf(START);
const names = [...code.matchAll(EXPORT)].map((found) => found[1]);
if (begin < 0 || !code.endsWith(RUN)) throw new Error("tracker.js does not end with startFromTag and its call");

const script = code.trim().replace(EXPORT, "").replaceAll("import.meta.url", "document.currentScript?.src");
mkdirSync(at("dist"), { recursive: true });
writeFileSync(at("dist/ifllm.js"), `${banner}${code.slice(0, begin).trim()}\n`);
writeFileSync(
  at("dist/ifllm.iife.js"),
  `${banner}var IfllmTracker = (() => {\n${script}\nreturn { ${names.join(", ")} };\n})();\n`,
);
copyFileSync(at(`${STATIC}tracker.d.ts`), at("dist/ifllm.d.ts"));
copyFileSync(at(`${STATIC}diagnose.js`), at("dist/diagnose.js"));
copyFileSync(at("../LICENSE"), at("LICENSE"));
