const LAYERS = [
  { reach: 0.14, wobble: 0.04, speed: 0.9, alpha: 0.2, phase: 0 },
  { reach: 0.1, wobble: 0.05, speed: -1.3, alpha: 0.34, phase: 2 },
  { reach: 0.05, wobble: 0.035, speed: 0.7, alpha: 1, phase: 4 },
];
const RADIUS = 0.27;
const FRAME_MS = 33;
const IDLE_MS = 120;
const POINTS = 48;
const REST = 0.004;

/** The agent, as a shape in its colour that swells with its voice, and leans in while it listens. */
export class Presence {
  #canvas;
  #context;
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #levels;
  #agent = 0;
  #caller = 0;
  #last = 0;

  /** `levels()` gives how loud agent and caller are, from 0 to 1, and whether the agent thinks. */
  constructor(canvas, levels) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#levels = levels;
    this.#next();
  }

  #next() {
    // Silence is drawn seldom: a page that waits costs next to nothing.
    const moving = this.#agent > REST || this.#caller > REST || this.#levels().thinking;
    setTimeout(() => requestAnimationFrame((now) => this.#frame(now)), moving ? 0 : IDLE_MS);
  }

  #frame(now) {
    if (now - this.#last >= FRAME_MS - 4) {
      const { agent, caller, thinking } = this.#levels();
      this.#agent += (agent - this.#agent) * (agent > this.#agent ? 0.5 : 0.18);
      this.#caller += (caller - this.#caller) * (caller > this.#caller ? 0.4 : 0.15);
      this.#last = now;
      this.#draw(this.#still.matches ? 0 : now / 1000, thinking);
    }
    this.#next();
  }

  #draw(time, thinking) {
    const context = this.#context;
    const size = this.#fit();
    const style = getComputedStyle(this.#canvas);
    context.clearRect(0, 0, size, size);
    const shade = context.createRadialGradient(0.4 * size, 0.36 * size, 0.02 * size, size / 2, size / 2, 0.42 * size);
    shade.addColorStop(0, `color-mix(in oklab, ${style.color} 72%, white)`);
    shade.addColorStop(1, style.color);
    context.fillStyle = shade;
    context.strokeStyle = style.color;
    const breath = thinking && time ? 0.03 * Math.sin(4 * time) : 0;
    for (const layer of LAYERS) {
      const radius = size * (RADIUS + breath + layer.reach * this.#agent + (layer.alpha < 1 ? 0.015 : 0));
      context.globalAlpha = layer.alpha;
      this.#blob(size, radius, layer.wobble * (0.25 + this.#agent) * (time ? 1 : 0), time * layer.speed + layer.phase);
    }
    context.globalAlpha = 0.25 + 0.5 * this.#caller;
    context.lineWidth = size * (0.006 + 0.02 * this.#caller);
    context.beginPath();
    context.arc(size / 2, size / 2, size * (0.485 - 0.02 * this.#caller), 0, 2 * Math.PI);
    context.stroke();
  }

  #blob(size, radius, wobble, phase) {
    const context = this.#context;
    context.beginPath();
    for (let i = 0; i <= POINTS; i++) {
      const angle = (2 * Math.PI * i) / POINTS;
      const wave =
        Math.sin(3 * angle + phase) + 0.6 * Math.sin(5 * angle - 1.7 * phase) + 0.4 * Math.sin(2 * angle + 0.6 * phase);
      const reach = radius * (1 + wobble * wave);
      context.lineTo(size / 2 + reach * Math.cos(angle), size / 2 + reach * Math.sin(angle));
    }
    context.fill();
  }

  #fit() {
    const size = Math.round(this.#canvas.clientWidth * Math.min(2, devicePixelRatio));
    if (this.#canvas.width !== size) this.#canvas.width = this.#canvas.height = size;
    return size;
  }
}
