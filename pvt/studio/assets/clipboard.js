// Copy and paste of a span of the score, with all its lanes.

import { NotesLane } from "./notes-lane.js";

export function copy(studio) {
  const { start, stop } = studio.selection ?? { start: 0, stop: studio.score.seconds };
  const lines = Object.fromEntries(Object.entries(studio.score.lines).map(([name, points]) => [name,
    [[0, studio.score.valueAt(points, start)], ...points.filter(([time]) => time > start && time < stop).map(([time, value]) => [time - start, value]),
      [stop - start, studio.score.valueAt(points, stop)]]]));
  const notes = studio.score.notes.filter((note) => note.stop > start && note.start < stop)
    .map((note) => ({ ...note, start: Math.max(start, note.start) - start, stop: Math.min(stop, note.stop) - start }));
  const strip = [{ start: 0, name: studio.score.instrumentAt(start) }, ...studio.score.strip.filter((one) => one.start > start && one.start < stop)
    .map((one) => ({ ...one, start: one.start - start }))];
  studio.clip = { length: stop - start, lines, notes, strip };
  studio.announce(`copied ${(stop - start).toFixed(2)} s`);
}

export function paste(studio) {
  if (!studio.clip) return;
  const start = studio.selection?.start ?? studio.position;
  const stop = Math.min(studio.score.seconds, start + studio.clip.length);
  studio.score.edit((score) => {
    for (const [name, points] of Object.entries(studio.clip.lines)) {
      score.replace(name, start, stop, points.map(([time, value]) => [time + start, value]).filter(([time]) => time <= stop));
    }
    const lane = studio.lanes.find((one) => one instanceof NotesLane);
    if (lane) {
      lane.makeRoom({ start, stop });
      score.notes.push(...studio.clip.notes.map((note) => ({ ...note, start: note.start + start, stop: Math.min(stop, note.stop + start) })));
    }
    score.replaceStrip(start, stop, studio.clip.strip.map((one) => ({ ...one, start: one.start + start })));
  });
}
