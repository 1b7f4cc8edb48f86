import { bound, element } from "./dom.js";

const LIMIT = 500;
const NEAR_END_PX = 60;

/** The conversation, row by row: a row is rewritten in place, and what of it was not heard yet is dimmed. */
export class Captions {
  #box;
  #newest;
  #agents;
  #announce;
  #thumbnail;
  #captions = new Map();
  #following = true;
  #height = 0;

  /**
   * `newest` is the button that leads to the end; `announce(text)` tells screen readers of finished captions;
   * `thumbnail(name)` returns a small canvas of a picture that was sent from here, or null.
   */
  constructor(box, newest, agents, announce, thumbnail) {
    this.#box = box;
    this.#newest = newest;
    this.#agents = agents;
    this.#announce = announce;
    this.#thumbnail = thumbnail;
    newest.addEventListener("click", () => this.#follow());
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#following && this.#follow()).observe(box);
  }

  get empty() {
    return this.#captions.size === 0;
  }

  /** A new call: nothing was said. */
  clear() {
    this.#captions.clear();
    this.#box.replaceChildren();
  }

  /** A row of the conversation is new or has changed, or is taken back (`removed`). */
  show(row) {
    if (row.removed || !(row.message || row.type === "handoff" || isPicture(row))) this.#remove(row.id);
    else if (row.type !== "tool_call" && row.type !== "tool_result") this.#write(row);
    if (this.#following) this.#follow();
    else this.#newest.hidden = false;
  }

  #remove(id) {
    const caption = this.#captions.get(id);
    const next = caption?.root.nextElementSibling;
    caption?.root.remove();
    this.#captions.delete(id);
    if (next) this.#group(next);
  }

  #write(row) {
    const caption = this.#captions.get(row.id) ?? this.#insert(row);
    const { root, heard, unheard, speaker } = caption;
    const { agent = "", author = "", status = "complete" } = row.metadata ?? {};
    const role =
      row.type === "message" && !(row.role === "caller" && author && author !== "caller") ? row.role : "system";
    const wasFinal = root.dataset.final === "true";
    Object.assign(root.dataset, { role, agent, status, final: String(row.final ?? true) });
    if (agent) root.dataset.hue = this.#agents.hue(agent);
    speaker.textContent = role === "caller" ? "You" : this.#agents.label(agent);
    if (isPicture(row)) row = { ...row, message: this.#picture(row, caption) };
    const until = role === "agent" ? (row.metadata?.heard ?? row.message.length) : row.message.length;
    heard.data = role === "system" ? note(row) : row.message.slice(0, until);
    unheard.textContent = role === "system" ? "" : row.message.slice(until);
    unheard.hidden = !unheard.textContent;
    this.#group(root);
    if (row.final && !wasFinal)
      this.#announce(role === "system" ? heard.data : `${speaker.textContent}: ${row.message}`);
  }

  /** What stands for a picture of the caller: its thumbnail, if this page has it, and its name. */
  #picture(row, caption) {
    const { name, source, width, height } = row.metadata.data ?? {};
    const thumbnail = caption.pictured ? null : this.#thumbnail(name);
    if (thumbnail) {
      thumbnail.setAttribute("role", "img");
      thumbnail.setAttribute("aria-label", `Picture: ${name}`);
      thumbnail.className = "thumbnail";
      caption.root.insertBefore(thumbnail, caption.speaker.nextSibling);
      caption.pictured = true;
    }
    const what = name || { camera: "Your camera", screen: "Your screen" }[source] || "A picture";
    return width ? `${what} · ${width} × ${height}` : `${what}…`;
  }

  #insert(row) {
    const heard = document.createTextNode("");
    const unheard = element("span", { class: "unheard" });
    const speaker = element("p", { class: "speaker" });
    const text = element("p", { class: "text" }, heard, unheard);
    const root = element(
      "div",
      { class: "caption" },
      speaker,
      text,
      element("p", { class: "cut", text: "interrupted" }),
    );
    const caption = { root, heard, unheard, speaker, at: row.timestamp ?? 0 };
    // Rows may come late: each has its place by when it was said.
    const later = [...this.#captions.values()].filter((other) => other.at > caption.at);
    const before = later.sort((a, b) => a.at - b.at)[0];
    this.#box.insertBefore(root, before?.root ?? null);
    this.#captions.set(row.id, caption);
    this.#trim();
    return caption;
  }

  #trim() {
    bound(this.#box, LIMIT);
    if (this.#captions.size > LIMIT) {
      for (const [id, { root }] of this.#captions) if (!root.isConnected) this.#captions.delete(id);
    }
  }

  /** Only the first caption of several in a row names its speaker. */
  #group(root) {
    for (const caption of [root, root.nextElementSibling]) {
      const before = caption?.previousElementSibling?.dataset;
      if (!caption) continue;
      const same = before && before.role === caption.dataset.role && before.agent === caption.dataset.agent;
      caption.dataset.first = String(!same);
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    const resized = clientHeight !== this.#height; // the box has changed, and not what the user wants to see
    this.#height = clientHeight;
    if (!resized) this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.#newest.hidden = this.#following;
  }

  #follow() {
    this.#following = true;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#newest.hidden = true;
  }
}

function isPicture({ type, metadata }) {
  return type === "message" && metadata?.name === "image";
}

/** What stands between the captions: a hand-over in short (the time line has the rest), or somebody's note. */
function note({ type, message, metadata = {} }) {
  const { agent, author, data } = metadata;
  if (type === "handoff") return message ? `${agent} takes over` : `Engine: ${data?.engine}`;
  return author ? `${author}: ${message}` : message;
}
