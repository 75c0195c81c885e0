"""Pages: nothing from elsewhere, every name escaped, sounds and pictures that decode back."""

import base64
import io
import json
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_specs.controls.curve_files import parse_value
from data_specs.level import listening_gain
from data_specs.viz.page import document, element, joined, section, table, tiles
from data_specs.viz.page.charts import Bin, binned, histogram, shares
from data_specs.viz.page.tracks import Sound, audio_uri, card, curve_lanes
from data_specs.viz.spectrogram import ceiling_db, mel_db
from tests.browser import chromium

PVT = ("piano", "violin", "trumpet")
NASTY = "<script>alert(1)</script>\"'&lt;"


class Reader(HTMLParser):
    """Collects tags with their attributes, and text, as a browser would see them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def tone(hz, seconds=2, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(24_000 * seconds) / 24_000)).astype(np.float32)


def two_second_card(sounds, title="clip", value=None):
    drawn = value or {"velocity": [[0, 0.2], [1, 0.9], [1, None]], "chroma": [[0, "E"], [1, "G"]]}
    controls = parse_value({"version": 1, **drawn}).arrays(PVT, 48_000, 150, 320)
    return card(title, ["fact"], sounds, controls, 320, PVT)


@pytest.fixture(scope="module")
def page():
    sounds = [Sound(NASTY, tone(440), NASTY), Sound("quiet", tone(440, level=0.01))]
    value = {"velocity": 0.5, "instruments": [[0, "piano"], [1, "trumpet"]]}
    body = [
        tiles([("1,200", NASTY)]),
        section(NASTY, NASTY, [table([NASTY], [[NASTY]]), histogram(NASTY, NASTY, [Bin(3, NASTY, NASTY, "#123456")])]),
        shares([(NASTY, 5)]),
        two_second_card(sounds, NASTY),
        two_second_card([Sound("one", tone(300))], value=value),
    ]
    return document(NASTY, NASTY, body)


def test_every_text_is_escaped_and_tags_are_balanced(page):
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.all("script")) == 1  # the page's own
    assert "alert(1)" not in re.search(r"<script>(.*?)</script>", page, re.S)[1]
    assert sum(NASTY in text for text in reader.text) >= 9
    assert any(attributes.get("title") == f"{NASTY}: 3" for attributes in reader.all("span"))


def test_nothing_is_loaded_from_elsewhere(page):
    written = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|@import|url\(|fetch|import\(|XMLHttp", written)
    for _, attributes in Reader(page).tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "default-src 'none'" in Reader(page).all("meta")[1]["content"]


def test_sounds_decode_to_what_was_given():
    audio = np.random.default_rng(0).uniform(-1, 1, 24_000).astype(np.float32)
    kind, content = audio_uri(audio).split(",")
    assert kind == "data:audio/flac;base64"
    found, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
    assert rate == 24_000
    assert np.abs(found - audio).max() <= 1 / 32_768


def test_sounds_of_a_card_share_one_listening_gain_that_is_stated():
    loud, soft = tone(440, level=0.1), tone(440, level=0.05)
    reader = Reader(two_second_card([Sound("a", loud), Sound("b", soft)]))
    peaks = [
        np.abs(soundfile.read(io.BytesIO(base64.b64decode(one["src"].split(",")[1])))[0]).max()
        for one in reader.all("audio")
    ]
    gain = listening_gain([loud, soft], 24_000)
    assert peaks == pytest.approx([0.1 * gain, 0.05 * gain], abs=1e-3)
    assert f"played {20 * np.log10(gain):.0f} dB louder" in reader.text
    full = Reader(two_second_card([Sound("a", tone(440, level=1.0))]))
    assert any(text.endswith("dB softer") for text in full.text)
    silence = Reader(two_second_card([Sound("a", np.zeros(48_000, np.float32))]))
    assert not any("louder" in text for text in silence.text)


def test_pictures_show_low_notes_below_and_share_one_scale():
    reader = Reader(two_second_card([Sound("low", tone(200)), Sound("high", tone(4000, level=0.005))]))
    low, high = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one["src"].split(",")[1]))).convert("L"), float)
        for one in reader.all("img")
    )
    assert low.mean(axis=1).argmax() > 0.8 * len(low)  # pictures count rows from above
    assert high.mean(axis=1).argmax() < 0.4 * len(high)
    assert low.max() > 2 * high.max()


def test_spectrogram_levels_are_those_of_sines():
    for hz in (100, 440, 2000, 7000):
        levels = mel_db(tone(hz, level=0.1))
        # Less where the sine lies between two bands; at most 1.8 dB more, since wide bands hold the whole lobe.
        assert -24.5 < levels[:, 50].max() < -18
    assert ceiling_db([mel_db(np.zeros(4800))]) < -50


def test_curves_hold_their_frames_and_unconditioned_spans_are_marked():
    reader = Reader(two_second_card([Sound("a", tone(440))]))
    lanes = [attributes["class"] for attributes in reader.all("div") if "lane" in attributes.get("class", "")]
    assert lanes == ["lane wave", "lane velocity", "lane chroma", "lane instruments"]
    free = [attributes["style"] for attributes in reader.all("span") if attributes.get("class") == "unconditioned"]
    assert free == ["left:50.000%;width:50.000%", "left:0.000%;width:100.000%"]
    stroke = next(attributes["d"] for attributes in reader.all("path") if attributes.get("class") == "stroke")
    points = [tuple(map(float, point.split(","))) for point in re.split("[ML]", stroke) if point]
    assert points[0][0] == 0
    assert points[-1][0] == 75
    heights = [(96 - y) / 92 for _, y in points]
    assert heights[0] == pytest.approx(0.2, abs=0.01)
    assert heights[-1] == pytest.approx(0.9, abs=0.02)


def test_bins_count_everything():
    assert binned([-5, 0, 0.5, 1, 2, 99], [0, 1, 2]) == [3, 3]
    assert binned([], [0, 1, 2]) == [0, 0]


def test_children_that_are_markup_stay_and_text_does_not():
    assert element("p", element("b", "<"), "<") == "<p><b>&lt;</b>&lt;</p>"
    assert joined([element("p", "a"), element("p", "b")]) == "<p>a</p><p>b</p>"
    assert element("img", alt='"') == '<img alt="&quot;"/>'


def test_a_browser_shows_all_players_and_asks_for_nothing(page, tmp_path):
    file = tmp_path / "page.html"
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const all = (selector) => [...document.querySelectorAll(selector)];
      const asked = performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:"));
      const [stage] = all(".stage"), box = stage.getBoundingClientRect(), [audio] = all("audio");
      stage.dispatchEvent(new MouseEvent("click", { clientX: box.left + box.width / 4 }));
      setTimeout(() => { document.body.dataset.seen = JSON.stringify([
        all("audio").map((one) => one.duration), all("img").map((one) => one.naturalWidth > 0), asked.length,
        audio.currentTime, parseFloat(stage.querySelector(".head").style.left), all(".playing").length,
      ]); }, 300);
    }, 300));</script>"""
    file.write_text(page.replace("</body>", probe + "</body>"))
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    command += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    seen = json.loads(re.search('data-seen="(.*?)"', shown)[1].replace("&quot;", '"'))
    assert seen == [[2, 2, 2], [True, True, True], 0, pytest.approx(0.5, abs=0.02), pytest.approx(25, abs=1), 1]


