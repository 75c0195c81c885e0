// Lanes: one canvas for each control, drawn and edited on a common time axis.

import { NAMES, bendAt, bendOf } from "./score.js";

const PAD = 6; // pixels above and below a line
const LOWEST = 47, HIGHEST = 73; // rows of the piano roll
const EDGE = 7; // pixels around a note's edge that stretch it
const POINT = 9; // pixels around a breakpoint that take it

export class Lane {
  constructor(studio, control) {
    Object.assign(this, { studio, control, name: control.name, achieved: null, cursor: null });
    this.figure = document.createElement("figure");
    this.figure.className = `lane ${control.kind}`;
    this.figure.innerHTML = `<figcaption><b></b><span class="fact asked"></span><span class="fact achieved"></span></figcaption><canvas tabindex="0" role="application"></canvas>`;
    this.figure.querySelector("b").textContent = this.name;
    this.canvas = this.figure.querySelector("canvas");
    this.canvas.dataset.lane = this.name;
    this.canvas.setAttribute("aria-label", `${this.name} lane; arrows move the cursor and change the value`);
    this.canvas.addEventListener("focus", () => { studio.focused = this; studio.paint(); });
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("dblclick", (event) => this.double(event));
    this.canvas.addEventListener("contextmenu", (event) => { event.preventDefault(); this.remove(this.at(event)); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => studio.wheel(event, this.at(event).time), { passive: false });
  }

  get score() { return this.studio.score; }

  size() { return { width: this.canvas.clientWidth, height: this.canvas.clientHeight }; }

  x(time) { const { start, stop } = this.studio.view; return ((time - start) / (stop - start)) * this.size().width; }

  // Time, value in 0..1 from the bottom, and pixels of a pointer event.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const { start, stop } = this.studio.view;
    const px = event.clientX - box.left;
    const py = event.clientY - box.top;
    const time = Math.min(this.score.seconds, Math.max(0, start + (px / box.width) * (stop - start)));
    const value = Math.min(1, Math.max(0, 1 - (py - PAD) / (box.height - 2 * PAD)));
    return { px, py, time, value, height: box.height };
  }

  snap(time) {
    const grid = this.studio.grid;
    return grid ? Math.min(this.score.seconds, Math.round(time / grid) * grid) : time;
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.focus();
    const at = this.at(event);
    if (this.studio.tool === "select" || event.shiftKey) this.studio.selectFrom(this, event, at);
    else this.begin(event, at);
  }

  // Follow the pointer until it is released: `move` edits the score from its state before, release makes one undo step.
  drag(event, move, end = () => {}) {
    const before = this.score.state();
    this.canvas.setPointerCapture(event.pointerId);
    const moved = (next) => { for (const one of next.getCoalescedEvents?.() ?? [next]) move(this.at(one), before); this.studio.dirty(this.studio.tool === "select" ? undefined : this); };
    const done = () => {
      this.canvas.removeEventListener("pointermove", moved);
      this.canvas.removeEventListener("pointerup", done);
      this.canvas.removeEventListener("pointercancel", done);
      end();
      this.score.commit(before);
      this.studio.paint();
    };
    this.canvas.addEventListener("pointermove", moved);
    this.canvas.addEventListener("pointerup", done);
    this.canvas.addEventListener("pointercancel", done);
  }

  double() {}

