import { Resampler } from "./resampler.js";

const RATE = 16000;
const FRAME = RATE / 50;

/** Posts the microphone as PCM, 16 bit, 16 kHz, in frames of 20 ms. */
class MicrophoneProcessor extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #frame = new Int16Array(FRAME);
  #filled = 0;

  process([input]) {
    const samples = input[0] ?? new Float32Array(128); // no track at the moment: silence
    for (const sample of this.#resampler.push(samples)) {
      this.#frame[this.#filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
      if (this.#filled === FRAME) {
        this.port.postMessage(this.#frame.buffer, [this.#frame.buffer]);
        this.#frame = new Int16Array(FRAME);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", MicrophoneProcessor);
