"""Classifier of instrument, pitch class, velocity and degradation of log-mel patches, and embedder `pvt-net`.

The penultimate layer of its network is the embedder `pvt-net` of the Frechet audio distance, which needs no download.
The network was trained on rendered audio that no codec had processed. Half of the patches were degraded
(`degradations.py`) and the amount of degradation was a target, so that the embedding depends on it.

B clips, N audio samples at 24 kHz, P patches, L = 96 frames and M = 128 mel bands of a patch, I instruments.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from data_specs.controls import CHROMA_STEPS
from data_specs.errors import UserError
from data_specs.io.files import write_bytes
from data_specs.rates import SAMPLE_RATE
from training.evaluation.embedders.pretrained import Pretrained
from training.evaluation.logmel import LogMel, Patches

# 85 ms windows resolve neighbouring semitones by their overtones; patches of one second hold attack and decay.
PATCHES = Patches(LogMel(SAMPLE_RATE, 2048, 240, 2048, 128, 60.0, 10_000.0, 0.1), length=96, hop=96)
DIMENSION = 64
REST = CHROMA_STEPS + 1  # the class after the twelve pitch classes
VELOCITY_BANDS = 4  # of equal width in velocity / 127; band 0 is a rest, so there is one class more
DEGRADATION_DB = (60.0, 40.0, 25.0, 15.0, 8.0)  # signal to degradation between the classes; class 0 is clean
WEIGHTS = Path(__file__).parent / "weights" / "pvt-net.safetensors"
KEY = "pvt-audio classifier"  # the only metadata key, since safetensors writes several in no fixed order
BATCH = 64  # patches at a time, to bound memory
# Width, kernel, stride and pooling in time and frequency; the first level does not pool frequency, for pitch.
LEVELS = ((16, 5, 2, (2, 1)), (32, 3, 1, (2, 2)), (64, 3, 1, (2, 2)), (64, 3, 1, (1, 2)))
# Metadata that weights must match. The key of the file is older than the name of the constant.
FACTS = json.loads(
    json.dumps({"version": 1, "patches": asdict(PATCHES), "levels": LEVELS, "damage_db": DEGRADATION_DB})
)


class PatchNetwork(nn.Module):
    """Convolutions and a linear embedding (`forward`), and four linear heads on its positive part (`heads`).

    Args:
        instruments: number of instruments I.
    """

    def __init__(self, instruments: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        channels = 1
        for width, kernel, stride, pool in LEVELS:
            layers += [
                nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(pool),
            ]
            channels = width
        time, bands = (math.prod(stride * pool[axis] for _, _, stride, pool in LEVELS) for axis in (0, 1))
        flat = channels * (PATCHES.length // time) * (PATCHES.spectrum.bands // bands)
        self.maps = nn.Sequential(*layers)
        self.embedding = nn.Linear(flat, DIMENSION)
        self.instrument = nn.Linear(DIMENSION, instruments)
        self.pitch_class = nn.Linear(DIMENSION, REST + 1)
        self.velocity_band = nn.Linear(DIMENSION, VELOCITY_BANDS + 1)
        self.damage = nn.Linear(DIMENSION, len(DEGRADATION_DB) + 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Map log-mel patches [P, L, M] to embeddings [P, 64], without activation: closer to a Gaussian."""
        return self.embedding(self.maps(patches[:, None]).flatten(1))

    def heads(self, embedded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map embeddings [P, 64] to the logits of the four heads.

        They are, in this order, instrument [P, I], pitch class or rest [P, 13], velocity band [P, 5] and degradation
        [P, 6].
        """
        active = torch.relu(embedded)
        return self.instrument(active), self.pitch_class(active), self.velocity_band(active), self.damage(active)


class InstrumentClassifier(Protocol):
    """Interface of the classifier that adherence measures use; `instruments` are the names of its classes in order."""

    instruments: tuple[str, ...]

    def instrument_probabilities(self, audio: Tensor) -> Tensor:
        """Return the probability of each instrument in each patch of audio, float32 [B, 1, N] at 24 kHz: [B, P, I]."""
        ...


class PvtNet(Pretrained):
    """A `PatchNetwork` as embedder and instrument classifier of 24 kHz audio.

    Args:
        network: it is moved to `device` and set to eval mode without gradients.
        instruments: names of the instruments in the order of the output of its head.
        device: device of the network.
    """

    name = "pvt-net"
    dimension = DIMENSION

    def __init__(self, network: PatchNetwork, instruments: tuple[str, ...], device: str | torch.device = "cpu") -> None:
        super().__init__(network, device)
        self.instruments = instruments

    @classmethod
    def load(cls, path: Path = WEIGHTS, device: str | torch.device = "cpu") -> "PvtNet":
        """Load the shipped weights, or a file that `python -m training classifier train` wrote.

        Raises:
            UserError: the file is missing, unreadable or of another version, or its weights are not those of the
                network.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                held = (file.metadata() or {}).get(KEY, "{}")
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"the weights of the classifier at {path} cannot be read ({error}); check --classifier"
            ) from error
        facts = json.loads(held)
        instruments = tuple(facts.pop("instruments", ()))
        if facts != FACTS or not instruments:
            raise UserError(f"{path} must be a classifier of this version; train it again")
        network = PatchNetwork(len(instruments))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{path} must have all weights of the classifier; train it again") from error
        return cls(network, instruments, device)

    def save(self, path: Path) -> None:
        """Write weights and metadata to the safetensors file `path`; equal weights give equal bytes.

        The metadata are the version of the network and the names of the instruments.
        """
        from safetensors.torch import save

        metadata = {KEY: json.dumps({**FACTS, "instruments": self.instruments}, sort_keys=True)}
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        write_bytes(path, save(state, metadata))

    @torch.inference_mode()
    def embed(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at 24 kHz, to embeddings, float32 [B, P, 64] on the CPU.

        A patch has 1.04 s (24 848 samples) and the next starts 0.96 s later.

        Raises:
            UserError: clips shorter than a patch.
        """
        # On a CPU clip by clip, which gives the same bits in any batch.
        parts = audio.split(1) if self.device.type == "cpu" else [audio]
        return torch.cat([self.embed_patches(PATCHES(part.to(self.device)), BATCH) for part in parts])

    @torch.inference_mode()
    def instrument_probabilities(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N], to the probability of each instrument in each patch, [B, P, I] on the CPU.

        Raises:
            UserError: clips shorter than a patch.
        """
        embedded = self.embed(audio)
        return self.network.heads(embedded.to(self.device))[0].softmax(-1).cpu()


class MatchedClassifier:
    """A `PvtNet` as a classifier of the instruments of a dataset, which are matched by name.

    Args:
        net: the trained network, whose instruments may be others and in another order.
        labels: names of the instruments of the dataset.

    Attributes:
        instruments: names of the instruments of the dataset, in its order.
        unknown: those of them that `net` was not trained on; if there are any, no instrument is classified.
    """

    def __init__(self, net: PvtNet, labels: tuple[str, ...]) -> None:
        self.instruments = labels
        self.unknown = tuple(label for label in labels if label not in net.instruments)
        self._net = net
        # promise: labels-classifier-by-name
        self._rows = [] if self.unknown else [net.instruments.index(label) for label in labels]

    @property
    def notes(self) -> list[str]:
        """The reason why instruments are not classified, as a list of one sentence; empty if they are classified."""
        if not self.unknown:
            return []
        return [
            f"Adherence to instruments is not measured: the classifier does not know {', '.join(self.unknown)}; train "
            "one with python -m training classifier train and give it as --classifier."
        ]

    def instrument_probabilities(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N], to probabilities [B, P, I] in the order of `instruments`.

        They are among all instruments of the network, so their sum may be below 1. [B, P, 0] if any instrument is
        unknown.

        Raises:
            UserError: clips shorter than a patch.
        """
        return self._net.instrument_probabilities(audio)[..., self._rows]