  context() {
    const { width, height } = this.size();
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  grid(context) {
    const { width, height } = this.size();
    context.strokeStyle = this.studio.colour("line");
    context.lineWidth = 1;
    for (const time of this.studio.ticks()) {
      context.beginPath();
      context.moveTo(Math.round(this.x(time)) + 0.5, 0);
      context.lineTo(Math.round(this.x(time)) + 0.5, height);
      context.stroke();
    }
    return { width, height };
  }

  // Hatched span: unconditioned.
  hatch(context, from, to, label = "unconditioned") {
    const { height } = this.size();
    const [left, right] = [this.x(from), this.x(to)];
    if (right - left < 1) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.strokeStyle = this.studio.colour("line");
    context.lineWidth = 1;
    for (let x = left - height; x < right; x += 7) {
      context.beginPath();
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
      context.stroke();
    }
    context.fillStyle = this.studio.colour("soft");
    context.font = "italic 12px system-ui, sans-serif";
    context.textAlign = "center";
    if (right - left > 90) context.fillText(label, (left + right) / 2, height / 2 + 4);
    context.restore();
  }

  caret(context) {
    if (this.studio.focused !== this || this.cursor === null) return;
    context.fillStyle = this.studio.colour("head");
    const x = this.x(this.cursor);
    context.fillRect(x - 0.5, 0, 1, this.size().height);
  }

  key(event) {
    const step = this.studio.grid || 0.1;
    const time = this.cursor ?? this.studio.position;
    const moves = { ArrowLeft: -step, ArrowRight: step };
    if (event.key in moves && !event.ctrlKey) this.cursor = Math.min(this.score.seconds, Math.max(0, time + moves[event.key]));
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.nudge(time, event.key === "ArrowUp" ? 1 : -1);
    else if (event.key === "Enter") this.insert(time);
    else if (event.key === "Delete" || event.key === "Backspace") this.remove({ time });
    else return;
    this.cursor ??= time;
    event.preventDefault();
    event.stopPropagation();
    this.studio.announce(`${this.name} at ${this.cursor.toFixed(2)} s: ${this.describe(this.cursor)}`, true);
    this.studio.paint();
  }

  insert(time) { this.nudge(time, 0); }

  span() { return this.studio.selection ?? { start: 0, stop: this.score.seconds }; }

  smooth() {}

  scale() {}
}

export class LineLane extends Lane {
  get points() { return this.score.lines[this.name] ?? []; }

  describe(time) { return this.score.valueAt(this.points, time)?.toFixed(2) ?? "unconditioned"; }

  y(value) { return PAD + (1 - value) * (this.size().height - 2 * PAD); }

  begin(event, at) {
    if (this.studio.tool === "points") return this.movePoint(event, at);
    if (this.studio.tool === "line") {
      const from = [this.snap(at.time), at.value];
      return this.drag(event, (now, before) => {
        this.score.lines = structuredClone(before.lines);
        const to = [this.snap(now.time), now.value];
        const ends = from[0] <= to[0] ? [from, to] : [to, from];
        if (ends[1][0] > ends[0][0]) this.score.replace(this.name, ends[0][0], ends[1][0], ends);
      });
    }
    let last = [at.time, at.value];
    this.drag(event, (now) => {
      const next = [now.time, now.value];
      if (Math.abs(next[0] - last[0]) < 0.01) return;
      const ends = last[0] <= next[0] ? [last, next] : [next, last];
      this.score.replace(this.name, ends[0][0], ends[1][0], ends);
      last = next;
    }, () => { this.score.lines[this.name] = simplified(this.points, 0.006); });
    this.score.replace(this.name, at.time, at.time, [last]);
  }

  nearest(at) {
    let best = -1;
    let distance = POINT;
    this.points.forEach(([time, value], i) => {
      if (value === null) return;
      const far = Math.hypot(this.x(time) - at.px, this.y(value) - at.py);
      if (far < distance) [best, distance] = [i, far];
    });
    return best;
  }

  movePoint(event, at) {
    const index = this.nearest(at);
    if (index < 0) return;
    const [low, high] = [this.points[index - 1]?.[0] ?? 0, this.points[index + 1]?.[0] ?? this.score.seconds];
    this.drag(event, (now) => {
      this.points[index] = [Math.min(high, Math.max(low, this.snap(now.time))), now.value];
    });
  }

  double(event) {
    if (this.studio.tool !== "points") return;
    const at = this.at(event);
    const time = this.snap(at.time);
    this.score.edit(() => this.score.replace(this.name, time, time, [[time, at.value]]));
    this.studio.paint();
  }

  remove(at) {
    const index = at.px === undefined ? this.points.findIndex(([time]) => Math.abs(time - at.time) < 0.06) : this.nearest(at);
    if (index >= 0) this.score.edit(() => this.points.splice(index, 1));
    this.studio.paint();
  }

  nudge(time, sign) {
    const value = this.score.valueAt(this.points, time) ?? 0.5;
    const next = Math.min(1, Math.max(0, value + 0.05 * sign));
    this.score.edit(() => this.score.replace(this.name, time, time, [[time, next]]));
  }

  clear() {
    const { start, stop } = this.span();
    this.score.edit(() => {
      if (start <= 0 && stop >= this.score.seconds) this.score.lines[this.name] = [];
      else this.score.replace(this.name, start, stop, [[start, null]]);
    });
  }

