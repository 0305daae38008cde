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
  // What an address points to is shown, with everything that it is folded into.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  addEventListener("load", reveal);
  // Paper cannot be unfolded; afterwards the page is as it was.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:is(.part, .in-full):not([open])")];
    unfolded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => unfolded.forEach((part) => { part.open = false; }));
  return { colour, onTheme: (listener) => listeners.push(listener) };
})();
