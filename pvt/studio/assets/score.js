// The drawn score: lines [[seconds, value or null], ...], notes {start, stop, pitch (null: unconditioned), bend}, where
// bend is [[seconds after start, semitones], ...] of models with pitch or absent,
// strip [{start, name or null}, ...]. Conversion from and to curve files, undo and redo.

export const NAMES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
const REPEAT_REST = 0.027; // seconds between notes of equal pitch: two frames at 75 Hz
const NEAR = 1e-4;
const clone = (value) => JSON.parse(JSON.stringify(value));
const round = (value) => Math.round(value * 1e4) / 1e4;

export class Score {
  constructor() {
    this.controls = [];
    this.seconds = 8;
    this.lines = {};
    this.notes = [];
    this.strip = [];
    this.past = [];
    this.future = [];
    this.listeners = [];
    this.settings = { read: () => null, write: () => {} }; // model and sampler: part of each step of undo
  }

  state() { return clone({ seconds: this.seconds, lines: this.lines, notes: this.notes, strip: this.strip }); }

  restore(state) { Object.assign(this, clone(state)); }

  onchange(listener) { this.listeners.push(listener); }

  changed() { for (const listener of this.listeners) listener(); }

  // Score and settings: what undo restores.
  snapshot() { return { ...this.state(), settings: this.settings.read() }; }

  // Run an edit as one step of undo; edits within it belong to the same step.
  edit(change) {
    if (this.editing) { change(this); return; }
    const before = this.snapshot();
    this.editing = true;
    try { change(this); } finally { this.editing = false; }
    this.commit(before);
  }

  commit(before) {
    this.tidy();
    if (JSON.stringify(before) === JSON.stringify(this.snapshot())) return;
    this.past.push(before);
    if (this.past.length > 200) this.past.shift();
    this.future = [];
    this.changed();
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(this.snapshot());
    const { settings, ...state } = from.pop();
    this.restore(state);
    this.settings.write(settings);
    this.changed();
  }

  control(kind) { return this.controls.filter((control) => control.kind === kind).map((control) => control.name); }

  tidy() {
    this.notes = this.notes
      .map((note) => ({ ...note, start: Math.max(0, note.start), stop: Math.min(this.seconds, note.stop) }))
      .filter((note) => note.stop - note.start > 0.01)
      .sort((a, b) => a.start - b.start);
    for (let i = 0; i + 1 < this.notes.length; i++) this.notes[i].stop = Math.min(this.notes[i].stop, this.notes[i + 1].start);
    this.notes = this.notes.filter((note) => note.stop - note.start > 0.01);
    for (const name of Object.keys(this.lines)) this.lines[name] = this.lines[name].filter(([time]) => time <= this.seconds + NEAR);
    this.strip = this.strip.filter(({ start }, i) => start < this.seconds && this.strip[i - 1]?.name !== this.strip[i].name);
  }

  // Instrument at a time; null where it is unconditioned.
  instrumentAt(time) { return this.strip.filter(({ start }) => start <= time + NEAR).at(-1)?.name ?? null; }

  // Replace the instruments of a span.
  replaceStrip(start, stop, inside) {
    const after = { start: stop, name: this.instrumentAt(stop) };
    const first = { start: 0, name: this.instrumentAt(0) };
    this.strip = [...(start > NEAR ? [first] : []), ...this.strip.filter((one) => one.start > NEAR && one.start < start - NEAR),
      ...inside.filter((one) => one.start < stop), after, ...this.strip.filter((one) => one.start > stop + NEAR)];
    if (this.strip.every(({ name }) => name === null)) this.strip = [];
  }

  // Value of a line at a time; null where it is unconditioned.
  valueAt(points, time) {
    let before = null;
    let after = null;
    for (const point of points) {
      if (point[0] <= time + 1e-9) before = point;
      else { after = point; break; }
    }
    if (!before || before[1] === null) return null;
    if (!after || after[1] === null) return before[1];
    return before[1] + ((after[1] - before[1]) * (time - before[0])) / (after[0] - before[0]);
  }

