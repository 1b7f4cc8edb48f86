/** What can go wrong, in words for the person at the page. */

export class CallError extends Error {
  /** `code` is a word for programs; `retry` says whether another transport may succeed where this one failed. */
  constructor(code, message, { retry = false } = {}) {
    super(message);
    this.code = code;
    this.retry = retry;
  }
}

const MICROPHONE = {
  NotAllowedError: ["microphone_blocked", "Microphone blocked: allow it in the address bar, then press Talk."],
  SecurityError: ["microphone_blocked", "Microphone blocked by the settings of this browser or page."],
  NotFoundError: ["no_microphone", "No microphone found: plug one in, then press Talk."],
  OverconstrainedError: ["no_microphone", "The chosen microphone is gone: choose another one, then press Talk."],
  NotReadableError: ["microphone_busy", "Microphone busy: another program uses it. Close that, then press Talk."],
  AbortError: [
    "microphone_busy",
    "The microphone could not be started. Unplug it and plug it in again, then press Talk.",
  ],
};

/** What the browser says about the microphone, as a CallError. */
export function microphoneError(error) {
  const known = MICROPHONE[error.name];
  return known
    ? new CallError(...known)
    : new CallError("microphone", `The microphone does not work: ${error.message}`);
}

const CAMERA = {
  NotAllowedError: (what) => `The ${what} is blocked: allow it in the address bar, and press the button again.`,
  SecurityError: (what) => `The ${what} is blocked by the settings of this browser or page.`,
  NotFoundError: (what) => `No ${what} found: plug one in, and press the button again.`,
  OverconstrainedError: (what) => `No ${what} found that fits.`,
  NotReadableError: (what) => `The ${what} is busy: another program uses it. Close that, and press the button again.`,
  AbortError: (what) => `The ${what} could not be started.`,
};

/** What the browser says about the camera or the screen (`what`), as a CallError. */
export function cameraError(what, error) {
  const text = CAMERA[error.name]?.(what) ?? `The ${what} does not work: ${error.message}`;
  return new CallError(`${what}_failed`, text);
}

/** The page cannot use a microphone at all: browsers give it to secure pages only. */
export function insecure() {
  return new CallError(
    "insecure",
    "Browsers allow the microphone only on https:// pages and on localhost: open this page there.",
  );
}

const REFUSALS = {
  401: ["unauthorized", "This server asks for an access token."],
  403: ["forbidden", "You may not call this server."],
  429: ["too_many", "Too many requests: wait a minute, then press Talk."],
  503: ["full", "The server is full: all lines are busy. Try again in a minute."],
};

/** The server does not take the token. */
export function wrongToken() {
  return new CallError("unauthorized", "The server does not take this access token.");
}

/** The server's answer to a request, where it is a refusal. `reason` is its own explanation. */
export function refusal(status, code, reason) {
  if (code === "shutting_down") return new CallError(code, "The server is shutting down. Try again in a minute.");
  const known = REFUSALS[status];
  if (known) return new CallError(...known);
  return new CallError(`http_${status}`, `The server refused the call (${status}${reason ? `: ${reason}` : ""}).`, {
    retry: true,
  });
}

/** Nothing answers at the server's address. */
export function unreachable() {
  return new CallError("unreachable", "The server cannot be reached. Check your network, then press Talk.", {
    retry: true,
  });
}

/** The connection broke in the middle of the call. */
export function lost() {
  return new CallError("lost", "The connection was lost, and the call with it. Press Talk to start a new one.");
}

/** The server has ended the call, for a reason of its own. */
export function ended(reason) {
  return new CallError("ended", `The server ended the call: ${reason}.`);
}
