// Import of curve files, recipes, MIDI files and recordings; export of curves, recipes and audio.

import * as api from "./api.js";
import { $, save } from "./page.js";
import { Recorder } from "./recorder.js";

export async function importFile(studio, file) {
  const ending = file.name.toLowerCase().replace(/^.*\./, "");
  const seconds = Math.ceil(studio.score.seconds);
  try {
    if (ending === "mid" || ending === "midi") await importMidi(studio, file, seconds);
    else if (["wav", "flac", "ogg", "mp3", "aiff", "aif"].includes(ending)) {
      await importRecording(studio, file);
    } else {
      const text = await file.text();
      const recipe = text.includes('"pvt_sound"') ? JSON.parse(text) : null;
      const body = new Blob([recipe ? JSON.stringify(recipe.curves) : text]);
      const { curves, notices } = await api.post("api/import/curves", body);
      studio.score.edit((score) => {
        if (recipe) notices.push(...useRecipe(studio, recipe));
        score.load(curves, recipe?.seconds);
      });
      if (recipe?.kept) await studio.repeat(recipe);
      if (notices.length) studio.announce(notices.join(" · "));
    }
    studio.view.fit();
  } catch (error) { studio.announce(error.message); }
}

// Take model and settings of a recipe; returns what may make the sound differ.
function useRecipe(studio, { model, seed, steps, s_churn: churn, guidance, variant = 0, span, kept }) {
  const notices = [];
  const found = studio.models.find(({ digest }) => digest === model?.sha256);
  if (!found) notices.push(`the recipe names another model (${model?.name}); the sound will differ`);
  if (span && !kept) notices.push("the recipe redraws a span of a take that is not in the file; all of it is generated");
  if (typeof guidance === "object" && (found ?? studio.model).guidance) notices.push("the model takes one weight of guidance; those by control are left out");
  const common = typeof guidance === "number" ? { guidance } : { by: guidance };
  if (variant) notices.push(`the sound is variant ${variant + 1}`);
  studio.settings({ model: found?.name, seed, steps, churn, variants: variant + 1, ...common });
  $("lock").checked = true;
  return notices;
}

async function importRecording(studio, file) {
  const query = `seconds=30&sharpness=${$("sharpness").value}&model=${encodeURIComponent(studio.model.name)}`;
  const { curves, seconds } = await api.post(`api/import/recording?${query}`, file);
  const strip = studio.score.strip;
  studio.score.load(curves, Math.min(30, Math.max(1, Math.ceil(seconds * 2) / 2)));
  if (!studio.score.strip.length) studio.score.strip = strip; // a recording does not name an instrument
}

// Record the microphone; a second call stops and turns the recording into curves.
export async function record(studio) {
  try {
    if (!studio.recorder) {
      const recorder = new Recorder();
      await recorder.start();
      studio.recorder = recorder;
      $("record").textContent = "Stop";
      $("record").classList.add("primary");
      studio.announce("recording; press Stop to turn it into curves");
      return;
    }
    const recorder = studio.recorder;
    studio.recorder = null;
    $("record").textContent = "Record";
    $("record").classList.remove("primary");
    await importRecording(studio, await recorder.stop());
    studio.view.fit();
    studio.announce("recording imported");
  } catch (error) { studio.announce(error.message); }
}

async function importMidi(studio, file, seconds, track) {
  const found = await api.post(`api/import/midi?seconds=${seconds}${track === undefined ? "" : `&track=${track}`}`, file);
  if (track === undefined && found.tracks.length > 1) {
    $("track-list").replaceChildren(...found.tracks.map(({ index, notes, seconds: length, instrument }) =>
      Object.assign(document.createElement("button"), { value: String(index), textContent: `Track ${index}: ${notes} notes, ${length} s ${instrument}` })));
    $("tracks").showModal();
    await new Promise((resolve) => $("tracks").addEventListener("close", resolve, { once: true }));
    if ($("tracks").returnValue === "") return;
    return importMidi(studio, file, seconds, Number($("tracks").returnValue));
  }
  const chosen = found.tracks.find(({ index }) => index === found.track);
  studio.score.loadNotes(found.notes, seconds, studio.model.instruments.includes(chosen.instrument) ? chosen.instrument : null);
}

export async function exportFile(studio, kind) {
  $("exports").open = false;
  if (kind === "curves") return save(JSON.stringify(studio.score.curves(), null, 1), "curves.json", "application/json");
  const take = studio.current?.takes[studio.variant];
  if (!take) return studio.announce("generate a take first");
  try {
    if (kind === "recipe") save(JSON.stringify(await api.get(`api/takes/${take.id}/recipe`), null, 1), "sound.json", "application/json");
    else save(await api.bytes(`api/takes/${take.id}/wav?rate=${$("rate").value}&bits=${$("bits").value}`), "take.wav", "audio/wav");
  } catch (error) { studio.announce(error.message); }
}