  // Replace what a line holds in [start, stop] by points; values beyond stay as they are.
  replace(name, start, stop, points) {
    const old = this.lines[name] ?? [];
    const [left, right] = [this.valueAt(old, start), this.valueAt(old, stop)];
    const kept = [old.filter(([time]) => time < start - NEAR), old.filter(([time]) => time > stop + NEAR)];
    const edge = (time, value, known) => (known ? [[time, value]] : []);
    const single = stop - start < NEAR; // one point: no jump beside it
    const first = kept[0].length && !single ? edge(start, left, true) : [];
    const last = stop < this.seconds - NEAR && !(single && old.length) ? edge(stop, right, kept[1].length || right !== null || !old.length) : [];
    const same = (a, b) => a && b && Math.abs(a[0] - b[0]) < NEAR && a[1] === b[1];
    const all = [...kept[0], ...first, ...points, ...last, ...kept[1]].map(([t, v]) => [round(t), v === null ? null : round(v)]);
    this.lines[name] = all.filter((point, i) => !same(point, all[i - 1]));
    this.lines[name] = jumps(this.lines[name]);
  }

  rests() {
    const found = [];
    let at = 0;
    for (const note of this.notes) {
      if (note.start - at > NEAR) found.push([at, note.start]);
      at = note.stop;
    }
    if (this.notes.length && this.seconds - at > NEAR) found.push([at, this.seconds]);
    return found;
  }

  separated() {
    const notes = clone(this.notes);
    for (let i = 0; i + 1 < notes.length; i++) {
      const [note, next] = [notes[i], notes[i + 1]];
      if (note.pitch !== null && note.pitch === next.pitch && next.start - note.stop < REPEAT_REST) {
        note.stop = Math.max(note.start + 0.02, next.start - REPEAT_REST);
      }
    }
    return notes;
  }

  // The content of a curve file.
  curves() {
    const value = { version: 1 };
    const notes = this.separated();
    const gaps = Object.assign(new Score(), { notes, seconds: this.seconds }).rests();
    for (const name of this.control("line")) {
      const points = this.lines[name] ?? [];
      if (!points.some(([, level]) => level !== null)) continue;
      value[name] = name === "velocity" && notes.length ? this.gated(points, gaps) : points;
    }
    const notesControl = this.control("notes").includes("pitch") ? "pitch" : this.control("notes")[0];
    if (notesControl === "pitch" && notes.length) value.pitch = bentPoints(notes, this.seconds);
    else if (notesControl && notes.length) {
      const points = [];
      const add = (time, level) => {
        if (points.length && Math.abs(points.at(-1)[0] - time) < NEAR) points.pop();
        points.push([round(time), level]);
      };
      const changes = [...notes.map((note) => [note.start, note.pitch === null ? null : this.written(note.pitch)]),
        ...gaps.map(([start]) => [start, "rest"])].sort((a, b) => a[0] - b[0]);
      for (const [time, level] of changes) add(time, level);
      value[notesControl] = points;
    }
    const strip = this.control("strip")[0];
    if (strip && this.strip.some(({ name }) => name !== null)) value[strip] = this.strip.map(({ start, name }) => [round(start), name]);
    return value;
  }

  written(pitch) { return NAMES[((Math.round(pitch) % 12) + 12) % 12]; }

  // A line that is 0 in rests.
  gated(points, rests) {
    const out = [];
    let at = 0;
    const sound = (start, stop) => {
      if (stop - start < NEAR) return;
      out.push([start, this.valueAt(points, start)]);
      out.push(...points.filter(([time]) => time > start + NEAR && time < stop - NEAR));
      const end = this.valueBefore(points, stop);
      if (end !== null) out.push([stop, end]);
    };
    for (const [start, stop] of rests) {
      sound(at, start);
      out.push([start, 0], [stop, 0]);
      at = stop;
    }
    sound(at, this.seconds);
    return jumps(out.map(([time, level]) => [round(time), level === null ? null : round(level)]));
  }