def test_pitch_and_brightness_have_lanes_of_their_own_and_rests_are_gaps_of_the_pitch():
    frames = 75
    controls = {name: np.full(frames, 0.5, np.float32) for name in ("velocity", "chroma", "pitch", "brightness")}
    controls["velocity"][30:40] = controls["pitch"][30:40] = 0
    lanes = str(curve_lanes(controls | {"instruments": np.ones((1, frames), np.float32)}, 320, 1.0, ["flute"]))
    names = re.findall(r'class="lane ([a-z]+)"', lanes)
    assert names == ["velocity", "chroma", "pitch", "brightness", "instruments"]
    pitch, brightness = (
        part.partition("</svg>")[0] for part in re.split(r'class="lane (?:pitch|brightness)"', lanes)[1:]
    )
    assert (pitch.count("<path"), brightness.count("<path")) == (2, 1)
    assert ("rect" in pitch, "rect" in brightness) == (True, False)  # black keys


def test_the_piano_roll_names_its_lowest_and_highest_note():
    pitch = (np.repeat([60, 63.4, 0], 25).astype(np.float32) - 23) / 85
    pitch[50:] = 0
    lanes = str(curve_lanes({"pitch": pitch}, 320, 1.0, []))
    assert re.findall(r'<span class="(?:low|high)">(.*?)</span>', lanes) == ["C4", "D#4"]
    assert lanes.count("<rect") == 2  # C#4 and D#4; the row below C4 is a white key
