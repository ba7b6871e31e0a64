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

// A chart is drawn when it first has a size, which it has not while it is folded, and again when that changes.
const charts = [...document.querySelectorAll(".chart")];
function draw(chart) {
  if (chart.clientWidth === 0) return;
  if (chart.classList.contains("js-plotly-plot")) {
    Plotly.Plots.resize(chart);
    return;
  }
  const {data, layout} = JSON.parse(chart.querySelector("script").textContent);
  Plotly.newPlot(chart, data, layout, {displayModeBar: false});
  Plotly.relayout(chart, colours());
}
function recolour() {
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(chart, colours());
}
const sizes = new ResizeObserver(entries => entries.forEach(({target}) => draw(target)));
for (const chart of charts) sizes.observe(chart);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// A figure's legend hides and shows a method in all of its charts.
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

// A figure is enlarged in a window of its own, and comes back to its place.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    const figure = button.closest("figure"), place = document.createElement("div");
    place.style.height = `${figure.offsetHeight}px`;
    figure.replaceWith(place);
    dialog.append(figure);
    dialog.showModal();
    dialog.addEventListener("close", () => place.replaceWith(figure), {once: true});
  });
}
document.getElementById("close").addEventListener("click", () => dialog.close());

// Tables that are wider than the page say that they scroll.
const widths = new ResizeObserver(entries => {
  for (const {target} of entries) {
    target.parentElement.classList.toggle("scrolls", target.scrollWidth > target.clientWidth);
  }
});
for (const scroll of document.querySelectorAll(".scroll")) widths.observe(scroll);

// A chip shows the claims of the verdict that it names, and opens their parts.
const filters = [...document.querySelectorAll(".filter")];
const claims = [...document.querySelectorAll(".claim")];
function filter(verdict) {
  for (const button of filters) button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
  for (const claim of claims) claim.hidden = verdict !== "" && claim.dataset.verdict !== verdict;
  for (const part of document.querySelectorAll(".part")) {
    part.hidden = part.querySelector(".claim:not([hidden])") === null;
    part.open = verdict !== "" && !part.hidden;
  }
  document.getElementById("shown").textContent = `${claims.filter(c => !c.hidden).length} of ${claims.length}`;
}
for (const chip of [...filters, ...document.querySelectorAll(".totals a")]) {
  chip.addEventListener("click", () => filter(chip.dataset.verdict));
}
filter("");

// A link opens what it leads to, and ends the filter that hides it.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest("[hidden]")) filter("");
  for (let folded = target.closest("details"); folded; folded = folded.parentElement.closest("details")) {
    folded.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", open);
open();

// Print is light, and shows what is open and what is not.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
  document.documentElement.classList.add("printing");
  charts.forEach(draw);
  recolour();
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  document.documentElement.classList.remove("printing");
  recolour();
});
