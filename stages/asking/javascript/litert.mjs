// LiteRT.js: the raw model; the app tokenises, pads to the smallest signature that fits and names the inputs.
import { softmax, versionOf } from "./harness.mjs";

export async function open(question, modules) {
  const litert = await import(`${modules}@litertjs/core/dist/index.js`);
  await litert.loadLiteRt(`${modules}@litertjs/core/wasm/`);
  const model = await litert.loadAndCompile(question.file, { accelerator: "wasm" });
  const lengths = Object.entries(model.signatures).map(([name, runner]) => [runner.getInputDetails()[0].shape[1], name]);
  lengths.sort(([first], [second]) => first - second);
  const ask = async ({ ids }) => {
    const [length, signature] = lengths.find(([length]) => length >= ids.length);
    const row = new Int32Array(length);
    const mask = new Int32Array(length).fill(1, 0, ids.length);
    row.set(ids);
    const inputs = { input_ids: new litert.Tensor(row, [1, length]), attention_mask: new litert.Tensor(mask, [1, length]) };
    const outputs = await model.run(signature, inputs);
    const probabilities = softmax(await outputs.logits.data());
    for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    return { probabilities, ids };
  };
  return { version: await versionOf(modules, "@litertjs/core"), ask };
}
