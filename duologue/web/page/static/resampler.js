const PHASES = 128;
const LOBES = 16;

/** Changes the rate of a stream of samples, by a windowed sinc that also keeps out what the lower rate cannot carry. */
export class Resampler {
  #step;
  #taps;
  #half;
  #kept;
  #at;

  constructor(from, to) {
    this.#step = from / to;
    const cutoff = 0.94 * Math.min(1, to / from);
    this.#half = Math.ceil(LOBES / cutoff);
    this.#taps = Array.from({ length: PHASES + 1 }, (_, phase) => kernel(phase / PHASES, this.#half, cutoff));
    this.#kept = new Float32Array(2 * this.#half); // silence before the first sample
    this.#at = this.#half;
  }

  /** The samples of the new rate that these complete. */
  push(samples) {
    const buffer = new Float32Array(this.#kept.length + samples.length);
    buffer.set(this.#kept);
    buffer.set(samples, this.#kept.length);
    const result = [];
    while (this.#at + this.#half < buffer.length) {
      const whole = Math.floor(this.#at);
      const taps = this.#taps[Math.round((this.#at - whole) * PHASES)];
      const first = whole - this.#half + 1;
      let sum = 0;
      for (let i = 0; i < taps.length; i++) sum += taps[i] * buffer[first + i];
      result.push(sum);
      this.#at += this.#step;
    }
    const used = Math.max(0, Math.floor(this.#at) - this.#half);
    this.#kept = buffer.slice(used);
    this.#at -= used;
    return result;
  }
}

/** The weights of the `2 * half` samples around a place `fraction` of a sample after the middle one. */
function kernel(fraction, half, cutoff) {
  const taps = Float32Array.from({ length: 2 * half }, (_, i) => {
    const x = i - half + 1 - fraction;
    const angle = Math.PI * x * cutoff;
    const window = Math.cos((Math.PI * x) / (2 * half)) ** 2;
    return window * (x === 0 ? 1 : Math.sin(angle) / angle);
  });
  const sum = taps.reduce((total, tap) => total + tap, 0);
  return taps.map((tap) => tap / sum);
}
