// node node.mjs PROGRAM QUESTION ANSWER NODE_MODULES
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { converse } from "./harness.mjs";

const [program, question, answer, modules] = process.argv.slice(2);
const { open } = await import(`./${program}`);
const given = await converse(open, JSON.parse(await readFile(question, "utf8")), `${pathToFileURL(modules).href}/`);
await writeFile(answer, JSON.stringify(given));
