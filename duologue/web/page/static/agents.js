import { element } from "./dom.js";

const HUES = 6;

/** The agents of the call: each has a colour, which its elements carry as `data-hue`; and the one that has it. */
export class Agents {
  active = "";
  #hues = new Map();
  #painted = new Map();
  #list;
  #choose;
  #agents = [];
  #open = false;

  /** `choose(name)` is called for the agent that the user hands the call to. */
  constructor(list, choose) {
    this.#list = list;
    this.#choose = choose;
  }

  /** What the server says of them: `[{name, role, description, display_name?, colour?}]`, who has the call, and whether
   *  it may be handed over. */
  update(agents, active, open) {
    this.#agents = agents;
    this.#open = open;
    for (const { name, colour } of agents) this.#paint(this.hue(name), colour);
    this.active = active;
    this.#list.replaceChildren(...(agents.length > 1 ? agents.map((agent) => this.#chip(agent)) : []));
  }

  #chip({ name, description }) {
    const chip = element("button", { type: "button", text: this.label(name) });
    chip.dataset.hue = this.hue(name);
    chip.title = description ?? "";
    if (name === this.active) chip.setAttribute("aria-current", "true");
    else chip.setAttribute("aria-label", `Hand over to ${this.label(name)}`);
    chip.disabled = name === this.active || !this.#open;
    chip.addEventListener("click", () => this.#choose(name));
    return element("li", {}, chip);
  }

  /** Gives a hue a colour of the application's. */
  #paint(hue, colour) {
    if (!colour || this.#painted.get(hue) === colour) return;
    this.#painted.set(hue, colour);
    const sheet = new CSSStyleSheet();
    sheet.insertRule(`[data-hue="${hue}"] { --agent: ${colour}; }`);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  }

  /** The name by which an agent is shown. */
  label(name) {
    return this.#agents.find((agent) => agent.name === name)?.display_name || name;
  }

  /** The role of an agent, or "". */
  role(name) {
    return this.#agents.find((agent) => agent.name === name)?.role ?? "";
  }

  /** The number of the agent's colour. */
  hue(name) {
    if (!this.#hues.has(name)) this.#hues.set(name, this.#hues.size % HUES);
    return String(this.#hues.get(name));
  }

  /** The call is over: nobody can be handed over to. */
  end() {
    for (const chip of this.#list.querySelectorAll("button")) chip.disabled = true;
  }
}
