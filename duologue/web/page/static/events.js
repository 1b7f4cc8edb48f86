/** Listeners by the name of what happened. */
export class Events {
  #listeners = new Map();

  /** Call `listener(detail)` at every event `name`. */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...listeners, listener]);
    return this;
  }

  emit(name, detail) {
    for (const listener of this.#listeners.get(name) ?? []) listener(detail);
  }
}
