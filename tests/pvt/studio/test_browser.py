"""The studio in a real browser with the shipped models: drawing, hearing, files."""

import io
import json
import time

import mido
import numpy as np
import pytest
import soundfile

from tests.pvt.studio.pages import LOADED, SCORE, curves, drag, generated, lane, until


def test_drawing_changes_the_curve_and_undo_restores_it(page):
    before = curves(page)
    drag(page, "velocity", (0.1, 0.9), (0.3, 0.1), (0.5, 0.8))
    drawn = curves(page)
    assert drawn["velocity"] != before["velocity"]
    assert page.evaluate(f"{SCORE}.valueAt({SCORE}.lines.velocity, 2.4)") == pytest.approx(0.93, abs=0.08)
    page.keyboard.press("Control+z")
    assert curves(page) == before
    page.keyboard.press("Control+Shift+z")
    assert curves(page) == drawn


def test_points_are_added_moved_and_removed(page):
    page.click("[data-tool=line]")
    drag(page, "velocity", (0, 0.5), (1, 0.5))
    page.click("[data-tool=points]")
    box = lane(page, "velocity").bounding_box()
    count = len(page.evaluate(f"{SCORE}.lines.velocity"))
    lane(page, "velocity").dblclick(position={"x": box["width"] / 2, "y": box["height"] * 0.25})
    assert len(page.evaluate(f"{SCORE}.lines.velocity")) == count + 1
    drag(page, "velocity", (0.5, 0.25), (0.5, 0.75))
    assert page.evaluate(f"{SCORE}.valueAt({SCORE}.lines.velocity, 4)") == pytest.approx(0.24, abs=0.05)
    lane(page, "velocity").click(button="right", position={"x": box["width"] / 2, "y": box["height"] * 0.75})
    assert len(page.evaluate(f"{SCORE}.lines.velocity")) == count


def test_notes_are_drawn_moved_and_stretched(page):
    page.evaluate(f"{SCORE}.edit(() => {{ {SCORE}.notes = []; }})")
    drag(page, "pitch", (0.25, 0.5), (0.5, 0.5))
    (note,) = page.evaluate(f"{SCORE}.notes")
    assert (note["start"], note["stop"]) == (2, 4)
    drag(page, "pitch", (0.37, 0.5), (0.495, 0.5))
    assert [page.evaluate(f"{SCORE}.notes[0].{part}") for part in ("start", "stop")] == [3, 5]
    drag(page, "pitch", (0.624, 0.5), (0.75, 0.5))
    assert page.evaluate(f"{SCORE}.notes[0].stop") == 6
    assert curves(page)["pitch"] == [[0, "rest"], [3, 60], [6, 60], [6, "rest"]]


def test_glide_and_vibrato_bend_notes_and_a_second_click_removes_them(page):
    page.evaluate(
        f"""{SCORE}.edit(() => {{ {SCORE}.notes = [
            {{start: 0, stop: 2, pitch: 57}}, {{start: 2, stop: 6, pitch: 64}}]; }})"""
    )
    page.click("[data-tool=glide]")
    row = 1 / 27
    middle = (73.5 - 64) * row
    drag(page, "pitch", (0.4, middle), (0.5, middle))
    assert curves(page)["pitch"][2:5] == [[2, 57], [4, 64], [6, 64]]
    page.click("[data-tool=vibrato]")
    box = lane(page, "pitch").bounding_box()
    lane(page, "pitch").click(position={"x": 0.1 * box["width"], "y": (73.5 - 57) * row * box["height"]})
    levels = [level for time, level in curves(page)["pitch"] if time < 2]
    assert max(levels) == pytest.approx(57.3)
    assert min(levels) == pytest.approx(56.7)
    for tool, place in (("vibrato", (0.1, 57)), ("glide", (0.6, 64))):
        page.click(f"[data-tool={tool}]")
        at = {"x": place[0] * box["width"], "y": (73.5 - place[1]) * row * box["height"]}
        lane(page, "pitch").click(position=at)
    assert curves(page)["pitch"][:5] == [[0, 57], [2, 57], [2, 64], [6, 64], [6, "rest"]]


