"""Guarantees of datasets: selection of clips, contents, equal bytes on any worker."""

from tests.promises.operators import (
    added,
    compare,
    condition,
    constant,
    drop,
    element,
    keep_left,
    positive,
    rewrite,
    swap_with_next,
    unfiltered,
    unwrap,
    value,
    without,
)
from tests.promises.promise import mutation, promise

PLAN = (
    promise(
        "a dataset is cut short",
        "instruments have equal shares in every prefix of the plan",
        "pipeline/plan/test_plan.py::test_instruments_are_equal_in_every_prefix",
        mutation("instruments-equal-shares-prefix", value("0")),
    ),
    promise(
        "two performances share an id",
        "an id depends on source, track, tick, key shift and instrument",
        "pipeline/melody/test_transposition.py::test_clip_id_hangs_on_every_part",
        mutation("id-hangs-source-track", without(6, "f-string")),
    ),
    promise(
        "another seed or order of work",
        "a clip's modulation is a function of (seed, id), its velocities follow the formula and are never 0",
        " "
        "pipeline/melody/test_transposition.py::test_modulation_is_uniform_in_log_frequency_and_phase_and_hangs_on_seed_and_id "
        ""
        "::test_velocity_follows_the_formula ::test_velocity_is_never_zero",
        mutation("clip-s-modulation-function", without(0, "f-string")),
        mutation("clip-s-modulation-function-2", keep_left("+")),
        mutation("clip-s-modulation-function-3", constant(1, 0)),
    ),
    promise(
        "notes outside the range",
        "the octave move leaves the fewest outside, the rest is folded, at most a tenth of a clip",
        "pipeline/melody/test_transposition.py::test_folding_moves_notes_outside_by_the_fewest_octaves "
        "::test_one_note_of_ten_may_be_folded_two_may_not",
        mutation("octave-move-leaves-fewest", positive()),
        mutation("octave-move-leaves-fewest-2", compare("<=", "<")),
    ),
    promise(
        "one song fills a dataset, a phrase returns",
        "a song gives at most its cap of clips; exact repeats are dropped",
        "pipeline/plan/test_plan.py::test_plan_follows_its_rules",
        mutation("song-gives-most-cap", compare("<", "<=")),
        mutation("song-gives-most-cap-2", value("False")),
    ),
    promise(
        "a tune occurs in train and valid, in another key or tempo",
        "a song's side is the hash of its digest; valid windows whose tune occurs in train are dropped",
        "pipeline/plan/test_plan.py::test_nothing_of_valid_is_known_from_train ::test_plan_follows_its_rules "
        "pipeline/melody/test_transposition.py::test_fingerprint_is_free_of_key_tempo_articulation_and_what_comes_after",
        mutation("song-s-side-hash", drop()),
        mutation("song-s-side-hash-2", unwrap()),
        mutation("song-s-side-hash-3", rewrite("+", "np.arange(len({left}), dtype=np.uint64) + {right}")),
    ),
    promise(
        "another CLIPS, FORMAT or path of the MIDI",
        "the plan is one order per split, independent of them; an OUT's formats share it",
        "pipeline/plan/test_plan.py::test_order_does_not_hang_on_how_many_are_asked_for "
        "data_specs/test_spec.py::test_the_plan_does_not_depend_on_clips_path_sound_or_storage_but_on_all_else "
        "pipeline/build/test_build.py::test_tensorflow_reads_every_record_and_ids_are_one_performance_in_all_formats",
        mutation("plan-order-per-split", added("'clips'", "set")),
        mutation("plan-order-per-split-2", drop()),
    ),
    promise(
        "files come in another order or division, from a folder or an archive",
        "the plan and everything after it are the same",
        "pipeline/plan/test_plan.py::test_the_same_for_any_division_and_order_of_the_files "
        "::test_folder_and_archive_give_the_same_plan",
        mutation("plan-everything-after-same", without(0, "tuple")),
    ),
    promise(
        "limits or clip settings change",
        "the index is keyed by contents and settings, and rebuilt where they differ",
        "pipeline/plan/test_index.py::test_another_clip_or_limit_is_another_part_and_another_cap_is_not",
        mutation("index-keyed-contents-settings", without(1, "set")),
    ),
    promise(
        "a file, track, window or clip is left out",
        "it is counted under a named reason",
        "pipeline/plan/test_index.py::test_every_file_is_accounted_for "
        "pipeline/build/test_build.py::test_every_file_without_a_clip_is_counted",
        mutation("counted-under-named-reason", drop()),
    ),
)

