// Runs the page's audio worklets outside of a browser, in steps of 128 samples as a browser does, and prints as JSON
// what they made of it: `node page_audio.mjs <directory of the page>`.
import { pathToFileURL } from "node:url";

const page = `${pathToFileURL(process.argv[2])}/`;
const processors = {};
globalThis.registerProcessor = (name, processor) => (processors[name] = processor);
globalThis.AudioWorkletProcessor = class {
  posted = [];
  port = { onmessage: null, postMessage: (message) => this.posted.push(message) };
};

const { Resampler } = await import(`${page}resampler.js`);

function tone(rate, hz, seconds) {
  return Float32Array.from({ length: rate * seconds }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rate));
}

/** The level in dB of what becomes of a tone, the noise beside it, and how many samples there are for a second. */
function resampled(from, to, hz) {
  const resampler = new Resampler(from, to);
  const made = [];
  const input = tone(from, hz, 1);
  for (let at = 0; at < input.length; at += 128) made.push(...resampler.push(input.subarray(at, at + 128)));
  const kept = made.slice(2000, 10000);
  let [sine, cosine] = [0, 0];
  kept.forEach((sample, i) => {
    const angle = (2 * Math.PI * hz * (i + 2000)) / to;
    sine += (2 * sample * Math.sin(angle)) / kept.length;
    cosine += (2 * sample * Math.cos(angle)) / kept.length;
  });
  let [noise, power] = [1e-20, 1e-20];
  kept.forEach((sample, i) => {
    const angle = (2 * Math.PI * hz * (i + 2000)) / to;
    noise += (sample - sine * Math.sin(angle) - cosine * Math.cos(angle)) ** 2;
    power += sample ** 2;
  });
  const levelDb = 10 * Math.log10((2 * power) / kept.length);
  return { from, hz, samples: made.length, levelDb, signalToNoiseDb: 10 * Math.log10(power / noise) };
}

async function microphone(rate) {
  globalThis.sampleRate = rate;
  await import(`${page}microphone-worklet.js`);
  const processor = new processors.microphone();
  const input = tone(rate, 440, 1);
  for (let at = 0; at < input.length; at += 128) processor.process([[input.subarray(at, at + 128)]]);
  for (let i = 0; i < rate / 128; i++) processor.process([[]]); // no microphone: silence
  const frames = processor.posted.map((buffer) => new Int16Array(buffer));
  const loud = frames.filter((frame) => frame.some((sample) => Math.abs(sample) > 10000));
  return { rate, frames: frames.length, lengths: [...new Set(frames.map((frame) => frame.length))], loud: loud.length };
}

/** 0.5 s are played but for a clear after 0.3 s; then 0.1 s are sent, less than a whole buffer comes, and it ends. */
async function playback() {
  globalThis.sampleRate = 24000;
  await import(`${page}playback-worklet.js`);
  const processor = new processors.playback();
  const output = [];
  const run = (samples) => {
    for (let at = 0; at < samples; at += 128) {
      const channel = new Float32Array(128);
      processor.process([], [[channel]]);
      output.push(...channel);
    }
  };
  const send = (seconds, value) =>
    processor.port.onmessage({ data: { pcm: new Int16Array(24000 * seconds).fill(value).buffer } });
  send(0.02, 8192);
  run(480);
  const early = output.some((sample) => sample !== 0);
  for (let i = 0; i < 24; i++) send(0.02, 8192);
  run(7168);
  const heardAtClear = output.filter((sample) => sample !== 0).length;
  processor.port.onmessage({ data: { clear: true, epoch: 1 } });
  run(2400);
  const heardAfterClear = output.filter((sample) => sample !== 0).length - heardAtClear;
  send(0.02, 16384);
  run(4800);
  const tail = output.filter((sample) => sample === 0.5).length;
  return { early, heardAtClear, heardAfterClear, tail, reports: processor.posted };
}

const rates = [16000, 44100, 48000];
console.log(
  JSON.stringify({
    resampled: rates.flatMap((from) => [300, 1000, 3000, 6000].map((hz) => resampled(from, 16000, hz))),
    rejected: [44100, 48000].flatMap((from) => [9500, 12000, 20000].map((hz) => resampled(from, 16000, hz))),
    microphone: await microphone(48000),
    playback: await playback(),
  }),
);
