// Transformers.js: a Hugging Face directory, in Node and, with its wasm beside it, in a page.
import { versionOf } from "./harness.mjs";

export const DTYPES = { model: "fp32", model_fp16: "fp16", model_int8: "int8", model_q4: "q4", model_quantized: "q8", model_uint8: "uint8" };

// The library told to ask nobody, the directory's name as it finds it, the graph's, and what computes.
export async function transformers(question, modules) {
  const inNode = modules.startsWith("file:");
  const dist = `${modules}@huggingface/transformers/dist/`;
  const library = await import(`${dist}${inNode ? "transformers.node.mjs" : "transformers.min.js"}`);
  const { env } = library;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.useBrowserCache = false;
  // Its own copy of onnxruntime-web: another release's wasm does not fit.
  const own = `${modules}@huggingface/transformers/node_modules/onnxruntime-web/dist/`;
  if (!inNode) env.backends.onnx.wasm.wasmPaths = own;
  const [, root, name, file] = question.file.match(/^(.*\/)([^/]+)\/onnx\/([^/]+)\.onnx$/);
  env.localModelPath = root;
  return { library, name, file, device: inNode ? "cpu" : "wasm" };
}

export async function open(question, modules) {
  const { library, name, file, device } = await transformers(question, modules);
  const classify = await library.pipeline("text-classification", name, { dtype: DTYPES[file], device });
  const ask = async ({ text }) => {
    const given = await classify(text, { top_k: question.labels.length });
    const scores = Object.fromEntries(given.map(({ label, score }) => [label, score]));
    const { input_ids } = await classify.tokenizer(text, { truncation: true });
    return { probabilities: question.labels.map((label) => scores[label]), ids: Array.from(input_ids.data, Number) };
  };
  return { version: await versionOf(modules, "@huggingface/transformers"), ask };
}
