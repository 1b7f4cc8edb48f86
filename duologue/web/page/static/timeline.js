import { bound, clock, duration, element } from "./dom.js";

const LIMIT = 100;

/** Who had the call when: a ribbon that grows, and the hand-offs one by one. */
export class Timeline {
  #ribbon;
  #moments;
  #agents;
  #spans = [];
  #began = 0;

  constructor(ribbon, moments, agents) {
    this.#ribbon = ribbon;
    this.#moments = moments;
    this.#agents = agents;
  }

  /** A call begins now. */
  start() {
    this.#began = performance.now();
    this.#spans = [];
    this.#ribbon.replaceChildren();
    this.#moments.replaceChildren();
  }

  get seconds() {
    return (performance.now() - this.#began) / 1000;
  }

  /** This agent has the call from now on. */
  active(agent) {
    const last = this.#spans.at(-1);
    if (!agent || last?.agent === agent) return;
    if (!last) this.#moment({ text: agent, agent, state: "completed", detail: "takes the call" });
    const bar = element("span", { data: { hue: this.#agents.hue(agent) } });
    this.#spans.push({ agent, bar, since: this.seconds });
    this.#ribbon.append(bar);
    this.tick();
  }

  /** Time has gone on. */
  tick() {
    const now = this.seconds;
    this.#spans.forEach(({ bar, since }, i) => {
      bar.style.flexGrow = Math.max(0.001, (this.#spans[i + 1]?.since ?? now) - since);
    });
  }

  /** A hand-off: what the server says of it. */
  handoff({ state, source, target, reason, engine, gap_ms: gap, error, at }) {
    if (state === "started") return;
    const swap = source === target;
    const text = swap ? `Engine: ${engine}` : `${source} → ${target}`;
    const parts = state === "failed" ? [`failed: ${error}`] : [reason, gap === undefined ? "" : `${duration(gap)} gap`];
    const agent = state === "failed" ? source : target;
    this.#moment({ text, agent, state, at, detail: parts.filter(Boolean).join(" · ") });
    if (state === "completed") this.active(target);
  }

  #moment({ text, agent, state, detail, at = this.seconds }) {
    const moment = element("li", { class: "moment", data: { state, agent, hue: this.#agents.hue(agent) } });
    const what = element("div", {}, element("strong", { text }), element("p", { text: detail }));
    moment.append(element("time", { text: clock(at) }), what);
    this.#moments.append(moment);
    bound(this.#moments, LIMIT);
  }
}
