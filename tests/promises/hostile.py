"""Guarantees under failing machines and hostile input."""

from tests.promises.operators import condition, constant, drop, element, rewrite, value, without
from tests.promises.promise import mutation, promise

MACHINES = (
    promise(
        "kill -9 of worker, scheduler or client at random moments",
        "the same command ends with the same bytes",
        "faults/test_kills.py::test_a_killed_process_costs_nothing_but_time ::test_killed_at_twenty_moments "
        "pipeline/build/test_build.py::test_a_worker_killed_in_mid_run_changes_nothing",
    ),
    promise(
        "a file system without flock",
        "locks by files of their holders: the second run is refused, a dead holder's file is removed",
        "data_specs/io/test_locks.py::test_a_lock_is_refused_while_its_process_lives_and_free_once_it_is_killed "
        "::test_shared_holders_agree_and_keep_others_out "
        "::test_a_waiting_process_takes_over_and_no_file_of_a_holder_is_left "
        "::test_without_flock_a_holder_on_another_machine_is_named_with_its_file",
        mutation("locks-without-flock", condition(True)),
        mutation("locks-without-flock-2", condition(True)),
    ),
    promise(
        "no HOME and no entry in the passwd file",
        "a private temporary folder takes its place",
        "data_specs/test_home.py::test_a_private_temporary_folder_takes_the_place_of_a_missing_home "
        "::test_a_folder_that_others_can_write_is_not_taken ::test_downloads_have_a_folder_without_a_home",
        mutation("home-private-folder", condition(False)),
        mutation("home-private-folder-2", condition(True)),
    ),
    promise(
        "a full or read-only disk, a quota",
        "one sentence, from pipeline and trainer; finished files are kept, none is partial",
        "faults/test_disks.py::test_a_disk_that_fills_up_on_the_workers "
        "::test_every_refusal_of_a_disk_is_one_sentence_and_leaves_nothing ::test_an_output_where_nobody_may_write "
        "training/test_checkpoint.py::test_a_full_disk_keeps_what_stands "
        "training/test_log.py::test_a_full_disk_is_one_sentence",
        mutation("sentence-pipeline-trainer-finished", drop()),
    ),
    promise(
        "a shard truncated, or with one bit flipped",
        "named by validate and the reader; the next run rebuilds a truncated shard, and an altered one after it is "
        "deleted",
        "faults/test_disks.py::test_a_truncated_shard_is_found_by_the_next_run "
        "::test_one_flipped_bit_is_named_and_the_shard_made_again_once_it_is_deleted "
        "training/data/test_dataset.py::test_a_truncated_shard_is_refused_at_once",
        mutation("named-validate-reader-truncated", rewrite("and", "{0}")),
    ),
    promise(
        "shapes.txt, clips.parquet or dataset.json altered or lost",
        "rewritten by the next run, shards are kept; an altered dataset.json is named first",
        "faults/test_disks.py::test_what_stands_beside_the_shards_is_written_again "
        "::test_a_repair_that_asks_for_fewer_clips_keeps_those_that_stand",
        mutation("written-again-next-run", rewrite("if-expression", "{body}")),
        mutation("written-again-next-run-2", without(2, "and")),
        mutation("written-again-next-run-3", without(1, "and")),
    ),
    promise(
        "a dataset.json of another spec",
        "refused, naming the key; left unchanged",
        "faults/test_disks.py::test_a_manifest_of_another_spec_is_refused_and_left_alone",
    ),
    promise(
        "a clip or a file that kills every worker",
        "isolated in a child process, named and counted; all others are built",
        "faults/test_poison.py::test_a_clip_that_kills_its_worker_is_left_out_by_name "
        "::test_a_file_that_kills_its_worker_is_left_out_by_name "
        "pipeline/cluster/test_cluster.py::test_a_task_that_kills_its_worker_again_and_again_ends_the_run_by_name",
    ),
    promise(
        "an untrusted host on the network",
        "scheduler, workers and dashboard listen on loopback unless configured otherwise",
        "pipeline/cluster/test_cluster.py::test_only_this_machine_can_reach_scheduler_and_workers "
        "pipeline/cluster/test_slurm.py::test_a_dry_run_prints_the_scripts_and_submits_nothing",
        mutation("scheduler-workers-dashboard-listen", value("[]")),
        mutation("scheduler-workers-dashboard-listen-2", constant("127.0.0.1", "0.0.0.0")),
        mutation("scheduler-workers-dashboard-listen-3", value("'0.0.0.0:0'")),
        mutation("scheduler-workers-dashboard-listen-4", value("'0.0.0.0:0'")),
    ),
)

