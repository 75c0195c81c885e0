// Lane of pitch or chroma as a piano roll.

import { Lane } from "./lane.js";
import { NAMES, bendAt, bendOf } from "./score.js";

const LOWEST = 47, HIGHEST = 73; // rows of the piano roll
const EDGE = 7; // pixels around a note's edge that stretch it

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
    this.studio.view.dirty();
  }

  remove(at) {
    const note = this.noteAt(at.time, at.py === undefined ? undefined : this.pitchAt(at)) ?? this.noteAt(at.time);
    if (note) this.score.edit(() => this.score.notes.splice(this.score.notes.indexOf(note), 1));
    this.studio.view.dirty();
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
        context.fillStyle = this.studio.view.colour("line");
        context.globalAlpha = 0.45;
        context.fillRect(0, top, width, row);
        context.globalAlpha = 1;
      }
      if (pitch % 12 === 0) {
        context.fillStyle = this.studio.view.colour("soft");
        context.fillText(this.name === "chroma" ? "C" : label(pitch), 4, top + row - 1);
      }
    }
    this.grid(context);
    if (!this.score.notes.length) this.hatch(context, 0, this.score.seconds);
    this.figure.querySelector(".asked").textContent = this.name === "chroma" ? "octaves are equivalent" : "";
    for (const note of this.score.notes) {
      if (note.pitch === null) { this.hatch(context, note.start, note.stop); continue; }
      const octaves = this.name === "chroma" ? [-24, -12, 12, 24] : [];
      context.fillStyle = this.studio.view.colour("wanted");
      context.globalAlpha = 0.16;
      for (const octave of octaves) context.fillRect(this.x(note.start), this.y(note.pitch + octave + 0.5), this.x(note.stop) - this.x(note.start), row);
      context.globalAlpha = 0.9;
      context.beginPath();
      if (note.bend) {
        bendOf(note).forEach(([after, semitones], i) => context[i ? "lineTo" : "moveTo"](this.x(note.start + after), this.y(note.pitch + semitones)));
        context.strokeStyle = this.studio.view.colour("wanted");
        context.lineWidth = row - 1;
        context.stroke();
      } else {
        context.roundRect(this.x(note.start) + 0.5, this.y(note.pitch + 0.5) + 0.5, Math.max(2, this.x(note.stop) - this.x(note.start) - 1), row - 1, 3);
        context.fill();
      }
      context.globalAlpha = 1;
      if (this.x(note.stop) - this.x(note.start) > 26 && row > 8) {
        context.fillStyle = this.studio.view.colour("on");
        context.fillText(this.name === "chroma" ? NAMES[note.pitch % 12] : label(note.pitch), this.x(note.start) + 4, this.y(note.pitch) + 3.5);
      }
    }
    if (this.achieved) {
      const step = this.studio.frameSeconds;
      context.strokeStyle = this.studio.view.colour("achieved");
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

// Vibrato of 5.5 Hz that starts 0.2 s after the onset, as points of an eighth of a period.
function vibrato(note, semitones) {
  const [hz, delay] = [5.5, 0.2];
  const bend = [[0, 0], [delay, 0]];
  for (let k = 1; delay + k / (8 * hz) < note.stop - note.start; k++) bend.push([delay + k / (8 * hz), semitones * Math.sin((k * Math.PI) / 4)]);
  return bend;
}

function label(pitch) { return `${NAMES[((Math.round(pitch) % 12) + 12) % 12]}${Math.floor(Math.round(pitch) / 12) - 1}`; }