CONTENT = (
    promise(
        "floats decide an edge",
        "note times are integers on the synthesiser's blocks; the renderer refuses others",
        "pipeline/melody/test_windows.py::test_windows_are_as_defined "
        "pipeline/render/test_renderer.py::test_invalid_notes_are_refused",
        mutation("note-times-integers-synthesiser", constant(2, 1)),
        mutation("note-times-integers-synthesiser-2", keep_left("&")),
    ),
    promise(
        "controls and sound disagree",
        "frame i looks at sample i * hop; onset inclusive, offset exclusive; 0 in rests but for the instrument",
        "data_specs/controls/test_controls.py::test_equals_the_definition "
        "::test_edges_are_onset_inclusive_offset_exclusive_and_frame_1920_is_after_the_end",
        mutation("frame-i-looks-sample", constant("right", "left")),
        mutation("frame-i-looks-sample-2", compare("<", "<=")),
        mutation("frame-i-looks-sample-3", rewrite("*", "{} + {right} // 2")),
        mutation("frame-i-looks-sample-4", constant(1.0, 0.5)),
        mutation("frame-i-looks-sample-5", rewrite("/", "{left} / 12")),
    ),
    promise(
        "the SoundFont lacks a note, or a velocity layer",
        "notes move by octaves to pitches that their preset plays; clips that keep an unplayable note are rejected",
        "pipeline/build/test_presets.py::test_notes_outside_a_preset_move_by_octaves_and_every_note_sounds "
        "::test_clips_with_a_missing_velocity_layer_are_rejected_under_a_reason "
        "pipeline/melody/test_transposition.py::test_notes_move_to_the_nearest_octaves_that_a_preset_plays",
        mutation("unplayable-notes-move", value("0")),
        mutation("unplayable-notes-rejected", condition(False)),
    ),
    promise(
        "a preset is detuned, an octave off, unpitched or silent",
        "the build is refused, naming preset and deviation; validation finds it in existing datasets",
        "pipeline/build/test_presets.py::test_a_detuned_preset_is_refused_before_anything_is_built "
        "::test_validation_finds_silent_and_detuned_notes_of_older_datasets "
        "pipeline/render/test_preset_check.py::test_presets_of_a_soundfont_file",
        mutation("detuned-preset-refused", drop()),
        mutation("detuned-preset-refused-2", value("0")),
    ),
    promise(
        "a clip is rendered after others, or alone",
        "its bits are the same: a fresh synthesiser for each clip",
        "pipeline/render/test_renderer.py::test_clip_bits_are_independent_of_rendering_order",
        mutation(
            "bits-same-fresh-synthesiser",
            value("self.__dict__.setdefault('_kept', {})"),
            "bits-same-fresh-synthesiser-2",
            drop(),
        ),
    ),
    promise(
        "dynamics, glides, vibrato or a filter move inside a note",
        "audio follows them within a block of 64 samples; a released note keeps its own until it has decayed",
        "pipeline/render/test_expressive.py::test_level_follows_its_curve "
        "::test_a_step_of_the_level_acts_within_one_block ::test_a_release_keeps_the_automation_of_its_note "
        "::test_bends_are_heard_at_their_pitch",
        mutation("audio-follows-within-block", keep_left("-")),
        mutation("audio-follows-within-block-2", rewrite("%", "0")),
    ),
    promise(
        "another number of workers, or a kill, while expressive clips are made",
        "stored bytes are the same",
        "faults/test_expressive_builds.py::test_bytes_do_not_depend_on_workers_or_kills",
    ),
    promise(
        "a batch of another size, another number of threads, TF32 on a GPU",
        "chunks of a constant size, one thread, full precision in every process that computes",
        "pipeline/build/test_shards.py::test_chunks_are_padded_to_a_constant_size "
        "pipeline/build/test_tasks.py::test_a_worker_computes_on_one_thread_in_full_precision "
        "data_specs/representations/test_cqt.py::test_a_clip_is_the_same_in_any_batch",
        mutation("chunks-constant-size-thread", element(0, "tuple", "{} + 1")),
        mutation("chunks-constant-size-thread-2", constant(1, 2)),
        mutation("chunks-constant-size-thread-3", constant(False, True)),
        mutation("chunks-constant-size-thread-4", constant(1, 99)),
    ),
    promise(
        "a clip is encoded in a batch, in segments of time",
        "with EnCodec on a CPU it has the same bits in any batch, and segments join without a seam",
        "data_specs/codecs/test_encodec_24khz.py::test_a_clip_is_the_same_whatever_its_neighbours "
        "::test_stretches_of_time_join_without_a_seam",
        mutation("encodec-cpu-same-bits", keep_left("*")),
        mutation("encodec-cpu-same-bits-2", rewrite("call", "{}.cumsum(0)", 1)),
        mutation("encodec-cpu-same-bits-3", constant(1, 0)),
    ),
    promise(
        "shards are made in another order",
        "statistics are float64 sums merged in the order of the shards",
        "pipeline/build/test_manifest.py::test_statistics_are_summed_in_the_order_of_the_shards_and_of_train_alone",
        mutation("statistics-float64-sums-merged", unwrap()),
        mutation("statistics-float64-sums-merged-2", unfiltered()),
    ),
    promise(
        "another number of workers, workers or scheduler on other machines, SHARDS",
        "stored bytes are the same",
        "pipeline/build/test_build.py::test_an_archive_one_worker_and_another_order_give_the_same_bytes "
        "::test_shares_and_a_last_call_give_the_same_bytes "
        "::test_local_workers_and_a_scheduler_elsewhere_give_the_same_bytes",
    ),
    promise(
        "another program reads the shards",
        "records are, byte for byte, TensorFlow's deterministic serialization, with both CRCs",
        "data_specs/test_records.py::test_bytes_are_tensorflows_deterministic_serialization "
        "::test_framed_file_equals_tensorflows_writer ::test_layout_check_finds_any_flipped_bit",
        mutation("records-byte-byte-tensorflow", constant(0xA282EAD8, 0xA282EAD9)),
        mutation("records-byte-byte-tensorflow-2", keep_left("+")),
        mutation("records-byte-byte-tensorflow-3", condition(False)),
    ),
    promise(
        "channels of very different variance, complex phase",
        "to_model has the target spread, a floor for near-silent channels, one scale for both parts of cqt",
        "data_specs/representations/test_scaling.py::test_standardised_data_has_the_target_spread "
        "::test_near_silent_channels_are_not_blown_up_to_noise "
        "::test_cqt_keeps_zero_and_the_ratio_of_real_to_imaginary_part",
        mutation("model-target-spread-floor", rewrite("*", "0 * {right}")),
        mutation("model-target-spread-floor-2", keep_left("*")),
        mutation("model-target-spread-floor-3", without(0, "tuple")),
    ),
)

