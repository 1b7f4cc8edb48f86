import { bound, duration, element } from "./dom.js";

const LIMIT = 8;
const STAGES = {
  endpointing: "Speech end",
  transcript: "Transcript",
  tool: "Tools",
  first_token: "First token",
  first_audio: "First audio",
  transport: "Transport",
};

/** A stacked bar for each of the last turns: where the time between speech and answer went. */
export class Latency {
  #legend;
  #turns;
  #median;
  #shown = [];

  constructor(legend, turns, median) {
    this.#legend = legend;
    this.#turns = turns;
    this.#median = median;
    legend.hidden = true;
    legend.append(...Object.entries(STAGES).map(([stage, text]) => element("li", { text, data: { stage } })));
  }

  clear() {
    this.#shown = [];
    this.#turns.replaceChildren();
    this.#median.textContent = "";
    this.#legend.hidden = true;
  }

  /** A turn was answered: `stages` in ms by name, in all, and the median of all turns so far. */
  add({ turn, stages, total_ms: total, median_ms: median }) {
    this.#legend.hidden = false;
    const parts = Object.keys(STAGES).filter((stage) => stages[stage] > 0);
    const stack = element("span", { class: "stack" });
    for (const stage of parts) {
      const part = element("span", { data: { stage } });
      part.style.setProperty("--part", stages[stage]);
      part.title = `${STAGES[stage]}: ${duration(stages[stage])}`;
      stack.append(part);
    }
    const said = parts.map((stage) => `${STAGES[stage]} ${duration(stages[stage])}`).join(", ");
    const scale = element("span", { class: "scale", "aria-hidden": "true" }, stack, element("span", { class: "mark" }));
    const bar = element("li", { class: "turn", data: { turn } });
    bar.append(
      element("span", { class: "number", "aria-hidden": "true", text: String(turn) }),
      scale,
      element("span", { class: "total", "aria-hidden": "true", text: duration(total) }),
      element("span", { class: "hidden", text: `Turn ${turn}: ${duration(total)}. ${said}` }),
    );
    this.#turns.append(bar);
    bound(this.#turns, LIMIT);
    this.#shown = [...this.#shown, { bar, total }].slice(-LIMIT);
    this.#scale(median);
  }

  #scale(median) {
    this.#median.textContent = `median ${duration(median)}`;
    const longest = Math.max(median, ...this.#shown.map(({ total }) => total));
    this.#turns.style.setProperty("--median", median / longest);
    for (const { bar, total } of this.#shown) bar.style.setProperty("--share", total / longest);
  }
}
