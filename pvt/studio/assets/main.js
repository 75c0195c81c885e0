// The studio: connects score, lanes, player and the generation service.

import * as api from "./api.js";
import { copy, paste } from "./clipboard.js";
import { exportFile, importFile, record } from "./files.js";
import { LineLane } from "./line-lane.js";
import { NotesLane } from "./notes-lane.js";
import { $, STORED } from "./page.js";
import { Player } from "./player.js";
import { listPresets, savePreset, usePreset } from "./presets.js";
import { Score } from "./score.js";
import { StripLane } from "./strip-lane.js";
import { View } from "./view.js";

const LANES = { line: LineLane, notes: NotesLane, strip: StripLane };
const KINDS = { line: 0, notes: 1, strip: 2 };
const GUIDANCE = [1, 4]; // range of the weight for models that take any
const LIVE_DELAY = 400; // milliseconds after the last change

class Studio {
  constructor() {
    Object.assign(this, { score: new Score(), lanes: [], tool: "draw", selection: null, clip: null, history: [], job: null, frameSeconds: 0.01 });
    this.view = new View(this);
    this.player = new Player(() => this.transport());
    this.score.settings = { read: () => this.settingsValue(), write: (value) => this.settings(value) };
  }

  get grid() { return Number($("grid").value); }

  get position() { return this.player.position; }

  async open() {
    const { models, presets, example } = await api.get("api/models");
    this.models = models;
    this.presets = presets;
    $("model").replaceChildren(...models.map(({ name, label }) => new Option(`${name} (${label})`, name)));
    const stored = JSON.parse(localStorage.getItem(STORED) ?? "null");
    this.choose(models.find(({ name }) => name === stored?.settings?.model) ?? models[0]);
    listPresets(this);
    this.score.onchange(() => this.changed());
    if (stored?.controls === JSON.stringify(this.model.controls)) {
      this.score.restore(stored.score);
      this.view.fit();
      this.settings(stored.settings);
      this.view.dirty();
    } else {
      this.score.load(example.curves, 8);
      this.score.past = [];
      this.view.fit();
    }
    if (example.job) this.follow(example.job, { title: "example", state: this.score.state() });
    else this.generate();
    document.body.dataset.ready = "true";
  }

  choose(model) {
    this.model = model;
    $("model").value = model.name;
    this.score.controls = model.controls;
    const pitched = model.controls.some(({ name }) => name === "pitch");
    const drawn = model.controls.filter(({ name }) => !(pitched && name === "chroma")); // pitch holds more than chroma
    const ordered = drawn.sort((a, b) => KINDS[a.kind] - KINDS[b.kind]);
    for (const button of document.querySelectorAll("[data-needs=pitch]")) button.hidden = !pitched;
    if (!pitched && ["glide", "vibrato"].includes(this.tool)) this.choose_tool("draw");
    this.lanes = ordered.map((control) => new LANES[control.kind](this, control));
    this.focused = this.lanes[0];
    $("lanes").replaceChildren(...this.lanes.map((lane) => lane.figure));
    $("seconds").max = model.max_seconds;
    $("steps").placeholder = model.steps;
    $("churn").parentElement.hidden = !model.churn;
    [$("guidance").min, $("guidance").max] = model.guidance ?? GUIDANCE;
    $("guidance-value").value = $("guidance").value;
    $("guidance-by").hidden = Boolean(model.guidance);
    $("guidance-by").replaceChildren(...model.controls.map(({ name }) => {
      const label = document.createElement("label");
      label.append(`Guidance of ${name} `);
      const input = Object.assign(document.createElement("input"), { type: "number", min: 0, max: 10, step: 0.1, placeholder: "as above" });
      input.dataset.control = name;
      label.append(input);
      return label;
    }));
    this.view.dirty();
  }

  // ---- settings and requests

  settings({ model, by = {}, ...value } = {}) {
    if (model !== undefined && model !== this.model.name) this.choose(this.models.find(({ name }) => name === model) ?? this.model);
    for (const [id, content] of Object.entries(value)) if ($(id)) $(id).value = content;
    for (const input of $("guidance-by").querySelectorAll("input")) input.value = by[input.dataset.control] ?? "";
    $("guidance-value").value = $("guidance").value;
    this.settled = this.settingsValue();
  }

