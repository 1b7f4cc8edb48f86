import { byId } from "./dom.js";
import { Events } from "./events.js";

const MAX_FILE_BYTES = 20 * 1024 * 1024;
const MAX_SIDE = 1600;
const MAX_BYTES = 170 * 1024; // as base64 in a message of at most 256 KiB
const QUALITIES = [0.85, 0.7, 0.55, 0.4];
const THUMBNAIL_SIDE = 240;
const MAX_THUMBNAILS = 50;

/**
 * Pictures for the agent: chosen, dropped on the page, or pasted. One waits beside the message field until it is sent.
 * Emits `problem` with a text.
 */
export class Pictures extends Events {
  #box = byId("picture");
  #canvas = byId("picture-canvas");
  #waiting = null;
  #enabled = false;
  #taken = false;
  #sent = new Map(); // thumbnails of what was sent, by name

  constructor() {
    super();
    const chooser = byId("picture-file");
    byId("picture-button").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      this.#attach(chooser.files[0]);
      chooser.value = "";
    });
    byId("picture-remove").addEventListener("click", () => this.clear());
    addEventListener("paste", (event) => {
      const file = image(event.clipboardData);
      if (!file || !this.#ready) return;
      event.preventDefault();
      this.#attach(file);
    });
    this.#bindDrop(document.body);
  }

  #bindDrop(target) {
    const files = (event) => event.dataTransfer?.types.includes("Files");
    target.addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault(); // else the browser leaves the page, and the call, for the file
      event.dataTransfer.dropEffect = this.#ready ? "copy" : "none";
      target.dataset.dropping = String(this.#ready);
    });
    target.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) target.dataset.dropping = "false";
    });
    target.addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      target.dataset.dropping = "false";
      if (this.#ready) this.#attach(image(event.dataTransfer) ?? event.dataTransfer.files[0]);
    });
  }

  /** Whether there is a call that takes pictures. */
  set enabled(enabled) {
    this.#enabled = enabled;
    byId("picture-button").disabled = !enabled;
    if (!enabled) this.clear();
  }

  /** Whether the agent takes pictures. */
  set taken(taken) {
    this.#taken = taken;
    byId("picture-button").hidden = !taken;
    if (!taken) this.clear();
  }

  get #ready() {
    return this.#enabled && this.#taken;
  }

  async #attach(file) {
    if (!file || !this.#ready) return;
    const name = file.name || "picture";
    try {
      if (file.size > MAX_FILE_BYTES) throw new Error(`it has ${megabytes(file.size)}, and 20 MB are the most`);
      const drawn = await read(file);
      const picture = await encode(drawn, MAX_SIDE, MAX_BYTES);
      if (!this.#ready) return;
      this.#waiting = { name, ...picture };
      draw(this.#canvas, drawn);
      this.#canvas.setAttribute("aria-label", `Picture to send: ${name}`);
      byId("picture-name").textContent = `${name} · ${picture.width} × ${picture.height}`;
      this.#box.hidden = false;
      byId("message").focus();
    } catch (error) {
      this.emit("problem", `“${name}” cannot be sent: ${error.message}.`);
    }
  }

  /** The picture that waits, which is then sent. Null if there is none. */
  take() {
    const picture = this.#waiting;
    if (picture) {
      const thumbnail = document.createElement("canvas");
      draw(thumbnail, this.#canvas);
      this.#sent.set(picture.name, thumbnail);
      if (this.#sent.size > MAX_THUMBNAILS) this.#sent.delete(this.#sent.keys().next().value);
    }
    this.clear();
    return picture;
  }

  clear() {
    this.#waiting = null;
    this.#box.hidden = true;
  }

  /** The thumbnail of a picture that was sent from here, once; null for another one. */
  thumbnail(name) {
    const thumbnail = this.#sent.get(name) ?? null;
    this.#sent.delete(name);
    return thumbnail;
  }
}

function image(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

async function read(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error("it is not a picture that this browser can read");
  }
}

/** Draw a source into a canvas, with sides of at most `side` pixels. White is behind what is transparent. */
function draw(canvas, source, side = THUMBNAIL_SIDE) {
  const width = source.videoWidth || source.width;
  const height = source.videoHeight || source.height;
  const scale = Math.min(1, side / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // a JPEG has nothing transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
}

/** A source (bitmap or video) as a JPEG of at most `maxBytes` bytes: {bytes (base64), format, width, height}. */
export async function encode(source, maxSide, maxBytes, qualities = QUALITIES) {
  for (let side = maxSide; side >= 64; side = Math.round(side * 0.75)) {
    const canvas = document.createElement("canvas");
    draw(canvas, source, side);
    for (const quality of qualities) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
      if (blob && blob.size <= maxBytes)
        return { bytes: await base64(blob), format: "image/jpeg", width: canvas.width, height: canvas.height };
    }
  }
  throw new Error("it cannot be made small enough");
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
