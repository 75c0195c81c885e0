"""The training loop: one step after another, a state that can be left and taken up anywhere.

Every random number is a function of (seed, position of a clip in the run), every schedule a function of the step, so
a run that was stopped and continued is the run that was not. G clips of the global batch, R ranks.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_specs.errors import UserError
from data_specs.files import locked, write_json
from training import checkpoint
from training.averages import Average, learning_rate
from training.batches import Batch, Batches, Maker, check_share
from training.compiling import compile_or_not
from training.config import Config
from training.diffusion import LossModule, PerClipNoise
from training.distributed import World, world
from training.log import Meter, RunLog, due, peak_memory_mb
from training.order import seed_of
from training.runs import DataFacts, Run, build, check_continues
from training.shards import Dataset
from training.stopping import StopRequest, stop_requests

Listen = Callable[[Run, Dataset, RunLog, Path], None]  # writes what the model sounds like by now into a folder


def train(run: Path, data: Path, config: Config, device: str | None = None, listen: Listen | None = None) -> str:
    """Train until `config.training.steps`, or until asked to stop; the same call continues.

    Args:
        run: folder of the run, made if need be.
        data: a PVT-<format> folder or its parent.
        config: from `load_config`.
        device: cpu, cuda, or None for what the machine has.
        listen: called now and then on the main rank with the averaged model and the validation clips.

    Returns:
        Why the run was stopped; empty when it is complete.

    Raises:
        UserError: data or config that do not fit the run, or losses that stay non-finite.
    """
    with ExitStack() as stack:
        ranks = stack.enter_context(world(device, config.machine.timeout_minutes))
        if ranks.main:
            stack.enter_context(locked(run / ".lock", f"the run {run}"))
        train_data = Dataset(data, format_name=config.format, in_memory=config.machine.in_memory)
        valid_data = Dataset(data, "valid", format_name=config.format)
        check_share(train_data, config.training, ranks.size)
        facts = DataFacts.of(train_data.info, train_data.features)
        check_continues(run, config, facts)
        ranks.wait()  # nobody writes before everybody has compared
        if ranks.main:
            write_json(run / "config.json", {**config.model_dump(mode="json"), "data": facts.model_dump(mode="json")})

        trainer = Trainer(run, config, facts, ranks)
        trainer.restore()
        log = stack.enter_context(RunLog(run, trainer.step, config.training.steps, ranks.main))
        request = stack.enter_context(stop_requests(run))
        return trainer.fit(train_data, valid_data, log, request, listen)


class Trainer:
    """Everything that a step reads and changes."""

    def __init__(self, run: Path, config: Config, facts: DataFacts, ranks: World) -> None:
        self.folder, self.config, self.ranks = run, config, ranks
        self.model = build(config, facts)
        network = self.model.network.to(ranks.device).train()
        self.average = Average(network, config.training.ema_decay)
        self.optimizer = torch.optim.Adam(network.parameters(), betas=config.training.adam_betas, fused=ranks.gpu)
        self.meter = Meter()
        self.step = 0
        self.skipped_in_a_row = 0

    def restore(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        saved = checkpoint.load_newest(self.folder)
        if saved is None:
            return
        self.model.network.load_state_dict(saved.state["network"])
        self.optimizer.load_state_dict(saved.state["optimizer"])
        self.model.paradigm.load_state_dict(saved.state["paradigm"])
        self.average.network.load_state_dict(saved.weights)
        self.meter = Meter(**saved.state["meter"])
        self.step, self.skipped_in_a_row = saved.state["step"], saved.state["skipped_in_a_row"]

    def save(self, log: RunLog) -> None:
        """Write a checkpoint; every rank waits until it stands."""
        if self.ranks.main:
            state = {
                "network": self.model.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "paradigm": self.model.paradigm.state_dict(),
                "meter": dataclasses.asdict(self.meter),
                "step": self.step,
                "skipped_in_a_row": self.skipped_in_a_row,
            }
            weights, facts = self.average.network.state_dict(), self.snapshot().facts()
            keep = self.config.logging.keep_checkpoints
            folder = checkpoint.save(self.folder, self.step, state, weights, facts, keep)
            log.say(f"step {self.step}: saved {folder}")
        self.ranks.wait()

    def snapshot(self) -> Run:
        """The model with averaged weights as it is now."""
        return dataclasses.replace(
            self.model, network=self.average.network, step=self.step, train_seconds=self.meter.train_seconds
        )

    def fit(
        self, train_data: Dataset, valid_data: Dataset, log: RunLog, request: StopRequest, listen: Listen | None
    ) -> str:
        """Steps until the last one or a stop; returns why it stopped."""
        training, every = self.config.training, self.config.logging
        steps = iter(range(self.step + 1, training.steps + 1))
        objective = self.objective(train_data, log)
        listening = listen if self.ranks.main and every.listen_every else None
        if self.step == 0:
            self.validate(valid_data, log)
        with Batches(train_data, training, steps, self.ranks.rank, self.ranks.size, self.ranks.gpu) as batches:
            started = time.perf_counter()
            for batch in batches:
                losses = self.backward(objective, batch)
                stop = self.update(losses, bool(request))
                self.step += 1
                self.meter.time(time.perf_counter() - started, batches.take_waited())
                log.advance()
                last = self.step == training.steps
                if self.step % every.log_every == 0:
                    memory = peak_memory_mb(self.ranks.device)
                    log.line(self.step, **self.meter.line(training.batch), peak_memory_mb=memory)
                if last or due(self.step, every.valid_every):
                    self.validate(valid_data, log)
                if stop or last or due(self.step, every.checkpoint_every):
                    self.save(log)
                if listening and (last or due(self.step, every.listen_every)):
                    listening(self.snapshot(), valid_data, log, self.folder / "listen" / f"step-{self.step:08d}")
                if stop and not last:
                    request.honoured()
                    reason = request.reason or "a signal to another rank"
                    log.say(f"step {self.step}: stopped by {reason}; the same command continues")
                    return reason
                started = time.perf_counter()
        log.say(f"step {self.step}: complete")
        return ""

    def objective(self, train_data: Dataset, log: RunLog) -> nn.Module:
        """Network and loss as one module, compiled and shared between ranks where that is asked for."""
        module: nn.Module = LossModule(self.model.network, self.model.paradigm)
        if self.config.machine.compile:
            share = self.config.training.batch // self.ranks.size
            batch = Maker(train_data, self.config.training, share).train(np.arange(share))
            compile_or_not(self.model.network, lambda: self.backward(module, batch), log.say)
            self.optimizer.zero_grad()
        if self.ranks.size == 1:
            return module
        devices = [self.ranks.device] if self.ranks.gpu else None
        return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)

    def backward(self, objective: nn.Module, batch: Batch) -> Tensor:
        """Add up the gradient of the mean loss over the global batch; returns this rank's losses, float32 [G / R]."""
        share = len(batch.positions)
        size = self.config.machine.micro_batch or share
        torch.manual_seed(seed_of(self.config.training.seed, "network", int(batch.positions[0])))
        losses = []
        for start in range(0, share, size):
            last = start + size >= share
            with objective.no_sync() if isinstance(objective, DistributedDataParallel) and not last else nullcontext():
                part = self.losses(objective, batch.part(start, start + size), "train")
                (part.sum() / share).backward()  # ranks are averaged by DistributedDataParallel
            losses.append(part.detach())
        return torch.cat(losses)

    def losses(self, objective: nn.Module, batch: Batch, stream: str) -> Tensor:
        """Loss of each clip, float32 [B]."""
        device, training = self.ranks.device, self.config.training
        x0 = self.model.to_model(batch.data.to(device, non_blocking=True))
        controls = batch.controls.to(device, non_blocking=True)
        noise = self.noise(batch.positions.tolist(), stream)
        narrow = training.precision == "bf16" and self.ranks.gpu
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            losses: Tensor = objective(x0, controls, noise)
        return losses

    def noise(self, positions: Sequence[int], stream: str) -> PerClipNoise:
        """Draws for clips at `positions`: the same everywhere in validation, in training by the device."""
        device, seed = self.ranks.device, self.config.training.seed
        return PerClipNoise(seed, positions, stream, device, drawn_on=device if stream == "train" else "cpu")

    def update(self, losses: Tensor, stop: bool) -> bool:
        """Change the weights by the gradients at hand, unless something is not finite; returns whether to stop.

        Raises:
            UserError: too many steps in a row were not finite.
        """
        training, step = self.config.training, self.step + 1
        norm = nn.utils.clip_grad_norm_(self.model.network.parameters(), training.clip_norm)
        # One meeting a step: the loss of all ranks, and whether any of them was asked to stop.
        total, stops = self.ranks.total(float(losses.double().sum()), float(stop))
        finite = math.isfinite(total) and math.isfinite(float(norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, training.learning_rate, training.warmup_steps, training.decay_start)
            self.optimizer.step()
            self.average.update(step)
            self.observe(losses)
        self.optimizer.zero_grad()
        self.meter.loss(total / training.batch if finite else None)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row >= training.max_skipped:
            raise UserError(
                f"loss or gradients were not finite in {self.skipped_in_a_row} steps in a row, up to step {step}; "
                f"train in another RUN with a lower training.learning_rate or training.precision = float32"
            )
        return stops > 0

    def observe(self, losses: Tensor) -> None:
        """Show an adaptive paradigm the losses of the whole batch, so that it learns the same on every rank."""
        if self.model.paradigm.adaptive:
            clips = self.config.training.batch
            everyone = self.noise(range(self.step * clips, (self.step + 1) * clips), "train")
            self.model.paradigm.observe(everyone, self.ranks.gathered(losses))

    @torch.no_grad()
    def validate(self, valid_data: Dataset, log: RunLog) -> None:
        """Loss of the averaged weights on the first validation clips, with crops and noise that never change."""
        clips = min(len(valid_data), self.config.logging.valid_clips)
        if not clips or not self.config.logging.valid_every:
            return
        size = self.config.machine.micro_batch or self.config.training.batch // self.ranks.size
        maker = Maker(valid_data, self.config.training, size)
        objective = LossModule(self.average.network, self.model.paradigm)
        mine = np.arange(self.ranks.rank, clips, self.ranks.size)
        parts = (maker.valid(mine[start : start + size]) for start in range(0, len(mine), size))
        total = sum(float(self.losses(objective, part, "valid").double().sum()) for part in parts)
        (total,) = self.ranks.total(total)
        log.line(self.step, valid_loss=total / clips)
        log.say(f"step {self.step}: validation loss {total / clips:.5f}")
