"""What a dataset promises: which clips there are, what is in them, and that the bytes are the same whoever computes."""

from tests.promises.promise import mutation, promise

PLAN = (
    promise(
        "a dataset is cut short",
        "instruments have equal shares in every prefix of the plan",
        "pipeline/melody/test_plan.py::test_instruments_are_equal_in_every_prefix",
        mutation(
            "pipeline/plan/plan.py",
            "instrument = position % len(self.instruments)",
            'instrument = int(row["start_tick"]) % len(self.instruments)',
        ),
    ),
    promise(
        "two performances share an id",
        "an id hangs on source, track, tick, key shift and instrument",
        "pipeline/melody/test_performance.py::test_clip_id_hangs_on_every_part",
        mutation("pipeline/melody/hashing.py", "{start_tick}/{key_shift}/{instrument}", "{start_tick}/{instrument}"),
    ),
    promise(
        "another seed, another order of work",
        "a clip's modulation is a function of (seed, id), its velocities follow the formula and are never 0",
        " "
        "pipeline/melody/test_performance.py::test_modulation_is_uniform_in_log_frequency_and_phase_and_hangs_on_seed_and_id "
        ""
        "::test_velocity_follows_the_formula ::test_velocity_is_never_zero",
        mutation("pipeline/melody/transposition.py", 'f"{seed}/{clip_id}"', 'f"{clip_id}"'),
        mutation("pipeline/melody/transposition.py", "shape(onset / rate) + 0.5)", "shape(onset / rate))"),
        mutation("pipeline/melody/transposition.py", "np.clip(scaled, 1, 127)", "np.clip(scaled, 0, 127)"),
    ),
    promise(
        "notes outside the range",
        "the octave move leaves the fewest outside, the rest is folded, at most a tenth of a clip",
        "pipeline/melody/test_performance.py::test_folding_moves_notes_outside_by_the_fewest_octaves "
        "::test_one_note_of_ten_may_be_folded_two_may_not",
        mutation(
            "pipeline/melody/transposition.py",
            "down = -(-np.maximum(pitch - clip.highest_pitch, 0) // 12)",
            "down = np.maximum(pitch - clip.highest_pitch, 0) // 12",
        ),
        mutation(
            "pipeline/melody/transposition.py", "<= clip.max_folded * len(notes)", "< clip.max_folded * len(notes)"
        ),
    ),
    promise(
        "one song fills a dataset, a phrase returns",
        "a song gives at most its cap of clips; exact repeats are dropped",
        "pipeline/melody/test_plan.py::test_plan_follows_its_rules",
        mutation("pipeline/plan/selection.py", "result[order] = place < cap", "result[order] = place <= cap"),
        mutation(
            "pipeline/plan/selection.py",
            "result[order[1:]] = keys[order[1:]] == keys[order[:-1]]",
            "result[order[1:]] = False",
        ),
    ),
    promise(
        "a tune occurs in train and valid, in another key or tempo",
        "a song's side is the hash of its digest; valid windows that train knows are dropped",
        "pipeline/melody/test_plan.py::test_nothing_of_valid_is_known_from_train ::test_plan_follows_its_rules "
        "pipeline/melody/test_performance.py::test_fingerprint_is_free_of_key_tempo_articulation_and_what_comes_after",
        mutation(
            "pipeline/plan/planning.py",
            'here[valid[block.song] & known.is_known(block.columns["fingerprint"])] = KNOWN',
            "pass",
        ),
        mutation(
            "pipeline/melody/hashing.py",
            "intervals = _steps(notes[:first, PITCH])",
            "intervals = notes[:first, PITCH]",
        ),
        mutation(
            "pipeline/melody/hashing.py",
            "share = mix(words + _STEP)",
            "share = mix(np.arange(len(words), dtype=np.uint64) + _STEP)",
        ),
    ),
    promise(
        "another CLIPS, FORMAT or path of the MIDI",
        "the plan is one order per split, independent of them; an OUT's formats share it",
        "pipeline/melody/test_plan.py::test_order_does_not_hang_on_how_many_are_asked_for "
        "data_specs/test_spec.py::test_the_plan_does_not_depend_on_clips_path_sound_or_storage_but_on_all_else "
        "pipeline/build/test_build.py::test_tensorflow_reads_every_record_and_ids_are_one_performance_in_all_formats",
        mutation("data_specs/spec.py", 'include={"seed", "source",', 'include={"seed", "clips", "source",'),
        mutation("data_specs/spec.py", 'del chosen["source"]["midi"]', "pass"),
    ),
    promise(
        "files come in another order or division, from a folder or an archive",
        "the plan and everything after it are the same",
        "pipeline/melody/test_plan.py::test_the_same_for_any_division_and_order_of_the_files "
        "::test_folder_and_archive_give_the_same_plan",
        mutation(
            "pipeline/plan/selection.py",
            "return np.lexsort((words, turns))",
            "return np.argsort(turns, kind='stable')",
        ),
    ),
    promise(
        "limits or clip settings change",
        "the index is keyed by contents and settings, and made again where they differ",
        "pipeline/melody/test_index.py::test_another_clip_or_limit_is_another_part_and_another_cap_is_not",
        mutation("pipeline/plan/index.py", 'include={"clip", "limits"}', 'include={"clip"}'),
    ),
    promise(
        "a file, track, window or clip is left out",
        "it is counted under a named reason",
        "pipeline/melody/test_index.py::test_every_file_is_accounted_for "
        "pipeline/build/test_build.py::test_every_file_without_a_clip_is_counted",
        mutation("pipeline/plan/index.py", "song.reject(rejected.reason, rejected.detail)", "pass"),
    ),
)

