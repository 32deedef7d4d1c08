// Puts what the server tells into the page. Nothing is touched that has not changed.

const byId = (id) => document.getElementById(id);

/** Set text only where it differs, so that the browser and a screen reader stay calm. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function number(value) {
  const size = Math.abs(value);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2 });
}

/** Milliseconds as [number, unit]; seconds from ten thousand on. */
export function time(ms) {
  if (ms >= 10000) return [(ms / 1000).toFixed(1), "s"];
  return [ms >= 100 ? ms.toFixed(0) : ms.toFixed(1), "ms"];
}

export function bytes(value) {
  const mib = value / 2 ** 20;
  return mib >= 1024 ? [(mib / 1024).toFixed(2), "GiB"] : [mib.toFixed(0), "MiB"];
}

export function seconds(value) {
  const whole = Math.floor(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
}

function figure(id, pair, reason = "") {
  const node = byId(id), unit = byId(`${id}-unit`);
  node.classList.toggle("none", pair === null);
  node.title = pair === null ? reason : "";
  say(node, pair === null ? "not measured" : pair[0]);
  if (unit) say(unit, pair === null ? "" : pair[1]);
}

export function showNow(now, point, over) {
  const aged = now.latency_ms !== null;
  say(byId("latency-name"), aged || now.work_ms === null ? "Latency, capture to result" : "Time in all stages");
  const shown = aged ? now.latency_ms : now.work_ms;
  figure("latency", shown === null ? null : time(shown), "Nothing has come through yet");
  const [p50, p99] = point?.values ?? [null, null];
  const parts = p50 === null ? [] : [`p50 ${time(p50).join(" ")}`, `p99 ${time(p99).join(" ")}`];
  const more = byId("latency-more");
  while (more.children.length > parts.length) more.lastChild.remove();
  parts.forEach((text, place) => {
    if (!more.children[place]) more.append(place ? " " : "", make("span"));
    say(more.children[place], text);
  });
  figure("age", now.age_ms === null ? null : time(now.age_ms), "This input has no moment of capture");
  if (over) { say(byId("age"), "–"); say(byId("age-unit"), ""); }  // nothing grows older any more
  figure("rate", now.per_s === null ? null : [now.per_s.toFixed(1)]);
  const { rss_bytes: memory, power_w: power } = now;
  figure("memory", memory.value === null ? null : bytes(memory.value), memory.reason);
  figure("power", power.value === null ? null : [power.value.toFixed(1), "W"], power.reason);
}

/** Where the limit's mark stands: values up to a quarter beyond it fit on the bar. */
const MARK = 0.8;

export function showBudget(lines) {
  const list = byId("budget");
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach((line, place) => {
    const item = list.children[place] ?? list.appendChild(limitRow());
    const [name, verdict, bar, said] = item.children;
    const unit = line.unit ? ` ${line.unit}` : "";
    item.dataset.ok = String(line.ok);
    say(name, line.name);
    say(verdict, line.value === null ? "not measured" : line.ok ? "within" : line.better === "lower" ? "over" : "below");
    const bound = `${line.better === "lower" ? "at most" : "at least"} ${number(line.limit)}${unit}`;
    say(said, line.value === null ? `${line.reason}; ${bound}` : `${number(line.value)}${unit}, ${bound}`);
    const share = line.value === null || !line.limit ? 0 : line.value / line.limit * MARK;
    bar.firstChild.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
  });
}

function limitRow() {
  const item = make("li", "limit"), bar = make("div", "bar"), mark = make("u");
  bar.setAttribute("aria-hidden", "true");
  mark.style.left = `${MARK * 100}%`;
  bar.append(make("span"), mark);
  item.append(make("span"), make("span", "verdict"), bar, make("span", "said"));
  return item;
}

const HEAD = new Set(["source", "index", "time_s"]);
const SHOWN_AT_MOST = 8;

export function showResult(result) {
  const place = byId("result-place"), body = byId("result");
  if (!result) return;
  const source = String(result.source ?? "");
  const name = /^\/dev\/|:\/\//.test(source) ? source : source.split("/").pop();
  say(place, `${name ? `${name} ` : ""}#${result.index ?? ""}`);
  const text = JSON.stringify(result);
  if (body.dataset.shown === text) return;
  body.dataset.shown = text;
  body.replaceChildren(...resultRows(result));
}

function resultRows(result) {
  if (Array.isArray(result.labels) && Array.isArray(result.scores)) return foundRows(result);
  const rows = [];
  if (typeof result.text === "string") rows.push(make("p", "said-text", result.text || "(no words)"));
  const pairs = make("dl", "pairs");
  for (const [name, value] of Object.entries(result)) {
    if (HEAD.has(name) || name === "text") continue;
    pairs.append(make("dt", "", name.replaceAll("_", " ")), make("dd", "", brief(value)));
  }
  if (pairs.children.length) rows.push(pairs);
  return rows.length ? rows : [make("p", "quiet", "This result has no fields.")];
}

function brief(value) {
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) {
    const flat = value.every((item) => typeof item !== "object");
    return flat && value.length <= 6 ? value.map(brief).join(", ") : `${value.length > 100 ? "100 and more" : value.length} values`;
  }
  if (value !== null && typeof value === "object") return JSON.stringify(value).slice(0, 120);
  return String(value);
}