  scale(factor) {
    const { start, stop } = this.span();
    this.score.edit(() => {
      this.score.lines[this.name] = this.points.map(([time, value]) =>
        (time < start || time > stop || value === null ? [time, value] : [time, Math.min(1, value * factor)]));
    });
  }

  smooth() {
    const { start, stop } = this.span();
    this.score.edit(() => {
      const step = 0.04;
      const sampled = [];
      for (let time = start; time <= stop + 1e-9; time += step) {
        let [sum, count] = [0, 0];
        for (let offset = -4; offset <= 4; offset++) {
          const value = this.score.valueAt(this.points, Math.min(stop, Math.max(start, time + offset * step)));
          if (value !== null) { sum += value; count += 1; }
        }
        if (count && this.score.valueAt(this.points, time) !== null) sampled.push([time, sum / count]);
      }
      if (sampled.length) this.score.replace(this.name, start, Math.min(stop, sampled.at(-1)[0]), simplified(sampled, 0.004));
    });
  }

  paint() {
    const context = this.context();
    const { width, height } = this.grid(context);
    const points = this.points;
    this.figure.querySelector(".asked").textContent = points.some(([, value]) => value !== null) ? "" : "unconditioned";
    let from = 0;
    const hatched = [];
    if (!points.length) hatched.push([0, this.score.seconds]);
    else if (points[0][0] > 0) hatched.push([0, points[0][0]]);
    points.forEach(([time, value], i) => { if (value === null) hatched.push([time, points[i + 1]?.[0] ?? this.score.seconds]); });
    for (const [start, stop] of hatched) this.hatch(context, start, stop);
    context.fillStyle = this.studio.colour("soft");
    for (const [note, next] of this.restsOf()) context.fillRect(this.x(note), height - 3, this.x(next) - this.x(note), 3);
    context.lineJoin = "round";
    const runs = [];
    for (const [time, value] of points) {
      if (value === null) { if (runs.at(-1)?.length) runs.at(-1).push([time, runs.at(-1).at(-1)[1]]); runs.push([]); }
      else { if (!runs.length) runs.push([]); runs.at(-1).push([time, value]); }
    }
    const tail = runs.at(-1);
    if (tail?.length) tail.push([this.score.seconds, tail.at(-1)[1]]);
    for (const run of runs.filter((one) => one.length)) {
      context.beginPath();
      run.forEach(([time, value], i) => context[i ? "lineTo" : "moveTo"](this.x(time), this.y(value)));
      context.strokeStyle = this.studio.colour("wanted");
      context.lineWidth = 2;
      context.stroke();
      context.lineTo(this.x(run.at(-1)[0]), height);
      context.lineTo(this.x(run[0][0]), height);
      context.globalAlpha = 0.13;
      context.fillStyle = this.studio.colour("wanted");
      context.fill();
      context.globalAlpha = 1;
    }
    if (this.studio.tool === "points") {
      context.fillStyle = this.studio.colour("wanted");
      for (const [time, value] of points) if (value !== null) { context.beginPath(); context.arc(this.x(time), this.y(value), 4, 0, 7); context.fill(); }
    }
    if (this.achieved) {
      const step = this.studio.frameSeconds;
      context.strokeStyle = this.studio.colour("achieved");
      context.lineWidth = 1.6;
      context.setLineDash([5, 3]);
      context.beginPath();
      let open = false;
      this.achieved.achieved.forEach((value, i) => {
        if (value === null) { open = false; return; }
        context[open ? "lineTo" : "moveTo"](this.x(i * step), this.y(value));
        open = true;
      });
      context.stroke();
      context.setLineDash([]);
    }
    this.caret(context);
  }

  restsOf() { return this.name === "velocity" ? this.score.rests() : []; }
}

export class NotesLane extends Lane {
  row(height) { return height / (HIGHEST - LOWEST + 1); }

  y(pitch) { return (HIGHEST + 0.5 - pitch) * this.row(this.size().height); }

  pitchAt(at) { return Math.min(HIGHEST, Math.max(LOWEST, Math.round(HIGHEST - at.py / this.row(at.height) + 0.5 - 0.5))); }

  noteAt(time, pitch) {
    return this.score.notes.find((note) => time >= note.start && time < note.stop && (pitch === undefined || note.pitch === null || note.pitch === pitch));
  }

