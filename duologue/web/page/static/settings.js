const THEMES = ["automatic", "light", "dark"];

/** What the browser keeps for the next visit; where it keeps nothing, what was set is good for this one. */
export function kept(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is blocked.
  }
}

/** The button that goes from the system's theme to light, to dark, and round. */
export function themeButton(button) {
  const root = document.documentElement;
  const show = (theme) => {
    if (theme === "automatic") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
    button.title = `Theme: ${theme}`;
  };
  let theme = root.dataset.theme ?? "automatic";
  show(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    keep("theme", theme);
    show(theme);
  });
}

/** Fills a select with devices, as the browser names them; keeps what was chosen if it is still there. */
export function showDevices(select, devices) {
  const chosen = select.value;
  const options = devices.map(({ deviceId, label }, i) => new Option(label || `Device ${i + 1}`, deviceId));
  select.replaceChildren(new Option("Default", ""), ...options);
  select.value = devices.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}
