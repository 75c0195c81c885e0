"""VGGish (Hershey et al., ICASSP 2017): the embedder of the published Frechet audio distances.

Variants of VGGish give different scores. This one resamples to 16 kHz and uses examples of 0.96 s without overlap. The
embedding is the 128 outputs of the last layer, without PCA, quantization or the ReLU that the common PyTorch port adds.
The weights are those of that port, read from `$PVT_VGGISH` (a file, or an address that is downloaded to the cache
folder) or else from the cache folder. B clips, N audio samples, F examples of a clip.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.io.download import cache_folder, download
from data_specs.io.files import file_sha256
from data_specs.rates import SAMPLE_RATE
from training.evaluation.embedders.pretrained import Pretrained
from training.evaluation.logmel import LogMel, Patches

VARIABLE = "PVT_VGGISH"
FILE = "vggish-10086976.pth"
URL = f"https://github.com/harritaylor/torchvggish/releases/download/v0.1/{FILE}"
SHA256 = "10086976"  # first digits, from the name of the file; the complete digest is not published
RATE = 16_000
PATCHES = Patches(LogMel(RATE, 400, 160, 512, 64, 125.0, 7500.0, 0.01), length=96, hop=96)
TAPS, CUTOFF_HZ, KAISER_BETA = 241, 8000.0, 7.86  # at 48 kHz: flat to 7.5 kHz, -80 dB from 8.5 kHz
BATCH = 32  # examples at a time, to bound memory


def resample(audio: Tensor) -> Tensor:
    """Resample audio [B, 1, N] from 24 kHz to 16 kHz, [B, 1, ceil(2 N / 3)], by a polyphase windowed-sinc filter.

    Output sample k is at input sample 1.5 k. Aliases of components above 8 kHz fall above 7.5 kHz, where VGGish has no
    mel band.
    """
    stuffed = torch.zeros(*audio.shape[:-1], 2 * audio.shape[-1], device=audio.device, dtype=audio.dtype)
    stuffed[..., ::2] = audio
    kernel = torch.from_numpy(_low_pass()).to(audio)[None, None]
    return nn.functional.conv1d(stuffed, kernel, stride=3, padding=TAPS // 2)


def _low_pass() -> np.ndarray:
    """Return the low-pass filter at 48 kHz, a Kaiser-windowed sinc, float64 [TAPS].

    Its gain is 2, since every second sample at 48 kHz is an inserted zero.
    """
    time = np.arange(TAPS) - TAPS // 2
    cutoff = 2 * CUTOFF_HZ / (2 * SAMPLE_RATE)
    kernel = np.sinc(cutoff * time) * np.kaiser(TAPS, KAISER_BETA)
    return 2 * kernel / kernel.sum()


class VggishNetwork(nn.Module):
    """Six convolutions and three linear layers, with the parameter names of the common PyTorch port."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for block in ((64,), (128,), (256, 256), (512, 512)):
            for width in block:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, examples: Tensor) -> Tensor:
        """Map n log-mel examples [n, 96, 64] (frames, mel bands) to embeddings [n, 128]."""
        maps = self.features(examples[:, None])
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow flattens


class Vggish(Pretrained):
    """VGGish as an embedder of 24 kHz audio."""

    name = "vggish"
    dimension = 128

    @classmethod
    def load(cls, source: str | None = None, device: str | torch.device = "cpu") -> "Vggish":
        """Load the weights from `source`; an http(s) address is first downloaded to the cache folder.

        Args:
            source: file or http(s) address; None for `$PVT_VGGISH`, else the file in the cache folder.
            device: device of the network.

        Raises:
            UserError: the weights are missing, cannot be downloaded, or are those of another network.
        """
        return cls(_network(weights_file(source)), device)

    @torch.inference_mode()
    def embed(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at 24 kHz, to embeddings, float32 [B, F, 128] on the CPU, one every 0.96 s.

        Raises:
            UserError: clips shorter than 0.975 s.
        """
        return self.embed_patches(PATCHES(resample(audio.to(self.device))), BATCH)


def weights_file(source: str | None = None) -> Path:
    """Return the path of the file of weights (288 MB), downloaded to the cache folder if the source is an address.

    Args:
        source: a file, or an http(s) address that is downloaded unless the cache folder has the file; None for
            `$PVT_VGGISH`, else the file in the cache folder.

    Raises:
        UserError: there is no such file, or the download failed.
    """
    path = cache_folder() / FILE
    source = source or os.environ.get(VARIABLE) or str(path)
    if not source.startswith(("http://", "https://")):
        path = Path(source).expanduser()
        if path.is_file():
            return path
        raise UserError(f"the weights of VGGish are not at {path}; set {VARIABLE} to the path of {FILE}, or to {URL}")
    try:
        return download(source, path, SHA256)
    except UserError as error:
        raise UserError(f"the weights of VGGish cannot be downloaded: {error}; set {VARIABLE} to their path") from error


def _network(path: Path) -> VggishNetwork:
    with torch.device("meta"):  # skips the initialization of 72 M parameters
        network = VggishNetwork()
    try:
        # promise: nothing-runs-3
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, ValueError) as error:
        digest = file_sha256(path)
        raise UserError(
            f"{path} must be {FILE} with the weights of VGGish, got a file of SHA-256 {digest[:8]}...; "
            "download it again"
        ) from error
    return network.float()
