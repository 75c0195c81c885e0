"""Guarantees of datasets of recordings and of their measurement."""

from tests.promises.operators import condition, drop, rewrite, unwrap, value
from tests.promises.promise import mutation, promise

RECORDINGS = (
    promise(
        "a recording is truncated, silent, clipped, too short, no audio, or there twice",
        "it is left out and counted under its reason; all other sound becomes clips",
        "pipeline/recordings/test_dataset.py::test_every_file_is_a_clip_or_a_counted_reject "
        "pipeline/recordings/test_activity.py::test_short_and_clipped_events_are_rejected",
        mutation("recording-reject-counted", drop()),
        mutation("recording-clipped", value("None")),
    ),
    promise(
        "takes of one session, or copies at another rate, gain or encoding",
        "files of a group are in one split; a valid event with a near-duplicate in train is dropped",
        "pipeline/recordings/test_dataset.py::test_a_group_is_in_one_split ::test_copies_in_another_group_do_not_leak",
        mutation("recording-group-one-side", rewrite("call", "{1}")),
        mutation("recording-near-duplicate", drop()),
    ),
    promise(
        "a dataset of recordings grows, or its build is cut short",
        "its shards are those of one uninterrupted build",
        "pipeline/recordings/test_dataset.py::test_a_grown_and_repaired_dataset_has_the_same_shards",
    ),
    promise(
        "stored events are missing or cut off",
        "the build ends with one sentence that names the file",
        "pipeline/recordings/test_store.py::test_a_missing_or_damaged_store_is_refused",
        mutation("recording-store-damaged", condition(False)),
    ),
    promise(
        "controls are measured at any hop",
        "descriptors are centred on their frames and stored in their units; silence is a rest",
        "data_specs/analysis/test_descriptors.py::test_every_descriptor_is_centred_on_its_frame "
        "pipeline/recordings/test_dataset.py::test_a_clip_is_the_recording_with_measured_controls",
        mutation("descriptor-centred", rewrite("//", "0")),
        mutation("measured-control-units", unwrap(1)),
    ),
    promise(
        "labels of a dataset are in another order than those of model or classifier, or unknown to them",
        "they are matched by name; what cannot be measured is reported, a model that lacks one is refused",
        "training/evaluation/embedders/test_classifier.py::test_labels_of_a_dataset_are_matched_by_name "
        "training/evaluation/test_evaluate.py::test_rows_of_instruments_are_matched_by_name "
        "::test_labels_unknown_to_the_classifier_are_left_unmeasured_and_reported "
        "::test_a_model_must_know_the_instruments_of_the_dataset",
        mutation("labels-classifier-by-name", rewrite("call", "0")),
        mutation("labels-model-by-name", rewrite("call", "0", 1)),
    ),
)
