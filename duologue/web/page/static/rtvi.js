import { Events } from "./events.js";

const VERSION = "2.2.0";
const ANSWER_MS = 10000;

/** RTVI messages, both ways. Emits each message of the server by its type, and its own extensions by `duologue.…`. */
export class Rtvi extends Events {
  #write;
  #count = 0;
  #asked = new Map();

  /** `write(message)` sends an object to the server. */
  constructor(write) {
    super();
    this.#write = write;
  }

  #send(type, data) {
    const id = `page-${++this.#count}`;
    this.#write({ id, label: "rtvi-ai", type, data });
    return id;
  }

  /** Say that the client is there; the server answers `bot-ready` and tells how things stand. */
  ready() {
    const about = { library: "duologue-page", library_version: "1", platform: "web" };
    this.#send("client-ready", { version: VERSION, about });
  }

  say(content) {
    this.#send("send-text", { content, options: { run_immediately: true, audio_response: true } });
  }

  /** Show a picture ({name, format, bytes}), with what is said to it. */
  picture({ name, format, bytes }, content) {
    const file = { name, format, source: { type: "bytes", bytes } };
    this.#send("send-file", { content, file, options: { run_immediately: true, audio_response: true } });
  }

  hangUp() {
    this.#send("disconnect-bot", null);
  }

  /** Ask the server to do something. Resolves with its answer; rejects with its reason, or when none comes. */
  request(type, data) {
    return new Promise((resolve, reject) => {
      const id = this.#send("client-message", { t: type, d: data });
      const timer = setTimeout(() => this.#settle(id)?.reject(new Error("the server did not answer")), ANSWER_MS);
      this.#asked.set(id, { resolve, reject, timer });
    });
  }

  #settle(id) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (asked) clearTimeout(asked.timer);
    return asked;
  }

  /** A message has come. */
  receive({ type, id, data }) {
    if (type === "server-response") this.#settle(id)?.resolve(data?.d);
    else if (type === "error-response") this.#settle(id)?.reject(new Error(data?.error ?? "refused"));
    else if (type === "server-message" && data?.type?.startsWith("duologue.")) this.emit(data.type, data);
    else this.emit(type, data ?? {});
  }
}
