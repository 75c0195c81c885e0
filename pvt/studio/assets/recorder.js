// Records the microphone as a WAV file of float32 samples. Browsers allow it on localhost and over TLS only.

export class Recorder {
  // Start recording; resolves when the microphone is open.
  async start() {
    if (!navigator.mediaDevices) throw new Error("the microphone needs localhost or TLS; open the studio through ssh -L");
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, autoGainControl: false, noiseSuppression: false } });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("assets/recorder-worklet.js");
    this.parts = [];
    this.node = new AudioWorkletNode(this.context, "recorder");
    this.node.port.onmessage = ({ data }) => this.parts.push(data);
    this.context.createMediaStreamSource(this.stream).connect(this.node);
  }

  // Stop and return the WAV file.
  async stop() {
    for (const track of this.stream.getTracks()) track.stop();
    const rate = this.context.sampleRate;
    await this.context.close();
    return wav(this.parts, rate);
  }
}

function wav(parts, rate) {
  const samples = parts.reduce((sum, part) => sum + part.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 4 * samples));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 4 * samples, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 3, true); view.setUint16(22, 1, true); // 3: float
  view.setUint32(24, rate, true); view.setUint32(28, 4 * rate, true); view.setUint16(32, 4, true); view.setUint16(34, 32, true);
  text(36, "data"); view.setUint32(40, 4 * samples, true);
  let at = 44;
  for (const part of parts) for (const sample of part) { view.setFloat32(at, sample, true); at += 4; }
  return new Blob([view], { type: "audio/wav" });
}
