"""Training loop.

Every random number is a function of (seed, position of a clip in the run) and every schedule a function of the step, so
a run that was stopped and resumed equals one without a stop. G clips of the global batch, R ranks.
"""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_specs.errors import UserError
from data_specs.io.files import write_json
from data_specs.io.locks import locked
from training import checkpoint
from training.compiling import compile_or_not
from training.config import Optimization, RunConfig
from training.data.dataset import Dataset
from training.data.loader import Batch, BatchBuilder, PrefetchLoader, check_share, control_layout
from training.data.resident import ResidentClips
from training.data.shuffle import seed_of
from training.diffusion_task import DiffusionTask
from training.distributed import World, allow_tf32, join_world
from training.ema import EMA, PowerEMA, learning_rate
from training.log import Meter, RunLog, due, peak_memory_mb, summary
from training.resumable import import_resumable
from training.runs import check_same_run, recorded_config
from training.stopping import stop_requests
from training.task import Task


def train(
    run: Path,
    data: Path,
    config: RunConfig,
    device: str | None = None,
    make: Callable[[Any, Dataset], Task] = DiffusionTask,
    *,
    dry_run: bool = False,
    init: Path | None = None,
    resume: Path | None = None,
) -> str:
    """Train up to step `config.training.steps`, or to a request to stop; the same call resumes the run.

    Config, log, checkpoints and previews are written to `run`, and progress is printed.

    Args:
        run: folder of the run, created if needed.
        data: a PVT-<format> folder or the folder above it.
        config: config for `make`, for example from `load_config`.
        device: cpu, cuda or mps; None for a CUDA GPU if available, else the CPU.
        make: function that returns the task for the config and the train split, with initial weights on the CPU.
        dry_run: whether to compute one loss, print what a run would do, and write nothing.
        init: run folder or snapshot with the initial weights of a new run; ignored when a run is resumed.
        resume: resumable export from which a new run folder is made; ignored when a run is resumed.

    Returns:
        Reason of the stop; empty for a complete run and for a dry run.

    Raises:
        UserError: the data, the config or `init` does not fit the run, another process trains in `run`, a file is
            damaged or cannot be written, or losses or gradients were not finite in `training.max_skipped` steps in a
            row.
        KeyboardInterrupt: Ctrl-C after a first request to stop.
    """
    training, every = config.training, config.logging
    with ExitStack() as stack:
        # Ranks, data, network.
        if config.machine.threads:
            torch.set_num_threads(config.machine.threads)
        world = stack.enter_context(join_world(device, config.machine.timeout_minutes))
        if world.main and not dry_run:
            stack.enter_context(locked(run / ".lock", f"the run {run}"))
        allow_tf32(config.machine.tf32)
        train_data = Dataset(data, format_name=config.format, in_memory=config.machine.in_memory)
        valid_data = Dataset(data, "valid", format_name=config.format)
        check_share(train_data, training, world.size)
        task = make(config, train_data)
        metadata = task.data.model_dump(mode="json")
        new = recorded_config(run) is None
        world.barrier()  # no rank writes before all have read
        if new and init is not None:
            task.initialize(init)
        if new and resume is not None and world.main and not dry_run:
            import_resumable(resume, run, metadata, every.keep_checkpoints)
        world.barrier()
        network = task.network.to(world.device).train()
        share = training.batch // world.size
        first = BatchBuilder(train_data, training, share).train(np.arange(share))
        objective = task.objective(network)
        task.prepare(lambda: backward(task, objective, first, world), world, recorded_config(run))
        network.zero_grad()
        config = task.config
        check_same_run(run, config.model_dump(mode="json"), metadata["digest"])

        # Averages, optimizer, and everything a checkpoint restores.
        ema = EMA(network, training.ema_decay)
        optimizer = torch.optim.Adam(network.parameters(), betas=training.adam_betas, fused=reads_late(task, world))
        averages = PowerEMA(network, training.ema_stds)
        meter = Meter()
        stateful: dict[str, checkpoint.Stateful]
        stateful = {"network": network, "optimizer": optimizer, "task": task, "progress": meter}
        if training.ema_stds:
            stateful["averages"] = averages
        if saved := checkpoint.load_newest(run):
            # promise: saved-step-boundary-same
            checkpoint.restore(stateful, saved)
            # promise: saved-step-boundary-same-2
            ema.network.load_state_dict(saved.weights)

        # What will be computed.
        if world.main:
            print(summary(run, config, network, first, world.device, meter.step), flush=True)
        if dry_run:
            losses = task.losses(objective, first.part(0, 1), "train", world)
            print(f"dry run: loss {float(losses.mean().detach()):.4f} on one clip; nothing was written")
            return ""
        world.barrier()  # no rank writes before all have compared
        if world.main:
            write_json(run / "config.json", {**config.model_dump(mode="json"), "data": metadata})
        log = stack.enter_context(RunLog(run, meter.step, training.steps, world.main))
        request = stack.enter_context(stop_requests(run))
        if config.machine.compile:
            compile_or_not(network, lambda: backward(task, objective, first, world), log.print)
            optimizer.zero_grad()
        if world.size > 1:
            devices = [world.device] if world.gpu else None
            objective = DistributedDataParallel(objective, device_ids=devices, gradient_as_bucket_view=True)

        # Steps.
        if meter.step == 0:
            validate(task, ema, meter, valid_data, log, world)
        steps = iter(range(meter.step + 1, training.steps + 1))
        resident = None
        if config.machine.resident:
            resident = ResidentClips(train_data, control_layout(train_data), world.device)
        fence = torch.cuda.current_stream().record_event if world.gpu else None
        batches = stack.enter_context(
            PrefetchLoader(train_data, training, steps, world.rank, world.size, world.gpu, resident, fence)
        )
        late, unread = reads_late(task, world), []
        started, saved_at = time.perf_counter(), time.monotonic()
        for step, batch in enumerate(batches, start=meter.step + 1):
            task.before_step(step, ema, train_data, world)
            losses = backward(task, objective, batch, world)
            # promise: gradients-clipped-together-averaged
            norm = nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            overdue = 0 < every.checkpoint_seconds < time.monotonic() - saved_at
            used_up = 0 < config.machine.max_train_seconds <= meter.train_seconds + time.perf_counter() - started
            values = step_values(losses, norm, (bool(request) or used_up, overdue and world.main), world)
            unread.append(values)
            if late:
                # If a value is not finite, the optimizer skips the step on the device; the averages are still updated.
                optimizer.found_inf = (~values[:2].isfinite().all()).float()  # type: ignore[attr-defined]
            else:
                read, stop, save = read_values(unread, training.batch)
            if late or read[-1] is not None:
                set_learning_rate(optimizer, step, training)
                optimizer.step()
                ema.update(step)
                averages.update(step)
                task.observe(step, losses, world)
            optimizer.zero_grad()
            if late:
                if step != training.steps and not any(due(step, interval) for interval in every.intervals()):
                    continue
                read, stop, save = read_values(unread, training.batch)
            seconds, waited = time.perf_counter() - started, batches.pop_wait_seconds()
            for loss in read:
                meter.update(loss, seconds / len(read), waited / len(read))
            unread.clear()
            # promise: counted-step-skipped-configured-2
            if meter.skipped_in_a_row >= training.max_skipped:
                raise UserError(
                    f"loss or gradients were not finite in {meter.skipped_in_a_row} steps in a row, up to step {step}; "
                    f"train in another RUN= with a lower training.learning_rate, or in float32 instead of bf16"
                )
            started = time.perf_counter()

            # Maintenance.
            last = step == training.steps
            log.advance(len(read))
            if step % every.log_every == 0:
                log.scalars(step, **meter.pop_means(training.batch), peak_memory_mb=peak_memory_mb(world.device))
            if last or due(step, every.valid_every):
                validate(task, ema, meter, valid_data, log, world)
            if training.ema_stds and world.main and (last or due(step, every.ema_every)):
                checkpoint.write_averages(run, step, averages.state_dict())
            if stop or save or last or due(step, every.checkpoint_every):
                if world.main:
                    trained = task.trained(ema.network, step, meter.train_seconds)
                    state, weights = checkpoint.states(stateful), ema.network.state_dict()
                    folder = checkpoint.save(run, step, state, weights, trained.metadata(), every.keep_checkpoints)
                    log.print(f"step {step}: saved {folder}")
                world.barrier()
                saved_at = time.monotonic()
            if world.main and every.listen_every and (last or due(step, every.listen_every)):
                trained = task.trained(ema.network, step, meter.train_seconds)
                task.log_samples(trained, valid_data, log, run / "listen" / f"step-{step:08d}")
            if stop and not last:
                request.clear()
                reason = request.reason or ("its time limit" if used_up else "a signal to another rank")
                log.print(f"step {step}: stopped by {reason}; run the same command again to resume")
                return reason
        log.print(f"step {meter.step}: complete; previews in {run / 'listen'}, curves with tensorboard --logdir {run}")
        log.print(f"next: make sample RUN={run}, make evaluate RUN={run}")
        return ""


