// Transformers.js: a Hugging Face directory, in Node and, with its wasm beside it, in a page.
import { versionOf } from "./harness.mjs";

const DTYPES = { model: "fp32", model_fp16: "fp16", model_int8: "int8", model_q4: "q4", model_quantized: "q8", model_uint8: "uint8" };

export async function open(question, modules) {
  const inNode = modules.startsWith("file:");
  const dist = `${modules}@huggingface/transformers/dist/`;
  const { env, pipeline } = await import(`${dist}${inNode ? "transformers.node.mjs" : "transformers.min.js"}`);
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.useBrowserCache = false;
  // Its own copy of onnxruntime-web: another release's wasm does not fit.
  const own = `${modules}@huggingface/transformers/node_modules/onnxruntime-web/dist/`;
  if (!inNode) env.backends.onnx.wasm.wasmPaths = own;
  const [, root, name, file] = question.file.match(/^(.*\/)([^/]+)\/onnx\/([^/]+)\.onnx$/);
  env.localModelPath = root;
  const device = inNode ? "cpu" : "wasm";
  const classify = await pipeline("text-classification", name, { dtype: DTYPES[file], device });
  const ask = async ({ text }) => {
    const given = await classify(text, { top_k: question.labels.length });
    const scores = Object.fromEntries(given.map(({ label, score }) => [label, score]));
    const { input_ids } = await classify.tokenizer(text, { truncation: true });
    return { probabilities: question.labels.map((label) => scores[label]), ids: Array.from(input_ids.data, Number) };
  };
  return { version: await versionOf(modules, "@huggingface/transformers"), ask };
}
