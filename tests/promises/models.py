"""Guarantees of training and sampling."""

from tests.promises.operators import (
    CALLS,
    compare,
    condition,
    constant,
    drop,
    element,
    insert,
    iterate,
    rewrite,
    value,
    without,
)
from tests.promises.promise import mutation, promise

DATA = (
    promise(
        "a paradigm on a format that it does not support",
        "refused with the table of supported pairs",
        "training/test_config.py::test_pairs_that_fit_and_pairs_that_do_not",
        mutation("refused-table-goes-together", condition(False)),
    ),
    promise(
        "TensorFlow, Dask or MIDI libraries on the training side",
        "none is imported; pipeline and training never import each other",
        "test_layout.py::test_imports_go_one_way training/test_trainer.py::test_training_imports_no_tensorflow",
        mutation("none-imported-pipeline-training", insert("import mido")),
        mutation("none-imported-pipeline-training-2", insert("import pipeline")),
    ),
    promise(
        "another representation, control, paradigm, backbone or control branch",
        "takes one class and one registry entry; shards, reader, curve files, networks and sampling follow it",
        "pipeline/test_extending.py::test_another_representation_is_one_class_and_one_entry "
        "::test_another_control_is_one_class_and_one_entry "
        "training/diffusion/test_continuous.py::test_another_paradigm_is_one_class_and_one_line "
        "training/networks/test_networks.py::test_another_backbone_is_one_class_and_one_line "
        "::test_another_control_branch_is_one_class_and_one_line",
        mutation("class-entry-shards-their", rewrite("if-expression", "{body}")),
        mutation("class-entry-shards-their-2", without(1, "list")),
        mutation("class-entry-shards-their-3", iterate("{}[:4]")),
    ),
    promise(
        "a record altered on the disk",
        "detected by its CRC at the first read, named, never trained on",
        "training/data/test_dataset.py::test_an_altered_record_is_named_when_it_is_read",
        mutation("found-crc-first-read", condition(False)),
    ),
    promise(
        "another number of ranks",
        "the same clips, crops and drop-out in the same order, a function of (seed, pass, index)",
        "training/data/test_loader.py::test_two_ranks_share_what_one_takes "
        "training/data/test_shuffle.py::test_values_stay_what_they_are ::test_passes_and_seeds_differ "
        "training/test_trainer.py::test_two_ranks_stopped_and_continued_by_one",
        mutation("same-clips-crops-drop", rewrite("call", "np.arange({1} - {0})")),
        mutation("same-clips-crops-drop-2", constant(8, 7)),
        mutation("same-clips-crops-drop-3", without(2, "call", 1)),
    ),
    promise(
        "a run resumes in mid-pass",
        "batches continue at the stored position",
        "training/data/test_loader.py::test_a_continued_run_takes_the_same",
        mutation("batches-continue-position-whatever", rewrite("-", CALLS)),
    ),
    promise(
        "crops",
        "data and controls are cut together",
        "training/data/test_dataset.py::test_gather_cuts_data_and_controls_together "
        "training/data/test_loader.py::test_crops_cut_data_and_controls_at_one_place_and_vary",
        mutation("data-controls-cut-together", rewrite("*", "0")),
    ),
    promise(
        "control drop-out",
        "independent for each control and clip, at its rate",
        "training/data/test_loader.py::test_features_are_dropped_whole_with_their_share_and_apart",
        mutation("feature-clip-own-share", without(2, "call")),
    ),
)

