import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from data_specs.errors import UserError
from training.evaluation.fad import Gaussian, fad_infinity, frechet_distance, score, split_half


def gaussian(mean, covariance, count=1000):
    return Gaussian(count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1))


def random_covariance(rng, dimension, rank=None):
    factor = rng.standard_normal((dimension, rank or 2 * dimension))
    return factor @ factor.T


def test_distance_of_scalars_is_the_known_formula():
    # In one dimension: (m1 - m2)^2 + (s1 - s2)^2.
    one, other = gaussian([1.0], [[4.0]]), gaussian([4.0], [[25.0]])
    assert frechet_distance(one, other) == pytest.approx(9 + 9, rel=1e-12)


def test_distance_of_rotated_gaussians_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    for dimension in (2, 5, 16):
        first, second = random_covariance(rng, dimension), random_covariance(rng, dimension)
        mean = rng.standard_normal(dimension)
        expected = mean @ mean + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
        found = frechet_distance(gaussian(mean, first), gaussian(np.zeros(dimension), second))
        assert found == pytest.approx(expected, rel=1e-9)


def test_distance_is_symmetric_and_zero_for_the_same():
    rng = np.random.default_rng(1)
    one, other = (Gaussian.of(rng.standard_normal((50, 8)) * scale) for scale in (1.0, 3.0))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-10)
    assert abs(frechet_distance(one, one)) < 1e-6


def test_rank_deficient_covariances_give_a_real_and_right_distance():
    # Orthogonal lines: the roots' product vanishes, so the distance is the sum of traces.
    first, second = np.zeros((64, 64)), np.zeros((64, 64))
    first[0, 0], second[1, 1] = 9.0, 16.0
    assert frechet_distance(gaussian(np.zeros(64), first), gaussian(np.zeros(64), second)) == pytest.approx(25.0)
    rng = np.random.default_rng(2)
    few = Gaussian.of(rng.standard_normal((10, 128)))  # rank 9 of 128
    many = Gaussian.of(rng.standard_normal((500, 128)))
    found = frechet_distance(few, many)
    assert isinstance(found, float)
    assert np.isfinite(found)
    assert found > 0


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 10))
def test_statistics_merge_in_any_grouping(cuts, seed):
    # A mean far from zero: sums of squares around zero would lose the variance here.
    frames = np.random.default_rng(seed).standard_normal((60, 3)) + 1e7
    whole = Gaussian.of(frames)
    parts = [Gaussian.of(part) for part in np.split(frames, sorted(cuts))]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    assert merged.count == 60
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(frames.T), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-6, atol=1e-6)


def test_values_that_are_not_finite_and_single_frames_are_refused():
    with pytest.raises(UserError, match="must be finite"):
        Gaussian.of(np.array([[1.0, np.nan]]))
    with pytest.raises(UserError, match="2 or more frames"):
        _ = Gaussian.of(np.ones((1, 2))).covariance


def test_extrapolation_takes_the_bias_away():
    """A model whose distribution is right scores zero at infinitely many clips; any finite number scores more."""
    dimension, frames = 16, 4
    reference = gaussian(np.zeros(dimension), np.eye(dimension), count=10**9)
    finite, infinite = [], []
    for seed in range(10):
        clips = np.random.default_rng(seed).standard_normal((60, frames, dimension))
        finite.append(frechet_distance(Gaussian.of(clips), reference))
        found = fad_infinity(clips, reference, seed=0)
        infinite.append(found.value)
        assert found.slope > 0
        assert found.r2 > 0.5
    assert abs(np.mean(infinite)) < 0.25 * np.mean(finite)
    assert found == fad_infinity(clips, reference, seed=0)
    assert found != fad_infinity(clips, reference, seed=1)


def test_extrapolation_needs_more_frames_than_dimensions():
    clips = np.random.default_rng(4).standard_normal((20, 1, 64))
    assert fad_infinity(clips, gaussian(np.zeros(64), np.eye(64)), seed=0) is None


def test_a_score_warns_when_frames_are_few():
    rng = np.random.default_rng(5)
    reference = Gaussian.of(rng.standard_normal((5000, 8)))
    few = score("x", rng.standard_normal((5, 4, 8)), reference, "train", 1000, seed=0)
    many = score("x", rng.standard_normal((50, 4, 8)), reference, "train", 1000, seed=0)
    assert "20 frames for 8 dimensions" in few.warning
    assert many.warning == ""
    assert (many.clips, many.frames_per_clip, many.reference_clips, many.seed) == (50, 4, 1000, 0)


def test_audio_that_is_wrong_scores_far_above_split_half(clips, other_clips, net):
    """Each fault keeps something of the real clips: their frames, their spectrum, their level, or nothing."""
    rng = np.random.default_rng(0)
    held_out, others = (net.embed(one.audio).numpy() for one in (clips, other_clips))
    real = Gaussian.of(others)
    halves = np.mean([split_half(np.concatenate([held_out, others]), seed) for seed in range(4)])
    right = frechet_distance(Gaussian.of(held_out), real)
    audio = clips.audio[:12]
    faults = {
        "frames shuffled in time": shuffled(audio, rng),
        "another clip's spectrum as noise": coloured_noise(audio.roll(1, 0), rng),
        "white noise": torch.from_numpy(rng.standard_normal(audio.shape, dtype=np.float32)) * 0.1,
    }
    for name, fault in faults.items():
        found = frechet_distance(Gaussian.of(net.embed(fault).numpy()), real)
        assert found > 3 * max(halves, right), (name, found, halves, right)


def test_more_noise_is_further_away(clips, net):
    """Damage is graded, from what one can hardly hear to what drowns the notes."""
    rng = np.random.default_rng(0)
    audio = clips.audio[:12]
    real = Gaussian.of(net.embed(clips.audio).numpy())
    noise = (
        torch.from_numpy(rng.standard_normal(audio.shape, dtype=np.float32)) * audio.square().mean((1, 2), True).sqrt()
    )
    scores = [
        frechet_distance(Gaussian.of(net.embed(audio + noise * 10 ** (-r / 20)).numpy()), real) for r in (50, 30, 10)
    ]
    assert scores == sorted(scores), scores


def shuffled(audio, rng, frame=480):
    """The same 20 ms frames of each clip in another order."""
    frames = audio.reshape(len(audio), -1, frame)
    return torch.stack([clip[rng.permutation(len(clip))] for clip in frames]).reshape(audio.shape)


def coloured_noise(audio, rng):
    """Noise with the long-term spectrum of each clip: its phases drawn anew."""
    spectrum = torch.fft.rfft(audio)
    phases = torch.from_numpy(rng.uniform(0, 2 * np.pi, spectrum.shape)).float()
    return torch.fft.irfft(spectrum.abs() * torch.exp(1j * phases), n=audio.shape[-1])
