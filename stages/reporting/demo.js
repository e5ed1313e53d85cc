// Unpack what a page carries, and open its variants: what the pages of all tasks do before their own script.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

async function unpack(name) {
  const block = document.querySelector(`script[data-file="${name}"]`);
  const bytes = Uint8Array.from(atob(block.textContent), (character) => character.charCodeAt(0));
  block.remove();
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function load(name) {
  return import(URL.createObjectURL(new Blob([await unpack(name)], { type: "text/javascript" })));
}

// Open every variant of the page; `make` turns its facts and session into what the page asks.
async function open(make) {
  const [ort, { Tokenizer }] = [await load("onnxruntime"), await load("tokenizers")];
  ort.env.wasm.wasmBinary = await unpack("wasm");
  ort.env.wasm.numThreads = 1;
  const tokenizer = new Tokenizer(data.tokenizer, data.config);
  const variants = [];
  for (const facts of data.variants) {
    const session = await ort.InferenceSession.create(await unpack(facts.key), { executionProviders: ["wasm"] });
    variants.push(make(facts, ort, session, tokenizer));
  }
  return { tokenizer, variants };
}

const rowOf = ({ facts }) => document.querySelector(`tr[data-key="${facts.key}"]`);

function choose(rows, chosen) {
  rows.forEach((row, index) => {
    row.classList.toggle("chosen", index === chosen);
    row.querySelector("button").setAttribute("aria-pressed", String(index === chosen));
  });
}

function refuse(error) {
  byId("state").textContent = `This page cannot be used in this browser: ${error.message}`;
  byId("state").classList.add("wrong");
}

function softmax(logits, temperature = 1) {
  const top = logits.reduce((first, second) => Math.max(first, second));
  const exponents = Array.from(logits, (value) => Math.exp((value - top) / temperature));
  const sum = exponents.reduce((first, second) => first + second);
  return exponents.map((value) => value / sum);
}

const best = (values) => values.reduce((top, value, at) => (value > values[top] ? at : top), 0);
