import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from training.evaluation.embedders import classifier_training
from training.evaluation.embedders.classifier import PATCHES, WEIGHTS, MatchedClassifier, PvtNet


class Source:
    """Rendered clips as a dataset gives them."""

    def __init__(self, clips):
        every = clips.controls()
        self.arrays = {
            "data": clips.audio,
            **{
                n: torch.from_numpy(np.stack([getattr(c, n) for c in every]))
                for n in ("velocity", "chroma", "instruments")
            },
        }

    def __len__(self):
        return len(self.arrays["data"])

    def gather(self, indices):
        return {name: values[torch.from_numpy(np.asarray(indices))] for name, values in self.arrays.items()}


def test_shipped_classifier_hears_instruments_it_was_not_trained_on_the_clips_of(net, clips, other_clips):
    """Random melodies, where it was trained on tunes."""
    for set_ in (clips, other_clips):
        accuracy = classifier_training.evaluate_classifier(net, Source(set_))
        assert accuracy.instrument >= 0.98
        assert accuracy.instrument_patches >= 0.95
        assert accuracy.pitch_class > 0.6
        assert accuracy.velocity_band > 0.45  # five classes


def test_shipped_weights_are_small_and_their_card_names_their_digest():
    from data_specs.io.files import file_sha256

    assert WEIGHTS.stat().st_size < 2_000_000
    assert file_sha256(WEIGHTS) in WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")


def test_labels_are_those_of_the_note_at_the_middle(clips):
    batch = Source(clips).gather(np.arange(6))
    centres = torch.from_numpy(PATCHES.centres(192_000)).expand(6, -1)
    found = classifier_training.labels(batch, centres)
    for clip in range(6):
        for patch, centre in enumerate(centres[clip].tolist()):
            centre = centre // 320 * 320
            sounding = [n for n in clips.notes[clip] if n[0] <= centre < n[1]]
            pitch = sounding[0][2] % 12 if sounding else 12
            band = -(-4 * sounding[0][3] // 127) if sounding else 0
            assert found.pitch_class[clip, patch] == pitch
            assert found.velocity_band[clip, patch] == band
            assert found.instrument[clip, patch] == clips.instrument[clip]


def test_training_learns_and_repeats_itself(clips, monkeypatch):
    monkeypatch.setattr(classifier_training, "CLIPS_PER_STEP", 3)
    monkeypatch.setattr(classifier_training, "PATCHES_PER_CLIP", 4)
    names = ("piano", "violin", "trumpet")

    def run():
        losses = []
        net = classifier_training.train(
            Source(clips), names, 12, seed=3, progress=lambda step, loss: losses.append(loss)
        )
        return net, losses

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (net, losses), (again, _) = run(), run()
    finally:
        torch.set_num_threads(threads)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    for name, values in net.network.state_dict().items():
        assert torch.equal(values, again.network.state_dict()[name]), name


def test_weights_go_through_a_file_unchanged(net, clips, tmp_path):
    net.save(tmp_path / "a.safetensors")
    again = PvtNet.load(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert again.instruments == net.instruments
    audio = clips.audio[:2, :, :48_000]
    assert torch.equal(net.embed(audio), again.embed(audio))


def test_embeddings_have_one_frame_a_second_and_do_not_depend_on_the_batch(net, clips):
    together = net.embed(clips.audio[:3])
    assert together.shape == (3, 8, 64)
    assert torch.equal(together[1:2], net.embed(clips.audio[1:2]))
    probabilities = net.instrument_probabilities(clips.audio[:3])
    assert probabilities.shape == (3, 8, 3)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 8))


def test_what_is_not_a_classifier_is_refused(tmp_path, net):
    with pytest.raises(UserError, match="cannot be read"):
        PvtNet.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_bytes(b"text")
    with pytest.raises(UserError, match="cannot be read"):
        PvtNet.load(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="must be a classifier"):
        PvtNet.load(tmp_path / "other.safetensors")


def test_clips_that_are_too_short_are_refused(net):
    with pytest.raises(UserError, match=r"must last 1\.04 s or more, got 0\.5 s"):
        net.embed(torch.zeros(1, 1, 12_000))
    with pytest.raises(UserError, match="must have train clips"):
        classifier_training.train([], ("piano",), 1)


def test_labels_of_a_dataset_are_matched_by_name(net, clips):
    """In another order, without one label, and with one that the network does not know."""
    audio = clips.audio[:3]
    probabilities = net.instrument_probabilities(audio)
    matched = MatchedClassifier(net, ("trumpet", "piano"))
    assert torch.equal(matched.instrument_probabilities(audio), probabilities[..., [2, 0]])
    assert matched.notes == []
    unmatched = MatchedClassifier(net, ("trumpet", "oboe"))
    assert unmatched.instrument_probabilities(audio).shape == (3, probabilities.shape[1], 0)
    assert unmatched.unknown == ("oboe",)
