"""What training and sampling promise."""

from tests.promises.promise import mutation, promise

DATA = (
    promise(
        "a paradigm on a format that it is not made for",
        "refused with the table of what goes together",
        "training/test_config.py::test_pairs_that_fit_and_pairs_that_do_not",
        mutation("training/config.py", "if format_name not in formats:", "if False:"),
    ),
    promise(
        "TensorFlow, Dask or MIDI libraries on the training side",
        "none is imported; pipeline and training never import each other",
        "test_layout.py::test_imports_go_one_way training/test_trainer.py::test_training_imports_no_tensorflow",
        mutation("training/data/shuffle.py", "import zlib", "import mido\nimport zlib"),
        mutation(
            "data_specs/controls/base.py", "import numpy as np", "import numpy as np\nimport pipeline.melody.extraction"
        ),
    ),
    promise(
        "another representation, control, paradigm, backbone or way for controls to enter",
        "one class and one entry; shards, their reader, curve files, networks and sampling follow",
        "pipeline/test_extending.py::test_another_representation_is_one_class_and_one_entry "
        "::test_another_control_is_one_class_and_one_entry "
        "training/diffusion/test_continuous.py::test_another_paradigm_is_one_class_and_one_line "
        "training/networks/test_networks.py::test_another_backbone_is_one_class_and_one_line "
        "::test_another_way_of_control_is_one_class_and_one_line",
        mutation(
            "data_specs/controls/base.py", "return (frames,) if self.one_row else", "return (frames,) if True else"
        ),
        mutation("data_specs/dataset.py", 'sorted(["data", *CONTROLS])', 'sorted(["data", *list(CONTROLS)[:3]])'),
        mutation("training/data/dataset.py", "for place, target in targets:", "for place, target in targets[:4]:"),
    ),
    promise(
        "a record altered on the disk",
        "found by its CRC when it is first read, named, never trained on",
        "training/data/test_dataset.py::test_an_altered_record_is_named_when_it_is_read",
        mutation("training/data/dataset.py", "if self._verify and not self._touched[index]:", "if False:"),
    ),
    promise(
        "another number of ranks",
        "the same clips, crops and drop-out in the same order, a function of (seed, pass, index)",
        "training/data/test_loader.py::test_two_ranks_share_what_one_takes "
        "training/data/test_shuffle.py::test_values_stay_what_they_are ::test_passes_and_seeds_differ "
        "training/test_trainer.py::test_two_ranks_stopped_and_continued_by_one",
        mutation("training/data/loader.py", "np.arange(rank * share, (rank + 1) * share)", "np.arange(share)"),
        mutation("training/data/shuffle.py", "_ROUNDS = 8", "_ROUNDS = 7"),
        mutation("training/data/shuffle.py", 'hashed(seed, "order", passes)', 'hashed(seed, "order")'),
    ),
    promise(
        "a run goes on in mid-pass",
        "batches continue at the position, whatever came before",
        "training/data/test_loader.py::test_a_continued_run_takes_the_same",
        mutation(
            "training/data/loader.py", "positions = (step - 1) * training.batch", "positions = number * training.batch"
        ),
    ),
    promise(
        "crops",
        "data and controls are cut together",
        "training/data/test_dataset.py::test_gather_cuts_data_and_controls_together "
        "training/data/test_loader.py::test_crops_cut_data_and_controls_at_one_place_and_vary",
        mutation(
            "training/data/dataset.py",
            "first = start * place.frame_bytes",
            'first = start * place.frame_bytes * (place.name == "data")',
        ),
    ),
    promise(
        "control drop-out",
        "each feature of each clip on its own, with its share",
        "training/data/test_loader.py::test_features_are_dropped_whole_with_their_share_and_apart",
        mutation("training/data/loader.py", '"drop", name, positions)', '"drop", positions)'),
    ),
)

