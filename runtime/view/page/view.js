// The page of a run: what state it is in, its connections, its controls.

import { Chart } from "./charts.js";
import { bytes, number, say, seconds, showBudget, showCounters, showEnds, showNow, showResult, showStages } from "./figures.js";
import { Pictures } from "./pictures.js";

const byId = (id) => document.getElementById(id);
const SILENT_MS = 6000, AGAIN_MS = 1500, STALE_S = 3;

const view = { state: null, history: null, heardMs: 0, paused: false, link: "connecting", streaming: false, dirty: false, said: "" };
const charts = [
  new Chart(byId("chart-age"), { title: "Age", series: ["p50_ms", "p99_ms"], names: ["p50", "p99"], tell: (value) => `${number(value)} ms` }),
  new Chart(byId("chart-rate"), { title: "Rate", series: ["per_s"], names: ["rate"], tell: (value) => `${number(value)} per s` }),
  new Chart(byId("chart-memory"), { title: "Memory", series: ["rss_bytes"], names: ["memory"], tell: (value) => bytes(value).join(" "), unit: 2 ** 20 }),
];

// What the run is up to, in words.

/** Returns [kind, status, head of the veil or "", more]. */
function situation() {
  const { state, link } = view;
  const run = state?.run;
  if (run?.state === "ended") return ["wait", "Run ended", canvas.hidden ? "The run has ended" : "", ""];
  if (run?.state === "failed") return ["bad", "Run failed", "The run failed", run.message];
  if (link === "refused") return ["bad", "Not allowed", "This page is no longer allowed in", "Open the address that the run printed when it started."];
  if (link === "gone") return ["bad", "Server gone", "The server is gone", "Trying again. The run may have been stopped."];
  if (link === "full") return ["warn", "All seats taken", "All seats of this view are taken", "Trying again until somebody leaves."];
  if (!state) return ["wait", "Connecting", "Connecting", ""];
  if (run.state === "starting") return ["wait", "Starting", "The run is starting", "No picture yet."];
  const lost = state.sources.find((source) => !source.connected);
  if (lost) {
    const away = lost.lost_for_s === null ? "" : `, ${seconds(lost.lost_for_s)}`;
    return ["warn", `Source lost: reconnecting${away}`, `Reconnecting${away}`, [lost.name, lost.trouble].filter(Boolean).join(": ")];
  }
  if (!state.now.number) return ["wait", "No picture yet", "No picture yet", "Waiting for the first frame."];
  if (state.now.since_s > STALE_S) return ["warn", `No result for ${seconds(state.now.since_s)}`, "", ""];
  if (state.shows === "nothing") return ["good", "Live", "", ""];
  if (!view.streaming && !view.paused) return ["good", "Live", "No picture yet", ""];
  return ["good", "Live", "", ""];
}

function showSituation() {
  const [kind, status, head, more] = situation();
  byId("status").dataset.kind = kind;
  say(byId("status-text"), status);
  byId("veil").hidden = !head || (view.paused && kind === "good");
  say(byId("veil-head"), head);
  say(byId("veil-more"), more);
  byId("main").classList.toggle("old", ["gone", "refused"].includes(view.link) && !isOver());
  const spoken = status.replace(/, \d.*$/, "").replace(/ for \d.*$/, "");  // not every second
  if (spoken !== view.said) {
    view.said = spoken;
    byId("announce").textContent = [spoken, kind === "bad" ? more : ""].filter(Boolean).join(". ");
  }
}

function showState() {
  const { state } = view;
  document.title = `${state.title} · jetlift`;
  say(byId("title"), state.title);
  say(byId("task"), state.task);
  byId("stage").hidden = state.shows === "nothing";
  showNow(state.now, state.point, isOver());
  byId("pause").disabled = isOver();
  showBudget(state.budget);
  showResult(state.result);
  showCounters(state.counters, state.watching);
  showStages(state.stages);
  showEnds(state.sources, state.sinks);
  showPrompts(state.prompts);
}

// Figures.

let events = null;

function listen() {
  events?.close();
  view.heardMs = performance.now();
  events = new EventSource("/events");
  events.addEventListener("history", (event) => { view.history = JSON.parse(event.data); drawCharts(); });
  events.addEventListener("state", (event) => { hear(JSON.parse(event.data)); });
  events.onerror = () => { if (!isOver()) askWhy(); };
}

function hear(state) {
  view.heardMs = performance.now();
  view.link = "open";
  view.state = state;
  addPoint(state.point);
  showState();
  watch();
  showSituation();
  if (isOver()) events.close();
}

const isOver = () => ["ended", "failed"].includes(view.state?.run.state);

/** The events broke off: is the server gone, full, or are we no longer let in? */
async function askWhy() {
  events.close();
  let link = "gone";
  try {
    const answer = await fetch("/api/state", { signal: AbortSignal.timeout(SILENT_MS) });
    link = answer.status === 401 ? "refused" : answer.ok ? "full" : "gone";
    if (link === "full" && view.link === "open") link = "connecting";  // broken once, not yet full
  } catch { /* nobody answered */ }
  view.link = link;
  watch();
  showSituation();
  if (link !== "refused") setTimeout(() => { if (!document.hidden) listen(); }, AGAIN_MS);
}

function addPoint(point) {
  const { history } = view;
  if (!history || !point.values || point.number <= history.number) return;
  history.number = point.number;
  Object.keys(history.columns).forEach((name, place) => {
    history.columns[name].push(point.values[place]);
    if (history.columns[name].length > history.room) history.columns[name].shift();
  });
  drawCharts();
}

