"""EnCodec at 24 kHz (Défossez et al. 2022): the published weights in the architecture of the `encodec` package.

Only the modules of the package are used. Its loader unpickles downloads and is avoided; so is torchaudio, which the
package imports for resampling only and which often fails to load beside a CPU build of torch.
"""

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from data_specs.codecs.base import Codec
from data_specs.codecs.encodec_layers import for_inference
from data_specs.codecs.quantizer import ResidualQuantizer
from data_specs.codecs.tiled_encoder import SHORTEST, TiledEncoder
from data_specs.errors import UserError
from data_specs.io.download import cache_folder, download
from data_specs.io.files import file_sha256

FILE = "encodec_24khz-d7cc33bc.th"  # by the convention of torch.hub the name ends with the first digits of the digest
SHA256 = "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
BYTES = 93_171_529


class Encodec24kHz(Codec):
    """Latents [B, 128, T] and up to 32 codebooks of 1024 entries at 75 frames a second; 16 codebooks are 12 kbps."""

    max_codebooks = 32
    seconds_per_clip = 0.4  # 0.33 s for the encoder, measured
    prefers_gpu = True
    licence = "CC BY-NC 4.0"

    def __init__(self, model: nn.Module, name: str = "encodec_24khz", digest: str = "") -> None:
        """Keep `model`, an `EncodecModel` of the package, whose encoder and decoder are changed in place for inference.

        `digest` is that of its weights file, empty if there is none.
        """
        self.name, self._digest = name, digest
        layers = model.quantizer.vq.layers  # type: ignore[union-attr]
        self._quantizer = ResidualQuantizer(torch.stack([layer.codebook for layer in layers]))  # type: ignore[union-attr]
        self._encoder: nn.Module = for_inference(model.encoder)  # type: ignore[arg-type]
        self._decoder: nn.Module = for_inference(model.decoder)  # type: ignore[arg-type]
        self._tiled: TiledEncoder | None = None

    @classmethod
    def pretrained(cls) -> Self:
        """Return the codec with the authors' weights, downloaded to the cache folder at first use (93 MB).

        Raises:
            UserError: the encodec package is not installed, the download fails, or the file there is another.
        """
        path = cache_folder() / FILE
        download(_package().model.ROOT_URL + FILE, path, SHA256, BYTES)
        codec = cls.load(path)
        if codec.digest != SHA256:
            raise UserError(f"{path} is not the published file (SHA-256 {codec.digest}); delete it and repeat")
        return codec

    @classmethod
    def missing(cls) -> str:
        _package()
        path = cache_folder() / FILE
        if path.is_file():
            return ""
        return f"{path} is not there; {BYTES / 1e6:.0f} MB are downloaded at first use, or place the file there"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the codec with the weights of a state dict saved by torch.

        Raises:
            UserError: not such a file, not the weights of EnCodec at 24 kHz, or the encodec package is not installed.
        """
        try:
            # promise: nothing-runs-2
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen types here; each means the same to the user
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"{path} is not a file of EnCodec weights ({reason:.120}); fetch it again") from error
        model = untrained()
        try:
            model.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"{path} does not hold the weights of EnCodec at 24 kHz; choose another CODEC") from error
        return cls(model, "encodec_24khz", file_sha256(path))

    @property
    def digest(self) -> str:
        return self._digest

    def encode(self, audio: Tensor) -> Tensor:
        """Encode as the base class does; last bits on a CPU depend on the number of clips, not on the other clips."""
        self.frames(audio.shape[-1])
        if audio.device.type != "cpu" or audio.shape[-1] < SHORTEST:
            return _clip_by_clip(self._encoder.to(audio.device), audio.float())
        if self._tiled is None:
            self._tiled = TiledEncoder(self._encoder.cpu())
        return self._tiled(audio.float())

    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        return self._quantizer.to(latents.device).encode(latents, codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self._quantizer.to(codes.device).decode(codes)

    def decode(self, latents: Tensor) -> Tensor:
        return _clip_by_clip(self._decoder.to(latents.device), latents.float())


def untrained() -> Any:
    """Return the package's 24 kHz `EncodecModel` with random initial weights, in eval mode, without gradients.

    Raises:
        UserError: the encodec package is not installed.
    """
    package = _package()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the package uses the older form of weight norm
        model = package.model.EncodecModel.encodec_model_24khz(pretrained=False)
    return model.eval().requires_grad_(False)


def _clip_by_clip(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the network's output for a batch; on a CPU, clip by clip, so that its bits do not depend on the batch."""
    if batch.device.type != "cpu":
        result: Tensor = network(batch)
        return result
    return torch.cat([network(clip) for clip in batch.split(1)])


def _package() -> Any:
    """Import and return the encodec package, without torchaudio.

    Raises:
        UserError: it is not installed.
    """
    try:
        with _torchaudio_on_demand():
            return importlib.import_module("encodec")
    except ImportError as error:
        raise UserError(
            f"CODEC=encodec_24khz needs the encodec package ({error}); pip install encodec, or use CODEC=phaseless"
        ) from error


@contextmanager
def _torchaudio_on_demand() -> Iterator[None]:
    """Replace `torchaudio` within the block by an empty module that imports the real one at its first use.

    Nothing is replaced if torchaudio has been imported before.
    """
    if "torchaudio" in sys.modules:
        yield
        return
    stand_in = types.ModuleType("torchaudio")
    stand_in.__getattr__ = lambda name: getattr(importlib.import_module("torchaudio"), name)  # type: ignore[method-assign]
    sys.modules["torchaudio"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