  valueBefore(points, time) {
    const jump = points.findIndex(([t]) => Math.abs(t - time) < NEAR);
    return jump >= 0 && points[jump][1] !== null ? points[jump][1] : this.valueAt(points, time);
  }

  // Read the content of a curve file.
  load(value, seconds) {
    this.edit(() => {
      this.lines = {};
      this.notes = [];
      this.strip = [];
      const ends = [];
      const parsed = {};
      for (const [name, written] of Object.entries(value)) {
        if (name === "version") continue;
        const listed = Array.isArray(written) ? { points: written } : written && typeof written === "object" ? written : { points: [[0, written]] };
        parsed[name] = listed;
        ends.push(...listed.points.map(([time]) => Number(time)));
      }
      this.seconds = seconds ?? Math.min(30, Math.max(1, Math.ceil(Math.max(...ends, 0) * 2) / 2 || this.seconds));
      for (const [name, { points, interpolation }] of Object.entries(parsed)) {
        const kind = this.controls.find((control) => control.name === name)?.kind;
        if (kind === "line") {
          this.lines[name] = interpolation === "step" ? stepped(points) : points.map(([time, level]) => [Number(time), level]);
          const last = this.lines[name].at(-1);
          if (last && last[1] !== null && last[0] < this.seconds) this.lines[name].push([this.seconds, last[1]]);
        } else if (name === "pitch") this.notes = bentNotes(points, this.seconds, interpolation !== "step");
        else if (kind === "notes" || name === "chroma") { if (!parsed.pitch) this.notes = notesOf(points, this.seconds); }
        else if (kind === "strip") this.strip = points.map(([time, level]) => ({ start: Number(time), name: level }));
      }
    });
  }

  // Take over notes {start, stop, pitch, velocity} of a melody.
  loadNotes(notes, seconds, instrument) {
    this.edit(() => {
      this.seconds = seconds;
      this.notes = notes.map(({ start, stop, pitch }) => ({ start, stop, pitch }));
      if (this.control("line").includes("velocity")) {
        this.lines.velocity = jumps(notes.flatMap(({ start, stop, velocity }) => [[start, velocity], [stop, velocity]]));
        if (this.lines.velocity.length && this.lines.velocity[0][0] > 0) this.lines.velocity.unshift([0, this.lines.velocity[0][1]]);
      }
      if (instrument) this.strip = [{ start: 0, name: instrument }];
    });
  }
}

// At most two points at one time, as curve files require.
function jumps(points) {
  const out = [];
  for (const point of points) {
    if (out.length > 1 && Math.abs(out.at(-1)[0] - point[0]) < NEAR && Math.abs(out.at(-2)[0] - point[0]) < NEAR) out.pop();
    out.push(out.length && Math.abs(out.at(-1)[0] - point[0]) < NEAR ? [out.at(-1)[0], point[1]] : point);
  }
  return out;
}

function stepped(points) {
  return jumps(points.flatMap(([time, level], i) => (i && points[i - 1][1] !== null ? [[time, points[i - 1][1]], [time, level]] : [[time, level]])));
}

