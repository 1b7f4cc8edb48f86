import { CallError, lost } from "./errors.js";
import { Events } from "./events.js";
import { Level } from "./level.js";

const CONNECT_MS = 5000;
const PING_MS = 1000;
const CANDIDATES_MS = 200;
const UNSURE_MS = 1000;
const RECONNECT_MS = 10000;
const BACK_OFF_MS = [0, 500, 1000, 2000];
const FLUSH_MS = 120;
const HANGUP_MS = 150;

/**
 * A call over WebRTC, by small-webrtc's signalling. Emits `message` (RTVI), `reconnecting`, `reconnected`, and `closed`
 * with a reason or a CallError.
 */
export class WebRTCLink extends Events {
  kind = "webrtc";
  #server;
  #microphone;
  #audio;
  #iceServers = [];
  #path = "api/offer";
  #pcId = null;
  #peer = null;
  #channel = null;
  #timer = 0;
  #closed = false;
  #recovering = false;
  #context = null;
  #level = null;

  constructor(server, microphone, audio) {
    super();
    this.#server = server;
    this.#microphone = microphone;
    this.#audio = audio;
  }

  /** Open it; the call begins. Throws a CallError; its `retry` says that a WebSocket may do. */
  async connect(speaker) {
    if (!globalThis.RTCPeerConnection) throw new CallError("no_webrtc", "This browser has no WebRTC.", { retry: true });
    const { sessionId, iceConfig } = await this.#server.start("webrtc");
    this.#iceServers = iceConfig?.iceServers ?? [];
    if (sessionId) this.#path = `sessions/${encodeURIComponent(sessionId)}/api/offer`;
    await this.chooseSpeaker(speaker);
    await this.#open({ restart: false });
    this.#timer = setInterval(() => this.#ping(), PING_MS);
  }

