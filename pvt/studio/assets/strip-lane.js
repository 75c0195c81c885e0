// Lane of the instruments: one row for each, one instrument at a time.

import { Lane } from "./lane.js";

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
    this.studio.view.dirty();
  }

  remove(at) {
    const index = this.score.strip.findLastIndex(({ start }) => start <= at.time);
    if (index >= 0) this.score.edit(() => { this.score.strip[index].name = null; });
    this.studio.view.dirty();
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
      context.fillStyle = this.studio.view.colour(`strip-${Math.max(0, number) % 5}`);
      context.fillRect(this.x(start), number * row + 1, this.x(stop) - this.x(start), row - 2);
    });
    if (this.achieved) {
      context.strokeStyle = this.studio.view.colour("achieved");
      context.lineWidth = 2;
      for (const { start, stop, name } of this.achieved.achieved) {
        const y = (this.names.indexOf(name) + 0.8) * row;
        context.beginPath();
        context.moveTo(this.x(start) + 2, y);
        context.lineTo(this.x(Math.min(stop, this.score.seconds)) - 2, y);
        context.stroke();
      }
    }
    context.fillStyle = this.studio.view.colour("ink");
    this.names.forEach((name, i) => context.fillText(name, 5, (i + 0.5) * row + 4));
    this.caret(context);
  }
}
