"""Whether model, data and recorded motion belong together, and the rows were held out: looked at before any question.

checkpoint ──check_papers, check_leakage──┐
truth      ──check_held_out───────────────┴▶ stamps that the report must carry, or DrivingError without --force
dataset.json, checkpoint ──choose_answer_format──▶ the format that was taught and is asked for
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.answer_format import AnswerFormat
from driving.ego_history import explain_other_track
from driving.errors import DrivingError
from driving.whole_files import read_json
from evaluation.checkpoint import GROUPS_NAME, Checkpoint
from evaluation.scoring.truth import Truth

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions

DATASET_NAME = "dataset.json"


def check_papers(checkpoint: Checkpoint, *, force: bool) -> None:
    """Refuse a trained model that does not say which frames it was taught with; one as it comes has no such paper.

    Raises:
        DrivingError: There is no preprocessing.json and `force` is off, or the model is neither here nor to be had.
    """
    if not checkpoint.is_local:
        from qwenvl.train.hub import check_findable

        check_findable(checkpoint.name)
    is_trained = checkpoint.base or checkpoint.groups is not None
    if is_trained and checkpoint.preprocessing is None and not force:
        what = "an adapter" if checkpoint.base else "a trained model"
        raise DrivingError(
            f"{checkpoint.name} is {what} without preprocessing.json: it does not say which frames it was taught "
            "with; take the file from the training run, or pass --force (the report will say so)"
        )


def check_leakage(checkpoint: Checkpoint, groups: set[str], *, force: bool, is_one_recording: bool) -> list[str]:
    """Refuse test rows of recordings that the model was trained on; returns the stamps that the report must carry.

    A dataset split in time within one recording shares its group by its own declaration: stamped, not refused.

    Raises:
        DrivingError: Groups are shared and `force` is off.
    """
    stamps = []
    if is_one_recording:
        stamps.append("one recording: split in time, so train and test show the same road, car and light")
    if checkpoint.groups is None:
        stamps.append("the checkpoint does not say what it was trained on: leakage could not be checked")
        return stamps
    shared = sorted(groups & checkpoint.groups)
    if not shared or is_one_recording:
        return stamps
    if not force:
        raise DrivingError(
            f"{len(shared)} of {len(groups)} test recordings were trained on ({shared[0]}, ...) according to "
            f"{checkpoint.name}/{GROUPS_NAME}; evaluate on held-out data, or pass --force (the report will say so)"
        )
    return [*stamps, f"LEAKAGE: {len(shared)} of {len(groups)} test recordings were trained on (--force)"]


def check_held_out(truth: Truth, path: Path, *, force: bool) -> list[str]:
    """Refuse rows that are training rows by their own truth, whatever the recordings; returns stamps.

    Forced ones are stamped, and rows of the val split, by which a training run chooses its best checkpoint.

    Raises:
        DrivingError: There are such rows and `force` is off.
    """
    splits = [fact["split"] for fact in truth.facts]
    trained = [name for name, split in zip(truth.ids, splits, strict=True) if split == "train"]
    num_val = splits.count("val")
    stamps = []
    if num_val:
        stamps.append(
            f"{num_val} of {len(truth)} rows are of the val split, by which a checkpoint may have been chosen"
        )
    if not trained:
        return stamps
    if not force:
        raise DrivingError(
            f"{len(trained)} of {len(truth)} rows are of the train split ({trained[0]}, ...) according to {path}; "
            "evaluate on test.json, or pass --force (the report will say so)"
        )
    return [*stamps, f"LEAKAGE: {len(trained)} of {len(truth)} rows are training rows of their dataset (--force)"]


def read_dataset_facts(path: Path) -> dict[str, Any]:
    """dataset.json: answer format, rates, sources; {} where there is none.

    Raises:
        DrivingError: It is not a JSON object.
    """
    if not path.exists():
        return {}
    facts = read_json(path, "run convert_to_training_format.py again")
    if not isinstance(facts, dict):
        raise DrivingError(f"{path} holds no JSON object; run convert_to_training_format.py again")
    return facts


def choose_answer_format(dataset: dict[str, Any], checkpoint: Checkpoint, options: EvaluateOptions) -> AnswerFormat:
    """The format that the rows ask for, which must be the one that the model was taught.

    Raises:
        DrivingError: Neither the data nor the model says, they disagree and `force` is off, or are of two tracks.
    """
    asked = dataset.get("answer_format")
    if asked is not None and not isinstance(asked, dict):
        raise DrivingError(
            f"{options.test_data.parent / DATASET_NAME} holds {asked!r:.80} for an answer format; run "
            "convert_to_training_format.py again"
        )
    taught = (checkpoint.preprocessing or {}).get("answer_format")
    if asked is None and taught is None:
        raise DrivingError(
            f"neither {options.test_data.parent / DATASET_NAME} nor {checkpoint.name}/preprocessing.json says in which "
            "format answers are given; run convert_to_training_format.py again"
        )
    if asked is not None and taught is not None:
        other = explain_other_track(str(options.test_data), asked, checkpoint.name, taught)
        if other:
            raise DrivingError(f"{other}, whose scores are never mixed; evaluate on data of the model's own track")
    if asked is not None and taught is not None and asked != taught and not options.force:
        key = next(key for key in [*asked, *taught] if asked.get(key) != taught.get(key))
        raise DrivingError(
            f"{options.test_data} asks for {key} = {asked.get(key)!r}, {checkpoint.name} was taught "
            f"{taught.get(key)!r}; "
            "evaluate on data of the format it was trained on, or pass --force"
        )
    return AnswerFormat.from_json(asked if asked is not None else taught)


def is_synthetic(dataset: dict[str, Any], truth: Truth) -> bool:
    """Whether the data says that it was drawn, not recorded."""
    if dataset.get("synthetic"):
        return True
    named = [str(dataset.get("source", "")), *map(str, dataset.get("sources", ()))]
    named += [str(fact.get("source", "")) for fact in truth.facts] + [
        str(fact.get("platform", "")) for fact in truth.facts
    ]
    return any("synthetic" in name.lower() for name in named)
