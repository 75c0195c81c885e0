// A lane: the canvas of one control, drawn and edited on the common time axis.

import { fitted } from "./canvas.js";

export const PAD = 6; // pixels above and below a line

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
    this.canvas.addEventListener("focus", () => { studio.focused = this; studio.view.dirty(); });
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("dblclick", (event) => this.double(event));
    this.canvas.addEventListener("contextmenu", (event) => { event.preventDefault(); this.remove(this.at(event)); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => studio.view.wheel(event, this.at(event).time), { passive: false });
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
    const before = this.score.snapshot();
    this.canvas.setPointerCapture(event.pointerId);
    const moved = (next) => { for (const one of next.getCoalescedEvents?.() ?? [next]) move(this.at(one), before); this.studio.view.dirty(this.studio.tool === "select" ? undefined : this); };
    const done = () => {
      this.canvas.removeEventListener("pointermove", moved);
      this.canvas.removeEventListener("pointerup", done);
      this.canvas.removeEventListener("pointercancel", done);
      end();
      this.score.commit(before);
      this.studio.view.dirty();
    };
    this.canvas.addEventListener("pointermove", moved);
    this.canvas.addEventListener("pointerup", done);
    this.canvas.addEventListener("pointercancel", done);
  }

  double() {}

  context() { return fitted(this.canvas).context; }

  grid(context) {
    const { width, height } = this.size();
    context.strokeStyle = this.studio.view.colour("line");
    context.lineWidth = 1;
    for (const time of this.studio.view.ticks()) {
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
    context.strokeStyle = this.studio.view.colour("line");
    context.lineWidth = 1;
    for (let x = left - height; x < right; x += 7) {
      context.beginPath();
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
      context.stroke();
    }
    context.fillStyle = this.studio.view.colour("soft");
    context.font = "italic 12px system-ui, sans-serif";
    context.textAlign = "center";
    if (right - left > 90) context.fillText(label, (left + right) / 2, height / 2 + 4);
    context.restore();
  }

  caret(context) {
    if (this.studio.focused !== this || this.cursor === null) return;
    context.fillStyle = this.studio.view.colour("head");
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
    this.studio.view.dirty();
  }

  insert(time) { this.nudge(time, 0); }

  span() { return this.studio.selection ?? { start: 0, stop: this.score.seconds }; }

  smooth() {}

  scale() {}
}