INPUT = (
    promise(
        "mutated MIDI files (100 000 by `python -m tests.faults.fuzz_midi`, 1 200 and 300 in the suite)",
        "no crash, no hang, no memory past the limit; both readers agree; every file is accounted for",
        "faults/test_fuzz.py::test_mutated_midi_files_cost_nothing "
        "pipeline/midi/test_reader.py::test_mutated_files_are_read_alike_by_both_readers_or_rejected",
    ),
    promise(
        "a MIDI file that hangs the reader, exhausts memory or crashes it",
        "the child is killed, the file retried once alone, then counted as timeout, memory or crash",
        "pipeline/test_sandbox.py::test_what_goes_wrong_is_named_and_the_next_call_works "
        "::test_an_input_is_given_a_second_chance_in_a_fresh_child",
        mutation("child-killed-file-tried", drop()),
    ),
    promise(
        "a MIDI file beyond a limit",
        "rejected by size first, the same on every machine",
        "pipeline/midi/test_reader.py::test_limits_are_exact_and_the_same_for_both_readers",
        mutation("rejected-size-first-same", rewrite(">", "{left} > {right} + 1")),
    ),
    promise(
        "shards with altered lengths, CRCs or fields",
        "only RecordError is raised, and only intact records are returned",
        "data_specs/test_records.py::test_layout_check_finds_any_flipped_bit "
        "faults/test_fuzz.py::test_a_damaged_dataset_raises_only_our_error_and_gives_only_true_clips",
        mutation("only-recorderror-comes-out", condition(False)),
    ),
    promise(
        "a forged dataset.json or shapes.txt: sizes, dtypes, paths out of the folder",
        "only UserError is raised; nothing outside the folder is opened",
        "faults/test_fuzz.py::test_a_manifest_that_lies_raises_only_our_error "
        "::test_a_shard_outside_the_folder_is_not_opened "
        "data_specs/test_dataset.py::test_any_text_as_shapes_raises_only_our_error",
    ),
    promise(
        "archives with absolute paths, `..`, links, devices, bombs",
        "counted and skipped, or one sentence; nothing is written, memory is bounded",
        "pipeline/midi/test_sources.py::test_tricks_are_counted_and_nothing_is_written "
        "::test_bombs_are_refused_in_constant_memory "
        "::test_a_damaged_archive_gives_a_sentence_or_files_and_never_another_error",
    ),
    promise(
        "links, pipes and odd names in a folder",
        "links that leave it are not followed, pipes are not opened, names are escaped and still found",
        "pipeline/midi/test_sources.py::test_links_may_not_leave_the_folder ::test_pipes_are_not_opened "
        "::test_names_that_are_not_utf_8_are_escaped_and_still_found",
    ),
    promise(
        "a malicious pickle as checkpoint, snapshot, codec or embedder weights",
        "no code in it runs",
        "training/test_checkpoint.py::test_a_malicious_pickle_does_not_run "
        "data_specs/codecs/test_encodec_24khz.py::test_code_in_a_weights_file_does_not_run "
        "training/evaluation/embedders/test_vggish.py::test_other_files_are_refused_and_no_code_in_them_runs "
        "data_specs/codecs/test_fitted_codecs.py::test_files_that_are_not_codecs",
        mutation("nothing-runs", constant(True, False)),
        mutation("nothing-runs-2", constant(True, False)),
        mutation("nothing-runs-3", constant(True, False)),
    ),
    promise(
        "a download that is cut short, altered, or of another size",
        "resumed; a file that does not match its digest is removed and never used",
        "data_specs/io/test_download.py::test_cut_connection_is_continued_where_it_broke "
        "::test_wrong_content_is_refused_and_removed ::test_wrong_length_is_refused "
        "pipeline/tools/test_lakh.py::test_a_broken_download_is_resumed_and_every_name_compared_with_its_content "
        "::test_a_mirror_with_another_file_is_refused",
        mutation("continued-broke-match-digest", without(0, "or")),
        mutation("continued-broke-match-digest-2", drop()),
        mutation("continued-broke-match-digest-3", condition(False)),
    ),
    promise(
        "curve files with NaN, wrong order, points outside, nothing, a million points or keys",
        "one sentence that names the error",
        "data_specs/controls/test_curves.py::test_bad_json_is_refused_in_one_sentence "
        "::test_no_text_raises_anything_but_a_sentence ::test_no_value_raises_anything_but_a_sentence "
        "::test_points_beyond_the_clip_and_unknown_instruments_are_refused "
        "faults/test_fuzz.py::test_huge_curve_files_end_soon",
    ),
    promise(
        "specs and configs with unknown keys, wrong types, numbers that are not finite",
        "the error names file, key and expected value",
        "data_specs/test_spec.py::test_faults_are_named_with_file_and_key "
        "training/test_config.py::test_what_is_wrong_is_named "
        "faults/test_fuzz.py::test_mutated_specs_and_configs_raise_only_our_error",
        mutation("file-key-was-expected", constant("forbid", "ignore")),
        mutation("file-key-was-expected-2", constant(False, True)),
        mutation("file-key-was-expected-3", constant(True, False, 1)),
    ),
    promise(
        "names from files on HTML pages",
        "escaped",
        "data_specs/viz/test_page.py::test_every_text_is_escaped_and_tags_are_balanced "
        "pipeline/tools/test_report.py::test_names_that_come_from_files_are_text "
        "training/sampling/test_sampling.py::test_names_of_runs_and_curves_are_text_on_the_page",
        mutation("escaped", rewrite("if-expression", "str({body})")),
        mutation("escaped-2", rewrite("f-string", "Markup({})")),
        mutation("escaped-3", rewrite("call", "Markup({0})")),
        mutation("escaped-4", element(0, "call", "Markup({})")),
    ),
)
