"""The training loop: one step after another, a state that can be left and taken up anywhere.

Every random number is a function of (seed, position of a clip in the run), every schedule a function of the step, so
a run that was stopped and continued is the run that was not. G clips of the global batch, R ranks.
"""

import dataclasses
import math
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_specs.errors import UserError
from data_specs.io.files import locked, write_json
from training import checkpoint
from training.compiling import compile_or_not
from training.config import RunConfig
from training.data.dataset import Dataset
from training.data.loader import Batch, BatchBuilder, PrefetchLoader, check_share
from training.data.shuffle import seed_of
from training.diffusion_task import DiffusionTask
from training.distributed import World, world
from training.ema import EMA, learning_rate
from training.log import Meter, RunLog, due, peak_memory_mb
from training.model import check_continues
from training.stopping import StopRequest, stop_requests
from training.task import Listen, MakeTask, Snapshot, Task


def train(
    run: Path,
    data: Path,
    config: RunConfig,
    device: str | None = None,
    listen: Listen | None = None,
    make: MakeTask = DiffusionTask.of,
) -> str:
    """Train until `config.training.steps`, or until asked to stop; the same call continues.

    Args:
        run: folder of the run, made if need be.
        data: a PVT-<format> folder or its parent.
        config: from `load_config`, or whatever `make` takes.
        device: cpu, cuda, or None for what the machine has.
        listen: called now and then on the main rank with the averaged model and the validation clips.
        make: the kind of training.

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
        task = make(config, train_data)
        facts = task.facts.model_dump(mode="json")
        check_continues(run, config, facts["digest"])
        ranks.wait()  # nobody writes before everybody has compared
        if ranks.main:
            write_json(run / "config.json", {**config.model_dump(mode="json"), "data": facts})

        trainer = Trainer(run, task, ranks)
        trainer.restore()
        log = stack.enter_context(RunLog(run, trainer.step, config.training.steps, ranks.main))
        request = stack.enter_context(stop_requests(run))
        return trainer.fit(train_data, valid_data, log, request, listen)


class Trainer:
    """Everything that a step reads and changes."""

    def __init__(self, run: Path, task: Task, ranks: World) -> None:
        self.folder, self.task, self.config, self.ranks = run, task, task.config, ranks
        training, network = task.config.training, task.network.to(ranks.device).train()
        self.average = EMA(network, training.ema_decay)
        self.optimizer = torch.optim.Adam(network.parameters(), betas=training.adam_betas, fused=ranks.gpu)
        self.meter = Meter()
        self.step = 0
        self.skipped_in_a_row = 0

    def restore(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        saved = checkpoint.load_newest(self.folder)
        if saved is None:
            return
        self.task.network.load_state_dict(saved.state["network"])
        # promise: saved-step-boundary-same
        self.optimizer.load_state_dict(saved.state["optimizer"])
        self.task.load_state(saved.state)
        # promise: saved-step-boundary-same-2
        self.average.network.load_state_dict(saved.weights)
        self.meter = Meter(**saved.state["meter"])
        self.step, self.skipped_in_a_row = saved.state["step"], saved.state["skipped_in_a_row"]

    def save(self, log: RunLog) -> None:
        """Write a checkpoint; every rank waits until it stands."""
        if self.ranks.main:
            state = {
                **self.task.state(),
                "network": self.task.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "meter": dataclasses.asdict(self.meter),
                "step": self.step,
                "skipped_in_a_row": self.skipped_in_a_row,
            }
            weights, facts = self.average.network.state_dict(), self.snapshot().facts()
            keep = self.config.logging.keep_checkpoints
            folder = checkpoint.save(self.folder, self.step, state, weights, facts, keep)
            log.say(f"step {self.step}: saved {folder}")
        self.ranks.wait()

    def snapshot(self) -> Snapshot:
        """The model with averaged weights as it is now."""
        return self.task.snapshot(self.average.network, self.step, self.meter.train_seconds)

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
        with PrefetchLoader(train_data, training, steps, self.ranks.rank, self.ranks.size, self.ranks.gpu) as batches:
            started = time.perf_counter()
            for batch in batches:
                self.task.before_step(self.step + 1, self.average, train_data, self.ranks)
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
        module = self.task.objective(self.task.network)
        if self.config.machine.compile:
            share = self.config.training.batch // self.ranks.size
            batch = BatchBuilder(train_data, self.config.training, share).train(np.arange(share))
            compile_or_not(self.task.network, lambda: self.backward(module, batch), log.say)
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
                part = self.task.losses(objective, batch.part(start, start + size), "train", self.ranks)
                # promise: changes-rounding-alone
                (part.sum() / share).backward()  # ranks are averaged by DistributedDataParallel
            losses.append(part.detach())
        return torch.cat(losses)

    def update(self, losses: Tensor, stop: bool) -> bool:
        """Change the weights by the gradients at hand, unless something is not finite; returns whether to stop.

        Raises:
            UserError: too many steps in a row were not finite.
        """
        training, step = self.config.training, self.step + 1
        # promise: gradients-clipped-together-averaged
        norm = nn.utils.clip_grad_norm_(self.task.network.parameters(), training.clip_norm)
        # One meeting a step: the loss of all ranks, and whether any of them was asked to stop.
        total, stops = self.ranks.total(float(losses.double().sum()), float(stop))
        # promise: counted-step-skipped-configured
        finite = math.isfinite(total) and math.isfinite(float(norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, training.learning_rate, training.warmup_steps, training.decay_start)
            self.optimizer.step()
            self.average.update(step)
            self.task.observe(step, losses, self.ranks)
        self.optimizer.zero_grad()
        self.meter.loss(total / training.batch if finite else None)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        # promise: counted-step-skipped-configured-2
        if self.skipped_in_a_row >= training.max_skipped:
            raise UserError(
                f"loss or gradients were not finite in {self.skipped_in_a_row} steps in a row, up to step {step}; "
                f"train in another RUN with a lower training.learning_rate, or in float32 instead of bf16"
            )
        # promise: all-stop-same-step
        return stops > 0

    @torch.no_grad()
    def validate(self, valid_data: Dataset, log: RunLog) -> None:
        """Loss of the averaged weights on the first validation clips, with crops and noise that never change."""
        clips = min(len(valid_data), self.config.logging.valid_clips)
        if not clips or not self.config.logging.valid_every:
            return
        size = self.config.machine.micro_batch or self.config.training.batch // self.ranks.size
        maker = BatchBuilder(valid_data, self.config.training, size)
        objective = self.task.objective(self.average.network)
        mine = np.arange(self.ranks.rank, clips, self.ranks.size)
        parts = (maker.valid(mine[start : start + size]) for start in range(0, len(mine), size))
        total = sum(float(self.task.losses(objective, part, "valid", self.ranks).double().sum()) for part in parts)
        (total,) = self.ranks.total(total)
        log.line(self.step, valid_loss=total / clips)
        log.say(f"step {self.step}: validation loss {total / clips:.5f}")
        if self.ranks.main:
            self.task.measure(self.snapshot(), valid_data, log)
