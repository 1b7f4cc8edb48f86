import { insecure, microphoneError } from "./errors.js";
import { Events } from "./events.js";
import { Level } from "./level.js";

/**
 * The caller's microphone. It is heard unless it is muted, or push-to-talk is on and not held; then it is silence, so
 * that the far end's time goes on. Emits `changed` with the new track, and `devices`.
 */
export class Microphone extends Events {
  #stream = null;
  #context = null;
  #level = null;
  #device = "";
  #muted = false;
  #pushToTalk = false;
  #held = false;

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener("devicechange", () => this.emit("devices"));
  }

  /** Open it. Throws a CallError that says what to do. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw insecure();
    this.#use(await this.#request());
    this.emit("devices");
  }

  async #request() {
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    if (this.#device) audio.deviceId = { exact: this.#device };
    try {
      return await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw microphoneError(error);
    }
  }

  #use(stream) {
    this.#stream = stream;
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#level = new Level(this.#context.createMediaStreamSource(stream));
    this.#gate();
    this.emit("changed", this.track);
  }

  /** What is sent. Null while it is closed. */
  get track() {
    return this.#stream?.getAudioTracks()[0] ?? null;
  }

  /** Take another device, also in the middle of a call; if it cannot be had, the old one stays. */
  async choose(device) {
    this.#device = device;
    if (!this.#stream) return;
    const old = this.#stream;
    this.#use(await this.#request());
    for (const track of old.getTracks()) track.stop();
  }

  /** The microphones or speakers (`kind` "audioinput" or "audiooutput") that there are. */
  async devices(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
  }

  set muted(muted) {
    this.#muted = muted;
    this.#gate();
  }

  set pushToTalk(on) {
    this.#pushToTalk = on;
    this.#gate();
  }

  set held(held) {
    this.#held = held;
    this.#gate();
  }

  #gate() {
    if (this.track) this.track.enabled = !this.#muted && (!this.#pushToTalk || this.#held);
  }

  /** How loud it is, from 0 to 1. */
  level() {
    return this.track?.enabled ? this.#level.now() : 0;
  }

  close() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#level = null;
    this.#context?.close();
    this.#context = null;
  }
}
