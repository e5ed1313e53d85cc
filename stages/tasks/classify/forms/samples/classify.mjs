// Classify text with a bundle's hf/ directory: Transformers.js in Node, no network.
//
// Beside the bundle and not in it, where what npm installs would be files that no seal knows:
//
//     mkdir app && cd app && cp BUNDLE/samples/classify.mjs .
//     npm install --ignore-scripts @huggingface/transformers     (the scripts would download what a CPU does not need)
//     BUNDLE=/path/to/BUNDLE node classify.mjs "hello there"
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { env, pipeline } from '@huggingface/transformers';

const bundle = resolve(process.env.BUNDLE ?? `${dirname(fileURLToPath(import.meta.url))}/..`);
const limits = JSON.parse(readFileSync(`${bundle}/limits.json`, 'utf8'));

env.allowRemoteModels = false;
env.localModelPath = bundle;
const classify = await pipeline('text-classification', 'hf', { dtype: limits.forms.hf.dtype });
for (const text of process.argv.slice(2)) {
  const [best] = await classify(text);
  console.log(`${best.label}\t${best.score.toFixed(4)}\t${text}`);
}
