// Transformers.js: a language model's directory, in Node and, with its wasm beside it, in a page.
import { DTYPES, transformers } from "./transformers.mjs";
import { versionOf } from "./harness.mjs";

export async function open(question, modules) {
  const { library, name, file, device } = await transformers(question, modules);
  const tokenizer = await library.AutoTokenizer.from_pretrained(name);
  const model = await library.AutoModelForCausalLM.from_pretrained(name, { dtype: DTYPES[file], device });
  const numbers = (tensor) => Array.from(tensor.data, Number);
  const ask = async ({ text, messages, add_special_tokens = true, writes }) => {
    const asked = messages
      ? tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true })
      : tokenizer(text, { add_special_tokens });
    const ids = numbers(asked.input_ids);
    if (!writes) return { ids: ids.slice(0, question.max_length) };
    const whole = numbers(await model.generate({ ...asked, do_sample: false, max_length: question.max_length }));
    return { ids, following: whole.slice(ids.length), text: tokenizer.decode(whole, { skip_special_tokens: true }) };
  };
  return { version: await versionOf(modules, "@huggingface/transformers"), ask };
}
