// The studio: connects score, lanes, player and the generation service.

import * as api from "./api.js";
import { LineLane, NotesLane, StripLane } from "./lanes.js";
import { Player } from "./player.js";
import { Recorder } from "./recorder.js";
import { Score } from "./score.js";

const $ = (id) => document.getElementById(id);
const LANES = { line: LineLane, notes: NotesLane, strip: StripLane };
const KINDS = { line: 0, notes: 1, strip: 2 };
const LIVE_DELAY = 400; // milliseconds after the last change
const STORED = "pvt-studio";
const LEVEL_RANGE = 60; // dB below full scale that the level lane shows

class Studio {
  constructor() {
    Object.assign(this, { score: new Score(), lanes: [], tool: "draw", selection: null, clip: null, history: [], job: null, frameSeconds: 0.01 });
    this.view = { start: 0, stop: 8 };
    this.player = new Player(() => this.transport());
    this.colours = {};
  }

  get grid() { return Number($("grid").value); }

  get position() { return this.player.position; }

  get entry() { return this.current; }

  colour(name) { return (this.colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()); }

  async open() {
    const { models, presets, example } = await api.get("api/models");
    this.models = models;
    this.presets = presets;
    $("model").replaceChildren(...models.map(({ name, label }) => new Option(`${name} (${label})`, name)));
    this.choose(models[0]);
    this.listPresets();
    this.score.onchange(() => this.changed());
    const stored = JSON.parse(localStorage.getItem(STORED) ?? "null");
    if (stored?.controls === JSON.stringify(this.model.controls)) {
      this.score.restore(stored.score);
      this.fit();
      this.settings(stored.settings);
      this.dirty();
    } else {
      this.score.load(example.curves, 8);
      this.score.past = [];
      this.fit();
    }
    if (example.job) this.follow(example.job, { title: "example", state: this.score.state() });
    else this.generate();
    document.body.dataset.ready = "true";
  }

  choose(model) {
    this.model = model;
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
    $("guidance-by").replaceChildren(...model.controls.map(({ name }) => {
      const label = document.createElement("label");
      label.append(`Guidance of ${name} `);
      const input = Object.assign(document.createElement("input"), { type: "number", min: 0, max: 10, step: 0.1, placeholder: "as above" });
      input.dataset.control = name;
      label.append(input);
      return label;
    }));
    this.dirty();
  }

  // ---- settings and requests

  settings({ by = {}, ...value } = {}) {
    for (const [id, content] of Object.entries(value)) if ($(id)) $(id).value = content;
    for (const input of $("guidance-by").querySelectorAll("input")) input.value = by[input.dataset.control] ?? "";
    $("guidance-value").value = $("guidance").value;
  }

  settingsValue() {
    const by = Object.fromEntries(this.guided().map((input) => [input.dataset.control, input.value]));
    return { ...Object.fromEntries(["guidance", "seed", "steps", "churn", "variants"].map((id) => [id, $(id).value])), by };
  }

