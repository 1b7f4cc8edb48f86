const TARGET_S = 0.06;
const REPORT_S = 0.2;

/**
 * Plays PCM, 16 bit, at the context's rate. Speech starts once 60 ms are here or that long has passed; `clear` silences
 * it at once. Posts how many samples were played since the start or the last `clear`, five times per second.
 */
class PlaybackProcessor extends AudioWorkletProcessor {
  #pieces = [];
  #offset = 0;
  #waiting = 0;
  #delay = 0; // samples until what has come is started
  #playing = false;
  #played = 0;
  #epoch = 0;
  #reported = 0;
  #sinceReport = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data.clear) this.#clear(data.epoch);
      else this.#add(new Int16Array(data.pcm));
    };
  }

  #add(samples) {
    if (!this.#playing && this.#waiting === 0) this.#delay = TARGET_S * sampleRate;
    this.#pieces.push(samples);
    this.#waiting += samples.length;
  }

  #clear(epoch) {
    this.#pieces = [];
    this.#offset = this.#waiting = this.#played = this.#reported = 0;
    this.#playing = false;
    this.#epoch = epoch;
  }

  process(_, [output]) {
    const channel = output[0];
    if (!this.#playing && this.#waiting > 0) {
      this.#delay -= channel.length;
      this.#playing = this.#waiting >= TARGET_S * sampleRate || this.#delay <= 0;
    }
    if (this.#playing) this.#fill(channel);
    this.#report(channel.length);
    return true;
  }

  #fill(channel) {
    let filled = 0;
    while (filled < channel.length && this.#pieces.length > 0) {
      const piece = this.#pieces[0];
      const count = Math.min(channel.length - filled, piece.length - this.#offset);
      for (let i = 0; i < count; i++) channel[filled + i] = piece[this.#offset + i] / 32768;
      filled += count;
      this.#offset += count;
      if (this.#offset === piece.length) {
        this.#pieces.shift();
        this.#offset = 0;
      }
    }
    this.#played += filled;
    this.#waiting -= filled;
    if (filled < channel.length) this.#playing = false;
  }

  #report(samples) {
    this.#sinceReport += samples;
    const due = this.#sinceReport >= REPORT_S * sampleRate || (!this.#playing && this.#waiting === 0);
    if (due && this.#played !== this.#reported) {
      this.port.postMessage({ played: this.#played, epoch: this.#epoch });
      this.#reported = this.#played;
      this.#sinceReport = 0;
    }
  }
}

registerProcessor("playback", PlaybackProcessor);
