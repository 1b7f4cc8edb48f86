import { CallError, ended, lost, unreachable } from "./errors.js";
import { Events } from "./events.js";
import { Playback, PLAYBACK_RATE } from "./playback.js";

const CONNECT_MS = 5000;
const PING_MS = 1000;
const SILENT_MS = 6000;
const INPUT_RATE = 16000;
const MAX_UNSENT_BYTES = 64 * 1024;
const LARGE_BYTES = 8 * 1024;

/** A call over a WebSocket. Emits `message` (RTVI), `interrupted`, and `closed` with a reason or a CallError. */
export class WebSocketLink extends Events {
  kind = "websocket";
  #server;
  #microphone;
  #socket = null;
  #playback = new Playback((ms) => this.#write({ type: "played", ms }));
  #capture = null;
  #node = null;
  #source = null;
  #timer = 0;
  #heardAt = 0;
  #closed = false;
  #large = 0; // bytes of pictures that may still be on their way: audio waits behind them, and is not dropped

  constructor(server, microphone) {
    super();
    this.#server = server;
    this.#microphone = microphone;
  }

  /** Open it; the call begins. Throws a CallError. */
  async connect(speaker) {
    if (!globalThis.AudioWorkletNode) throw new CallError("no_audio", "This browser is too old to carry your voice.");
    await this.#server.start("websocket"); // a refused socket would not say why
    await this.#playback.open(speaker);
    await this.#open();
    await this.#startCapture();
    this.#timer = setInterval(() => this.#beat(), PING_MS);
  }

  #open() {
    const query = { format: "binary", input_sample_rate: INPUT_RATE, output_sample_rate: PLAYBACK_RATE };
    return new Promise((resolve, reject) => {
      const socket = (this.#socket = new WebSocket(this.#server.socket("ws", query)));
      const late = setTimeout(() => reject(unreachable()), CONNECT_MS);
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        clearTimeout(late);
        this.#heardAt = performance.now();
        resolve();
      };
      socket.onmessage = ({ data }) => this.#received(data);
      socket.onclose = ({ code, reason }) => {
        clearTimeout(late);
        reject(unreachable());
        this.#end(code === 1000 || code === 1001 ? reason || "ended" : code === 1006 ? lost() : ended(reason || code));
      };
    });
  }

  async #startCapture() {
    const context = (this.#capture = new AudioContext());
    context.resume();
    await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(context, "microphone", { outputChannelCount: [1] });
    this.#node.port.onmessage = ({ data }) => this.#send(data);
    this.#node.connect(context.createMediaStreamDestination()); // silence; but what leads nowhere may not run
    this.listen(this.#microphone.track);
  }

  /** The microphone is another one now. */
  listen(track) {
    if (!this.#node) return;
    this.#source?.disconnect();
    this.#source = this.#capture.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#node);
  }

  #received(data) {
    this.#heardAt = performance.now();
    if (data instanceof ArrayBuffer) {
      this.#playback.push(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.label === "rtvi-ai") this.emit("message", message);
    else if (message.type === "clear_audio") {
      this.#playback.clear();
      this.emit("interrupted");
    } else if (message.type === "session_ended") this.#end(message.reason || "ended");
    else if (message.type === "error") this.emit("problem", message.message);
  }

  #beat() {
    if (performance.now() - this.#heardAt > SILENT_MS) this.#end(lost());
    else this.#write({ type: "ping" });
  }

  /** Send a message to the server. */
  send(message) {
    this.#write(message);
  }

  #write(message) {
    this.#send(JSON.stringify(message));
  }

  #send(data) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount === 0) this.#large = 0;
    // A network that does not keep up gets fresh audio, not all of the old.
    if (data instanceof ArrayBuffer && socket.bufferedAmount > MAX_UNSENT_BYTES + this.#large) return;
    if (data.length > LARGE_BYTES) this.#large += data.length;
    socket.send(data);
  }

  /** How loud the agent is, from 0 to 1. */
  level() {
    return this.#playback.level();
  }

  chooseSpeaker(speaker) {
    return this.#playback.choose(speaker);
  }

  close() {
    this.#end("");
  }

  #end(why) {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#socket?.close(1000);
    this.#playback.close();
    this.#capture?.close();
    this.#node = null;
    this.emit("closed", why);
  }
}
