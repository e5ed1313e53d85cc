// onnxruntime-web: the ONNX file of a Hugging Face directory; the app tokenises and feeds int64 ids.
import { softmax, versionOf } from "./harness.mjs";

export async function open(question, modules) {
  const ort = await import(`${modules}onnxruntime-web/dist/ort.wasm.bundle.min.mjs`);
  ort.env.wasm.wasmPaths = `${modules}onnxruntime-web/dist/`;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(question.file);
  const tensor = (ids) => new ort.Tensor("int64", BigInt64Array.from(ids.map(BigInt)), [1, ids.length]);
  const ask = async ({ ids }) => {
    const { logits } = await session.run({ input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) });
    return { probabilities: softmax(logits.data), ids };
  };
  return { version: await versionOf(modules, "onnxruntime-web"), ask };
}
