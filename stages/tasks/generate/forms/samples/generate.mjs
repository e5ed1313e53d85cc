// Continue texts with a bundle's hf/ directory: Transformers.js in Node, no network.
//
// Beside the bundle and not in it, where what npm installs would be files that no seal knows:
//
//     mkdir app && cd app && cp BUNDLE/samples/generate.mjs .
//     npm install --ignore-scripts @huggingface/transformers     (the scripts would download what a CPU does not need)
//     BUNDLE=/path/to/BUNDLE node generate.mjs "Once upon a time"
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AutoModelForCausalLM, AutoTokenizer, TextStreamer, env } from '@huggingface/transformers';

const bundle = resolve(process.env.BUNDLE ?? `${dirname(fileURLToPath(import.meta.url))}/..`);
const limits = JSON.parse(readFileSync(`${bundle}/limits.json`, 'utf8'));

env.allowRemoteModels = false;
env.localModelPath = bundle;
const tokenizer = await AutoTokenizer.from_pretrained('hf');
const model = await AutoModelForCausalLM.from_pretrained('hf', { dtype: limits.forms.hf.dtype });
for (const text of process.argv.slice(2)) {
  const streamer = new TextStreamer(tokenizer, { skip_special_tokens: true });
  const given = { do_sample: false, max_length: limits.max_length, streamer };
  await model.generate({ ...tokenizer(text), ...given });
}
