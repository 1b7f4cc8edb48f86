import { element } from "./dom.js";

/** What the call has cost so far, and for what. */
export class Cost {
  #sum;
  #services;
  #unpriced;

  constructor(sum, services, unpriced) {
    this.#sum = sum;
    this.#services = services;
    this.#unpriced = unpriced;
  }

  /** What the server counts: see the message `duologue.usage`. */
  show({ services = [], cost_usd: sum = 0, per_minute_usd: minute = 0, budget_usd: budget = null, unpriced = [] }) {
    const rate = minute > 0 ? `, ${dollars(minute)} a minute` : "";
    this.#sum.textContent = `${dollars(sum)}${budget === null ? "" : ` of ${dollars(budget)}`}${rate}`;
    this.#services.replaceChildren(...services.map(line));
    this.#unpriced.textContent = unpriced.length ? `Without a known price: ${unpriced.join(", ")}` : "";
  }
}

function line(service) {
  const name = service.model ? `${service.service} · ${service.model}` : service.service;
  const price = service.cost_usd === null || service.cost_usd === undefined ? "–" : dollars(service.cost_usd);
  return element(
    "li",
    {},
    element("span", { class: "what", text: name }),
    element("span", { class: "price", text: price }),
    element("span", { class: "used", text: used(service) }),
  );
}

function used(service) {
  const counted = [
    [(service.input_tokens ?? 0) + (service.output_tokens ?? 0), (count) => `${count.toLocaleString("en")} tokens`],
    [service.characters ?? 0, (count) => `${count.toLocaleString("en")} characters`],
    [service.input_audio_s ?? 0, (count) => `${count.toFixed(1)} s heard`],
    [service.output_audio_s ?? 0, (count) => `${count.toFixed(1)} s spoken`],
    [service.connection_s ?? 0, (count) => `${count.toFixed(0)} s connected`],
  ];
  return counted
    .filter(([count]) => count > 0)
    .map(([count, text]) => text(count))
    .join(", ");
}

function dollars(usd) {
  return `$${usd.toFixed(usd >= 1 ? 2 : 4)}`;
}