  // After an input has changed: one step of undo, from the settings before.
  settingsChanged() { this.score.commit({ ...this.score.state(), settings: this.settled }); }

  settingsValue() {
    const by = Object.fromEntries(this.guided().map((input) => [input.dataset.control, input.value]));
    return { model: this.model.name, ...Object.fromEntries(["guidance", "seed", "steps", "churn", "variants"].map((id) => [id, $(id).value])), by };
  }

  // Inputs of the controls that have a guidance of their own.
  guided() { return this.model.guidance ? [] : [...$("guidance-by").querySelectorAll("input")].filter((input) => input.value !== ""); }

  guidance() {
    const by = this.guided();
    const common = Number($("guidance").value);
    if (!by.length) return common;
    return Object.fromEntries(this.model.controls.map(({ name }) => [name, Number(by.find((input) => input.dataset.control === name)?.value ?? common)]));
  }

  request(span) {
    return {
      model: this.model.name, curves: this.score.curves(), seconds: this.score.seconds, variants: Number($("variants").value),
      seed: Number($("seed").value), guidance: this.guidance(), steps: $("steps").value ? Number($("steps").value) : null,
      s_churn: this.model.churn ? Number($("churn").value) : 0, draft: true, ...(span ? { span } : {}),
    };
  }

  async generate(span) {
    if (!$("lock").checked) $("seed").value = Math.floor(Math.random() * 1e9);
    this.settled = this.settingsValue();
    this.cancel();
    const mine = (this.asked = {});
    try {
      const { id } = await api.post("api/jobs", this.request(span));
      if (this.asked !== mine) return api.cancel(id);
      this.follow(id, this.entry(span ? "redrawn " : ""));
    } catch (error) { this.announce(error.message); }
  }

  // Generate the take of a recipe, after the takes it was redrawn from.
  async repeat(recipe) {
    this.cancel();
    this.select({ start: recipe.span.start, stop: recipe.span.stop });
    this.follow((await api.post("api/recipes", recipe)).id, this.entry("redrawn "));
  }

  // An entry of the history with the present curves and settings.
  entry(prefix) {
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    return { title: `${prefix}${time} · seed ${$("seed").value}`, state: this.score.state(), settings: this.settingsValue() };
  }

  follow(job, entry) {
    this.job = job;
    $("cancel").hidden = false;
    this.progress(0, "queued");
    this.unfollow = api.follow(job, async (event) => {
      if (this.job !== job) return;
      if (event.kind === "queued") this.progress(0, event.position ? `${event.position} before this one` : "queued");
      else if (event.kind === "progress") this.progress(event.share, `${Math.round(100 * event.share)} % · ${event.seconds_left} s left`);
      else if (event.kind === "started") this.progress(0, "started");
      else if (event.kind === "draft" || event.kind === "takes") await this.received(entry, event).catch((error) => this.announce(error.message));
      else {
        this.job = null;
        $("cancel").hidden = true;
        this.progress(event.kind === "done" ? 1 : 0, { done: "done", cancelled: "cancelled", error: "failed" }[event.kind]);
        if (event.kind === "error") this.announce(event.message);
        document.body.dataset.job = event.kind;
      }
    });
    document.body.dataset.job = "running";
  }

  async received(entry, event) {
    entry.draft = event.kind === "draft";
    const takes = await Promise.all(event.takes.map(async (take) => ({
      ...take, buffer: await this.player.decode(await api.bytes(`api/takes/${take.id}/wav`)), mel: await api.levels(`api/takes/${take.id}/spectrogram`),
    })));
    entry.takes = takes;
    if (!this.history.includes(entry)) this.history.push(entry);
    if (this.history.length > 30) this.history.shift();
    this.show(entry, Math.min(this.variant ?? 0, takes.length - 1));
    document.body.dataset.takes = entry.draft ? "draft" : "full";
  }

