import { Agents } from "./agents.js";
import { Call } from "./call.js";
import { Camera } from "./camera.js";
import { Captions } from "./captions.js";
import { Cost } from "./cost.js";
import { byId, clock, element } from "./dom.js";
import { Engine } from "./engine.js";
import { Latency } from "./latency.js";
import { Microphone } from "./microphone.js";
import { Pictures } from "./pictures.js";
import { Presence } from "./presence.js";
import { PushToTalk } from "./push-to-talk.js";
import { Server } from "./server.js";
import { keep, kept, showDevices, themeButton } from "./settings.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

const TRANSPORTS = { webrtc: "WebRTC", websocket: "WebSocket" };

/** The page: what the call tells is shown, what the user does is told to the call. */
class App {
  #page = new URL(location.href);
  #server = new Server(this.#page);
  #microphone = new Microphone();
  #call = null;
  #began = 0;
  #callerSpeaks = false;
  #agentSpeaks = false;
  #thinks = false;
  #pressed = false; // the server hears the caller only while they press
  #may = new Set(); // the controls that the server grants

  #agents = new Agents(byId("agents"), (target) =>
    this.#ask("duologue.transfer", { target, reason: "asked for on the page" }),
  );
  #pictures = new Pictures();
  #camera = new Camera(
    (frame) => this.#call.rtvi.request("duologue.camera", frame),
    () => this.#call.transport === "websocket",
  );
  #captions = new Captions(
    byId("captions"),
    byId("newest"),
    this.#agents,
    (text) => this.#announce(text),
    (name) => this.#pictures.thumbnail(name),
  );
  #timeline = new Timeline(byId("ribbon"), byId("moments"), this.#agents);
  #latency = new Latency(byId("legend"), byId("turns"), byId("median"));
  #tools = new Tools(byId("tools"), (id, approved) => this.#ask("duologue.approve", { call_id: id, approved }));
  #cost = new Cost(byId("cost"), byId("services"), byId("unpriced"));
  #engine = new Engine(byId("engine"), byId("engine-connection"), (engine) =>
    this.#ask("duologue.transfer", { engine }),
  );
  #pushToTalk = new PushToTalk(byId("hold"), (held) => this.#hold(held));

  constructor() {
    this.#takeToken();
    themeButton(byId("theme"));
    this.#bindCall();
    this.#bindAudio();
    for (const eyes of [this.#pictures, this.#camera]) eyes.on("problem", (text) => this.#problem(text));
    new Presence(byId("presence"), () => this.#levels());
    setInterval(() => this.#tick(), 500);
    setInterval(() => byId("microphone-level").style.setProperty("--level", this.#microphone.level()), 80);
  }

  /** A token in the address is a secret: it goes with each request, and out of sight. */
  #takeToken() {
    this.#server.token = this.#page.searchParams.get("token") ?? "";
    if (!this.#server.token) return;
    this.#page.searchParams.delete("token");
    history.replaceState(null, "", this.#page);
  }

  // -- what the user does ---------------------------------------------------------------------------------------------

  #bindCall() {
    byId("talk").addEventListener("click", () => (this.#call?.live ? this.#call.hangUp() : this.#start()));
    byId("dismiss").addEventListener("click", () => this.#problem(""));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say(byId("message").value);
      byId("message").value = "";
    });
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#server.token = byId("token").value;
      byId("token").value = "";
      this.#start();
    });
    byId("details-button").addEventListener("click", ({ currentTarget: button }) => {
      const open = document.body.dataset.details !== "true";
      document.body.dataset.details = String(open);
      button.setAttribute("aria-expanded", String(open));
    });
    addEventListener("pagehide", () => this.#call?.hangUp());
  }

  #bindAudio() {
    const microphones = byId("microphone");
    const speakers = byId("speaker");
    const attempt = (work) => Promise.resolve(work).catch((error) => this.#problem(error.message));
    byId("mute").addEventListener("click", ({ currentTarget: button }) => {
      const muted = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(muted));
      this.#microphone.muted = muted;
    });
    microphones.addEventListener("change", () => attempt(this.#microphone.choose(microphones.value)));
    speakers.addEventListener("change", () => attempt(this.#call?.chooseSpeaker(speakers.value)));
    this.#microphone.on("changed", (track) => this.#call?.listen(track));
    this.#microphone.on("devices", () => this.#showDevices());
    this.#showDevices();

    const pushToTalk = byId("push-to-talk");
    const setPushToTalk = () => (this.#microphone.pushToTalk = this.#pushToTalk.on = pushToTalk.checked);
    pushToTalk.checked = kept("push-to-talk") === "true";
    pushToTalk.addEventListener("change", () => {
      keep("push-to-talk", pushToTalk.checked);
      setPushToTalk();
    });
    setPushToTalk();
  }

  async #showDevices() {
    showDevices(byId("microphone"), await this.#microphone.devices("audioinput"));
    const speakers = "setSinkId" in HTMLMediaElement.prototype ? await this.#microphone.devices("audiooutput") : [];
    showDevices(byId("speaker"), speakers);
    byId("speaker-field").hidden = speakers.length === 0;
  }

  #hold(held) {
    this.#microphone.held = held;
    if (this.#pressed) {
      this.#ask("duologue.talk", { talking: held }).catch(() => {});
      return;
    }
    if (held && this.#agentSpeaks && this.#may.has("interrupt")) this.#ask("duologue.interrupt", {}).catch(() => {});
  }

  #say(text) {
    if (this.#call?.state !== "connected") return;
    const picture = this.#pictures.take();
    if (picture) this.#call.rtvi.picture(picture, text.trim());
    else if (text.trim()) this.#call.rtvi.say(text.trim());
  }

  /** Ask the server for something; a refusal is shown, and rejects. */
  async #ask(type, data) {
    try {
      return await this.#call?.rtvi.request(type, data);
    } catch (error) {
      this.#problem(`That did not work: ${error.message}.`);
      throw error;
    }
  }

  // -- the call -------------------------------------------------------------------------------------------------------

  #start() {
    this.#problem("");
    byId("token-form").hidden = true;
    this.#captions.clear();
    this.#latency.clear();
    this.#tools.clear();
    this.#cost.show({});
    this.#callerSpeaks = this.#agentSpeaks = this.#thinks = false;
    const call = (this.#call = new Call(this.#server, this.#microphone, byId("audio")));
    call.on("state", (state) => this.#changed(call, state));
    call.on("problem", (text) => this.#problem(text));
    this.#listen(call.rtvi);
    call.start({ transport: this.#page.searchParams.get("transport") ?? "", speaker: byId("speaker").value });
  }

  #listen(rtvi) {
    rtvi
      .on("user-started-speaking", () => this.#activity({ caller: true, thinks: false }))
      .on("user-stopped-speaking", () => this.#activity({ caller: false, thinks: true }))
      .on("bot-started-speaking", () => this.#activity({ agent: true, thinks: false }))
      .on("bot-stopped-speaking", () => this.#activity({ agent: false }))
      .on("llm-function-call-in-progress", (data) => this.#tools.running(data))
      .on("llm-function-call-stopped", (data) => this.#tools.stopped(data))
      .on("duologue.state", (state) => this.#showState(state))
      .on("duologue.row", ({ row }) => this.#showRow(row))
      .on("duologue.handoff", (handoff) => this.#timeline.handoff(handoff))
      .on("duologue.latency", (latency) => this.#latency.add(latency))
      .on("duologue.usage", (usage) => this.#cost.show(usage))
      .on("duologue.approval", (approval) => this.#showApproval(approval))
      .on("duologue.connection", (connection) => this.#engine.connection(connection))
      .on("duologue.hint", ({ phrases }) => this.#showHints(phrases));
  }

  #changed(call, state) {
    document.body.dataset.state = byId("state").textContent = state;
    const connected = state === "connected";
    if (connected && !this.#began) {
      this.#began = performance.now();
      this.#timeline.start();
    }
    byId("talk").dataset.live = String(call.live);
    byId("talk-label").textContent = call.live ? "Hang up" : "Talk";
    for (const id of ["message", "send", "mute"]) byId(id).disabled = !connected;
    for (const hint of byId("hints").children) hint.disabled = !connected;
    this.#pushToTalk.enabled = this.#camera.enabled = connected;
    if (connected || !call.live) this.#pictures.enabled = connected;
    if (!call.live) this.#camera.stop();
    if (!call.live) this.#over(call);
    this.#showActivity();
    this.#tick();
  }

  #over(call) {
    this.#began = 0;
    this.#callerSpeaks = this.#agentSpeaks = this.#thinks = false;
    this.#agents.end();
    this.#engine.end();
    this.#tools.end();
    if (!call.error) return;
    this.#problem(call.error.message);
    if (call.error.code !== "unauthorized" && call.error.code !== "forbidden") return;
    byId("token-form").hidden = false;
    byId("token").focus();
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  #showState({ agents = [], agent = "", engine = "", engines = [], access, controls = [], camera_fps = 0, mode = "" }) {
    this.#pressed = mode === "push_to_talk";
    if (this.#pressed) this.#microphone.pushToTalk = this.#pushToTalk.on = true;
    this.#camera.fps = camera_fps;
    this.#pictures.taken = camera_fps > 0;
    this.#may = new Set(controls);
    const shown = { latency: this.#may.has("latency"), cost: this.#may.has("usage"), engine: engines.length > 0 };
    for (const [panel, has] of Object.entries(shown)) byId(`${panel}-panel`).hidden = !has;
    this.#agents.update(agents, agent, this.#may.has("transfer"));
    this.#engine.update(engines, engine, this.#may.has("transfer"));
    this.#timeline.active(agent);
    if (agent) byId("agent").textContent = this.#agents.label(agent);
    byId("stage").dataset.hue = this.#agents.hue(agent);
    if (access && access !== "active") this.#problem(`You are ${access}: the agent does not hear you at the moment.`);
    this.#showActivity();
  }

  #showRow(row) {
    if (row.type === "tool_call" || row.type === "tool_result") this.#tools.row(row);
    this.#captions.show(row);
    document.body.dataset.empty = String(this.#captions.empty);
  }

  #showApproval(approval) {
    this.#tools.approval(approval);
    if (approval.state === "wanted") this.#announce(`${approval.name} waits for your approval`);
  }

  /** Tell screen readers. */
  #announce(text) {
    byId("announcer").textContent = text;
  }

  #showHints(phrases = []) {
    const chips = phrases.map((phrase) => {
      const chip = element("button", { type: "button", text: phrase });
      chip.addEventListener("click", () => this.#say(phrase));
      return chip;
    });
    byId("hints").replaceChildren(...chips);
    byId("hints").hidden = chips.length === 0;
  }

  #activity({ caller = this.#callerSpeaks, agent = this.#agentSpeaks, thinks = this.#thinks }) {
    this.#callerSpeaks = caller;
    this.#agentSpeaks = agent;
    this.#thinks = thinks;
    this.#showActivity();
  }

  #showActivity() {
    const call = this.#call;
    byId("activity").textContent = {
      connecting: "Connecting…",
      reconnecting: "The connection broke off: trying to get it back…",
      ended: `The call has ended: ${call?.reason}.`,
      error: "Not connected.",
      connected: this.#doing(),
    }[call?.state];
  }

  #doing() {
    const role = this.#agents.role(this.#agents.active);
    const doing = this.#agentSpeaks
      ? "speaking"
      : this.#callerSpeaks
        ? "hears you"
        : this.#thinks
          ? "thinking…"
          : "listening";
    return role ? `${role} · ${doing}` : doing;
  }

  #levels() {
    return {
      agent: this.#call?.level() ?? 0,
      caller: this.#microphone.level(),
      thinking: this.#thinks || this.#call?.state === "connecting",
    };
  }

  #tick() {
    const parts = this.#began ? [TRANSPORTS[this.#call.transport], clock(this.#timeline.seconds)] : [];
    byId("connection-detail").textContent = parts.join(" · ");
    if (this.#began) this.#timeline.tick();
  }

  #problem(text) {
    byId("error").textContent = text;
    byId("problem-box").hidden = !text;
  }
}

new App();
