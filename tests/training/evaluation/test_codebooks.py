"""A measure worth its name hears quantisation: the more codebooks, the nearer to real."""

import torch

from data_specs.codecs import load_codec
from data_specs.representations.latents import Codes
from training.codec.fit import fit, write
from training.codec.methods import PvtMethod
from training.evaluation.fad import Gaussian, frechet_distance


def test_more_codebooks_lower_the_distance(clips, other_clips, net, tmp_path):
    options = PvtMethod(power=0.5, channels=128, codebooks=8, bins=128, frames=12_000, iterations=6)
    write(tmp_path / "codec.safetensors", fit(lambda: other_clips.audio.split(1), options), options, "small")
    codec = load_codec(str(tmp_path / "codec.safetensors"))
    real = Gaussian.of(net.embed(clips.audio).numpy())
    scores = []
    for codebooks in (1, 2, 4, 8):
        format_ = Codes(codec, codebooks)
        decoded = torch.cat([format_.decode(format_.encode(part)) for part in clips.audio.split(8)])
        scores.append(frechet_distance(Gaussian.of(net.embed(decoded).numpy()), real))
    assert scores == sorted(scores, reverse=True), scores
    assert scores[0] > 1.3 * scores[-1], scores