def backward(task: Task, objective: nn.Module, batch: Batch, world: World) -> Tensor:
    """Add the gradient of the mean loss of this rank's batch to `grad` of the parameters; return the losses [G / R].

    The batch is computed in parts of `machine.micro_batch` clips. DistributedDataParallel averages gradients over
    ranks, so the result is that of the global batch. Losses are float32, detached. Torch's global seed is set, as a
    function of the seed and the position.
    """
    share = len(batch.positions)
    size = task.config.machine.micro_batch or share
    torch.manual_seed(seed_of(task.config.training.seed, "network", int(batch.positions[0])))
    losses = []
    for start in range(0, share, size):
        last = start + size >= share
        with objective.no_sync() if isinstance(objective, DistributedDataParallel) and not last else nullcontext():
            part = task.losses(objective, batch.part(start, start + size), "train", world)
            # promise: changes-rounding-alone
            (part.sum() / share).backward()  # DistributedDataParallel averages over ranks
        losses.append(part.detach())
    return torch.cat(losses)


def reads_late(task: Task, world: World) -> bool:
    """Return whether losses are read from the device only at steps at which something is logged or saved.

    That holds on a CUDA GPU unless the task adapts to the losses; steps are then queued without waiting for results.
    """
    return world.gpu and not task.adaptive


