// Records, without the page's help, what it plays, what its microphone hears, and its messages; all with their times.
// `__tap.sounds`: {kind: "track" | "played" | "microphone", rate, times, blocks}; times are performance.now() at the
// end of each block. `__tap.messages`: {at, way: "in" | "out", wire: "websocket" | "channel", data}.
(() => {
  const BLOCK = 512;
  const tap = (window.__tap = { sounds: [], messages: [], audio: { in: 0, out: 0 } });
  const connect = AudioNode.prototype.connect;
  const module = URL.createObjectURL(
    new Blob(
      [
        `registerProcessor("tap", class extends AudioWorkletProcessor {
          block = new Int16Array(${BLOCK});
          at = 0;
          process([[input]]) {
            for (let i = 0; i < 128; i++) {
              this.block[this.at++] = input ? Math.max(-1, Math.min(1, input[i])) * 32767 : 0;
            }
            if (this.at === ${BLOCK}) {
              this.port.postMessage([Date.now(), this.block.slice()]);
              this.at = 0;
            }
            return true;
          }
        });`,
      ],
      { type: "text/javascript" },
    ),
  );
  const modules = new WeakMap();

  // What a muted element plays is not heard. A block may be rendered before its element is muted and come after that.
  const mutedSince = new WeakMap();
  const muted = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "muted");
  Object.defineProperty(HTMLMediaElement.prototype, "muted", {
    ...muted,
    set(value) {
      if (value && !this.muted) mutedSince.set(this, performance.now());
      muted.set.call(this, value);
    },
  });

  /** Whether the elements that play this stream's tracks were all muted at a time. */
  function isMuted(stream, at) {
    const tracks = stream.getTracks();
    const playing = [...document.querySelectorAll("audio, video")].filter((element) =>
      element.srcObject?.getTracks().some((track) => tracks.includes(track)),
    );
    return playing.length > 0 && playing.every((element) => element.muted && at > (mutedSince.get(element) ?? 0));
  }

  async function record(kind, node) {
    const context = node.context;
    if (!modules.has(context)) modules.set(context, context.audioWorklet.addModule(module));
    await modules.get(context);
    const sound = { kind, rate: context.sampleRate, times: [], blocks: [] };
    const listener = new AudioWorkletNode(context, "tap", {
      channelCount: 1,
      channelCountMode: "explicit",
      outputChannelCount: [1],
    });
    listener.port.onmessage = ({ data: [date, block] }) => {
      const at = date - performance.timeOrigin;
      sound.times.push(at);
      sound.blocks.push(kind === "track" && isMuted(node.mediaStream, at) ? new Int16Array(BLOCK) : block);
    };
    connect.call(node, listener);
    connect.call(listener, context.destination); // which pulls it; its output is silence
    tap.sounds.push(sound);
  }

  let own;
  function recordStream(kind, stream) {
    own ??= new AudioContext();
    own.resume();
    record(kind, own.createMediaStreamSource(stream));
  }

  AudioNode.prototype.connect = function (destination, ...rest) {
    if (destination instanceof AudioDestinationNode && this.context instanceof AudioContext) record("played", this);
    return connect.call(this, destination, ...rest);
  };

  if (navigator.mediaDevices) {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (constraints) => {
      const stream = await open(constraints);
      if (stream.getAudioTracks().length) recordStream("microphone", stream);
      return stream;
    };
  }

  function note(way, wire, data) {
    if (typeof data !== "string" || /"(type|event)": ?"(audio|media)"/.test(data.slice(0, 100))) tap.audio[way]++;
    else tap.messages.push({ at: performance.now(), way, wire, data });
  }

  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => note("in", "websocket", data));
    }
    send(data) {
      note("out", "websocket", data);
      super.send(data);
    }
  };

  const sendOnChannel = RTCDataChannel.prototype.send;
  RTCDataChannel.prototype.send = function (data) {
    note("out", "channel", data);
    sendOnChannel.call(this, data);
  };
  const listen = (channel) => {
    channel.addEventListener("message", ({ data }) => note("in", "channel", data));
    return channel;
  };
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...options) {
      super(...options);
      this.addEventListener("datachannel", ({ channel }) => listen(channel));
      this.addEventListener("track", ({ track }) => {
        if (track.kind === "audio") recordStream("track", new MediaStream([track]));
      });
    }
    createDataChannel(...options) {
      return listen(super.createDataChannel(...options));
    }
  };

  tap.take = (kind) =>
    tap.sounds
      .filter((sound) => sound.kind === kind)
      .map(({ rate, times, blocks }) => {
        let bytes = "";
        for (const block of blocks) bytes += String.fromCharCode(...new Uint8Array(block.buffer));
        return { rate, times: [...times], pcm: btoa(bytes) };
      });
})();
