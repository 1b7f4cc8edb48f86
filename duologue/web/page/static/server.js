import { refusal, unreachable, wrongToken } from "./errors.js";

const TIMEOUT_MS = 5000;

/** The server that this page comes from: its addresses are relative to the page's own. */
export class Server {
  /** What the caller shows to be let in; "" for nothing. */
  token = "";
  #page;

  constructor(page) {
    this.#page = page;
  }

  /** Send JSON, get JSON. Throws a CallError if the server refuses or is not there. */
  async send(method, path, body) {
    const headers = { "Content-Type": "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let response;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      response = await fetch(new URL(path, this.#page), { method, headers, body: JSON.stringify(body), signal });
    } catch {
      throw unreachable();
    }
    const answer = await response.json().catch(() => null);
    if (response.ok) return answer ?? {};
    if (response.status === 401 && this.token) throw wrongToken();
    const error = answer?.error ?? answer?.detail;
    throw refusal(response.status, error?.code, error?.message ?? (typeof error === "string" ? error : ""));
  }

  /** Ask whether a call by `transport` would be taken, and with which ICE servers. Throws as `send` does. */
  async start(transport) {
    try {
      return await this.send("POST", "start", { transport, enableDefaultIceServers: true });
    } catch (error) {
      if (error.code === "http_404" || error.code === "http_405") return {}; // a server without discovery
      throw error;
    }
  }

  /** The address of a WebSocket, with the token: browsers cannot send headers there. */
  socket(path, query) {
    const url = new URL(path, this.#page);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams(this.token ? { ...query, token: this.token } : query);
    return url;
  }
}
