// The reader's colours: those of the system, or those chosen in the head of the page. Others ask for them here.
"use strict";
const report = (() => {
  const root = document.documentElement;
  const listeners = [];
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;

  // A variable may depend on the scheme; the colour of an element never does.
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const changed = () => listeners.forEach((listener) => listener());

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  document.querySelectorAll('input[name="scheme"]').forEach((choice) => choice.addEventListener("change", () => {
    root.style.colorScheme = choice.value;
    changed();
  }));
  return { colour, onTheme: (listener) => listeners.push(listener) };
})();
