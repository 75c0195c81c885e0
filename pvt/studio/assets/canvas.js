// Drawing shared by the lanes and the spectrogram.

// Context of a canvas in CSS pixels, cleared, with its size.
export function fitted(canvas) {
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

// RGB of a share in 0..1.
export function magma(share) { return MAGMA[Math.round(255 * share)]; }
