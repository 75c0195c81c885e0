// Presets: those of the studio and those kept in the browser.

import { $, STORED } from "./page.js";

const stored = () => JSON.parse(localStorage.getItem(`${STORED}-presets`) ?? "{}");

export function listPresets(studio) {
  $("preset").replaceChildren(new Option("choose …", ""), ...[...Object.keys(studio.presets), ...Object.keys(stored())].map((name) => new Option(name, name)));
}

export function usePreset(studio, name) {
  const own = stored()[name];
  if (own) studio.score.edit((score) => score.restore(own));
  else if (studio.presets[name]) studio.score.load(studio.presets[name]);
  studio.view.fit();
}

export function savePreset(studio) {
  const name = prompt("Name of the preset")?.trim();
  if (!name) return;
  localStorage.setItem(`${STORED}-presets`, JSON.stringify({ ...stored(), [name]: studio.score.state() }));
  listPresets(studio);
  $("preset").value = name;
}
