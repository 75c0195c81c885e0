// Lane of a control with one value per frame, drawn as breakpoints.

import { Lane, PAD } from "./lane.js";

const POINT = 9; // pixels around a breakpoint that take it

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
    this.studio.view.dirty();
  }

  remove(at) {
    const index = at.px === undefined ? this.points.findIndex(([time]) => Math.abs(time - at.time) < 0.06) : this.nearest(at);
    if (index >= 0) this.score.edit(() => this.points.splice(index, 1));
    this.studio.view.dirty();
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
    context.fillStyle = this.studio.view.colour("soft");
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
      context.strokeStyle = this.studio.view.colour("wanted");
      context.lineWidth = 2;
      context.stroke();
      context.lineTo(this.x(run.at(-1)[0]), height);
      context.lineTo(this.x(run[0][0]), height);
      context.globalAlpha = 0.13;
      context.fillStyle = this.studio.view.colour("wanted");
      context.fill();
      context.globalAlpha = 1;
    }
    if (this.studio.tool === "points") {
      context.fillStyle = this.studio.view.colour("wanted");
      for (const [time, value] of points) if (value !== null) { context.beginPath(); context.arc(this.x(time), this.y(value), 4, 0, 7); context.fill(); }
    }
    if (this.achieved) {
      const step = this.studio.frameSeconds;
      context.strokeStyle = this.studio.view.colour("achieved");
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

// Fewer points of a line, within a tolerance (Ramer 1972, Douglas and Peucker 1973).
function simplified(points, tolerance) {
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