  describe(time) {
    const note = this.noteAt(time);
    return !note ? (this.score.notes.length ? "rest" : "unconditioned") : note.pitch === null ? "unconditioned" : label(note.pitch);
  }

  begin(event, at) {
    if (this.studio.tool === "glide" || this.studio.tool === "vibrato") return this.bend(event, at);
    const pitch = this.pitchAt(at);
    const near = this.score.notes.find((note) => note.pitch === pitch &&
      at.px > this.x(note.start) - EDGE / 2 && at.px < this.x(note.stop) + EDGE / 2);
    if (near) {
      const index = this.score.notes.indexOf(near);
      const part = at.px > this.x(near.stop) - EDGE ? "stop" : at.px < this.x(near.start) + EDGE ? "start" : "all";
      return this.drag(event, (now, before) => {
        this.score.notes = structuredClone(before.notes);
        const note = this.score.notes[index];
        if (part === "all") {
          const shift = this.snap(near.start + now.time - at.time) - near.start;
          [note.start, note.stop] = [near.start + shift, near.stop + shift];
          note.pitch = near.pitch + this.pitchAt(now) - pitch;
          this.makeRoom(note);
        } else {
          note[part] = this.snap(now.time);
          if (note.stop - note.start < 0.04) note[part] = part === "stop" ? note.start + 0.04 : note.stop - 0.04;
          this.makeRoom(note);
        }
      });
    }
    const start = this.snap(at.time);
    this.drag(event, (now, before) => {
      this.score.notes = structuredClone(before.notes);
      const stop = this.snap(now.time);
      this.add({ start: Math.min(start, stop), stop: Math.max(start, stop), pitch });
    });
    this.add({ start, stop: Math.min(this.score.seconds, start + (this.studio.grid || 0.25)), pitch });
  }

  // Glide: drag from the start of a note sets its length; vibrato: dragging up sets its depth. A click removes a bend.
  bend(event, at) {
    const note = this.noteAt(at.time);
    if (!note || note.pitch === null) return;
    const index = this.score.notes.indexOf(note);
    const before = this.score.notes[index - 1];
    const plain = note.bend;
    delete note.bend;
    let bent = false;
    this.drag(event, (now) => {
      const target = this.score.notes[index];
      const [across, up] = [now.px - at.px, at.py - now.py];
      if (Math.hypot(across, up) < 4) return;
      bent = true;
      if (this.studio.tool === "glide") {
        const from = before && before.pitch !== null ? before.pitch + bendAt(before, before.stop - before.start) : note.pitch - 2;
        const length = Math.min(target.stop - target.start, Math.max(0.03, now.time - target.start));
        target.bend = [[0, from - note.pitch], [length, 0]];
      } else target.bend = vibrato(target, Math.min(100, Math.max(5, 2 * up)) / 100);
    }, () => {
      if (bent || plain) return;
      const target = this.score.notes[index];
      target.bend = this.studio.tool === "vibrato" ? vibrato(target, 0.3)
        : [[0, before && before.pitch !== null ? before.pitch - note.pitch : -2], [Math.min(0.12, target.stop - target.start), 0]];
    });
  }

  add(note) {
    if (note.stop - note.start < 0.02) return;
    this.makeRoom(note);
    this.score.notes.push(note);
    this.score.notes.sort((a, b) => a.start - b.start);
  }

  // One note at a time: cut or remove the others under a note.
  makeRoom(note) {
    this.score.notes = this.score.notes.flatMap((other) => {
      if (other === note || other.stop <= note.start || other.start >= note.stop) return [other];
      const left = { ...other, stop: note.start };
      const right = { ...other, start: note.stop };
      return [left, right].filter((one) => one.stop - one.start > 0.02);
    });
  }

  double(event) { // splits a note
    const at = this.at(event);
    const time = this.snap(at.time);
    const note = this.noteAt(time, this.pitchAt(at));
    if (!note || time - note.start < 0.05 || note.stop - time < 0.05) return;
    this.score.edit(() => {
      const bend = note.bend?.filter(([after]) => after > time - note.start).map(([after, semitones]) => [after - (time - note.start), semitones]);
      this.score.notes.push({ ...note, start: time, ...(bend?.length ? { bend } : { bend: undefined }) });
      note.stop = time;
    });
    this.studio.paint();
  }

