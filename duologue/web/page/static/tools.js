import { element } from "./dom.js";

const LIMIT = 30;
const FOLDED_FROM = 120;
const STATUS = {
  running: "running…",
  wanted: "waits for you",
  done: "done",
  failed: "failed",
  denied: "denied",
  cancelled: "cancelled",
};

/** The tool calls: a card for each, with its arguments, its result, and the user's say where one is wanted. */
export class Tools {
  #list;
  #decide;
  #cards = new Map();

  /** `decide(callId, approved)` is the user's decision; it returns a promise that rejects if it did not get through. */
  constructor(list, decide) {
    this.#list = list;
    this.#decide = decide;
  }

  clear() {
    this.#cards.clear();
    this.#list.replaceChildren();
  }

  /** The call is over: nobody waits for a decision any more. */
  end() {
    for (const card of this.#cards.values()) {
      if (card.state === "wanted" || card.state === "running") this.#update(card, { state: "cancelled" });
    }
  }

  /** A row of the conversation that is a tool call or its result. */
  row({ type, message, metadata = {} }) {
    const { call_id: id, name, data, status } = metadata;
    if (!id) return;
    const card = this.#card(id);
    if (type === "tool_call") this.#update(card, { name, arguments: data ?? message });
    else this.#result(card, data ?? message, status === "interrupted");
  }

  /** RTVI: a function runs. */
  running({ tool_call_id: id, function_name: name, arguments: given }) {
    if (id) this.#update(this.#card(id), { name, arguments: given });
  }

  /** RTVI: a function has stopped. */
  stopped({ tool_call_id: id, function_name: name, cancelled, result }) {
    if (!id) return;
    const card = this.#card(id);
    this.#update(card, { name });
    this.#result(card, result, cancelled);
  }

  /** The server wants a decision, or there is one. */
  approval({ state, call_id: id, name, arguments: given, approved, by }) {
    const card = this.#card(id);
    if (state === "wanted") this.#update(card, { name, arguments: given, state: "wanted" });
    else this.#update(card, { name, state: approved ? "running" : "denied", by });
  }

  #result(card, result, cancelled) {
    const failed = typeof result === "object" && result !== null && "error" in result;
    const state = cancelled ? "cancelled" : card.state === "denied" ? "denied" : failed ? "failed" : "done";
    this.#update(card, { state, result });
  }

  #card(id) {
    if (!this.#cards.has(id)) {
      const root = element("li", { class: "tool", data: { callId: id } });
      this.#cards.set(id, { id, root, name: "function", state: "running" });
      this.#list.prepend(root);
      this.#trim();
    }
    return this.#cards.get(id);
  }

  #trim() {
    while (this.#list.childElementCount > LIMIT) {
      this.#cards.delete(this.#list.lastElementChild.dataset.callId);
      this.#list.lastElementChild.remove();
    }
  }

  #update(card, news) {
    const known = Object.entries(news).filter(([, value]) => value !== undefined && value !== "");
    if (card.root.hasChildNodes() && known.every(([key, value]) => card[key] === value)) return;
    Object.assign(card, Object.fromEntries(known));
    const { root, name, state } = card;
    root.dataset.state = state;
    root.replaceChildren(
      element(
        "header",
        {},
        element("span", { class: "name", text: name }),
        element("span", { class: "status", text: STATUS[state] }),
      ),
      element("dl", {}, ...fields(card.arguments, "arguments")),
      ...result(card.result),
    );
    if (state === "wanted") root.append(this.#buttons(card));
  }

  #buttons(card) {
    const button = (text, approved, kind) => {
      const made = element("button", { type: "button", class: `button compact ${kind}`, text });
      made.addEventListener("click", () => this.#decided(card, approved));
      return made;
    };
    return element("div", { class: "decide" }, button("Approve", true, "primary"), button("Deny", false, ""));
  }

  async #decided(card, approved) {
    for (const button of card.root.querySelectorAll("button")) button.disabled = true;
    try {
      await this.#decide(card.id, approved);
    } catch {
      for (const button of card.root.querySelectorAll("button")) button.disabled = false;
    }
  }
}

/** What came of it: folded if it is long. */
function result(value) {
  const shown = fields(value, "result");
  if (shown.length === 0) return [];
  const list = element("dl", { class: "result" }, ...shown);
  if (JSON.stringify(value).length < FOLDED_FROM) return [list];
  return [element("details", {}, element("summary", { text: "Result" }), list)];
}

/** A value as terms and their descriptions: an object by its fields, anything else under `name`. */
function fields(value, name) {
  if (value === undefined || value === null || value === "") return [];
  const entries = typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : [[name, value]];
  return entries.flatMap(([term, described]) => [
    element("dt", { text: term }),
    element("dd", { text: typeof described === "string" ? described : JSON.stringify(described) }),
  ]);
}