FINISHING = (
    promise(
        "a dataset grows",
        "shard k holds positions [kS, (k+1)S); full shards stay and are renamed",
        "pipeline/build/test_folder.py::test_tasks_cover_every_position_once_in_shards_that_do_not_move "
        "::test_growing_renames_full_shards_and_rebuilds_the_partial_last_one "
        "pipeline/build/test_build.py::test_growing_keeps_full_shards_and_equals_a_large_build",
        mutation("shard-k-holds-positions", rewrite("call", "range(0, {1}, -(-{1} // max(-(-{1} // {2}), 1)) or 1)")),
        mutation("shard-k-holds-positions-2", drop()),
    ),
    promise(
        "the run ends while a file is written",
        "a file appears complete or not at all, the old one is kept; dataset.json is written last",
        "data_specs/io/test_files.py::test_a_failed_write_keeps_the_old_file_and_leaves_nothing "
        "pipeline/build/test_folder.py::test_the_manifest_comes_after_everything_else "
        "pipeline/build/test_shards.py::test_an_interrupted_shard_leaves_nothing",
        mutation("file-appears-whole-all", rewrite("call", "{func.value}")),
        mutation("file-appears-whole-all-2", swap_with_next()),
    ),
    promise(
        "another spec, SoundFont or codec, or other control features, in an existing folder",
        "refused, naming the key; nothing is overwritten; FORCE moves the old folder aside",
        "pipeline/build/test_folder.py::test_another_key_is_refused_by_name "
        "pipeline/build/test_build.py::test_other_settings_and_too_few_melodies_are_refused "
        "::test_another_soundfont_is_refused ::test_force_moves_aside_and_deletes_nothing "
        "faults/test_disks.py::test_shards_with_other_features_are_refused_and_stay_until_they_are_moved_aside "
        "data_specs/test_spec.py::test_a_format_depends_on_its_own_storage_and_sound_only",
        mutation("refused-name-key-nothing", condition(True)),
        mutation("refused-name-key-nothing-2", value("''")),
        mutation("refused-name-key-nothing-3", condition(False)),
        mutation("refused-name-key-nothing-4", condition(True)),
    ),
    promise(
        "shards of another kind of machine",
        "refused unless accepted; dataset.json lists both",
        "pipeline/build/test_folder.py::test_shards_of_another_machine_are_refused_until_accepted "
        "pipeline/build/test_build.py::test_a_worker_of_another_kind_that_joins_is_refused",
        mutation("refused-unless-accepted-dataset", condition(False)),
        mutation("refused-unless-accepted-dataset-2", condition(False)),
    ),
    promise(
        "two runs in one OUT",
        "the second is refused, naming the first, also with FORCE; the lock ends with its process; shards may be "
        "divided among several runs",
        "pipeline/build/test_folder.py::test_a_folder_is_held_by_one_build_or_by_several_different_shares "
        "data_specs/io/test_locks.py::test_a_lock_is_refused_while_its_process_lives_and_free_once_it_is_killed "
        "faults/test_disks.py::test_the_second_of_two_runs_in_one_folder_is_refused_by_name "
        "pipeline/build/test_build.py::test_force_and_shares_exclude_each_other",
        mutation("second-refused-name-first", rewrite("if-expression", "{body}")),
        mutation("second-refused-name-first-2", drop()),
        mutation("second-refused-name-first-3", condition(False)),
    ),
    promise(
        "formats of two plans in one OUT, finished or not",
        "refused: an id is one performance in all formats of a folder",
        "faults/test_disks.py::test_a_sibling_of_another_plan_is_refused_finished_or_not",
        mutation("refused-id-performance-all", condition(False)),
    ),
    promise(
        "a shard, or a whole dataset, without a single good clip",
        "finished where fewer are accepted, with an empty shard and no rows in clips.parquet",
        "pipeline/build/test_build.py::test_a_shard_whose_clips_are_all_at_fault_has_no_rows "
        "::test_a_dataset_without_a_single_good_clip_is_finished_where_fewer_are_accepted",
        mutation("finished-fewer-accepted-empty", rewrite("call", "{1}")),
    ),
    promise(
        "a dataset of an unknown version, or unfinished",
        "readers raise one sentence",
        "data_specs/test_dataset.py::test_a_bad_manifest_is_one_sentence "
        "::test_unfinished_and_missing_datasets_are_told_apart",
        mutation("readers-refuse-sentence", condition(False)),
    ),
    promise(
        "too few melodies, or over 1 % of the clips silent or clipped",
        "the run stops with counts unless ACCEPT_FEWER; one faulty clip is omitted from its shard",
        "pipeline/build/test_build.py::test_other_settings_and_too_few_melodies_are_refused "
        "::test_too_much_faulty_audio_ends_the_run_with_its_counts "
        "pipeline/build/test_shards.py::test_a_faulty_clip_is_left_out_counted_and_its_neighbours_stay",
        mutation("run-stops-counts-unless", condition(False)),
        mutation("run-stops-counts-unless-2", condition(False)),
    ),
)
