// Put a question to one client, in Node or in a page: open the file, answer every item, say what came.
// A client module exports `open(question, modules)` → {version, ask(item) → {ids, …}}; what else it gives (a classifier's
// `probabilities`) is compared by the task. `modules` is the URL of node_modules. What it throws while opening is its refusal.

export async function converse(open, question, modules) {
  const began = performance.now();
  let client;
  try {
    client = await open(question, modules);
  } catch (error) {
    return { version: "", refused: String(error) };
  }
  const load_ms = performance.now() - began;
  const items = [];
  for (const item of question.items) items.push(await answer(client.ask, item));
  return { version: client.version, load_ms, items };
}

async function answer(ask, item) {
  const began = performance.now();
  try {
    const given = await ask(item);
    return { ...given, ms: performance.now() - began };
  } catch (error) {
    return { error: String(error) };
  }
}

export function softmax(logits) {
  const top = Math.max(...logits);
  const exponents = Array.from(logits, (value) => Math.exp(value - top));
  const sum = exponents.reduce((first, second) => first + second);
  return exponents.map((value) => value / sum);
}

export async function versionOf(modules, name) {
  const text = modules.startsWith("file:")
    ? await (await import("node:fs/promises")).readFile(new URL(`${name}/package.json`, modules), "utf8")
    : await (await fetch(`${modules}${name}/package.json`)).text();
  return `${name} ${JSON.parse(text).version}`;
}
