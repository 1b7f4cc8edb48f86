const TEXT_FIELDS = "input[type=text], input[type=password], select, textarea";

/** Hold the button or the space bar to be heard. Space then presses no button: Enter does. */
export class PushToTalk {
  #hold;
  #on = false;
  #enabled = false;
  #held = false;
  #changed;

  /** `changed(held)` is called when it is pressed and released. */
  constructor(hold, changed) {
    this.#hold = hold;
    this.#changed = changed;
    hold.addEventListener("pointerdown", (event) => {
      hold.setPointerCapture(event.pointerId);
      this.#press(true);
    });
    for (const name of ["pointerup", "pointercancel"]) hold.addEventListener(name, () => this.#press(false));
    hold.addEventListener("contextmenu", (event) => event.preventDefault());
    addEventListener("keydown", (event) => this.#key(event, true), { capture: true });
    addEventListener("keyup", (event) => this.#key(event, false), { capture: true });
    addEventListener("blur", () => this.#press(false));
  }

  set on(on) {
    this.#on = on;
    this.#hold.hidden = !on;
    if (!on) this.#press(false);
  }

  /** Whether there is a call to be heard in. */
  set enabled(enabled) {
    this.#enabled = enabled;
    this.#hold.disabled = !enabled;
    if (!enabled) this.#press(false);
  }

  #key(event, down) {
    if (event.code !== "Space" || !this.#on || !this.#enabled || event.target.matches?.(TEXT_FIELDS)) return;
    event.preventDefault();
    if (!event.repeat) this.#press(down);
  }

  #press(held) {
    if (held === this.#held || (held && !(this.#on && this.#enabled))) return;
    this.#held = held;
    this.#hold.dataset.held = String(held);
    this.#changed(held);
  }
}