  /** A peer connection, the first one or (`restart`) one that takes the place of a broken one. */
  async #open({ restart }) {
    const old = this.#peer;
    const peer = (this.#peer = new RTCPeerConnection({ iceServers: this.#iceServers }));
    const candidates = new Candidates((batch) => this.#trickle(batch));
    peer.onicecandidate = ({ candidate }) => candidates.add(candidate);
    peer.ontrack = ({ track }) => this.#play(track);
    peer.addTransceiver(this.#microphone.track, { direction: "sendrecv" });
    const channel = (this.#channel = peer.createDataChannel("chat", { ordered: true }));
    channel.onmessage = ({ data }) => this.#received(data);
    try {
      await Promise.race([this.#connected(peer, channel, candidates, restart), timeout(CONNECT_MS)]);
    } catch (error) {
      close(peer);
      throw error instanceof CallError ? error : failed(); // the browser's own: it makes nothing of the answer, say
    } finally {
      close(old); // not before: to the server a connection that is closed is a call that is hung up
    }
    this.#watch(peer, channel);
  }

  async #connected(peer, channel, candidates, restart) {
    await this.#negotiate(peer, candidates, restart);
    await opened(peer, channel);
  }

  async #negotiate(peer, candidates, restart) {
    await peer.setLocalDescription();
    const { sdp, type } = peer.localDescription;
    const offer = { sdp, type, pc_id: this.#pcId, restart_pc: restart };
    const answer = await this.#server.send("POST", this.#path, offer);
    if (this.#peer !== peer) throw new CallError("superseded", "The call was hung up.");
    this.#pcId = answer.pc_id;
    await peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
    candidates.release();
  }

  async #trickle(batch) {
    try {
      await this.#server.send("PATCH", this.#path, { pc_id: this.#pcId, candidates: batch });
    } catch {
      // The connection comes up without these, or its time-out says that it does not.
    }
  }

  #watch(peer, channel) {
    const broken = () => {
      if (this.#peer === peer) this.#recover();
    };
    channel.onclose = broken;
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed" || peer.connectionState === "closed") broken();
      if (peer.connectionState === "disconnected") {
        setTimeout(() => peer.connectionState === "disconnected" && broken(), UNSURE_MS);
      }
    };
  }

  /** The connection is broken: make another one for the same call, as long as the server keeps it. */
  async #recover() {
    if (this.#recovering || this.#closed) return;
    this.#recovering = true;
    this.emit("reconnecting");
    const until = performance.now() + RECONNECT_MS;
    for (let attempt = 0; !this.#closed && performance.now() < until; attempt++) {
      await pause(BACK_OFF_MS[Math.min(attempt, BACK_OFF_MS.length - 1)]);
      if (this.#closed) return;
      try {
        await this.#open({ restart: true });
        this.#recovering = false;
        this.emit("reconnected");
        return;
      } catch (error) {
        if (/^http_4|unauthorized|forbidden/.test(error.code)) break; // the server knows this call no more
      }
    }
    this.#end(lost());
  }

  #play(track) {
    const stream = new MediaStream([track]);
    this.#audio.srcObject = stream;
    this.#audio.play().catch((error) => error.name === "NotAllowedError" && this.#silenced());
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#level = new Level(this.#context.createMediaStreamSource(stream));
  }

  #silenced() {
    this.emit("problem", "The browser blocked the sound: click anywhere on the page.");
    addEventListener("pointerdown", () => this.#audio.play(), { once: true });
  }

  #received(data) {
    const message = JSON.parse(data);
    if (message.label === "rtvi-ai") {
      if (message.type === "bot-interrupted") this.#flush();
      // What the browser holds already would be heard for a while, although the agent says no more.
      if (message.data?.type === "duologue.hold") this.#audio.muted = message.data.held;
      this.emit("message", message);
    } else if (message.type === "signalling" && message.message?.type === "peerLeft") this.#end("ended");
    else if (message.type === "error") this.emit("problem", message.message);
  }

  /** What the browser still holds of the interrupted speech is not to be heard. */
  #flush() {
    this.#audio.muted = true;
    setTimeout(() => (this.#audio.muted = false), FLUSH_MS);
  }

  #ping() {
    if (this.#channel?.readyState === "open") this.#channel.send(`ping: ${Date.now()}`);
  }

  /** Send a message to the server. */
  send(message) {
    if (this.#channel?.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /** How loud the agent is, from 0 to 1. */
  level() {
    return this.#audio.muted ? 0 : (this.#level?.now() ?? 0);
  }

  async chooseSpeaker(speaker) {
    if (speaker) await this.#audio.setSinkId?.(speaker);
  }

  /** End the call. What was sent just before still gets through. */
  close() {
    this.#end("");
  }

  /** The microphone is another one now. */
  listen(track) {
    this.#peer?.getTransceivers()[0]?.sender.replaceTrack(track);
  }

  #end(why) {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#audio.srcObject = null;
    const peer = this.#peer;
    this.#peer = this.#channel = null;
    setTimeout(() => close(peer), HANGUP_MS); // the last messages are on their way
    this.#context?.close();
    this.#context = this.#level = null;
    this.emit("closed", why);
  }
}

/** ICE candidates on their way to the server: in batches, once it knows of the connection. */
class Candidates {
  #waiting = [];
  #released = false;
  #timer = 0;
  #send;

  constructor(send) {
    this.#send = send;
  }

  add(candidate) {
    this.#waiting.push({
      candidate: candidate?.candidate ?? "", // none: that was the last one
      sdp_mid: candidate?.sdpMid ?? "0",
      sdp_mline_index: candidate?.sdpMLineIndex ?? 0,
    });
    this.#schedule();
  }

  release() {
    this.#released = true;
    this.#schedule();
  }

  #schedule() {
    if (!this.#released || this.#timer || this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#send(this.#waiting.splice(0));
    }, CANDIDATES_MS);
  }
}

function close(peer) {
  if (peer) peer.onconnectionstatechange = peer.onicecandidate = peer.ontrack = null;
  peer?.close();
}

function opened(peer, channel) {
  return new Promise((resolve, reject) => {
    channel.onopen = resolve;
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") reject(failed());
    };
    if (channel.readyState === "open") resolve();
  });
}

function failed() {
  return new CallError("failed", "WebRTC could not connect.", { retry: true });
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function timeout(ms) {
  await pause(ms);
  throw new CallError("timeout", "WebRTC did not connect in time.", { retry: true });
}