  // Inputs of the controls that have a guidance of their own.
  guided() { return [...$("guidance-by").querySelectorAll("input")].filter((input) => input.value !== ""); }

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
    this.cancel();
    const mine = (this.asked = {});
    try {
      const { id } = await api.post("api/jobs", this.request(span));
      if (this.asked !== mine) return api.cancel(id);
      const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
      this.follow(id, { title: `${span ? "redrawn " : ""}${time} · seed ${$("seed").value}`, state: this.score.state(), settings: this.settingsValue() });
    } catch (error) { this.announce(error.message); }
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
    this.paintSpectrogram();
    this.transport();
    this.dirty();
  }

  paintHistory() {
    $("history").replaceChildren(...[...this.history].reverse().map((entry) => {
      const item = document.createElement("li");
      item.classList.toggle("current", entry === this.current);
      const show = Object.assign(document.createElement("button"), { textContent: entry.title, title: "Hear this entry" });
      show.onclick = () => this.show(entry);
      const restore = Object.assign(document.createElement("button"), { textContent: "↺", title: "Restore these curves" });
      restore.setAttribute("aria-label", `Restore the curves of ${entry.title}`);
      restore.onclick = () => { this.score.edit((score) => score.restore(entry.state)); this.settings(entry.settings); this.show(entry); this.fit(); };
      item.append(show, restore);
      return item;
    }));
  }

  compare() { if (this.previous) this.show(this.previous, 0); }

  // ---- view, selection and painting

  fit() {
    this.view = { start: 0, stop: this.score.seconds };
    $("seconds").value = this.score.seconds;
    this.dirty();
  }

  zoom(factor, around = this.position) {
    const { start, stop } = this.view;
    const span = Math.min(this.score.seconds, Math.max(0.25, (stop - start) * factor));
    const share = Math.min(1, Math.max(0, (around - start) / (stop - start)));
    const first = Math.min(this.score.seconds - span, Math.max(0, around - share * span));
    this.view = { start: first, stop: first + span };
    this.dirty();
  }

  wheel(event, time) {
    if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(Math.exp(event.deltaY / 300), time); }
    else if (event.shiftKey || event.deltaX) {
      event.preventDefault();
      const span = this.view.stop - this.view.start;
      const start = Math.min(this.score.seconds - span, Math.max(0, this.view.start + ((event.deltaX || event.deltaY) / 600) * span));
      this.view = { start, stop: start + span };
      this.dirty();
    }
  }

  ticks() {
    const { start, stop } = this.view;
    const step = [0.1, 0.25, 0.5, 1, 2, 5].find((one) => (stop - start) / one <= 17) ?? 10;
    const found = [];
    for (let i = Math.ceil(start / step - 1e-9); i * step <= stop + 1e-9; i++) found.push(i * step);
    return found;
  }

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
    this.dirty();
  }

  // Request one repaint in the next animation frame, of everything or of one lane.
  dirty(lane) {
    this.stale ??= new Set();
    this.stale.add(lane);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      const lanes = this.stale;
      Object.assign(this, { waiting: false, stale: null });
      if (lanes.has(undefined)) this.render();
      else for (const one of lanes) one.paint();
    });
  }

  paint() { this.dirty(); }

  render() {
    for (const lane of this.lanes) lane.paint();
    const { start, stop } = this.view;
    const share = (time) => `${(100 * (time - start)) / (stop - start)}%`;
    $("axis").replaceChildren(...this.ticks().map((time) => {
      const mark = document.createElement("span");
      mark.textContent = `${Number(time.toFixed(2))}`;
      mark.style.left = share(time);
      return mark;
    }));
    const chosen = this.selection;
    $("selection").hidden = !chosen;
    if (chosen) Object.assign($("selection").style, { left: share(Math.max(start, chosen.start)), width: `${(100 * (Math.min(stop, chosen.stop) - Math.max(start, chosen.start))) / (stop - start)}%` });
    this.paintResult();
    this.moveHead();
  }

  // The whole spectrogram, once for each take; views are drawn from it.
  paintSpectrogram() {
    const { mel } = this.current.takes[this.variant];
    const frames = mel.values.length / mel.bands;
    const image = new ImageData(frames, mel.bands);
    for (let band = 0; band < mel.bands; band++) {
      for (let frame = 0; frame < frames; frame++) {
        const [r, g, b] = magma(mel.values[band * frames + frame] / 255);
        image.data.set([r, g, b, 255], 4 * ((mel.bands - 1 - band) * frames + frame));
      }
    }
    this.picture = new OffscreenCanvas(frames, mel.bands);
    this.picture.getContext("2d").putImageData(image, 0, 0);
  }

  paintResult() {
    const { start, stop } = this.view;
    const picture = fitted($("spectrogram"));
    if (this.picture) {
      const rate = 100;
      picture.context.drawImage(this.picture, start * rate, 0, (stop - start) * rate, this.picture.height, 0, 0, picture.width, picture.height);
    }
    const { context, width, height } = fitted($("level"));
    if (!this.current) return;
    const levels = this.current.takes[this.variant].analysis.level_db;
    context.fillStyle = this.colour("wave");
    for (let x = 0; x < width; x++) {
      const level = levels[Math.floor((start + (x / width) * (stop - start)) / this.frameSeconds)] ?? -120;
      const tall = height * Math.min(1, Math.max(0, 1 + level / LEVEL_RANGE));
      context.fillRect(x, height - tall, 1, tall);
    }
  }

  moveHead() {
    const { start, stop } = this.view;
    const position = this.position;
    const inside = this.current && position >= start && position <= stop;
    $("head").hidden = !inside;
    if (inside) $("head").style.transform = `translateX(${((position - start) / (stop - start)) * $("stage").clientWidth}px)`;
    $("clock").value = `${position.toFixed(2)} s`;
    if (this.player.playing) requestAnimationFrame(() => this.moveHead());
  }

  transport() {
    $("play").textContent = this.player.playing ? "Pause" : "Play";
    document.body.dataset.playing = String(this.player.playing);
    this.moveHead();
  }

  changed() {
    $("seconds").value = this.score.seconds;
    if (this.view.stop > this.score.seconds) this.fit();
    localStorage.setItem(STORED, JSON.stringify({ controls: JSON.stringify(this.model.controls), score: this.score.state(), settings: this.settingsValue() }));
    $("undo").disabled = !this.score.past.length;
    $("redo").disabled = !this.score.future.length;
    this.dirty();
    clearTimeout(this.timer);
    if ($("live").checked) this.timer = setTimeout(() => this.generate(), LIVE_DELAY);
  }

  announce(text, quiet = false) {
    $("status").textContent = text;
    $("status").classList.toggle("shown", !quiet);
    clearTimeout(this.fading);
    this.fading = setTimeout(() => $("status").classList.remove("shown"), 7000);
  }

  // ---- copy, paste, presets, files

  copy() {
    const { start, stop } = this.selection ?? { start: 0, stop: this.score.seconds };
    const lines = Object.fromEntries(Object.entries(this.score.lines).map(([name, points]) => [name,
      [[0, this.score.valueAt(points, start)], ...points.filter(([time]) => time > start && time < stop).map(([time, value]) => [time - start, value]),
        [stop - start, this.score.valueAt(points, stop)]]]));
    const notes = this.score.notes.filter((note) => note.stop > start && note.start < stop)
      .map((note) => ({ ...note, start: Math.max(start, note.start) - start, stop: Math.min(stop, note.stop) - start }));
    const strip = [{ start: 0, name: this.score.instrumentAt(start) }, ...this.score.strip.filter((one) => one.start > start && one.start < stop)
      .map((one) => ({ ...one, start: one.start - start }))];
    this.clip = { length: stop - start, lines, notes, strip };
    this.announce(`copied ${(stop - start).toFixed(2)} s`);
  }

  paste() {
    if (!this.clip) return;
    const start = this.selection?.start ?? this.position;
    const stop = Math.min(this.score.seconds, start + this.clip.length);
    this.score.edit((score) => {
      for (const [name, points] of Object.entries(this.clip.lines)) {
        score.replace(name, start, stop, points.map(([time, value]) => [time + start, value]).filter(([time]) => time <= stop));
      }
      const lane = this.lanes.find((one) => one instanceof NotesLane);
      if (lane) {
        lane.makeRoom({ start, stop });
        score.notes.push(...this.clip.notes.map((note) => ({ ...note, start: note.start + start, stop: Math.min(stop, note.stop + start) })));
      }
      score.replaceStrip(start, stop, this.clip.strip.map((one) => ({ ...one, start: one.start + start })));
    });
  }

  own() { return JSON.parse(localStorage.getItem(`${STORED}-presets`) ?? "{}"); }

  listPresets() {
    $("preset").replaceChildren(new Option("choose …", ""), ...[...Object.keys(this.presets), ...Object.keys(this.own())].map((name) => new Option(name, name)));
  }

  preset(name) {
    const own = this.own()[name];
    if (own) this.score.edit((score) => score.restore(own));
    else if (this.presets[name]) this.score.load(this.presets[name]);
    this.fit();
  }

  savePreset() {
    const name = prompt("Name of the preset")?.trim();
    if (!name) return;
    localStorage.setItem(`${STORED}-presets`, JSON.stringify({ ...this.own(), [name]: this.score.state() }));
    this.listPresets();
    $("preset").value = name;
  }

  async import(file) {
    const ending = file.name.toLowerCase().replace(/^.*\./, "");
    const seconds = Math.ceil(this.score.seconds);
    try {
      if (ending === "mid" || ending === "midi") await this.importMidi(file, seconds);
      else if (["wav", "flac", "ogg", "mp3", "aiff", "aif"].includes(ending)) {
        await this.importRecording(file);
      } else {
        const text = await file.text();
        const recipe = text.includes('"pvt_sound"') ? JSON.parse(text) : null;
        const body = new Blob([recipe ? JSON.stringify(recipe.curves) : text]);
        const { curves, notices } = await api.post("api/import/curves", body);
        if (recipe) notices.push(...this.useRecipe(recipe));
        this.score.load(curves, recipe?.seconds);
        if (notices.length) this.announce(notices.join(" · "));
      }
      this.fit();
    } catch (error) { this.announce(error.message); }
  }

  // Take model and settings of a recipe; returns what may make the sound differ.
  useRecipe({ model, seed, steps, s_churn: churn, guidance, variant = 0, span }) {
    const notices = [];
    const found = this.models.find(({ digest }) => digest === model?.sha256);
    if (!found) notices.push(`the recipe names another model (${model?.name}); the sound will differ`);
    else if (found !== this.model) {
      $("model").value = found.name;
      this.choose(found);
    }
    if (span) notices.push("the recipe redraws a span of a take that is not in the file; all of it is generated");
    const common = typeof guidance === "number" ? { guidance } : { by: guidance };
    if (variant) notices.push(`the sound is variant ${variant + 1}`);
    this.settings({ seed, steps, churn, variants: variant + 1, ...common });
    $("lock").checked = true;
    return notices;
  }

  async importRecording(file) {
    const query = `seconds=30&sharpness=${$("sharpness").value}&model=${encodeURIComponent(this.model.name)}`;
    const { curves, seconds } = await api.post(`api/import/recording?${query}`, file);
    const strip = this.score.strip;
    this.score.load(curves, Math.min(30, Math.max(1, Math.ceil(seconds * 2) / 2)));
    if (!this.score.strip.length) this.score.strip = strip; // a recording does not name an instrument
  }

  // Record the microphone; a second call stops and turns the recording into curves.
  async record() {
    try {
      if (!this.recorder) {
        const recorder = new Recorder();
        await recorder.start();
        this.recorder = recorder;
        $("record").textContent = "Stop";
        $("record").classList.add("primary");
        this.announce("recording; press Stop to turn it into curves");
        return;
      }
      const recorder = this.recorder;
      this.recorder = null;
      $("record").textContent = "Record";
      $("record").classList.remove("primary");
      await this.importRecording(await recorder.stop());
      this.fit();
      this.announce("recording imported");
    } catch (error) { this.announce(error.message); }
  }

  async importMidi(file, seconds, track) {
    const found = await api.post(`api/import/midi?seconds=${seconds}${track === undefined ? "" : `&track=${track}`}`, file);
    if (track === undefined && found.tracks.length > 1) {
      $("track-list").replaceChildren(...found.tracks.map(({ index, notes, seconds: length, instrument }) =>
        Object.assign(document.createElement("button"), { value: String(index), textContent: `Track ${index}: ${notes} notes, ${length} s ${instrument}` })));
      $("tracks").showModal();
      await new Promise((resolve) => $("tracks").addEventListener("close", resolve, { once: true }));
      if ($("tracks").returnValue === "") return;
      return this.importMidi(file, seconds, Number($("tracks").returnValue));
    }
    const chosen = found.tracks.find(({ index }) => index === found.track);
    this.score.loadNotes(found.notes, seconds, this.model.instruments.includes(chosen.instrument) ? chosen.instrument : null);
  }

  async export(kind) {
    $("exports").open = false;
    if (kind === "curves") return save(JSON.stringify(this.score.curves(), null, 1), "curves.json", "application/json");
    const take = this.current?.takes[this.variant];
    if (!take) return this.announce("generate a take first");
    try {
      if (kind === "recipe") save(JSON.stringify(await api.get(`api/takes/${take.id}/recipe`), null, 1), "sound.json", "application/json");
      else save(await api.bytes(`api/takes/${take.id}/wav?rate=${$("rate").value}&bits=${$("bits").value}`), "take.wav", "audio/wav");
    } catch (error) { this.announce(error.message); }
  }

  keys(event) {
    const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, dialog");
    if (typing) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && key === "z") event.shiftKey ? this.score.redo() : this.score.undo();
    else if (command && key === "y") this.score.redo();
    else if (command && key === "c") this.copy();
    else if (command && key === "v") this.paste();
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
    this.dirty();
  }
}

