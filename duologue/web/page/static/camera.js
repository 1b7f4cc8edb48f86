import { byId } from "./dom.js";
import { CallError, cameraError } from "./errors.js";
import { Events } from "./events.js";
import { encode } from "./pictures.js";

const QUALITIES = [0.7, 0.5, 0.35];
// A frame must not hold up the voice, where both take the same way.
const LARGE = { side: 768, bytes: 90 * 1024 };
const SMALL = { side: 640, bytes: 40 * 1024 };

/**
 * The caller's camera or screen, of which the agent sees a frame from time to time. Off until a button is pressed; what
 * is seen is shown here. Emits `problem` with a text.
 */
export class Camera extends Events {
  #view = byId("view");
  #video = byId("view-video");
  #buttons = { camera: byId("camera-button"), screen: byId("screen-button") };
  #send;
  #stream = null;
  #kind = "";
  #fps = 0;
  #enabled = false;
  #isShared;

  /** `send(frame)` sends a frame, and resolves when the server has it; `isShared()` tells if the voice shares its way. */
  constructor(send, isShared) {
    super();
    this.#send = send;
    this.#isShared = isShared;
    for (const [kind, button] of Object.entries(this.#buttons))
      button.addEventListener("click", () => (this.#kind === kind ? this.stop() : this.start(kind)));
    byId("view-stop").addEventListener("click", () => this.stop());
    this.#show();
  }

  /** Frames a second that the server looks at; 0 if it looks at none. */
  set fps(fps) {
    this.#fps = fps;
    this.#show();
    if (!fps) this.stop();
  }

  /** Whether there is a call. */
  set enabled(enabled) {
    this.#enabled = enabled;
    this.#show();
  }

  /** Turn the camera or the screen on; the other one goes off. */
  async start(kind) {
    this.stop();
    try {
      const stream = await open(kind);
      if (!this.#enabled || !this.#fps || this.#stream) {
        close(stream);
        return;
      }
      this.#stream = stream;
      this.#kind = kind;
      stream.getVideoTracks()[0].addEventListener("ended", () => this.#stream === stream && this.stop());
      this.#video.srcObject = stream;
      await this.#video.play();
      this.#show();
      this.#run(stream, kind);
    } catch (error) {
      this.stop();
      this.emit("problem", (error instanceof CallError ? error : cameraError(kind, error)).message);
    }
  }

  stop() {
    close(this.#stream);
    this.#stream = this.#video.srcObject = null;
    this.#kind = "";
    this.#show();
  }

  async #run(stream, kind) {
    let told = false;
    while (this.#stream === stream) {
      const began = performance.now();
      const { side, bytes } = this.#isShared() ? SMALL : LARGE;
      try {
        const frame = this.#enabled ? await encode(this.#video, side, bytes, QUALITIES) : null;
        if (frame && this.#stream === stream)
          await this.#send({ bytes: frame.bytes, format: frame.format, source: kind });
      } catch (error) {
        if (!told && this.#stream === stream) this.emit("problem", `The agent does not see your ${kind}: ${error.message}.`);
        told = true;
      }
      const pause = 1000 / (this.#fps || 1) - (performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, Math.max(pause, 50)));
    }
  }

  #show() {
    for (const [kind, button] of Object.entries(this.#buttons)) {
      button.hidden = !this.#fps || (kind === "screen" && !navigator.mediaDevices?.getDisplayMedia);
      button.disabled = !this.#enabled;
      button.setAttribute("aria-pressed", String(this.#kind === kind));
    }
    this.#view.hidden = !this.#kind;
    byId("view-text").textContent = `The agent sees your ${this.#kind}`;
  }
}

function open(kind) {
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  if (kind === "screen") return navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 5 }, audio: false });
  return navigator.mediaDevices.getUserMedia({ video: { ...size, facingMode: "environment", frameRate: { ideal: 10 } } });
}

function close(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