def test_pitch_curves_with_glides_survive_import_and_export(page):
    page.select_option("#preset", "glide")
    first = curves(page)
    page.evaluate("(value) => studio.score.load(value, 8)", first)
    assert curves(page)["pitch"] == first["pitch"]
    assert [3.6, 64.0] not in first["pitch"]
    assert [1.8, 64] in first["pitch"]


def test_clear_leaves_a_lane_unconditioned(page):
    lane(page, "velocity").focus()
    page.click("#clear")
    assert "velocity" not in curves(page)
    assert "unconditioned" in page.inner_text(".lane.line .asked")


def test_the_keyboard_alone_draws_generates_and_plays(page):
    lane(page, "velocity").focus()
    before = curves(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert curves(page) != before
    page.keyboard.press("g")
    generated(page)
    page.keyboard.press("Space")
    until(page, "studio.player.playing && studio.position > 0.2")
    page.keyboard.press("Space")
    assert not page.evaluate("studio.player.playing")


def test_variants_switch_at_the_same_position(page):
    page.select_option("#variants", "2")
    page.click("#generate")
    generated(page)
    page.click("#play")
    until(page, "studio.position > 0.3")
    before = page.evaluate("studio.position")
    page.keyboard.press("2")
    assert page.evaluate("studio.variant") == 1
    assert before <= page.evaluate("studio.position") < before + 1


def test_achieved_curves_are_shown_with_their_error(page):
    assert page.inner_text(".lane.line .achieved").startswith("achieved: mean error 0.")
    assert "% of frames within 50 cents" in page.inner_text(".lane.notes .achieved")


def test_export_and_import_round_trip_and_a_reload_keeps_the_score(page):
    drag(page, "velocity", (0.2, 0.8), (0.6, 0.2))
    page.click("#exports summary")
    with page.expect_download() as download:
        page.click("#export-curves")
    text = download.value.path().read_text()
    drawn = curves(page)
    page.select_option("#preset", "relay")
    assert curves(page) != drawn
    page.set_input_files("#file", {"name": "curves.json", "mimeType": "application/json", "buffer": text.encode()})
    wanted = json.dumps(drawn["pitch"], separators=(",", ":"))
    until(page, f"JSON.stringify(studio.score.curves().pitch) === {json.dumps(wanted)}")
    loaded = curves(page)
    page.reload()
    page.wait_for_selector(LOADED)
    assert curves(page) == loaded


def test_a_pasted_span_holds_lines_notes_and_instruments(page):
    first, second = page.evaluate("studio.model.instruments")[:2]
    page.evaluate(
        f"""{SCORE}.edit((score) => Object.assign(score, {{
            strip: [{{start: 0, name: "{first}"}}, {{start: 1, name: "{second}"}}, {{start: 2, name: null}}],
            notes: [{{start: 0.5, stop: 1.5, pitch: 60}}], lines: {{velocity: [[0, 0.2], [2, 0.8], [8, 0.8]]}}}}))"""
    )
    page.evaluate("studio.select({start: 0.5, stop: 2})")
    page.click("#copy")
    page.evaluate("studio.select({start: 4, stop: 5.5})")
    page.click("#paste")
    assert page.evaluate(f"{SCORE}.strip")[2:] == [
        {"start": 2, "name": None},
        {"start": 4, "name": first},
        {"start": 4.5, "name": second},
        {"start": 5.5, "name": None},
    ]
    assert [note["start"] for note in page.evaluate(f"{SCORE}.notes")] == [0.5, 4]
    assert page.evaluate(f"{SCORE}.valueAt({SCORE}.lines.velocity, 4.75)") == pytest.approx(0.575)
    page.keyboard.press("Control+z")
    assert len(page.evaluate(f"{SCORE}.strip")) == 3


def test_wav_export_has_the_chosen_format(page):
    page.click("#exports summary")
    page.select_option("#rate", "48000")
    page.select_option("#bits", "24")
    with page.expect_download() as download:
        page.click("#export-wav")
    info = soundfile.info(str(download.value.path()))
    assert (info.samplerate, info.subtype, info.duration) == (48_000, "PCM_24", 8.0)


def test_midi_files_become_notes(page):
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.Message("program_change", program=40)])
    for pitch in (60, 64, 67, 72):
        track += [mido.Message("note_on", note=pitch, velocity=90), mido.Message("note_off", note=pitch, time=480)]
    file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    page.set_input_files("#file", {"name": "song.mid", "mimeType": "audio/midi", "buffer": out.getvalue()})
    until(page, "studio.score.notes.length === 4")
    assert curves(page)["pitch"][:6] == [[0, 60], [0.5, 60], [0.5, 64], [1, 64], [1, 67], [1.5, 67]]


