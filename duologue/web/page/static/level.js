const FLOOR_DB = -55;
const CEILING_DB = -12;

/** How loud a Web Audio node is: 0 for silence to 1 for a loud voice, on a scale of decibels. */
export class Level {
  #analyser;
  #samples;

  constructor(node) {
    this.#analyser = node.context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    node.connect(this.#analyser);
  }

  now() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const db = 10 * Math.log10(sum / this.#samples.length + 1e-10);
    return Math.min(1, Math.max(0, (db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)));
  }
}