function pitchOf(level, before) {
  if (typeof level === "number") return level > 1 ? level : nearest(Math.round(level * 11), before);
  const found = /^([A-Ga-g])([#b♯♭]?)(-?\d+)?$/.exec(String(level).trim());
  if (!found) return null;
  const shift = { "#": 1, "♯": 1, b: -1, "♭": -1 }[found[2]] ?? 0;
  const degree = NAMES.indexOf(found[1].toUpperCase()) + shift;
  return found[3] === undefined ? nearest(((degree % 12) + 12) % 12, before) : degree + 12 * (Number(found[3]) + 1);
}

// The pitch of a class nearest to the note before, within two octaves around middle C.
function nearest(degree, before) {
  const choices = [48 + degree, 60 + degree].filter((pitch) => pitch <= 72);
  return choices.reduce((best, pitch) => (Math.abs(pitch - before) < Math.abs(best - before) ? pitch : best));
}

// The points of a pitch curve with linear interpolation: two points at one time are a jump.
function bentPoints(notes, seconds) {
  const points = [];
  if (notes[0].start > NEAR) points.push([0, "rest"]);
  notes.forEach((note, i) => {
    const next = notes[i + 1];
    if (note.pitch === null) points.push([round(note.start), null]);
    else points.push(...bendOf(note).map(([after, semitones]) => [round(note.start + after), round(note.pitch + semitones)]));
    const stop = round(note.stop);
    if (stop < seconds - NEAR && (!next || next.start - note.stop > NEAR)) points.push([stop, "rest"]);
  });
  return points;
}

// The bend of a note with points at its start and end.
export function bendOf(note) {
  const length = note.stop - note.start;
  const bend = (note.bend ?? []).filter(([after]) => after > NEAR && after < length - NEAR);
  return [[0, bendAt(note, 0)], ...bend, [length, bendAt(note, length)]];
}

// Semitones off a note's pitch, a time after its start.
export function bendAt(note, after) {
  const bend = note.bend ?? [];
  if (!bend.length) return 0;
  const next = bend.findIndex(([time]) => time > after);
  if (next < 0) return bend.at(-1)[1];
  if (next === 0) return bend[0][1];
  const [[t0, s0], [t1, s1]] = [bend[next - 1], bend[next]];
  return s0 + ((s1 - s0) * (after - t0)) / (t1 - t0 || 1);
}

// Notes of a pitch curve: each run without a rest or a jump is one note, its pitch the most frequent semitone.
function bentNotes(points, seconds, linear) {
  const notes = [];
  let run = [];
  const close = (stop) => {
    if (run.length && stop - run[0][0] > 0.01) {
      const start = run[0][0];
      if (run[0][1] === null) notes.push({ start, stop, pitch: null });
      else {
        const level = (time) => valueOf(run, time);
        const counts = new Map();
        for (let k = 0; k < 200; k++) {
          const semitone = Math.round(level(start + ((k + 0.5) / 200) * (stop - start)));
          counts.set(semitone, (counts.get(semitone) ?? 0) + 1);
        }
        const pitch = [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0];
        const bend = run.map(([time, value]) => [round(time - start), round(value - pitch)]);
        notes.push(bend.some(([, semitones]) => semitones !== 0) ? { start, stop, pitch, bend } : { start, stop, pitch });
      }
    }
    run = [];
  };
  points.forEach(([written, level], i) => {
    const time = Number(written);
    if (level === "rest") { close(time); return; }
    const value = level === null ? null : typeof level === "number" ? level : pitchOf(level, 62);
    const before = run.at(-1);
    if (before && (!linear || before[1] === null || value === null || Math.abs(before[0] - time) < NEAR)) close(time);
    run.push([time, value]);
    if (i === points.length - 1) close(seconds);
  });
  return notes;
}

function valueOf(run, time) {
  const next = run.findIndex(([at]) => at > time);
  if (next < 0) return run.at(-1)[1];
  if (next === 0) return run[0][1];
  const [[t0, v0], [t1, v1]] = [run[next - 1], run[next]];
  return v0 + ((v1 - v0) * (time - t0)) / (t1 - t0);
}

function notesOf(points, seconds) {
  const notes = [];
  let before = 62;
  points.forEach(([time, level], i) => {
    const stop = i + 1 < points.length ? Number(points[i + 1][0]) : seconds;
    if (level === "rest" || stop <= time) return;
    const pitch = level === null ? null : pitchOf(level, before);
    if (pitch !== null) before = pitch;
    notes.push({ start: Number(time), stop, pitch });
  });
  return notes;
}