function drawCharts() {
  for (const chart of charts) chart.draw(view.history.columns, view.history.room);
}

// Pictures.

const screen = byId("screen"), canvas = byId("picture");
const pictures = new Pictures(canvas, {
  onPicture() {
    if (view.streaming) return;
    view.streaming = true;
    screen.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
    canvas.hidden = false;
    showSituation();
  },
  onEnd() {
    view.streaming = false;
    setTimeout(watch, AGAIN_MS);
  },
});

/** Open the stream where there is something to see, and nowhere else. */
function watch() {
  const { state } = view;
  const wanted = state && state.shows !== "nothing" && view.link === "open" && !view.paused && !document.hidden && !isOver();
  if (!wanted) unwatch(); else if (!pictures.open) pictures.start();
}

/** The last picture stays. */
function unwatch() {
  pictures.stop();
  view.streaming = false;
}

// Controls.

function note(text, bad = false) {
  byId("note").classList.toggle("bad", bad);
  say(byId("note"), text);
}

function pause() {
  if (isOver()) return;
  view.paused = !view.paused;
  byId("pause").setAttribute("aria-pressed", String(view.paused));
  say(byId("pause-text"), view.paused ? "Resume" : "Pause");
  byId("badge").hidden = !view.paused;
  canvas.setAttribute("aria-label", view.paused ? "Paused picture" : "Live picture with the latest result drawn into it");
  watch();
  showSituation();
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  note(`Saved ${name}`);
}

async function snapshot() {
  if ((view.paused || view.link !== "open" || isOver()) && !canvas.hidden) {
    const moment = new Date().toISOString().replaceAll(/[-:]/g, "").slice(0, 15);
    canvas.toBlob((blob) => save(blob, `${view.state.title}-${moment}.jpg`), "image/jpeg", 0.95);
    return;
  }
  try {
    const answer = await fetch("/snapshot.jpg");
    if (!answer.ok) { note((await answer.text()).trim(), true); return; }
    const named = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "");
    save(await answer.blob(), named?.[1] ?? "picture.jpg");
  } catch { note("The server did not answer.", true); }
}

function fullScreen() {
  const stage = byId("stage");
  if (document.fullscreenElement) { document.exitFullscreen(); return; }
  if (stage.requestFullscreen) { stage.requestFullscreen().catch(() => fill(true)); return; }
  fill(!stage.classList.contains("filled"));
}

function fill(on) {
  byId("stage").classList.toggle("filled", on);
  showFull(on);
}

function showFull(on) {
  byId("full").setAttribute("aria-pressed", String(on));
  say(byId("full-text"), on ? "Leave full screen" : "Full screen");
}

document.addEventListener("fullscreenchange", () => showFull(Boolean(document.fullscreenElement)));
byId("pause").addEventListener("click", pause);
byId("snapshot").addEventListener("click", snapshot);
byId("full").addEventListener("click", fullScreen);

document.addEventListener("keydown", (event) => {
  const field = event.target.closest?.("textarea, input, select");
  if (event.key === "Escape" && byId("stage").classList.contains("filled")) fill(false);
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest?.("button, a")) return;  // the button's own key
  const does = { " ": pause, s: snapshot, f: fullScreen, "/": () => box.focus() }[event.key];
  if (!does || event.repeat) return;
  event.preventDefault();
  does();
});

// Prompts.

const box = byId("prompts"), apply = byId("apply");

function showPrompts(prompts) {
  const off = Boolean(prompts.why_not);
  box.disabled = off;
  apply.disabled = off || apply.dataset.busy === "yes";
  say(byId("prompts-rule"), off ? prompts.why_not : `One per line, ${prompts.most} at most.`);
  document.querySelector("#prompts-hint .keys").hidden = off;
  const text = prompts.current.join("\n");
  if (!view.dirty && box.value !== text) box.value = text;
}

function answer(text, bad) {
  byId("prompts-answer").classList.toggle("bad", bad);
  say(byId("prompts-answer"), text);
}

async function change() {
  const prompts = box.value.split("\n").map((line) => line.trim()).filter(Boolean);
  apply.dataset.busy = "yes";
  apply.disabled = true;
  answer("Applying …", false);
  try {
    const reply = await fetch("/api/prompts", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompts }) });
    const told = await reply.json().catch(() => ({ error: "The change failed inside; the run's log says more." }));
    if (reply.ok) view.dirty = false;
    answer(reply.ok ? "In force now." : told.error, !reply.ok);
  } catch { answer("The server did not answer.", true); }
  apply.dataset.busy = "";
  apply.disabled = false;
}

box.addEventListener("input", () => { view.dirty = true; answer("", false); });
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!apply.disabled) change(); }
  if (event.key === "Escape") box.blur();
});
byId("prompts-form").addEventListener("submit", (event) => { event.preventDefault(); change(); });

// A page that nobody sees watches nothing.

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    unwatch();
    events?.close();
  } else if (!isOver()) {
    view.link = "connecting";
    listen();
  }
});

setInterval(() => {
  if (document.hidden || isOver() || view.link !== "open") return;
  if (performance.now() - view.heardMs > SILENT_MS) { askWhy(); return; }  // a line that broke without a word
  const still = pictures.open && view.state.now.picture && view.state.now.since_s < 1;
  if (still && performance.now() - pictures.drawnMs > SILENT_MS) { unwatch(); watch(); }
}, 1000);

listen();
showSituation();
