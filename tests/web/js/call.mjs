// A call with OpenAI's own JavaScript client and its stock WebSocket transport. Prints what it met, as JSON.
//   node call.mjs <url of the endpoint> <file with speech: mono s16le, 24 kHz>

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from '@openai/agents-realtime';
import { z } from 'zod';

const [url, file] = process.argv.slice(2);
const speech = readFileSync(file);
const met = { cities: [], audioBytes: 0, interruptions: 0, errors: [], events: [], statuses: [] };

const weather = tool({
  name: 'get_weather',
  description: 'The weather of a city.',
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    met.cities.push(city);
    return `It rains in ${city}.`;
  },
});
const agent = new RealtimeAgent({ name: 'Helper', instructions: 'Be brief.', tools: [weather] });
const transport = new OpenAIRealtimeWebSocket({ url });
const session = new RealtimeSession(agent, { transport });

const waiting = [];
transport.on('*', (event) => {
  met.events.push(event.type);
  if (event.type === 'response.done') met.statuses.push(event.response.status);
  for (const wait of waiting.splice(0)) wait.type === event.type ? wait.resolve(event) : waiting.push(wait);
});
session.on('audio', (event) => (met.audioBytes += event.data.byteLength));
session.on('audio_interrupted', () => (met.interruptions += 1));
session.on('error', (event) => met.errors.push(JSON.stringify(event.error)));

const next = (type) => new Promise((resolve) => waiting.push({ type, resolve }));
const patience = setTimeout(() => {
  console.log(JSON.stringify({ ...met, errors: [...met.errors, 'this takes too long'] }));
  process.exit(1);
}, 120_000);

async function speak(seconds) {
  const piece = (24_000 / 50) * 2;
  const began = Date.now();
  const silence = Buffer.alloc(piece);
  for (let n = 0; n < (seconds + 0.9) * 50; n += 1) {
    const pcm = n < seconds * 50 ? speech.subarray(n * piece, (n + 1) * piece) : silence;
    session.sendAudio(pcm.buffer.slice(pcm.byteOffset, pcm.byteOffset + pcm.byteLength));
    await sleep(Math.max(0, began + 20 * (n + 1) - Date.now()));
  }
}

const created = next('session.created');
await session.connect({ apiKey: 'test' });
met.session = (await created).session.id;

// A spoken turn, which the agent answers by a function of ours, and then by its result.
const called = next('response.done');
await speak(1);
await called;
// Events that come in one piece are told in one go: whoever waits for the next one only then misses it.
const [answered, over] = [next('response.output_audio_transcript.done'), next('response.done')];
met.answer = (await answered).transcript;
await over;

// A long answer, into which we speak.
const begun = next('response.output_audio.delta');
session.sendMessage('Tell me a long story.');
await begun;
await sleep(300);
const cancelled = next('response.done');
await speak(0.6);
met.cancelled = (await cancelled).response.status_details;
const [last, end] = [next('response.output_audio_transcript.done'), next('response.done')];
met.last = (await last).transcript;
await end;

met.history = session.history
  .filter((item) => item.type === 'message')
  .map((item) => [item.role, item.content.map((part) => part.transcript ?? part.text ?? '').join('')]);
clearTimeout(patience);
session.close();
console.log(JSON.stringify(met));
