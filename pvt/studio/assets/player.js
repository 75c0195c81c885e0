// Playback of takes: sample-accurate start, loop, and switching between takes at the same position.

const FADE = 0.012; // seconds

export class Player {
  constructor(onstate) {
    Object.assign(this, { onstate, buffer: null, source: null, at: 0, began: 0, loop: false, span: null });
  }

  // Browsers allow sound after a gesture only, so the context is made at the first one.
  ready() {
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    if (this.context.state === "suspended") this.context.resume();
    return this.context;
  }

  get playing() { return this.source !== null; }

  get position() {
    if (!this.playing) return this.at;
    const elapsed = this.at + this.context.currentTime - this.began;
    const [start, stop] = this.range();
    return this.loop && elapsed >= stop ? start + ((elapsed - start) % (stop - start)) : Math.min(elapsed, this.buffer.duration);
  }

  range() { return this.span ? [this.span.start, Math.min(this.span.stop, this.buffer.duration)] : [0, this.buffer.duration]; }

  async decode(data) {
    const offline = new OfflineAudioContext(1, 1, 24000);
    return offline.decodeAudioData(data);
  }

  // Take another buffer; playback continues at the same position.
  use(buffer) {
    const position = this.position;
    const playing = this.playing;
    if (playing) this.halt();
    this.buffer = buffer;
    this.at = buffer ? Math.min(position, buffer.duration) : 0;
    if (playing && buffer) this.start(this.at);
  }

  start(position = this.at) {
    if (!this.buffer) return;
    const context = this.ready();
    this.halt();
    const [from, to] = this.range();
    if (position >= to - 0.01 || position < 0 || (this.span && position < from)) position = from;
    const source = context.createBufferSource();
    const gain = context.createGain();
    source.buffer = this.buffer;
    Object.assign(source, { loop: this.loop, loopStart: from, loopEnd: to });
    source.connect(gain).connect(context.destination);
    gain.gain.setValueAtTime(0, context.currentTime);
    gain.gain.linearRampToValueAtTime(1, context.currentTime + FADE);
    if (this.loop || !this.span) source.start(0, position);
    else source.start(0, position, to - position);
    source.onended = () => { if (this.source === source) { this.source = null; this.at = from; this.onstate(); } };
    Object.assign(this, { source, gain, at: position, began: context.currentTime });
    this.onstate();
  }

  halt() {
    if (!this.source) return;
    this.at = this.position;
    const { source, gain, context } = this;
    this.source = null;
    gain.gain.cancelScheduledValues(context.currentTime);
    gain.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
    source.stop(context.currentTime + 2 * FADE);
  }

  pause() { this.halt(); this.onstate(); }

  toggle() { if (this.playing) this.pause(); else this.start(); }

  seek(position) {
    const playing = this.playing;
    this.halt();
    this.at = position;
    if (playing) this.start(position);
    this.onstate();
  }

  setLoop(loop) {
    this.loop = loop;
    if (this.playing) this.start(this.position);
  }
}