function foundRows(result) {
  const count = result.labels.length;
  if (!count) return [make("p", "quiet", "Nothing found in this frame.")];
  const rows = result.labels.slice(0, SHOWN_AT_MOST).map((label, place) => {
    const row = make("div", "found"), score = result.scores[place], box = result.boxes_xyxy?.[place];
    row.append(make("b", "", String(label)), make("span", "", typeof score === "number" ? score.toFixed(2) : ""));
    if (Array.isArray(box)) {
      const [left, top, right, bottom] = box.map(Math.round);
      row.append(make("span", "box", `${right - left} × ${bottom - top} px at ${left}, ${top}`));
    }
    return row;
  });
  if (count > SHOWN_AT_MOST) rows.push(make("p", "quiet", `and ${count - SHOWN_AT_MOST} more`));
  return rows;
}

export function showCounters(counters, watching) {
  for (const [name, value] of Object.entries(counters)) say(byId(`count-${name}`), value.toLocaleString("en"));
  say(byId("count-viewers"), watching.toLocaleString("en"));
}

export function showStages(stages) {
  const body = byId("stages").tBodies[0];
  while (body.rows.length > stages.length) body.deleteRow(-1);
  stages.forEach((stage, place) => {
    const row = body.rows[place] ?? body.insertRow();
    while (row.cells.length < 4) row.insertCell();
    const texts = [stage.name, `${Math.round(stage.busy_share * 100)} %`, ...[stage.service_p50_ms, stage.service_p99_ms]
      .map((value) => value === null ? "–" : time(value).join(" "))];
    texts.forEach((text, cell) => say(row.cells[cell], text));
  });
}

export function showEnds(sources, sinks) {
  const list = byId("ends"), rows = [...sources.map(sourceRow), ...sinks.map(sinkRow)];
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(({ ok, name, more }, place) => {
    let item = list.children[place];
    if (!item) {
      item = list.appendChild(make("li"));
      const dot = make("span", "dot");
      dot.setAttribute("aria-hidden", "true");
      item.append(dot, make("span"), make("span", "quiet"));
    }
    item.dataset.ok = String(ok);
    say(item.children[1], name);
    say(item.children[2], more);
  });
}

function sourceRow(source) {
  const count = `${source.captured.toLocaleString("en")} frames`;
  const state = source.connected ? "connected" : `lost ${source.lost_for_s === null ? "" : `for ${seconds(source.lost_for_s)}`}`;
  const more = [`source, ${state}`, count, source.trouble].filter(Boolean).join(" · ");
  return { ok: source.connected, name: source.name, more };
}

function sinkRow(sink) {
  const state = sink.connected ? "connected" : "not reached";
  const more = [`sink, ${state}`, `${sink.written.toLocaleString("en")} written`, sink.dropped ? `${sink.dropped.toLocaleString("en")} dropped` : "", sink.trouble];
  return { ok: sink.connected, name: sink.name, more: more.filter(Boolean).join(" · ") };
}