CONTENT = (
    promise(
        "floats decide an edge",
        "note times are integers on the synthesiser's blocks; the renderer refuses others",
        "pipeline/melody/test_melody.py::test_windows_are_as_defined "
        "pipeline/render/test_render.py::test_invalid_notes_are_refused",
        mutation(
            "pipeline/melody/extraction.py",
            "return (units + block // 2 + TIE) // block * SYNTH_BLOCK",
            "return (units + block // 2 + TIE) * SYNTH_BLOCK // block",
        ),
        mutation(
            "pipeline/render/renderer.py",
            "np.all((onset % SYNTH_BLOCK == 0) & (offset % SYNTH_BLOCK == 0))",
            "np.all(onset % SYNTH_BLOCK == 0)",
        ),
    ),
    promise(
        "controls and sound disagree",
        "frame i looks at sample i * hop; onset inclusive, offset exclusive; 0 in rests but for the instrument",
        "data_specs/controls/test_controls.py::test_equals_the_definition "
        "::test_edges_are_onset_inclusive_offset_exclusive_and_frame_1920_is_after_the_end",
        mutation("data_specs/controls/base.py", 'side="right") - 1', 'side="left") - 1'),
        mutation("data_specs/controls/base.py", "samples[sounding] < offset[", "samples[sounding] <= offset["),
        mutation("data_specs/controls/base.py", "dtype=np.int64) * hop", "dtype=np.int64) * hop + hop // 2"),
        mutation(
            "data_specs/controls/instruments.py",
            "one_hot[played.instrument] = 1.0",
            "one_hot[played.instrument] = played.sounding",
        ),
        mutation("data_specs/controls/chroma.py", "played.pitch % 12 / CHROMA_STEPS", "played.pitch % 12 / 12"),
    ),
    promise(
        "a clip is rendered after others, or alone",
        "its bits are the same: a fresh synthesiser a clip",
        "pipeline/render/test_render.py::test_clip_bits_are_independent_of_rendering_order",
        mutation(
            "pipeline/render/renderer.py",
            "synth = self._synth()\n        try:\n            font_id",
            "synth = self._once = getattr(self, '_once', 0) or self._synth()\n        try:\n            font_id",
            '            self._call("delete_fluid_synth", synth)\n        left += right',
            "            pass\n        left += right",
        ),
    ),
    promise(
        "a batch of another size, another number of threads, a GPU's TF32",
        "chunks of a constant size, one thread, full precision in every process that computes",
        "pipeline/build/test_shards.py::test_chunks_are_padded_to_a_constant_size "
        "pipeline/build/test_tasks.py::test_a_worker_computes_on_one_thread_in_full_precision "
        "data_specs/representations/test_cqt.py::test_a_clip_is_the_same_in_any_batch",
        mutation("pipeline/build/shards.py", "np.zeros((chunk, 1,", "np.zeros((len(audio), 1,"),
        mutation("pipeline/build/machine.py", "torch.set_num_threads(1)", "torch.set_num_threads(2)"),
        mutation("pipeline/build/machine.py", "cudnn.allow_tf32 = False", "cudnn.allow_tf32 = True"),
        mutation("data_specs/representations/cqt.py", "audio[:, 0].float().split(1)", "audio[:, 0].float().split(99)"),
    ),
    promise(
        "a clip is encoded beside others, in stretches of time",
        "with EnCodec on a CPU it has the same bits whatever its neighbours, and no seam",
        "data_specs/codecs/test_encodec_24khz.py::test_a_clip_is_the_same_whatever_its_neighbours "
        "::test_stretches_of_time_join_without_a_seam",
        mutation(
            "data_specs/codecs/tiled_encoder.py", "context * layer.stride + layer.context", "context + layer.context"
        ),
        mutation("data_specs/codecs/tiled_encoder.py", "frames.permute(1, 2, 0)", "frames.permute(1, 2, 0).cumsum(0)"),
        mutation("data_specs/codecs/tiled_encoder.py", "x = torch.cat([x[1 : layer", "x = torch.cat([x[: layer"),
    ),
    promise(
        "shards are made in another order",
        "statistics are float64 sums merged in the order of the shards",
        "pipeline/build/test_manifest.py::test_statistics_are_summed_in_the_order_of_the_shards_and_of_train_alone",
        mutation(
            "pipeline/build/manifest.py", "for key in sorted(receipts) if key[0]", "for key in receipts if key[0]"
        ),
        mutation("pipeline/build/manifest.py", 'if key[0] == "train"]', "]"),
    ),
    promise(
        "another number of workers, a worker or scheduler elsewhere, shares",
        "stored bytes are the same",
        "pipeline/build/test_build.py::test_an_archive_one_worker_and_another_order_give_the_same_bytes "
        "::test_shares_and_a_last_call_give_the_same_bytes "
        "::test_local_workers_and_a_scheduler_elsewhere_give_the_same_bytes",
    ),
    promise(
        "another program reads the shards",
        "records are, byte for byte, TensorFlow's deterministic serialisation, with both CRCs",
        "data_specs/test_records.py::test_bytes_are_tensorflows_deterministic_serialisation "
        "::test_framed_file_equals_tensorflows_writer ::test_layout_check_finds_any_flipped_bit",
        mutation("data_specs/records.py", "MASK_DELTA = 0xA282EAD8", "MASK_DELTA = 0xA282EAD9"),
        mutation("data_specs/records.py", 'return name.encode() + b"\\xff"', "return name.encode()"),
        mutation("data_specs/records.py", "if crc and masked_crc(", "if not crc and masked_crc("),
    ),
    promise(
        "channels of very different size, phases that turn",
        "to_model has the target spread, a floor for near-silent channels, one scale for both parts of cqt",
        "data_specs/representations/test_scaling.py::test_standardised_data_has_the_target_spread "
        "::test_near_silent_channels_are_not_blown_up_to_noise "
        "::test_cqt_keeps_zero_and_the_ratio_of_real_to_imaginary_part",
        mutation("data_specs/representations/base.py", "STD_FLOOR * std.max()", "0 * std.max()"),
        mutation(
            "data_specs/representations/base.py",
            "return _companded(unit, self.power) * self.sigma_data",
            "return _companded(unit, self.power)",
        ),
        mutation("data_specs/representations/cqt.py", "return (0, 2)", "return (2,)"),
    ),
)