STEPS = (
    promise(
        "SIGTERM, SIGUSR1, a stop file",
        "saved at a step boundary; the same command resumes with losses bit-identical to an uninterrupted run",
        "training/test_trainer.py::test_stopped_by_a_signal_and_continued ::test_stopped_by_a_file "
        "::test_an_adaptive_paradigm_continues",
        mutation("saved-step-boundary-same", drop()),
        mutation("saved-step-boundary-same-2", drop()),
        mutation("saved-step-boundary-same-3", drop()),
        mutation("saved-step-boundary-same-4", drop()),
    ),
    promise(
        "one rank of several receives a signal",
        "all stop at the same step",
        "faults/test_training_faults.py::test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step",
        mutation("all-stop-same-step", value("(total / batch if finite else None, requests[0], False)")),
    ),
    promise(
        "kill -9, also in the middle of a save",
        "the newest complete checkpoint is used, losses continue bit-identically",
        "faults/test_training_faults.py"
        "::test_killed_while_saving_the_run_goes_on_from_the_newest_whole_checkpoint "
        "training/test_trainer.py::test_killed_after_a_checkpoint_and_continued "
        "training/test_checkpoint.py::test_kills_while_saving_leave_a_whole_checkpoint "
        "::test_a_damaged_one_is_named_and_passed_over",
        mutation("newest-whole-checkpoint-taken", condition(False)),
        mutation("newest-whole-checkpoint-taken-2", constant(".step-", "step-0")),
    ),
    promise(
        "one rank of two dies",
        "the run ends with an error within a minute and leaves no process",
        "training/test_trainer.py::test_a_rank_that_dies_ends_the_run "
        "training/test_distributed.py::test_one_failure_ends_all",
        mutation("run-ends-error-within", value("0")),
    ),
    promise(
        "losses or gradients that are not finite",
        "counted and skipped; a configured number in a row stops the run",
        "training/test_trainer.py::test_steps_that_are_not_finite_are_counted_and_skipped "
        "::test_too_many_in_a_row_end_the_run",
        mutation("counted-step-skipped-configured", value("True")),
        mutation("counted-step-skipped-configured-2", compare(">=", ">")),
    ),
    promise(
        "another micro-batch or number of ranks",
        "changes results by rounding only",
        "training/test_trainer.py::test_micro_batches_change_only_rounding",
        mutation("changes-rounding-alone", rewrite("/", "{left.func.value}.mean()")),
    ),
    promise(
        "large gradients, noisy weights",
        "gradients are clipped together; averaged weights follow the recursion",
        "training/test_trainer.py::test_gradients_are_clipped_together "
        "training/test_ema.py::test_averages_follow_the_recursion",
        mutation("gradients-clipped-together-averaged", element(1, "call", "1e9")),
        mutation("gradients-clipped-together-averaged-2", rewrite("-", "{right}")),
    ),
    promise(
        "another config or other data in a run's folder",
        "refused, naming the key; nothing is written",
        "training/test_trainer.py::test_another_config_or_other_data_are_refused",
        mutation("refused-name-key-nothing-5", condition(False)),
    ),
)

SAMPLES = (
    promise(
        "a sample is drawn alone or in a batch",
        "it is the same: noise is a function of (seed, stream, index)",
        "training/diffusion/test_continuous.py::test_a_clip_is_the_same_in_any_batch "
        "::test_streams_do_not_share_draws "
        "training/sampling/test_sampling.py::test_a_sample_equals_itself_in_any_batch",
        mutation("itself-noise-function-seed", iterate("range(len({}))")),
        mutation("itself-noise-function-seed-2", without(2, "f-string")),
    ),
    promise(
        "guidance",
        "both formulas as stated; on log-probabilities and renormalised for codes",
        "training/diffusion/test_guidance.py::test_common_weight ::test_weight_per_feature "
        "training/diffusion/test_discdpm.py::test_guidance_mixes_renormalised_logarithms",
        mutation("both-formulas-stated-log", rewrite("list", "[1 + {0}, -{0}]")),
        mutation("both-formulas-stated-log-2", rewrite("-", "0")),
        mutation(
            "both-formulas-stated-log-3",
            value("features[: len(x)].transpose(1, 2)"),
        ),
    ),
    promise(
        "a rest is drawn in chroma or pitch",
        "velocity is 0 there where it is not drawn; a contradiction is announced",
        "data_specs/controls/test_drawn_pitch.py::test_a_drawn_rest_is_velocity_0_where_velocity_is_not_drawn "
        "::test_contradictions_of_velocity_are_announced",
        mutation("drawn-rest-velocity-0", drop()),
    ),
    promise(
        "curves of other controls than the model's",
        "pitch becomes chroma with a notice, chroma leaves pitch unconditioned, other controls are refused",
        "data_specs/controls/test_drawn_pitch.py::test_pitch_becomes_chroma_for_a_model_without_pitch "
        "::test_chroma_leaves_pitch_unconditioned_and_other_controls_are_refused "
        "pipeline/test_extending.py::test_another_control_is_drawn_measured_and_refused_by_models_without_it",
    ),
    promise(
        "a codec other than the dataset's",
        "refused when sampling, by its digest",
        "training/sampling/test_sampling.py::test_another_codec_than_the_data_was_made_with_is_refused",
        mutation("sampling-refuses-digest", condition(False)),
    ),
    promise(
        "1024 classes in 16 codebooks",
        "the DiscDPM loss equals that of one-hot tensors, at an eighth of the memory",
        "training/diffusion/test_transitions.py::test_divergence_is_the_enumerated_sum "
        "training/diffusion/test_discdpm.py::test_chunked_loss_equals_the_one_hot_reference "
        "::test_chunked_loss_needs_an_eighth_of_the_bytes",
        mutation("discdpm-loss-hot-tensors", constant(1, 2)),
        mutation("discdpm-loss-hot-tensors-2", constant(21, 30)),
    ),
    promise(
        "a config drifts from the published model",
        "paper and best have the published numbers of parameters within 2 %",
        "training/networks/test_networks.py::test_published_sizes",
        mutation("published-sizes", "208"),
    ),
)
