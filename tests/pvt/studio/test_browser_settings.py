"""The studio in a real browser with the shipped models: undo of settings, recipes, redrawn spans."""

import io
import time

import numpy as np
import pytest
import soundfile

from tests.pvt.studio.pages import curves, drag, generated, until


def test_undo_covers_settings(page):
    before = page.evaluate("studio.request()")
    page.check("#lock")
    page.click("details:has(#guidance-by) summary")
    for field, value in (("#seed", "41"), ("#steps", "5")):
        page.fill(field, value)
        page.keyboard.press("Tab")
    page.evaluate(
        "guidance => { guidance.value = 3; guidance.dispatchEvent(new Event('change')); }",
        page.query_selector("#guidance"),
    )
    changed = page.evaluate("studio.request()")
    assert (changed["seed"], changed["steps"], changed["guidance"]) == (41, 5, 3)
    page.click("#undo")
    assert page.evaluate("studio.request()") == {**changed, "guidance": before["guidance"]}
    for _ in range(2):
        page.click("#undo")
    assert page.evaluate("studio.request()") == before
    for _ in range(3):
        page.click("#redo")
    assert page.evaluate("studio.request()") == changed


def test_undo_covers_the_model(page):
    """A second entry of the menu with the controls of the first stands for another model."""
    page.evaluate("""() => {
        studio.models.push({ ...studio.models[0], name: "other" });
        document.getElementById("model").add(new Option("other", "other"));
    }""")
    first = page.evaluate("studio.request().model")
    page.select_option("#model", "other")
    assert page.evaluate("studio.request().model") == "other"
    page.click("#undo")
    assert page.evaluate("studio.request().model") == page.input_value("#model") == first


def test_a_model_of_one_weight_has_its_range_and_no_weights_by_control(page):
    by_control = page.locator("#guidance-by")
    page.click("details:has(#guidance-by) summary")
    assert page.evaluate("[studio.models[0].name, studio.models[0].guidance]") == ["few-steps", [1, 3]]
    assert page.get_attribute("#guidance", "max") == "3"
    assert by_control.is_hidden()
    page.select_option("#model", "edm")
    assert page.get_attribute("#guidance", "max") == "4"
    page.fill("input[data-control=velocity]", "3")
    assert page.evaluate("studio.request().guidance.velocity") == 3
    page.select_option("#model", "few-steps")
    assert page.evaluate("studio.request().guidance") == 2
    assert by_control.is_hidden()


def test_a_recipe_restores_curves_guidance_by_control_and_variant(page):
    page.select_option("#model", "edm")
    page.click("details:has(#guidance-by) summary")
    page.fill("input[data-control=velocity]", "3")
    page.fill("#steps", "4")
    page.fill("#seed", "12")
    page.select_option("#variants", "2")
    page.click("#generate")
    generated(page)
    page.click("#takes button >> nth=1")
    digest = "studio.current.takes[1].buffer.getChannelData(0).reduce((sum, x, i) => sum + x * (i % 97), 0)"
    sound = page.evaluate(digest)
    drawn, request = curves(page), page.evaluate("studio.request()")
    page.click("#exports summary")
    with page.expect_download() as download:
        page.click("#export-recipe")
    recipe = download.value.path().read_bytes()
    page.select_option("#preset", "relay")
    for field in ("input[data-control=velocity]", "#steps", "#seed"):
        page.fill(field, "1")
    page.select_option("#variants", "1")
    page.set_input_files("#file", {"name": "sound.json", "mimeType": "application/json", "buffer": recipe})
    until(page, "document.getElementById('status').textContent === 'the sound is variant 2'")
    assert curves(page) == drawn
    assert page.evaluate("studio.request()") == request
    page.click("#generate")
    generated(page)
    assert page.evaluate(digest) == sound


def test_a_job_is_done_once_its_take_is_shown(page):
    """Fetching a take may last longer than generating it."""
    first = page.evaluate("studio.current.takes[0].id")
    page.route("**/api/takes/*/wav*", lambda route: (time.sleep(0.5), route.continue_()))
    page.fill("#seed", "6")
    page.click("#generate")
    page.wait_for_selector("body[data-job=running]")
    page.wait_for_selector("body[data-job=done]")
    assert page.evaluate("studio.current.takes[0].id") != first


def test_a_redrawn_span_keeps_the_rest_of_the_take(page, address):
    first = page.evaluate("studio.current.takes[0].id")
    page.click("[data-tool=select]")
    drag(page, "velocity", (0.375, 0.5), (0.625, 0.5))
    page.fill("#seed", "5")
    page.click("#redraw")
    generated(page)
    second = page.evaluate("studio.current.takes[0].id")
    old, new = (
        soundfile.read(io.BytesIO(page.request.get(f"{address}api/takes/{take}/wav?bits=24").body()))[0]
        for take in (first, second)
    )
    edges = slice(0, int(2.95 * 24_000)), slice(int(5.05 * 24_000), None)
    for edge in edges:
        np.testing.assert_array_equal(old[edge], new[edge])
    inside = slice(int(3.2 * 24_000), int(4.8 * 24_000))
    assert np.abs(old[inside] - new[inside]).max() > 0.01
    digest = "studio.current.takes[0].buffer.getChannelData(0).reduce((sum, x, i) => sum + x * (i % 97), 0)"
    sound = page.evaluate(digest)
    page.click("#exports summary")
    with page.expect_download() as download:
        page.click("#export-recipe")
    recipe = download.value.path().read_bytes()
    page.reload()
    page.wait_for_selector("body[data-takes=full][data-job=done]", timeout=60_000)
    page.set_input_files("#file", {"name": "sound.json", "mimeType": "application/json", "buffer": recipe})
    generated(page)
    assert page.evaluate("studio.current.takes[0].id") not in (first, second)
    assert page.evaluate(digest) == pytest.approx(sound, abs=1e-3)