FINISHING = (
    promise(
        "a dataset grows",
        "shard k holds positions [kS, (k+1)S); full shards stay and are renamed",
        "pipeline/build/test_folder.py::test_tasks_cover_every_position_once_in_shards_that_do_not_move "
        "::test_growing_renames_full_shards_and_rebuilds_the_partial_last_one "
        "pipeline/build/test_build.py::test_growing_keeps_full_shards_and_equals_a_large_build",
        mutation(
            "pipeline/build/shards.py",
            "starts = range(0, clips, shard_clips)",
            "starts = range(0, clips, -(-clips // max(shards, 1)) or 1)",
        ),
        mutation("pipeline/build/folder.py", "file.replace(self.path / task.file)", "todo.append(task)"),
    ),
    promise(
        "the run ends while a file is written",
        "a file appears whole or not at all, the old one stays; dataset.json comes last",
        "data_specs/io/test_files.py::test_a_failed_write_keeps_the_old_file_and_leaves_nothing "
        "pipeline/build/test_folder.py::test_the_manifest_comes_after_everything_else "
        "pipeline/build/test_shards.py::test_an_interrupted_shard_leaves_nothing",
        mutation(
            "data_specs/io/files.py",
            'temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY}")',
            "temporary = path",
        ),
        mutation(
            "pipeline/build/folder.py",
            "        write_bytes(self.path / SHAPES, shapes.encode())\n        write_json(self.manifest, manifest)",
            "        write_json(self.manifest, manifest)\n        write_bytes(self.path / SHAPES, shapes.encode())",
        ),
    ),
    promise(
        "another spec, SoundFont or codec, or other control features, in a folder that stands",
        "refused by the name of the key, nothing is overwritten; FORCE moves aside",
        "pipeline/build/test_folder.py::test_another_key_is_refused_by_name "
        "pipeline/build/test_build.py::test_other_settings_and_too_few_melodies_are_refused "
        "::test_another_soundfont_is_refused ::test_force_moves_aside_and_deletes_nothing "
        "faults/test_disks.py::test_shards_with_other_features_are_refused_and_stay_until_they_are_moved_aside "
        "data_specs/test_spec.py::test_a_format_depends_on_its_own_storage_and_sound_only",
        mutation(
            "pipeline/build/folder.py",
            "if standing is None or value_digest(standing) == value_digest(key):",
            "if True:",
        ),
        mutation("pipeline/build/build.py", '"soundfont": file_sha256(soundfont),', '"soundfont": "",'),
        mutation("pipeline/build/folder.py", "receipt.bytes != receipt.clips * size", "False"),
        mutation("data_specs/spec.py", "if KINDS[name].codes:\n            key", "if True:\n            key"),
    ),
    promise(
        "shards of another kind of machine",
        "refused unless accepted; dataset.json lists both",
        "pipeline/build/test_folder.py::test_shards_of_another_machine_are_refused_until_accepted "
        "pipeline/build/test_build.py::test_a_worker_of_another_kind_that_joins_is_refused",
        mutation("pipeline/build/folder.py", "if receipt.machine != machine and not accept_machine:", "if False:"),
        mutation("pipeline/build/build.py", "if receipt.machine != kind and not accept:", "if False:"),
    ),
    promise(
        "two runs in one OUT",
        "the second is refused by the name of the first, also with FORCE; the lock dies with its process; shares go side "
        "by side",
        "pipeline/build/test_folder.py::test_a_folder_is_held_by_one_build_or_by_several_different_shares "
        "data_specs/io/test_files.py::test_a_lock_is_refused_while_its_process_lives_and_free_once_it_is_killed "
        "faults/test_disks.py::test_the_second_of_two_runs_in_one_folder_is_refused_by_name "
        "pipeline/build/test_build.py::test_force_and_shares_exclude_each_other",
        mutation("data_specs/io/files.py", "fcntl.LOCK_SH if shared else fcntl.LOCK_EX", "fcntl.LOCK_SH"),
        mutation("pipeline/build/build.py", "stack.enter_context(folder.held())  # nobody", "pass  # nobody"),
        mutation("pipeline/build/build.py", "if request.force and request.share is not None:", "if False:"),
    ),
    promise(
        "formats of two plans in one OUT, finished or not",
        "refused: an id is one performance in all formats of a folder",
        "faults/test_disks.py::test_a_sibling_of_another_plan_is_refused_finished_or_not",
        mutation("pipeline/build/build.py", 'standing.get("plan") != key["plan"]', "False"),
    ),
    promise(
        "a shard, or a whole dataset, without a single good clip",
        "finished where fewer are accepted, with an empty shard and no rows in clips.parquet",
        "pipeline/build/test_build.py::test_a_shard_whose_clips_are_all_at_fault_has_no_rows "
        "::test_a_dataset_without_a_single_good_clip_is_finished_where_fewer_are_accepted",
        mutation("pipeline/build/manifest.py", "in filter(None, _batches(", "in filter(repr, _batches("),
    ),
    promise(
        "a dataset of an unknown version, or unfinished",
        "readers refuse it in one sentence",
        "data_specs/test_dataset.py::test_a_bad_manifest_is_one_sentence "
        "::test_unfinished_and_missing_datasets_are_told_apart",
        mutation("data_specs/dataset.py", "if version != FORMAT_VERSION:", "if False:"),
    ),
    promise(
        "too few melodies, or more than a hundredth of the clips silent or clipped",
        "the run stops with counts unless ACCEPT_FEWER; a faulty clip is left out of its shard alone",
        "pipeline/build/test_build.py::test_other_settings_and_too_few_melodies_are_refused "
        "::test_too_much_faulty_audio_ends_the_run_with_its_counts "
        "pipeline/build/test_shards.py::test_a_faulty_clip_is_left_out_counted_and_its_neighbours_stay",
        mutation("pipeline/build/build.py", "if found < asked and not request.accept_fewer:", "if False:"),
        mutation(
            "pipeline/build/build.py", "if faults > MOST_FAULTS * asked and not request.accept_fewer:", "if False:"
        ),
    ),
)