def test_a_job_can_be_cancelled(page):
    page.fill("#seconds", "30")
    page.keyboard.press("Tab")
    page.click("#generate")
    page.wait_for_selector("#cancel:visible")
    page.click("#cancel")
    page.wait_for_selector("body[data-job=cancelled]")
    page.fill("#seconds", "2")
    page.keyboard.press("Tab")
    page.click("#generate")
    generated(page)


def test_dark_mode_and_a_phone_have_no_overflow(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(address)
    page.wait_for_selector(LOADED)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 26)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_drawing_thirty_seconds_of_points_keeps_up(page):
    page.evaluate(
        """studio.score.edit((score) => {
            score.seconds = 30;
            score.lines.velocity = Array.from({length: 1500}, (_, i) => [i / 50, (i % 50) / 50]);
        })"""
    )
    page.evaluate("studio.view.fit()")
    took = page.evaluate(
        """() => {
            const start = performance.now();
            for (let i = 0; i < 20; i++) studio.lanes[0].paint();
            return (performance.now() - start) / 20;
        }"""
    )
    print(f"lane of 1500 points: {took:.1f} ms")
    drag(page, "velocity", (0.1, 0.5), (0.9, 0.4), steps=60)
    assert len(page.evaluate(f"{SCORE}.lines.velocity")) < 1500


def test_every_control_has_a_name_for_screen_readers(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas")]
            .filter((one) => !one.hidden && !one.labels?.length)
            .filter((one) => !one.textContent.trim() && !one.getAttribute("aria-label"))
            .map((one) => one.outerHTML)"""
    )
    assert unnamed == []


def test_the_service_can_be_driven_by_other_programs(page, address):
    body = json.dumps({"version": 1, "velocity": 0.8, "chroma": [[0, "C"]], "instruments": "violin"})
    started = time.monotonic()
    response = page.request.post(f"{address}generate?seconds=2&seed=3&guidance=1.5", data=body)
    assert response.status == 200, response.text()
    audio, rate = soundfile.read(io.BytesIO(response.body()))
    print(f"2 s of audio in {time.monotonic() - started:.1f} s")
    assert (len(audio), rate) == (48_000, 24_000)
    assert np.abs(audio).max() > 0.01


def test_the_microphone_becomes_curves(page):
    page.evaluate(f"{SCORE}.edit(() => {{ {SCORE}.notes = []; {SCORE}.lines = {{}}; }})")
    page.click("#record")
    until(page, "studio.recorder?.parts.length > 400")  # more than a second of the browser's test tone
    page.click("#record")
    until(page, "document.getElementById('status').textContent === 'recording imported'")
    drawn = curves(page)
    assert any(level not in (None, 0) for _, level in drawn["velocity"])


def test_a_recording_becomes_notes_velocity_and_brightness(page):
    time_s = np.arange(2 * 24_000) / 24_000
    tone = np.sin(2 * np.pi * np.where(time_s < 1, 261.63, 392.0) * time_s) * np.where(time_s < 1, 0.1, 0.5)
    file = io.BytesIO()
    soundfile.write(file, tone, 24_000, format="WAV")
    page.set_input_files("#file", {"name": "voice.wav", "mimeType": "audio/wav", "buffer": file.getvalue()})
    until(page, f"{SCORE}.seconds === 2 && {SCORE}.notes.length > 1")
    pitches = [note["pitch"] for note in page.evaluate(f"{SCORE}.notes") if note["stop"] - note["start"] > 0.3]
    assert pitches == [60, 67]
    assert "brightness" in curves(page)
    soft, loud = (page.evaluate(f"{SCORE}.valueAt({SCORE}.lines.velocity, {at})") for at in (0.5, 1.5))
    assert soft < 0.5 < loud