def step_values(losses: Tensor, norm: Tensor, requests: tuple[bool, bool], world: World) -> Tensor:
    """Return sums over all ranks, float64 [4]: losses, gradient norms, requests to stop, requests to save.

    Args:
        losses: losses of the clips of this rank [G / R].
        norm: L2 norm of the gradient of all parameters, a scalar.
        requests: whether this rank requests to stop, and to save.
        world: this rank.
    """
    flags = [norm.new_full((), request, dtype=torch.float64) for request in requests]
    return world.all_reduce_sum(torch.stack([losses.double().sum(), norm.double(), *flags]))


def read_values(unread: list[Tensor], batch: int) -> tuple[list[float | None], bool, bool]:
    """Read the results of steps from the device.

    Args:
        unread: `step_values` of each step.
        batch: number of clips G.

    Returns:
        Mean loss of each step, None where loss or gradient is not finite; whether any rank requests to stop at any of
            the
        steps; whether any requests to save.
    """
    values = torch.stack(unread).tolist()
    # promise: counted-step-skipped-configured
    read = [total / batch if math.isfinite(total) and math.isfinite(norms) else None for total, norms, _, _ in values]
    # promise: all-stop-same-step
    return read, any(stops > 0 for _, _, stops, _ in values), any(saves > 0 for *_, saves in values)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, training: Optimization) -> None:
    """Set the learning rate of `optimizer` to that of `step` (1, 2, ...) by the schedule of `training`."""
    rate = learning_rate(step, training.learning_rate, training.warmup_steps, training.decay_start)
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def validate(task: Task, ema: EMA, meter: Meter, valid_data: Dataset, log: RunLog, world: World) -> None:
    """Log and print the mean loss of the averaged weights on the first `logging.valid_clips` validation clips.

    Crops and noise are the same each time. On rank 0, `task.measure` is called too. Without validation clips, or if
    `logging.valid_every` is 0, nothing is done.
    """
    config = task.config
    clips = min(len(valid_data), config.logging.valid_clips)
    if not clips or not config.logging.valid_every:
        return
    size = config.machine.micro_batch or config.training.batch // world.size
    builder = BatchBuilder(valid_data, config.training, size)
    objective = task.objective(ema.network)
    own = np.arange(world.rank, clips, world.size)
    total = torch.zeros(1, dtype=torch.float64, device=world.device)
    for start in range(0, len(own), size):
        losses = task.losses(objective, builder.valid(own[start : start + size]), "valid", world)
        total += losses.double().sum()
    loss = float(world.all_reduce_sum(total)) / clips
    log.scalars(meter.step, valid_loss=loss)
    log.print(f"step {meter.step}: validation loss {loss:.5f}")
    if world.main:
        task.measure(task.trained(ema.network, meter.step, meter.train_seconds), valid_data, log)
