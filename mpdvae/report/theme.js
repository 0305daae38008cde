// The reader's colour scheme: the system's, or the one chosen at the top of the page. Other scripts get colours from here.
"use strict";
const report = (() => {
  const root = document.documentElement;
  const listeners = [];
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;

  // A variable may depend on the colour scheme; the computed colour of an element never does.
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
