// Pipecat's client with one of its transports, as an application uses it. What it is told is kept in `call.events`.
import { PipecatClient, RTVIEvent } from "@pipecat-ai/client-js";
import { SmallWebRTCTransport, WavMediaManager } from "@pipecat-ai/small-webrtc-transport";
import { WavMediaManager as WebSocketMedia, WebSocketTransport } from "@pipecat-ai/websocket-transport";

// The clients' other media manager, which is their default, loads a program from its maker's servers.
const TRANSPORTS = {
  webrtc: () => new SmallWebRTCTransport({ mediaManager: new WavMediaManager() }),
  websocket: () => new WebSocketTransport({ mediaManager: new WebSocketMedia(512, 16000) }),
};

window.pipecat = async (kind, start, headers) => {
  const events = [];
  const keep = (event, data) => {
    if (data instanceof MediaStreamTrack) data = { kind: data.kind };
    events.push({ event, at: performance.now(), data: JSON.parse(JSON.stringify(data ?? null)) });
  };
  const client = new PipecatClient({
    transport: TRANSPORTS[kind](),
    enableMic: true,
    callbacks: {
      onTrackStarted: (track, participant) => {
        if (participant?.local || track.kind !== "audio") return;
        const audio = document.createElement("audio");
        audio.autoplay = true;
        audio.srcObject = new MediaStream([track]);
        document.body.append(audio);
      },
    },
  });
  for (const event of Object.values(RTVIEvent)) client.on(event, (data) => keep(event, data));
  client.registerFunctionCallHandler("get_location", async ({ arguments: given }) => {
    keep("ranInTheClient", given);
    return { city: "Oslo" };
  });
  const ready = await client.startBotAndConnect({
    endpoint: start,
    headers: new Headers(headers),
    requestData: { transport: kind, enableDefaultIceServers: false, body: { page: "test" } },
  });
  window.call = { client, events, ready };
  return ready;
};