STEPS = (
    promise(
        "SIGTERM, SIGUSR1, a stop file",
        "saved at a step boundary; the same command goes on, losses bit-identical to a run never stopped",
        "training/test_trainer.py::test_stopped_by_a_signal_and_continued ::test_stopped_by_a_file "
        "::test_an_adaptive_paradigm_continues",
        mutation("training/trainer.py", 'self.optimizer.load_state_dict(saved.state["optimizer"])', "pass"),
        mutation("training/trainer.py", "self.average.network.load_state_dict(saved.weights)", "pass"),
        mutation("training/diffusion_task.py", 'self.model.paradigm.load_state_dict(state["paradigm"])', "pass"),
        mutation("training/stopping.py", "self._file.unlink(missing_ok=True)", "pass"),
    ),
    promise(
        "one rank of several is told to stop",
        "all stop at the same step",
        "faults/test_training_faults.py::test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step",
        mutation("training/trainer.py", "return stops > 0", "return stop"),
    ),
    promise(
        "kill -9, also in the middle of a save",
        "the newest whole checkpoint is taken, losses continue bit-identically",
        "faults/test_training_faults.py"
        "::test_killed_while_saving_the_run_goes_on_from_the_newest_whole_checkpoint "
        "training/test_trainer.py::test_killed_after_a_checkpoint_and_continued "
        "training/test_checkpoint.py::test_kills_while_saving_leave_a_whole_checkpoint "
        "::test_a_damaged_one_is_named_and_passed_over",
        mutation(
            "training/checkpoint.py", "        if fault:\n            print", "        if False:\n            print"
        ),
        mutation(
            "training/checkpoint.py",
            'temporary, final = folder / f".step-{step:08d}",',
            'temporary, final = folder / f"step-{step:08d}.new",',
        ),
    ),
    promise(
        "one rank of two dies",
        "the run ends with an error within a minute, no process is left",
        "training/test_trainer.py::test_a_rank_that_dies_ends_the_run "
        "training/test_distributed.py::test_one_failure_ends_all "
        "::test_the_others_are_asked_to_stop_before_they_are_killed",
        mutation(
            "training/launch.py",
            "        for process in processes:\n            process.terminate()",
            "        for process in ():\n            process.terminate()",
        ),
    ),
    promise(
        "losses or gradients that are not finite",
        "counted, the step is skipped; a configured run of them stops",
        "training/test_trainer.py::test_steps_that_are_not_finite_are_counted_and_skipped "
        "::test_too_many_in_a_row_end_the_run",
        mutation(
            "training/trainer.py", "finite = math.isfinite(total) and math.isfinite(float(norm))", "finite = True"
        ),
        mutation("training/trainer.py", ">= training.max_skipped", "> training.max_skipped"),
    ),
    promise(
        "another micro-batch or number of ranks",
        "changes rounding alone",
        "training/test_trainer.py::test_micro_batches_change_only_rounding",
        mutation("training/trainer.py", "(part.sum() / share).backward()", "part.mean().backward()"),
    ),
    promise(
        "large gradients, noisy weights",
        "gradients are clipped together; averaged weights follow the recursion",
        "training/test_trainer.py::test_gradients_are_clipped_together "
        "training/test_ema.py::test_averages_follow_the_recursion",
        mutation("training/trainer.py", "parameters(), training.clip_norm)", "parameters(), 1e9)"),
        mutation("training/ema.py", "(averages, sources, 1.0 - decay)", "(averages, sources, decay)"),
    ),
    promise(
        "another config or other data in a run's folder",
        "refused by the name of the key, nothing is written",
        "training/test_trainer.py::test_another_config_or_other_data_are_refused",
        mutation("training/model.py", "    if difference:", "    if False:"),
    ),
)

SAMPLES = (
    promise(
        "a sample is drawn alone or in a batch",
        "it is itself: noise is a function of (seed, stream, index)",
        "training/diffusion/test_continuous.py::test_a_clip_is_the_same_in_any_batch "
        "::test_streams_do_not_share_draws "
        "training/sampling/test_sampling.py::test_a_sample_equals_itself_in_any_batch",
        mutation(
            "training/diffusion/noise.py",
            "_key(seed, stream, index)) for index in indices",
            "_key(seed, stream, index)) for index in range(len(indices))",
        ),
        mutation("training/diffusion/noise.py", 'f"{seed}/{stream}/{index}"', 'f"{seed}/{index}"'),
    ),
    promise(
        "guidance",
        "both formulas as stated; on log-probabilities and renormalised for codes",
        "training/diffusion/test_guidance.py::test_common_weight ::test_weight_per_feature "
        "training/diffusion/test_discdpm.py::test_guidance_mixes_renormalised_logarithms",
        mutation(
            "training/diffusion/guidance.py",
            "[float(weights), 1 - float(weights)]",
            "[1 + float(weights), -float(weights)]",
        ),
        mutation(
            "training/diffusion/guidance.py", "self.coefficients.append(1 - weight)", "self.coefficients.append(0)"
        ),
        mutation(
            "training/diffusion/discdpm.py",
            "guided.mix(logits.log_softmax(-1)).log_softmax(-1)",
            "guided.mix(logits.softmax(-1)).clamp_min(1e-9).log()",
        ),
    ),
    promise(
        "another codec than the data was made with",
        "sampling refuses it by its digest",
        "training/sampling/test_sampling.py::test_another_codec_than_the_data_was_made_with_is_refused",
        mutation("training/model.py", "    if stored.digest != digest:", "    if False:"),
    ),
    promise(
        "1024 classes in 16 codebooks",
        "the DiscDPM loss is that of one-hot tensors, at an eighth of their bytes",
        "training/diffusion/test_transitions.py::test_divergence_is_the_enumerated_sum "
        "training/diffusion/test_discdpm.py::test_chunked_loss_equals_the_one_hot_reference "
        "::test_chunked_loss_needs_an_eighth_of_the_bytes",
        mutation(
            "training/diffusion/transitions.py",
            "cast((classes - 1) * rest) * log_share",
            "cast((classes - 2) * rest) * log_share",
        ),
        mutation(
            "training/diffusion/discdpm.py",
            "chunk_values: Annotated[int, Field(gt=0)] = 2**22",
            "chunk_values: Annotated[int, Field(gt=0)] = 2**30",
        ),
    ),
    promise(
        "a config drifts from the published model",
        "paper and best have the published numbers of parameters within 2 %",
        "training/networks/test_networks.py::test_published_sizes",
        mutation("training/configs/paper.toml", "channels = 224", "channels = 208"),
    ),
)