  cancel() {
    this.asked = null;
    if (!this.job) return;
    api.cancel(this.job);
    this.unfollow?.();
    this.job = null;
    $("cancel").hidden = true;
    this.progress(0, "cancelled");
    document.body.dataset.job = "cancelled";
  }

  progress(share, text) {
    $("progress").setAttribute("aria-valuenow", Math.round(100 * share));
    $("progress").firstElementChild.style.width = `${100 * share}%`;
    $("progress").lastElementChild.textContent = text;
  }

  // ---- takes and history

  show(entry, variant = 0) {
    if (this.current && this.current !== entry) this.previous = this.current;
    this.current = entry;
    this.variant = variant;
    const take = entry.takes[variant];
    this.frameSeconds = take.analysis.frame_seconds;
    for (const lane of this.lanes) {
      lane.achieved = take.analysis.lanes[lane.name] ?? null;
      lane.figure.querySelector(".achieved").textContent = lane.achieved?.text ? `achieved: ${lane.achieved.text}` : "";
    }
    this.player.use(take.buffer);
    $("take-fact").textContent = `${entry.title}${entry.draft ? " · draft" : ""}${entry.takes.length > 1 ? ` · variant ${variant + 1}` : ""}`;
    $("takes").replaceChildren(...entry.takes.map((_, i) => {
      const button = Object.assign(document.createElement("button"), { textContent: String(i + 1), title: `Variant ${i + 1} (key ${i + 1})` });
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", String(i === variant));
      button.onclick = () => this.show(entry, i);
      return button;
    }));
    $("redraw").disabled = !(this.selection && this.model.redraw);
    this.paintHistory();
    this.view.paintSpectrogram();
    this.transport();
    this.view.dirty();
  }

  paintHistory() {
    $("history").replaceChildren(...[...this.history].reverse().map((entry) => {
      const item = document.createElement("li");
      item.classList.toggle("current", entry === this.current);
      const show = Object.assign(document.createElement("button"), { textContent: entry.title, title: "Hear this entry" });
      show.onclick = () => this.show(entry);
      const restore = Object.assign(document.createElement("button"), { textContent: "↺", title: "Restore these curves and settings" });
      restore.setAttribute("aria-label", `Restore curves and settings of ${entry.title}`);
      restore.onclick = () => {
        this.score.edit((score) => { score.restore(entry.state); this.settings(entry.settings); });
        this.show(entry);
        this.view.fit();
      };
      item.append(show, restore);
      return item;
    }));
  }

  compare() { if (this.previous) this.show(this.previous, 0); }

  // ---- selection and page state

  selectFrom(lane, event, at) {
    const from = lane.snap(at.time);
    lane.drag(event, (now) => {
      const to = lane.snap(now.time);
      this.select(Math.abs(to - from) < 0.05 ? null : { start: Math.min(from, to), stop: Math.max(from, to) });
    }, () => { if (!this.selection) this.player.seek(at.time); });
    this.select(null);
  }

  select(span) {
    this.selection = span;
    this.player.span = span;
    $("redraw").disabled = !(span && this.current && this.model.redraw);
    this.view.dirty();
  }

  transport() {
    $("play").textContent = this.player.playing ? "Pause" : "Play";
    document.body.dataset.playing = String(this.player.playing);
    this.view.moveHead();
  }

  changed() {
    this.settled = this.settingsValue();
    $("seconds").value = this.score.seconds;
    if (this.view.stop > this.score.seconds) this.view.fit();
    localStorage.setItem(STORED, JSON.stringify({ controls: JSON.stringify(this.model.controls), score: this.score.state(), settings: this.settled }));
    $("undo").disabled = !this.score.past.length;
    $("redo").disabled = !this.score.future.length;
    this.view.dirty();
    clearTimeout(this.timer);
    if ($("live").checked) this.timer = setTimeout(() => this.generate(), LIVE_DELAY);
  }

  announce(text, quiet = false) {
    $("status").textContent = text;
    $("status").classList.toggle("shown", !quiet);
    clearTimeout(this.fading);
    this.fading = setTimeout(() => $("status").classList.remove("shown"), 7000);
  }

