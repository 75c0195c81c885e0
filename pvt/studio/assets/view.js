// The visible span of time: zoom, painting of lanes and result, playback position.

import { fitted, magma } from "./canvas.js";
import { $ } from "./page.js";

const LEVEL_RANGE = 60; // dB below full scale that the level lane shows
const SPECTROGRAM_RATE = 100; // frames per second

export class View {
  constructor(studio) { Object.assign(this, { studio, start: 0, stop: 8, colours: {} }); }

  colour(name) { return (this.colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()); }

  fit() {
    this.show(0, this.studio.score.seconds);
    $("seconds").value = this.studio.score.seconds;
  }

  zoom(factor, around = this.studio.position) {
    const { start, stop } = this;
    const span = Math.min(this.studio.score.seconds, Math.max(0.25, (stop - start) * factor));
    const share = Math.min(1, Math.max(0, (around - start) / (stop - start)));
    const first = Math.min(this.studio.score.seconds - span, Math.max(0, around - share * span));
    this.show(first, first + span);
  }

  wheel(event, time) {
    if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(Math.exp(event.deltaY / 300), time); }
    else if (event.shiftKey || event.deltaX) {
      event.preventDefault();
      const span = this.stop - this.start;
      const start = Math.min(this.studio.score.seconds - span, Math.max(0, this.start + ((event.deltaX || event.deltaY) / 600) * span));
      this.show(start, start + span);
    }
  }

  ticks() {
    const { start, stop } = this;
    const step = [0.1, 0.25, 0.5, 1, 2, 5].find((one) => (stop - start) / one <= 17) ?? 10;
    const found = [];
    for (let i = Math.ceil(start / step - 1e-9); i * step <= stop + 1e-9; i++) found.push(i * step);
    return found;
  }

  show(start, stop) {
    Object.assign(this, { start, stop });
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

  render() {
    for (const lane of this.studio.lanes) lane.paint();
    const { start, stop } = this;
    const share = (time) => `${(100 * (time - start)) / (stop - start)}%`;
    $("axis").replaceChildren(...this.ticks().map((time) => {
      const mark = document.createElement("span");
      mark.textContent = `${Number(time.toFixed(2))}`;
      mark.style.left = share(time);
      return mark;
    }));
    const chosen = this.studio.selection;
    $("selection").hidden = !chosen;
    if (chosen) Object.assign($("selection").style, { left: share(Math.max(start, chosen.start)), width: `${(100 * (Math.min(stop, chosen.stop) - Math.max(start, chosen.start))) / (stop - start)}%` });
    this.paintResult();
    this.moveHead();
  }

  // The whole spectrogram, once for each take; views are drawn from it.
  paintSpectrogram() {
    const { mel } = this.studio.current.takes[this.studio.variant];
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
    const { start, stop } = this;
    const picture = fitted($("spectrogram"));
    if (this.picture) {
      picture.context.drawImage(this.picture, start * SPECTROGRAM_RATE, 0, (stop - start) * SPECTROGRAM_RATE, this.picture.height, 0, 0, picture.width, picture.height);
    }
    const { context, width, height } = fitted($("level"));
    if (!this.studio.current) return;
    const levels = this.studio.current.takes[this.studio.variant].analysis.level_db;
    context.fillStyle = this.colour("wave");
    for (let x = 0; x < width; x++) {
      const level = levels[Math.floor((start + (x / width) * (stop - start)) / this.studio.frameSeconds)] ?? -120;
      const tall = height * Math.min(1, Math.max(0, 1 + level / LEVEL_RANGE));
      context.fillRect(x, height - tall, 1, tall);
    }
  }

  moveHead() {
    const { start, stop } = this;
    const position = this.studio.position;
    const inside = this.studio.current && position >= start && position <= stop;
    $("head").hidden = !inside;
    if (inside) $("head").style.transform = `translateX(${((position - start) / (stop - start)) * $("stage").clientWidth}px)`;
    $("clock").value = `${position.toFixed(2)} s`;
    if (this.studio.player.playing) requestAnimationFrame(() => this.moveHead());
  }
}
