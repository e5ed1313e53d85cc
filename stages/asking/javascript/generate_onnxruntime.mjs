// onnxruntime-web: a language model's graph; the app tokenises, feeds int64 ids and hands the cache on.
import { versionOf } from "./harness.mjs";

export async function open(question, modules) {
  const ort = await import(`${modules}onnxruntime-web/dist/ort.wasm.bundle.min.mjs`);
  ort.env.wasm.wasmPaths = `${modules}onnxruntime-web/dist/`;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(question.file);
  const states = session.inputMetadata.filter(({ name }) => name.startsWith("past_key_values"));
  const tensor = (ids) => new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const best = ({ data }) => data.reduce((top, value, at) => (value > data[top] ? at : top), 0);
  const empty = ({ shape }) => new ort.Tensor("float32", [], shape.map((size) => (typeof size === "number" ? size : 0)));
  const ask = async ({ ids, stop_ids, writes }) => {
    const following = [];
    let cache = Object.fromEntries(states.map((state) => [state.name, empty(state)]));
    for (let fed = ids; writes && ids.length + following.length < question.max_length; fed = following.slice(-1)) {
      const mask = tensor(Array(ids.length + following.length).fill(1));
      const given = await session.run({ input_ids: tensor(fed), attention_mask: mask, ...cache });
      cache = Object.fromEntries(states.map(({ name }) => [name, given[name.replace("past_key_values", "present")]]));
      following.push(best(given.logits));
      if (stop_ids.includes(following.at(-1))) break;
    }
    return { ids, following, text: null };
  };
  return { version: await versionOf(modules, "onnxruntime-web"), ask };
}