  remove(at) {
    const note = this.noteAt(at.time, at.py === undefined ? undefined : this.pitchAt(at)) ?? this.noteAt(at.time);
    if (note) this.score.edit(() => this.score.notes.splice(this.score.notes.indexOf(note), 1));
    this.studio.paint();
  }

  nudge(time, sign) {
    const note = this.noteAt(time);
    this.score.edit(() => {
      if (note && note.pitch !== null) note.pitch = Math.min(HIGHEST, Math.max(LOWEST, note.pitch + sign));
      else this.add({ start: time, stop: Math.min(this.score.seconds, time + (this.studio.grid || 0.25)), pitch: 60 });
    });
  }

  clear() {
    const { start, stop } = this.span();
    this.score.edit(() => {
      if (start <= 0 && stop >= this.score.seconds) this.score.notes = [];
      else this.add({ start, stop, pitch: null });
    });
  }

  paint() {
    const context = this.context();
    const { width, height } = this.size();
    const row = this.row(height);
    context.font = "10px system-ui, sans-serif";
    for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
      const top = this.y(pitch + 0.5);
      if ([1, 3, 6, 8, 10].includes(pitch % 12)) {
        context.fillStyle = this.studio.colour("line");
        context.globalAlpha = 0.45;
        context.fillRect(0, top, width, row);
        context.globalAlpha = 1;
      }
      if (pitch % 12 === 0) {
        context.fillStyle = this.studio.colour("soft");
        context.fillText(this.name === "chroma" ? "C" : label(pitch), 4, top + row - 1);
      }
    }
    this.grid(context);
    if (!this.score.notes.length) this.hatch(context, 0, this.score.seconds);
    this.figure.querySelector(".asked").textContent = this.name === "chroma" ? "octaves are equivalent" : "";
    for (const note of this.score.notes) {
      if (note.pitch === null) { this.hatch(context, note.start, note.stop); continue; }
      const octaves = this.name === "chroma" ? [-24, -12, 12, 24] : [];
      context.fillStyle = this.studio.colour("wanted");
      context.globalAlpha = 0.16;
      for (const octave of octaves) context.fillRect(this.x(note.start), this.y(note.pitch + octave + 0.5), this.x(note.stop) - this.x(note.start), row);
      context.globalAlpha = 0.9;
      context.beginPath();
      if (note.bend) {
        bendOf(note).forEach(([after, semitones], i) => context[i ? "lineTo" : "moveTo"](this.x(note.start + after), this.y(note.pitch + semitones)));
        context.strokeStyle = this.studio.colour("wanted");
        context.lineWidth = row - 1;
        context.stroke();
      } else {
        context.roundRect(this.x(note.start) + 0.5, this.y(note.pitch + 0.5) + 0.5, Math.max(2, this.x(note.stop) - this.x(note.start) - 1), row - 1, 3);
        context.fill();
      }
      context.globalAlpha = 1;
      if (this.x(note.stop) - this.x(note.start) > 26 && row > 8) {
        context.fillStyle = this.studio.colour("on");
        context.fillText(this.name === "chroma" ? NAMES[note.pitch % 12] : label(note.pitch), this.x(note.start) + 4, this.y(note.pitch) + 3.5);
      }
    }
    if (this.achieved) {
      const step = this.studio.frameSeconds;
      context.strokeStyle = this.studio.colour("achieved");
      context.lineWidth = 1.8;
      context.beginPath();
      let before = null;
      this.achieved.achieved.forEach((pitch, i) => {
        const shown = pitch === null || pitch < LOWEST - 0.5 || pitch > HIGHEST + 0.5 ? null : pitch;
        if (shown !== null) {
          const joined = before !== null && Math.abs(before - shown) < 1.5;
          context[joined ? "lineTo" : "moveTo"](this.x(i * step), this.y(shown));
          if (!joined) context.lineTo(this.x((i + 1) * step), this.y(shown));
        }
        before = shown;
      });
      context.stroke();
    }
    this.caret(context);
  }
}

export class StripLane extends Lane {
  get names() { return this.studio.model.instruments; }

  row(at) { return this.names[Math.min(this.names.length - 1, Math.max(0, Math.floor((at.py / at.height) * this.names.length)))]; }

  describe(time) { return this.score.instrumentAt(time) ?? "unconditioned"; }

  // Give [start, stop) to an instrument.
  assign(start, stop, name) {
    if (stop - start >= 0.01) this.score.replaceStrip(start, stop, [{ start, name }]);
  }