const TOOLS = { d: "draw", s: "line", p: "points", v: "select", l: "glide", r: "vibrato" };

function fitted(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// A perceptually ordered scale from black over purple and orange to light yellow.
const STOPS = [[0, 0, 4], [40, 17, 89], [114, 31, 129], [182, 55, 122], [241, 96, 93], [254, 175, 119], [252, 253, 191]];
const MAGMA = Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (STOPS.length - 1);
  const first = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[first].map((value, k) => Math.round(value + (STOPS[first + 1][k] - value) * (at - first)));
});
function magma(share) { return MAGMA[Math.round(255 * share)]; }

function save(content, name, type) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const studio = new Studio();
window.studio = studio;
const click = (id, action) => $(id).addEventListener("click", action);
for (const button of $("tool").children) button.addEventListener("click", () => studio.choose_tool(button.dataset.tool));
click("smooth", () => studio.focused.smooth());
click("louder", () => studio.focused.scale(1.1));
click("softer", () => studio.focused.scale(1 / 1.1));
click("clear", () => studio.focused.clear());
click("record", () => studio.record());
click("copy", () => studio.copy());
click("paste", () => studio.paste());
click("undo", () => studio.score.undo());
click("redo", () => studio.score.redo());
click("zoom-in", () => studio.zoom(0.6));
click("zoom-out", () => studio.zoom(1 / 0.6));
click("zoom-all", () => studio.fit());
click("generate", () => studio.generate());
click("redraw", () => studio.generate({ take: studio.current.takes[studio.variant].id, ...studio.selection }));
click("cancel", () => studio.cancel());
click("play", () => studio.player.toggle());
click("open", () => $("file").click());
click("save", () => studio.savePreset());
click("export-curves", () => studio.export("curves"));
click("export-recipe", () => studio.export("recipe"));
click("export-wav", () => studio.export("wav"));
$("file").addEventListener("change", () => { if ($("file").files[0]) studio.import($("file").files[0]); $("file").value = ""; });
$("preset").addEventListener("change", () => { if ($("preset").value) studio.preset($("preset").value); });
$("model").addEventListener("change", () => { studio.choose(studio.models.find(({ name }) => name === $("model").value)); });
$("loop").addEventListener("change", () => studio.player.setLoop($("loop").checked));
$("guidance").addEventListener("input", () => { $("guidance-value").value = $("guidance").value; });
$("live").addEventListener("change", () => { if ($("live").checked) studio.generate(); });
for (const id of ["guidance", "seed", "variants", "steps", "churn"]) $(id).addEventListener("change", () => studio.changed());
$("seconds").addEventListener("change", () => {
  const seconds = Math.min(Number($("seconds").max), Math.max(1, Number($("seconds").value) || 8));
  studio.score.edit((score) => { score.seconds = seconds; });
  studio.fit();
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
window.addEventListener("resize", () => studio.dirty());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { studio.colours = {}; studio.dirty(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) studio.import(event.dataTransfer.files[0]);
  });
}
studio.open().catch((error) => studio.announce(error.message));
