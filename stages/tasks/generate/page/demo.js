// Check every variant with texts of the build, then write on what is typed.
const SAME = 0.9; // Kernels round otherwise here: at a near tie another token may be the likeliest.
const UNSURE = 0.5;
const UNFINISHED = "\ufffd";

function drawn(shares) {
  let left = Math.random();
  const at = shares.findIndex((share) => (left -= share) < 0);
  return at < 0 ? best(shares) : at;
}

class Variant {
  constructor(facts, ort, session) {
    Object.assign(this, { facts, ort, session });
    this.states = session.inputMetadata.filter(({ name }) => name.startsWith("past_key_values"));
  }

  // A text: what calls leave for the next ones, and how many tokens there are.
  begin() {
    const empty = ({ shape }) => new this.ort.Tensor("float32", [], shape.map((size) => (typeof size === "number" ? size : 0)));
    return { cache: Object.fromEntries(this.states.map((state) => [state.name, empty(state)])), length: 0 };
  }

  async feed(text, ids) {
    const tensor = (values) => new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    text.length += ids.length;
    const mask = tensor(Array(text.length).fill(1));
    const given = await this.session.run({ input_ids: tensor(ids), attention_mask: mask, ...text.cache });
    text.cache = Object.fromEntries(this.states.map(({ name }) => [name, given[name.replace("past_key_values", "present")]]));
    return given.logits.data;
  }

  async golden() {
    let [same, asked] = [0, 0];
    for (const { ids, following } of this.facts.golden) {
      const text = this.begin();
      for (let at = 0; at < following.length; at++, asked++) same += best(await this.feed(text, [ids[at]])) === following[at];
    }
    return { same, asked };
  }
}

function piece(text, share) {
  const made = document.createElement("span");
  made.textContent = text;
  if (share === undefined) made.className = "given";
  else {
    made.title = `${(100 * share).toFixed(1)} %`;
    if (share < UNSURE) made.className = "unsure";
  }
  return made;
}

// Write one text on; `current` says whether another one was asked for meanwhile.
async function write(variant, tokenizer, given, temperature, current, row) {
  const decoded = (ids) => tokenizer.decode(ids, { skip_special_tokens: true });
  const ids = [...tokenizer.encode(given).ids];
  const [out, count] = [byId("text-out"), byId("count")];
  byId("chosen").textContent = variant.facts.key;
  out.replaceChildren(piece(given));
  if (!ids.length || ids.length >= data.room) {
    count.textContent = ids.length ? `${ids.length} tokens leave no room: a text has ${data.room} at most.` : "Nothing is not enough to begin with.";
    return;
  }
  let [shown, shares, fed, ended] = [decoded(ids), [], ids, "the room is full"];
  const [text, prompt] = [variant.begin(), ids.length];
  const began = performance.now();
  while (ids.length < data.room) {
    const logits = await variant.feed(text, fed);
    const likely = softmax(logits, temperature || 1);
    const chosen = temperature ? drawn(likely) : best(logits);
    ids.push(chosen);
    fed = [chosen];
    shares.push(likely[chosen]);
    if (data.stops.includes(chosen)) {
      ended = "the model ended it";
      break;
    }
    const whole = decoded(ids);
    if (!whole.endsWith(UNFINISHED)) {
      out.append(piece(whole.slice(shown.length), Math.min(...shares)));
      [shown, shares] = [whole, []];
    }
    await new Promise((resolve) => setTimeout(resolve)); // so that it is seen, and another text can be asked for
    if (!current()) return;
  }
  const took = (performance.now() - began) / 1000;
  row.querySelector(".speed").textContent = ((ids.length - prompt) / took).toFixed(0);
  count.textContent = `${prompt} tokens given, ${ids.length - prompt} written; ${ended}. Dotted: less likely than all others together.`;
  document.body.dataset.written = decoded(ids);
}

// The smallest file whose perplexity lies within the best one's interval: what somebody would take who must choose.
function first(variants) {
  const best = variants.reduce((one, other) => (other.facts.perplexity < one.facts.perplexity ? other : one)).facts;
  const near = variants.filter(({ facts }) => facts.perplexity <= best.interval[1]);
  return variants.indexOf(near.reduce((one, other) => (other.facts.size_bytes < one.facts.size_bytes ? other : one)));
}

async function start() {
  const { tokenizer, variants } = await open((...parts) => new Variant(...parts));
  const rows = variants.map(rowOf);
  for (const [index, variant] of variants.entries()) {
    const { same, asked } = await variant.golden();
    rows[index].querySelector(".golden").textContent = `${same} of ${asked} tokens as in the build`;
    if (same < SAME * asked) throw new Error(`${variant.facts.key} finds other tokens likeliest than in the build, ${asked - same} of ${asked}`);
  }
  let [chosen, turn, last] = [first(variants), 0, Promise.resolve()];
  const [input, temperature] = [byId("text"), byId("temperature")];
  // One text at a time: a session that is asked twice at once refuses.
  const queue = () => {
    const mine = ++turn;
    choose(rows, chosen);
    const current = () => mine === turn;
    return (last = last.then(() => current() && write(variants[chosen], tokenizer, input.value, Number(temperature.value), current, rows[chosen])));
  };
  rows.forEach((row, index) => row.querySelector("button").addEventListener("click", () => ((chosen = index), queue())));
  byId("go").addEventListener("click", queue);
  temperature.addEventListener("input", () => (byId("degree").textContent = temperature.value));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) (event.preventDefault(), queue());
  });
  byId("state").textContent = "Checked with texts of the build. Enter goes on.";
  byId("result").hidden = false;
  input.disabled = byId("go").disabled = false;
  input.value = decodeURIComponent(location.hash.slice(1)) || input.value;
  input.focus();
  await queue();
}

start().catch(refuse);
