"use strict";

// Charts take the page's colours, which follow the reader's light or dark setting, and are light in print.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim(), line = style.getPropertyValue("--line").trim();
  const ground = style.getPropertyValue("--ground").trim();
  const axis = {gridcolor: line, linecolor: line, zerolinecolor: line};
  return {
    "font.color": text, "hoverlabel.bgcolor": ground, "hoverlabel.font.color": text,
    ...Object.fromEntries(["xaxis", "yaxis"].flatMap(
      name => Object.entries(axis).map(([key, value]) => [`${name}.${key}`, value]))),
  };
}

const charts = [...document.querySelectorAll(".chart")];
for (const chart of charts) {
  const {data, layout} = JSON.parse(chart.querySelector("script").textContent);
  Plotly.newPlot(chart, data, layout, {responsive: true, displayModeBar: false});
}
function recolour() {
  for (const chart of charts) Plotly.relayout(chart, colours());
}
recolour();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// A figure's legend hides a method in all of its charts.
for (const button of document.querySelectorAll(".method")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const chart of button.closest("figure").querySelectorAll(".chart")) {
      const traces = chart.data.flatMap((trace, i) => trace.meta === button.dataset.method ? [i] : []);
      Plotly.restyle(chart, {visible: shown}, traces);
    }
  });
}

// Claims are shown by verdict and by part.
const filters = [...document.querySelectorAll(".filter")];
const part = document.getElementById("part");
const claims = [...document.querySelectorAll(".claim")];
function filter() {
  const verdicts = filters.filter(f => f.getAttribute("aria-pressed") === "true").map(f => f.dataset.verdict);
  for (const claim of claims) {
    claim.hidden = !verdicts.includes(claim.dataset.verdict) || (part.value !== "" && claim.dataset.part !== part.value);
  }
  document.getElementById("shown").textContent = `${claims.filter(c => !c.hidden).length} of ${claims.length}`;
}
for (const button of filters) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    filter();
  });
}
part.addEventListener("change", filter);
filter();

// A link to a claim opens it, and ends the filters that hide it.
function open() {
  const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (claim && claim.classList.contains("claim")) {
    if (claim.hidden) {
      for (const button of filters) button.setAttribute("aria-pressed", true);
      part.value = "";
      filter();
    }
    claim.open = true;
    claim.scrollIntoView();
  }
}
addEventListener("hashchange", open);
open();

// Print is light, and shows what is open and what is not.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
  document.documentElement.classList.add("printing");
  recolour();
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  document.documentElement.classList.remove("printing");
  recolour();
});