  keys(event) {
    const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, dialog");
    if (typing) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && key === "z") event.shiftKey ? this.score.redo() : this.score.undo();
    else if (command && key === "y") this.score.redo();
    else if (command && key === "c") copy(this);
    else if (command && key === "v") paste(this);
    else if (command || event.altKey) return;
    else if (key === " " && !event.target.closest("button, summary")) this.player.toggle();
    else if (key === "g") this.generate();
    else if (key === "b") this.compare();
    else if (key === "escape") this.select(null);
    else if ("1234".includes(key) && this.current?.takes[Number(key) - 1]) this.show(this.current, Number(key) - 1);
    else if (TOOLS[key] && !document.querySelector(`[data-tool=${TOOLS[key]}]`).hidden) this.choose_tool(TOOLS[key]);
    else return;
    event.preventDefault();
  }

  choose_tool(tool) {
    this.tool = tool;
    for (const button of $("tool").children) button.setAttribute("aria-checked", String(button.dataset.tool === tool));
    this.view.dirty();
  }
}

const TOOLS = { d: "draw", s: "line", p: "points", v: "select", l: "glide", r: "vibrato" };

const studio = new Studio();
window.studio = studio;
const click = (id, action) => $(id).addEventListener("click", action);
for (const button of $("tool").children) button.addEventListener("click", () => studio.choose_tool(button.dataset.tool));
click("smooth", () => studio.focused.smooth());
click("louder", () => studio.focused.scale(1.1));
click("softer", () => studio.focused.scale(1 / 1.1));
click("clear", () => studio.focused.clear());
click("record", () => record(studio));
click("copy", () => copy(studio));
click("paste", () => paste(studio));
click("undo", () => studio.score.undo());
click("redo", () => studio.score.redo());
click("zoom-in", () => studio.view.zoom(0.6));
click("zoom-out", () => studio.view.zoom(1 / 0.6));
click("zoom-all", () => studio.view.fit());
click("generate", () => studio.generate());
click("redraw", () => studio.generate({ take: studio.current.takes[studio.variant].id, ...studio.selection }));
click("cancel", () => studio.cancel());
click("play", () => studio.player.toggle());
click("open", () => $("file").click());
click("save", () => savePreset(studio));
click("export-curves", () => exportFile(studio, "curves"));
click("export-recipe", () => exportFile(studio, "recipe"));
click("export-wav", () => exportFile(studio, "wav"));
$("file").addEventListener("change", () => { if ($("file").files[0]) importFile(studio, $("file").files[0]); $("file").value = ""; });
$("preset").addEventListener("change", () => { if ($("preset").value) usePreset(studio, $("preset").value); });
$("model").addEventListener("change", () => {
  studio.choose(studio.models.find(({ name }) => name === $("model").value));
  studio.settingsChanged();
});
$("loop").addEventListener("change", () => studio.player.setLoop($("loop").checked));
$("guidance").addEventListener("input", () => { $("guidance-value").value = $("guidance").value; });
$("live").addEventListener("change", () => { if ($("live").checked) studio.generate(); });
for (const id of ["guidance", "seed", "variants", "steps", "churn", "guidance-by"]) $(id).addEventListener("change", () => studio.settingsChanged());
$("seconds").addEventListener("change", () => {
  const seconds = Math.min(Number($("seconds").max), Math.max(1, Number($("seconds").value) || 8));
  studio.score.edit((score) => { score.seconds = seconds; });
  studio.view.fit();
});
for (const id of ["spectrogram", "level"]) {
  $(id).addEventListener("click", (event) => {
    const { start, stop } = studio.view;
    studio.player.ready();
    studio.player.halt();
    studio.player.start(start + (event.offsetX / $(id).clientWidth) * (stop - start));
  });
}
window.addEventListener("keydown", (event) => studio.keys(event));
// Sound needs a gesture; opening the output at the first one shortens the start of playback.
for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, () => studio.player.ready(), { once: true, capture: true });
window.addEventListener("resize", () => studio.view.dirty());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { studio.view.colours = {}; studio.view.dirty(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) importFile(studio, event.dataTransfer.files[0]);
  });
}
studio.open().catch((error) => studio.announce(error.message));
