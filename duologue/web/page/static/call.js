import { CallError } from "./errors.js";
import { Events } from "./events.js";
import { Rtvi } from "./rtvi.js";
import { WebRTCLink } from "./webrtc.js";
import { WebSocketLink } from "./websocket.js";

const READY_MS = 10000;
const LIVE = new Set(["connecting", "connected", "reconnecting"]);

/**
 * A call from this page: by WebRTC, or by WebSocket where that does not connect. Emits `state` (connecting, connected,
 * reconnecting, ended, error; what it is about is in `reason` or `error`), and `problem` with the text of what does not
 * end the call. `rtvi` has the messages.
 */
export class Call extends Events {
  state = "idle";
  reason = "";
  error = null;
  rtvi = new Rtvi((message) => this.#link?.send(message));
  #server;
  #microphone;
  #audio;
  #link = null;
  #greeting = 0;

  /** `audio` is the element that plays what comes by WebRTC. */
  constructor(server, microphone, audio) {
    super();
    this.#server = server;
    this.#microphone = microphone;
    this.#audio = audio;
    this.rtvi.on("bot-ready", () => this.#ready());
    this.rtvi.on("duologue.ended", ({ reason }) => (this.reason = reason));
    this.rtvi.on("error", ({ error, fatal }) => {
      if (fatal) this.#fail(new CallError("fatal", error));
      else this.emit("problem", error);
    });
  }

  /** Whether there is a call, or will be. */
  get live() {
    return LIVE.has(this.state);
  }

  /** "webrtc", "websocket", or "" before either is open. */
  get transport() {
    return this.#link?.kind ?? "";
  }

  /** Connect. `transport` forces one of the two; "" tries WebRTC, then the WebSocket. */
  async start({ transport = "", speaker = "" } = {}) {
    this.#set("connecting");
    try {
      await this.#microphone.open();
      if (this.live) await this.#connect(transport, speaker);
      else this.#microphone.close(); // it was hung up before the microphone was allowed
    } catch (error) {
      this.#fail(error);
    }
  }

  async #connect(transport, speaker) {
    try {
      await this.#open(this.#make(transport || "webrtc"), speaker);
    } catch (error) {
      if (transport || !error.retry) throw error;
      await this.#open(this.#make("websocket"), speaker);
    }
  }

  #make(transport) {
    return transport === "webrtc"
      ? new WebRTCLink(this.#server, this.#microphone, this.#audio)
      : new WebSocketLink(this.#server, this.#microphone);
  }

  async #open(link, speaker) {
    if (!this.live) return;
    this.#link = link;
    link.on("message", (message) => this.rtvi.receive(message));
    link.on("problem", (text) => this.emit("problem", text));
    try {
      await link.connect(speaker);
    } catch (error) {
      this.#link = null;
      link.close();
      throw error;
    }
    link.on("closed", (why) => this.#closed(why));
    link.on("reconnecting", () => this.#set("reconnecting"));
    link.on("reconnected", () => this.#greet());
    if (this.live) this.#greet();
    else link.close(); // it was hung up meanwhile
  }

  #greet() {
    this.rtvi.ready();
    clearTimeout(this.#greeting);
    this.#greeting = setTimeout(() => {
      this.#fail(new CallError("no_answer", "The server took the call, but does not answer. Press Talk to try again."));
    }, READY_MS);
  }

  #ready() {
    clearTimeout(this.#greeting);
    if (this.live) this.#set("connected");
  }

  #closed(why) {
    if (!this.live) return;
    if (why instanceof CallError && !this.reason) this.#fail(why);
    else this.#end(this.reason || why || "ended");
  }

  /** End the call. */
  hangUp() {
    if (!this.live) return;
    this.rtvi.hangUp();
    this.#end("you hung up");
  }

  #end(reason) {
    this.reason = reason;
    this.#finish("ended");
  }

  #fail(error) {
    if (!this.live) return;
    this.error = error;
    this.#finish("error");
  }

  #finish(state) {
    clearTimeout(this.#greeting);
    this.#set(state);
    this.#link?.close();
    this.#microphone.close();
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", state);
  }

  /** The microphone has another track now. */
  listen(track) {
    this.#link?.listen(track);
  }

  chooseSpeaker(speaker) {
    return this.#link?.chooseSpeaker(speaker);
  }

  /** How loud the agent is, from 0 to 1. */
  level() {
    return this.live ? (this.#link?.level() ?? 0) : 0;
  }
}
