// Check every variant with golden inputs of the build, then answer what is typed.
const RUNS = 9;
const BARS = 8;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

class Variant {
  constructor(facts, ort, session, tokenizer) {
    Object.assign(this, { facts, ort, session, tokenizer });
  }

  // Cut as the reference cuts: the closing token stays.
  tokens(text) {
    const { ids, tokens } = this.tokenizer.encode(text);
    const most = this.facts.max_length;
    const cut = (list) => (list.length > most ? [...list.slice(0, most - 1), list.at(-1)] : list);
    return { ids: cut(ids), tokens: cut(tokens), all: ids.length };
  }

  async run(ids) {
    const tensor = (values) => new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const { logits } = await this.session.run({ input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) });
    return softmax(logits.data);
  }

  async answer(text) {
    const took = [];
    let probabilities;
    for (let run = 0; run < RUNS; run++) {
      const began = performance.now();
      probabilities = await this.run(this.tokens(text).ids);
      took.push(performance.now() - began);
    }
    return { probabilities, ms: took.sort((first, second) => first - second)[(RUNS - 1) / 2] };
  }

  async golden() {
    let same = 0;
    for (const { answer, ids } of this.facts.golden) same += best(await this.run(ids)) === answer;
    return same;
  }
}

function element(tag, text, kind) {
  const made = document.createElementNS(tag === "svg" || tag === "rect" ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml", tag);
  if (text) made.textContent = text;
  if (kind) made.setAttribute("class", kind);
  return made;
}

function bar(label, share) {
  const [line, drawing] = [element("li"), element("svg")];
  drawing.setAttribute("aria-hidden", "true");
  for (const [width, kind] of [[1, "ground"], [share, ""]]) {
    const rect = element("rect", "", kind);
    rect.setAttribute("width", `${100 * width}%`);
    rect.setAttribute("height", "100%");
    drawing.append(rect);
  }
  line.append(element("span", label, "name"), drawing, element("span", percent(share), "share"));
  return line;
}

function show(variant, { probabilities }, text) {
  const order = probabilities.map((share, index) => [share, index]).sort(([first], [second]) => second - first);
  const shown = order.slice(0, BARS);
  byId("chosen").textContent = variant.facts.key;
  byId("answer").textContent = data.labels[order[0][1]];
  byId("confidence").textContent = percent(order[0][0]);
  byId("bars").replaceChildren(...shown.map(([share, index]) => bar(data.labels[index], share)));
  const rest = order.slice(BARS);
  const sum = rest.reduce((total, [share]) => total + share, 0);
  byId("rest").textContent = rest.length ? `The other ${rest.length} labels together: ${percent(sum)}.` : "";
  const { tokens, all } = variant.tokens(text);
  const cut = all > tokens.length ? `, cut from ${all}: the model takes no more` : "";
  byId("count").textContent = `${tokens.length} tokens${cut}:`;
  byId("tokens").replaceChildren(...tokens.map((token) => element("code", token)));
}

function fill(row, { probabilities, ms }, wanted) {
  const answer = best(probabilities);
  row.querySelector(".given").replaceChildren(data.labels[answer], element("span", percent(probabilities[answer]), "sub"));
  row.querySelector(".latency").textContent = ms.toFixed(1);
  row.classList.toggle("otherwise", answer !== wanted);
}

async function start() {
  const { variants } = await open((...parts) => new Variant(...parts));
  const rows = variants.map(rowOf);
  for (const [index, variant] of variants.entries()) {
    const [same, asked] = [await variant.golden(), variant.facts.golden.length];
    rows[index].querySelector(".golden").textContent = `${same} of ${asked} golden inputs as in the build`;
    if (same < asked) throw new Error(`${variant.facts.key} answers ${asked - same} of ${asked} golden inputs otherwise here`);
  }
  let chosen = 0;
  let turn = 0;
  const input = byId("text");
  const refresh = async (mine) => {
    if (mine !== turn) return;
    const text = input.value.trim();
    byId("result").hidden = !text;
    if (!text) return;
    const answers = [];
    for (const variant of variants) {
      answers.push(await variant.answer(text));
      if (mine !== turn) return;
    }
    show(variants[chosen], answers[chosen], text);
    rows.forEach((row, index) => fill(row, answers[index], best(answers[chosen].probabilities)));
    choose(rows, chosen);
    document.body.dataset.answered = text;
  };
  // One run at a time: a session that is asked twice at once refuses. Whatever was typed meanwhile is passed over.
  let last = Promise.resolve();
  const queue = () => {
    const mine = ++turn;
    return (last = last.then(() => refresh(mine)));
  };
  rows.forEach((row, index) => row.querySelector("button").addEventListener("click", () => ((chosen = index), queue())));
  input.addEventListener("input", queue);
  byId("state").textContent = "Checked with golden inputs of the build: every variant answers here as it did there.";
  input.disabled = false;
  input.value = decodeURIComponent(location.hash.slice(1));
  input.focus();
  await queue();
}

start().catch(refuse);
