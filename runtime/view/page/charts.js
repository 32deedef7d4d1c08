// Line charts over the last two minutes, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240, HEIGHT = 100;

/** A step of 1, 2 or 5 times a power of ten that is not below `value`. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) if (step * power >= value) return step * power;
  return 10 * power;
}

function element(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Path of a series; a gap where a value is missing. The newest point is at the right edge. */
function path(values, top, room) {
  let text = "", pen = false;
  values.forEach((value, place) => {
    if (value === null) { pen = false; return; }
    const x = WIDTH * (room - values.length + place) / (room - 1);
    const y = HEIGHT * (1 - value / top);
    text += `${pen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = true;
  });
  return text;
}

export class Chart {
  /**
   * @param {HTMLElement} figure Where it is drawn.
   * @param {{title: string, series: string[], names: string[], tell: (value: number) => string, unit?: number}} form
   *   The scale ends at a round number of `unit`.
   */
  constructor(figure, form) {
    this.form = form;
    const caption = document.createElement("figcaption");
    caption.append(form.title);
    if (form.names.length > 1) {
      const legend = document.createElement("span");
      legend.className = "legend";
      for (const name of form.names) legend.append(Object.assign(document.createElement("span"), { textContent: name }));
      caption.append(legend);
    }
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    for (const y of [0, HEIGHT / 2, HEIGHT]) this.svg.append(element("line", { x1: 0, x2: WIDTH, y1: y, y2: y, class: "grid" }));
    this.under = element("path", { class: "under" });
    this.curves = form.series.map((_, place) => element("path", { class: place ? "curve second" : "curve" }));
    this.svg.append(this.under, ...this.curves);
    this.top = Object.assign(document.createElement("span"), { className: "top-value" });
    this.none = Object.assign(document.createElement("span"), { className: "none", textContent: "Not measured" });
    const plot = Object.assign(document.createElement("div"), { className: "plot" });
    plot.append(this.svg, this.top, this.none);
    const scale = Object.assign(document.createElement("p"), { className: "scale" });
    for (const text of ["2 min ago", "now"]) scale.append(Object.assign(document.createElement("span"), { textContent: text }));
    figure.replaceChildren(caption, plot, scale);
  }

  /** Draw columns of values, as the server sends them. */
  draw(columns, room) {
    const { series, names, title, tell, unit = 1 } = this.form;
    const all = series.map((name) => columns[name]);
    const known = all.flat().filter((value) => value !== null);
    this.none.hidden = known.length > 0;
    const top = ceiling(Math.max(...known, 0) * 1.05 / unit) * unit;
    this.top.textContent = known.length ? tell(top) : "";
    all.forEach((values, place) => this.curves[place].setAttribute("d", path(values, top, room)));
    const whole = all.length === 1 && all[0].length > 1 && all[0].every((value) => value !== null);
    const left = WIDTH * (room - all[0].length) / (room - 1);
    this.under.setAttribute("d", whole ? `${path(all[0], top, room)}L${WIDTH} ${HEIGHT}L${left.toFixed(2)} ${HEIGHT}Z` : "");
    const last = names.map((name, place) => {
      const value = all[place].findLast?.((item) => item !== null);
      return value === undefined ? `${name} not measured` : `${name} ${tell(value)}`;
    });
    this.svg.setAttribute("aria-label", `${title} over the last two minutes: ${last.join(", ")}`);
  }
}
