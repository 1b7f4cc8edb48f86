import { Level } from "./level.js";

export const PLAYBACK_RATE = 24000;

/** Plays the agent's PCM, 24 kHz. `played(ms)` is told what has left the loudspeaker since the start or last clear. */
export class Playback {
  #context;
  #node;
  #level;
  #epoch = 0;
  #played;

  constructor(played) {
    this.#played = played;
  }

  async open(speaker) {
    this.#context = new AudioContext({ sampleRate: PLAYBACK_RATE, latencyHint: "interactive" });
    this.#context.resume();
    await this.#context.audioWorklet.addModule(new URL("playback-worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(this.#context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.#node.port.onmessage = ({ data }) => this.#later(data);
    this.#node.connect(this.#context.destination);
    this.#level = new Level(this.#node);
    await this.choose(speaker);
  }

  push(pcm) {
    this.#node.port.postMessage({ pcm }, [pcm]);
  }

  clear() {
    this.#epoch += 1;
    this.#node.port.postMessage({ clear: true, epoch: this.#epoch });
  }

  level() {
    return this.#level?.now() ?? 0;
  }

  async choose(speaker) {
    if (speaker) await this.#context.setSinkId?.(speaker);
  }

  close() {
    if (this.#context?.state !== "closed") this.#context?.close();
  }

  #later({ played, epoch }) {
    // What the worklet has handed on is heard only when it has passed through the device.
    const latencyMs = 1000 * (this.#context.outputLatency || this.#context.baseLatency || 0);
    setTimeout(() => {
      if (epoch === this.#epoch) this.#played(Math.round((1000 * played) / PLAYBACK_RATE));
    }, latencyMs);
  }
}
