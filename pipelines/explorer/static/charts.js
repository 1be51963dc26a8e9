"use strict";
// Charts, drawn by plotly. What the data says only ever becomes text.

const COLOURS = ["#1f6feb", "#bf8700", "#1a7f37", "#cf222e", "#8250df", "#0a7ea4", "#57606a", "#bc4c00"];

// An exponential moving average, freed of its beginning at zero.
function smoothed(values, share) {
  let mean = 0, weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = share * mean + (1 - share) * value;
    weight = share * weight + (1 - share);
    return mean / weight;
  });
}

// Values minus those of the first line, at points that both have or between its neighbours.
function minusFirst(x, y, firstX, firstY) {
  const known = firstX.map((at, i) => [at, firstY[i]]).filter(([at, value]) => at !== null && value !== null);
  let next = 0;
  return x.map((at, i) => {
    if (at === null || y[i] === null || !known.length || at < known[0][0]) return null;
    while (next < known.length && known[next][0] < at) next += 1;
    if (next === known.length) return null;
    const [right, high] = known[next];
    if (right === at || next === 0) return y[i] - high;
    const [left, low] = known[next - 1];
    return y[i] - (low + (high - low) * (at - left) / (right - left));
  });
}

function themed() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return { text: value("--text"), line: value("--line"), page: value("--page") };
}

function layout(axes) {
  const theme = themed();
  const axis = { gridcolor: theme.line, zerolinecolor: theme.line, linecolor: theme.line, automargin: true };
  return {
    font: { color: theme.text, size: 12, family: "system-ui, sans-serif" },
    paper_bgcolor: theme.page, plot_bgcolor: theme.page,
    margin: { l: 56, r: 40, t: 10, b: 44 },
    modebar: { orientation: "v" }, // in the margin at the right, where it covers nothing
    xaxis: { ...axis, ...axes.x }, yaxis: { ...axis, ...axes.y },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left" }, showlegend: axes.legend, hovermode: axes.hover || "closest",
  };
}

// Plotly reads a few tags in its texts; a name has none.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const CONFIG = {
  displaylogo: false, responsive: true, showTips: false,
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d"],
};

function lines(chart, plot, choice) {
  const overSteps = choice.x === "steps";
  const xOf = (line) => (overSteps ? line.steps : line.tokens);
  const first = chart.lines[0];
  const traces = [];
  chart.lines.forEach((line, number) => {
    const colour = COLOURS[number % COLOURS.length];
    const dash = line.dashed ? "dash" : ["solid", "dot", "dashdot"][Math.floor(number / COLOURS.length) % 3];
    const x = xOf(line);
    let y = choice.difference ? minusFirst(x, line.values, xOf(first), first.values) : line.values;
    const common = { x, hovertemplate: `%{y:.5~g}<extra>${plain(line.name)}</extra>`, type: "scatter" };
    const style = { color: colour, width: 1.6, dash };
    if (choice.smooth > 0) {
      traces.push({ ...common, y, mode: "lines", line: { color: colour, width: 1 }, opacity: 0.25, showlegend: false, hoverinfo: "skip", hovertemplate: undefined });
      y = smoothed(y, choice.smooth);
    }
    const errors = line.errors && line.errors.some((error) => error !== null) && !choice.difference
      ? { type: "data", array: line.errors, color: colour, thickness: 1, width: 3 } : undefined;
    traces.push({ ...common, y, name: plain(line.name), mode: line.values.length > 30 ? "lines" : "lines+markers", line: style, error_y: errors,
      customdata: line.address ? line.steps.map((step) => line.address + step) : undefined });
  });
  const axes = {
    x: { title: { text: overSteps ? "step" : "tokens" }, exponentformat: "SI" },
    y: { title: { text: plain(choice.difference ? `${chart.label}, minus ${first.name}` : chart.label) } },
    legend: chart.lines.length > 1, hover: chart.lines.length > 1 ? "x" : "closest",
  };
  return Plotly.react(plot, traces, layout(axes), CONFIG);
}

function bars(chart, plot) {
  const traces = chart.columns.map((column, number) => ({
    type: "bar", orientation: "h", name: plain(column.name), y: chart.names.map(plain), x: column.values,
    marker: { color: number ? COLOURS[number] : COLOURS[0] }, hovertemplate: `%{x:.4~g} %{y}<extra>${plain(column.name)}</extra>`,
  }));
  const axes = {
    x: { title: { text: plain(chart.unit) }, tickformat: chart.unit.startsWith("share") ? ".0%" : "~s" },
    y: { autorange: "reversed", type: "category" }, legend: chart.columns.length > 1,
  };
  plot.style.height = `${110 + 22 * chart.names.length * Math.max(1, chart.columns.length * 0.8)}px`;
  return Plotly.react(plot, traces, layout(axes), CONFIG);
}

function control(label, input) {
  const made = document.createElement("label");
  made.append(`${label} `, input);
  return made;
}

function input(type, attributes) {
  return Object.assign(document.createElement("input"), { type }, attributes);
}

function controls(chart, choice, draw) {
  const made = document.createElement("div");
  made.className = "controls";
  const x = document.createElement("select");
  for (const name of ["tokens", "steps"]) x.append(new Option(name, name));
  x.addEventListener("change", () => { choice.x = x.value; draw(); });
  made.append(control("over", x));
  const smooth = input("range", { min: 0, max: 0.99, step: 0.01, value: choice.smooth });
  smooth.addEventListener("input", () => { choice.smooth = Number(smooth.value); draw(); });
  made.append(control("smoothing", smooth));
  if (chart.lines.length > 1) {
    const difference = input("checkbox", { checked: false });
    difference.addEventListener("change", () => { choice.difference = difference.checked; draw(); });
    made.append(control("difference from the first", difference));
  }
  return made;
}

function drawn(figure) {
  const chart = JSON.parse(document.getElementById(figure.dataset.of).textContent);
  const plot = document.createElement("div");
  plot.className = "plot";
  const caption = document.createElement("figcaption");
  caption.textContent = chart.title;
  figure.replaceChildren(caption, plot);
  if (chart.kind === "bars") { bars(chart, plot); return; }
  const choice = { x: "tokens", smooth: 0, difference: false };
  const draw = () => lines(chart, plot, choice);
  if (figure.dataset.controls !== undefined) caption.after(controls(chart, choice, draw));
  draw();
  plot.on("plotly_click", (event) => {
    const address = event.points[0].customdata;
    if (typeof address === "string" && address.startsWith("/step/")) location.assign(address);
  });
}

document.querySelectorAll("figure.chart").forEach(drawn);