  begin(event, at) {
    const name = this.row(at);
    const start = this.snap(at.time);
    this.drag(event, (now, before) => {
      this.score.strip = structuredClone(before.strip.length ? before.strip : [{ start: 0, name }]);
      const stop = this.snap(now.time);
      this.assign(Math.min(start, stop), Math.max(start, stop), name);
    });
    if (!this.score.strip.length) this.score.strip = [{ start: 0, name }];
  }

  double(event) { // gives everything to one instrument
    const name = this.row(this.at(event));
    this.score.edit(() => { this.score.strip = [{ start: 0, name }]; });
    this.studio.paint();
  }

  remove(at) {
    const index = this.score.strip.findLastIndex(({ start }) => start <= at.time);
    if (index >= 0) this.score.edit(() => { this.score.strip[index].name = null; });
    this.studio.paint();
  }

  nudge(time, sign) {
    const choices = [...this.names, null];
    const next = choices[(choices.indexOf(this.score.instrumentAt(time)) - sign + choices.length) % choices.length];
    this.score.edit(() => this.assign(time, this.score.seconds, next));
  }

  clear() {
    const { start, stop } = this.span();
    this.score.edit(() => {
      if (start <= 0 && stop >= this.score.seconds) this.score.strip = [];
      else this.assign(start, stop, null);
    });
  }

  paint() {
    const context = this.context();
    const { height } = this.grid(context);
    const row = height / this.names.length;
    context.font = "11px system-ui, sans-serif";
    if (!this.score.strip.length) this.hatch(context, 0, this.score.seconds);
    this.score.strip.forEach(({ start, name }, i) => {
      const stop = this.score.strip[i + 1]?.start ?? this.score.seconds;
      if (name === null) { this.hatch(context, start, stop); return; }
      const number = this.names.indexOf(name);
      context.fillStyle = this.studio.colour(`strip-${Math.max(0, number) % 5}`);
      context.fillRect(this.x(start), number * row + 1, this.x(stop) - this.x(start), row - 2);
    });
    if (this.achieved) {
      context.strokeStyle = this.studio.colour("achieved");
      context.lineWidth = 2;
      for (const { start, stop, name } of this.achieved.achieved) {
        const y = (this.names.indexOf(name) + 0.8) * row;
        context.beginPath();
        context.moveTo(this.x(start) + 2, y);
        context.lineTo(this.x(Math.min(stop, this.score.seconds)) - 2, y);
        context.stroke();
      }
    }
    context.fillStyle = this.studio.colour("ink");
    this.names.forEach((name, i) => context.fillText(name, 5, (i + 0.5) * row + 4));
    this.caret(context);
  }
}

// Vibrato of 5.5 Hz that starts 0.2 s after the onset, as points of an eighth of a period.
function vibrato(note, semitones) {
  const [hz, delay] = [5.5, 0.2];
  const bend = [[0, 0], [delay, 0]];
  for (let k = 1; delay + k / (8 * hz) < note.stop - note.start; k++) bend.push([delay + k / (8 * hz), semitones * Math.sin((k * Math.PI) / 4)]);
  return bend;
}

export function label(pitch) { return `${NAMES[((Math.round(pitch) % 12) + 12) % 12]}${Math.floor(Math.round(pitch) / 12) - 1}`; }

// Fewer points of a line, within a tolerance (Ramer 1972, Douglas and Peucker 1973).
export function simplified(points, tolerance) {
  const kept = new Uint8Array(points.length);
  const stack = [[0, points.length - 1]];
  while (stack.length) {
    const [first, last] = stack.pop();
    if (last < first) continue;
    kept[first] = kept[last] = 1;
    const [a, b] = [points[first], points[last]];
    let [worst, at] = [tolerance, -1];
    for (let i = first + 1; i < last; i++) {
      const [time, value] = points[i];
      const jump = points[i - 1][0] === time || points[i + 1][0] === time;
      const line = a[1] === null || b[1] === null || value === null || jump ? Infinity : Math.abs(value - (a[1] + ((b[1] - a[1]) * (time - a[0])) / (b[0] - a[0] || 1)));
      if (line > worst) [worst, at] = [line, i];
    }
    if (at >= 0) stack.push([first, at], [at, last]);
  }
  return points.filter((_, i) => kept[i]);
}
