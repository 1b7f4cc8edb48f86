import { element } from "./dom.js";

const CONNECTION = {
  connecting: "connecting…",
  active: "connected",
  expiring: "its session ends soon",
  refreshing: "takes a new session…",
  reconnecting: "reconnecting…",
  lost: "connection lost",
};

/** Which engine has the call, and another one in mid-call. */
export class Engine {
  #select;
  #connection;
  #engines = [];
  #active = "";

  /** `choose(name)` is called when the user wants another engine; its promise rejects if that is refused. */
  constructor(select, connection, choose) {
    this.#select = select;
    this.#connection = connection;
    select.addEventListener("change", () => choose(select.value).catch(() => (select.value = this.#active)));
  }

  /** What the server says: the names, the one in use, and whether another may be chosen. */
  update(engines, active, open) {
    if (engines.join("\n") !== this.#engines.join("\n") || this.#select.disabled) {
      this.#engines = engines;
      const names = engines.length ? engines : [""];
      this.#select.replaceChildren(
        ...names.map((name) => element("option", { value: name, text: name || "One engine" })),
      );
    }
    this.#active = active;
    this.#select.disabled = engines.length < 2 || !open;
    this.#select.value = active;
  }

  /** The state of an engine's own connection. */
  connection({ engine, state, reason, how }) {
    const why = state === "active" ? (how === "fresh" ? "" : how) : reason;
    const text = `${engine}: ${CONNECTION[state] ?? state}${why ? ` (${why})` : ""}`;
    this.#tell(state === "closed" ? "" : text); // closed: the call has gone to another engine
  }

  #tell(text) {
    this.#connection.textContent = text;
  }

  /** The call is over. */
  end() {
    this.#select.disabled = true;
    this.#tell("");
  }
}
