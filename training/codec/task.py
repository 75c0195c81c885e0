"""Task of training a codec. B clips, N samples, K codebooks of M entries, D latent channels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_specs.codecs.networks.magnitudes import MagnitudeNetwork
from training.codec.assembly import build_codec
from training.codec.config import CodecConfig
from training.codec.discriminator import adversarial_losses
from training.codec.fit import fit_codebooks, non_silent
from training.codec.losses import log_mel, mel_loss, relative_loss, stft_loss
from training.codec.measures import measure_codec
from training.codec.preview import log_samples
from training.codec.run import AudioMetadata, CodecRun, TrainedCodec
from training.data.dataset import Dataset
from training.data.loader import Batch, BatchBuilder
from training.data.shuffle import seed_of, uniform
from training.distributed import World
from training.ema import EMA
from training.log import RunLog
from training.metadata import content_digest
from training.task import Task


class CodecTask(Task):
    """Training of encoder, codebooks and decoder, and of a discriminator if the config has one, on PVT-audio."""

    def __init__(self, config: CodecConfig, data: Dataset) -> None:
        info = data.info
        self.config: CodecConfig = config
        self.data: AudioMetadata = AudioMetadata(
            digest=content_digest(info),
            label=info.spec.name,
            sample_rate=info.spec.clip.sample_rate,
            clip_samples=info.clip_samples,
        )
        self.network: TrainedCodec
        self.network, self.options = build_codec(config)

    def objective(self, network: Any) -> nn.Module:
        return CodecObjective(network, self.config)

    def losses(self, objective: Any, batch: Batch, stream: str, world: World) -> Tensor:
        audio = batch.data.to(world.device, non_blocking=True).float()
        if stream == "train":
            step = int(batch.positions[0]) // self.config.training.batch + 1
            discriminate = self.config.adversarial and step > self.config.discriminator.start_step
            return objective(audio, self.codebooks_at(step), discriminate)
        return objective.reconstruction(audio)

    def codebooks_at(self, step: int) -> int:
        """Return the number of codebooks by which `step` (1, 2, ...) quantizes: 0, or 1 to `quantizer.codebooks`.

        It is random, a function of the seed and the step. It is 0 before `quantizer.start_step`, and later with
        probability 1 - `quantizer.share`.
        """
        quantizer, seed = self.config.quantizer, self.config.training.seed
        used, count = (float(uniform(seed, "quantized", what, step)) for what in ("used", "count"))
        if step < (quantizer.start_step or 1) or used >= quantizer.share:
            return 0
        return 1 + int(count * quantizer.codebooks)

    def before_step(self, step: int, ema: EMA, train_data: Dataset, world: World) -> None:
        """At `quantizer.start_step`, fit and set the codebooks of trained and averaged network; else do nothing.

        They are fitted to latents of the clips from that step on, and are those of rank 0 on all ranks.
        """
        if step != self.config.quantizer.start_step:
            return
        codebooks = world.broadcast(self._codebooks(step, train_data, world).to(world.device))
        networks: tuple[Any, Any] = (self.network, ema.network)
        for network in networks:
            network.quantizer.initialize(codebooks)

    def _codebooks(self, step: int, train_data: Dataset, world: World) -> Tensor:
        """Return codebooks [K, M, D], fitted on the CPU to at most `quantizer.frames` latents that are not silent.

        The latents are those of the training clips from `step` on, by the present encoder.
        """
        training, quantizer = self.config.training, self.config.quantizer
        clips = -(-quantizer.frames // train_data.crop_frames(training.seconds))
        maker = BatchBuilder(train_data, training, training.batch)
        positions = np.arange(clips) + (step - 1) * training.batch
        parts = []
        with torch.no_grad():
            for start in range(0, clips, training.batch):
                audio = maker.train(positions[start : start + training.batch]).data.to(world.device).float()
                parts.append(non_silent(self.network.codec.encode(audio).cpu()))
        latents = torch.cat(parts)[: quantizer.frames]
        generator = torch.Generator().manual_seed(seed_of(training.seed, "k-means"))
        return fit_codebooks(latents, quantizer.codebooks, quantizer.bins, quantizer.iterations, generator)

    def trained(self, network: Any, step: int, train_seconds: float) -> CodecRun:
        return CodecRun(
            network=network,
            options=self.options,
            config=self.config,
            data=self.data,
            step=step,
            train_seconds=train_seconds,
        )

    def measure(self, trained: Any, valid_data: Dataset, log: RunLog) -> None:
        """Log and print mean SI-SDR and log-mel distance, in dB, of the first `logging.valid_clips` validation clips.

        They are decoded from latents and, if the codebooks are set, from codes.
        """
        count, started = self.config.logging.valid_clips, trained.network.quantizer.initialized
        values = measure_codec(trained.codec(), valid_data, count, with_codes=started)
        log.scalars(trained.step, train_seconds=trained.train_seconds, **values)
        log.print(f"step {trained.step}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))

    def log_samples(self, trained: CodecRun, valid_data: Dataset, log: RunLog, folder: Path) -> None:
        log_samples(trained, valid_data, log, folder)


class CodecObjective(nn.Module):
    """Network and loss as one module, as DistributedDataParallel needs it."""

    def __init__(self, network: TrainedCodec, config: CodecConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(self, audio: Tensor, codebooks: int, discriminate: bool) -> Tensor:
        """Return the loss of each clip of `audio` [B, 1, N], float32 [B].

        Args:
            audio: original audio.
            codebooks: number of codebooks by which the latents are quantized; 0 for none.
            discriminate: whether to add the losses of `adversarial_losses`, that of the discriminator included; without
                a discriminator it has no effect.
        """
        loss = self.config.loss
        decoded, quantized = self.network(audio, codebooks)
        total = self.distance(decoded, audio)
        total = total + loss.commitment * quantized.commitment + loss.codebook * quantized.codebook
        discriminator = self.network.discriminator
        if discriminator is None:
            return total
        if not discriminate:  # DistributedDataParallel needs a gradient of every parameter
            return total + 0.0 * sum(parameter.sum() for parameter in discriminator.parameters())
        parts = adversarial_losses(discriminator, decoded, audio)
        total = total + loss.adversarial * parts.generator_loss + loss.feature_matching * parts.feature_matching
        return total + parts.discriminator_loss

    def reconstruction(self, audio: Tensor) -> Tensor:
        """Return the `distance` [B] of decoded audio to `audio` [B, 1, N].

        Audio is decoded from latents. If the codebooks are set, it is also decoded from codes of all codebooks, and the
        mean of both distances is returned.
        """
        counts = [0, self.config.quantizer.codebooks] if self.network.quantizer.initialized else [0]
        return torch.stack([self.distance(self.network(audio, count)[0], audio) for count in counts]).mean(0)

    def distance(self, decoded: Tensor, audio: Tensor) -> Tensor:
        """Return the sum [B] of the STFT, mel, waveform and magnitude losses, each times its weight in [loss].

        Args:
            decoded: audio [B, 1, N], or companded magnitudes [B, bins, T] of a `MagnitudeNetwork`, which are compared
                with those of `audio`.
            audio: original audio [B, 1, N].
        """
        loss, codec = self.config.loss, self.network.codec
        total = audio.new_zeros(len(audio))
        if isinstance(codec, MagnitudeNetwork):
            target = codec.compress(audio)
            if loss.magnitude:
                total = total + loss.magnitude * relative_loss(decoded, target)
            if loss.mel:
                made, real = (log_mel(x.clamp(min=0).pow(1 / codec.power), loss.mel_bands) for x in (decoded, target))
                total = total + loss.mel * (made - real).abs().mean((1, 2))
            return total
        if loss.stft:
            total = total + loss.stft * stft_loss(decoded, audio, loss.stft_windows)
        if loss.mel:
            total = total + loss.mel * mel_loss(decoded, audio, loss.mel_window, loss.mel_bands)
        if loss.waveform:
            total = total + loss.waveform * relative_loss(decoded, audio)
        return total
