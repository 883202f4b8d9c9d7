"""What a run will do, decided before a model is loaded: rows, truth, controls, stamps, and what must not be mixed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.answer_format import AnswerFormat
from driving.ego_history import check_track
from driving.errors import DrivingError, RecordError
from driving.records import check_record, record_group, record_name
from driving.row_choice import choose_evenly
from evaluation.agreement import (
    DATASET_NAME,
    check_held_out,
    check_leakage,
    check_papers,
    choose_answer_format,
    read_dataset_facts,
)
from evaluation.asking.controls import alter_records, parse_controls, plan_donors
from evaluation.asking.predictions import Job
from evaluation.checkpoint import Checkpoint, read_checkpoint
from evaluation.scoring.truth import Truth
from evaluation.scoring.truth_table import TRUTH_NAME, TruthTable, read_truth
from qwenvl.train.sampling import Sampling

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions

FORMAT_VERSION = 1  # of metrics.json and the stored predictions


@dataclass(frozen=True)
class Run:
    """Everything decided.

    Attributes:
        job: rows and controls to ask about.
        truth: of the rows that have one, in the job's order.
        train_table: whose train rows give the mean answer.
        dataset: dataset.json.
        stamps: sentences that the report must carry.
        plan: what the answers depend on: with another plan the model must be asked again.
        scored_with: the files of recorded motion, with their hashes: with others the answers are scored again.
        true_answers: the texts that the rows hold as answers.
    """

    job: Job
    truth: Truth
    table: TruthTable
    train_table: TruthTable
    answer_format: AnswerFormat
    dataset: dict[str, Any]
    checkpoint: Checkpoint
    stamps: list[str]
    plan: dict[str, Any]
    scored_with: dict[str, str]
    true_answers: list[str]


def plan_run(options: EvaluateOptions, device: str = "") -> Run:
    """Read everything but weights and video.

    Args:
        device: kind and number format of the machine that will answer; part of the plan.

    Raises:
        DrivingError: Truth, rows or papers are missing or contradict each other, or test recordings were trained on.
    """
    from qwenvl.data.dataset import read_records

    records = read_records(options.test_data)
    _check_unique(records, options.test_data)
    records = [records[row] for row in choose_evenly(records, options.max_samples, options.seed)]
    dataset = read_dataset_facts(options.test_data.parent / DATASET_NAME)
    checkpoint = read_checkpoint(options.model, options.base_model)
    check_papers(checkpoint, force=options.force)
    answer_format = choose_answer_format(dataset, checkpoint, options)
    table = read_truth(options.truth or options.test_data.parent / TRUTH_NAME, answer_format.duration_s)
    train_table = table if options.train_truth is None else read_truth(options.train_truth, answer_format.duration_s)
    truth = table.rows([record_name(record) for record in records])
    if not len(truth):
        raise DrivingError(f"no row of {options.test_data} has recorded motion in {table.path}: nothing can be scored")
    if not truth.num_samples or truth.num_samples % answer_format.num_pairs:
        raise DrivingError(
            f"{table.path} holds {truth.num_samples} samples a row, which {answer_format.num_pairs} pairs do not divide"
            "; give the truth.parquet and dataset.json that were written with the rows"
        )
    train_table.check_train_rows(truth.num_samples)  # the plan names this file: later would be too late for another
    is_one_recording = bool(dataset.get("one_recording"))
    groups = {record_group(record) for record in records}
    stamps = check_leakage(checkpoint, groups, force=options.force, is_one_recording=is_one_recording)
    stamps += check_held_out(truth, table.path, force=options.force)
    if (checkpoint.preprocessing or {}).get("blind"):
        stamps.append("BLIND: trained without pixels and asked without: every frame was plain grey (--blind True)")
    stamps += (
        [] if checkpoint.preprocessing else ["no preprocessing stored with the model: the dataset's rate was used"]
    )
    job = plan_job(options, records, truth, answer_format)
    if "wrong_clip" in parse_controls(options.controls, answer_format.track) and "wrong_clip" not in job.controls:
        stamps.append("all rows are of one clip: there is no wrong clip to show, and no interval over clips")
    plan = _describe(options, checkpoint, truth, job) | {"device": device}
    scored_with = {"truth": table.path.as_posix(), "truth_hash": _hash(table.path)}
    scored_with |= {"train_truth": train_table.path.as_posix(), "train_truth_hash": _hash(train_table.path)}
    answers = [str(record["conversations"][-1]["value"]) for record in records if is_record(record)]
    return Run(job, truth, table, train_table, answer_format, dataset, checkpoint, stamps, plan, scored_with, answers)


def is_record(record: dict[str, Any]) -> bool:
    """Whether a row can be asked about; one that cannot goes to the ledger when its turn comes."""
    try:
        check_record(record)
    except RecordError:
        return False
    return True


def plan_job(options: EvaluateOptions, records: list[dict[str, Any]], truth: Truth, answer_format: AnswerFormat) -> Job:
    """Rows and controls to ask about; only rows with truth are worth a control.

    Raises:
        DrivingError: A control is unknown, or a prompt is not of the track that the answer format names.
    """
    if options.batch_size < 1:
        raise DrivingError(f"--batch-size {options.batch_size} must be at least 1")
    controls = parse_controls(options.controls, answer_format.track)
    labelled = set(truth.ids.tolist())
    known = [record for record in records if record_name(record) in labelled]
    shown = [known[row] for row in choose_evenly(known, options.control_samples, options.seed)] if controls else []
    donors = plan_donors([record_name(row) for row in known], [record_group(row) for row in known], options.seed)
    if not donors:
        controls = tuple(name for name in controls if name != "wrong_clip")
    by_id = {record_name(record): record for record in known}
    whole = {name: record for name, record in by_id.items() if is_record(record)}
    for record in whole.values():
        check_track(record, answer_format)
    tellers = plan_donors(list(whole), [record_group(row) for row in whole.values()], options.seed)
    if not tellers:
        controls = tuple(name for name in controls if name != "wrong_history")
    return Job(
        records=records,
        controls=controls,
        control_ids=frozenset(record_name(record) for record in shown),
        donors={row: by_id[donor] for row, donor in donors.items()} if "wrong_clip" in controls else {},
        seed=options.seed,
        batch_size=options.batch_size,
        altered={control: alter_records(control, whole, tellers, answer_format) for control in controls},
        is_constrained=options.constrained,
        sampling=plan_sampling(options),
    )


def plan_sampling(options: EvaluateOptions) -> Sampling | None:
    """How further answers are drawn; None where none are asked for."""
    if not options.num_samples:
        return None
    return Sampling(options.num_samples, options.temperature, options.top_p, options.seed)


def _describe(options: EvaluateOptions, checkpoint: Checkpoint, truth: Truth, job: Job) -> dict[str, Any]:
    """The recorded numbers are not in it, no question depends on them; which rows have any decides on the controls."""
    dataset_path = options.test_data.parent / DATASET_NAME
    return {
        "tool": "evaluate",
        "format_version": FORMAT_VERSION,
        "model": checkpoint.name,
        "model_fingerprint": checkpoint.fingerprint,
        "base_model": checkpoint.base,
        "test_data": _hash(options.test_data),
        "labelled_rows": hashlib.sha256("\n".join(truth.ids).encode()).hexdigest()[:16],
        "dataset": _hash(dataset_path) if dataset_path.exists() else "none",
        "max_samples": options.max_samples,
        "batch_size": options.batch_size,
        "max_new_tokens": options.max_new_tokens,
        "controls": ",".join(job.controls) or "none",
        "control_samples": options.control_samples,
        "seed": options.seed,
        **_describe_decoding(job),
        "force": options.force,
    }


def _describe_decoding(job: Job) -> dict[str, Any]:
    """Only what is asked for: the plan of a run without is that of an earlier version."""
    described: dict[str, Any] = {"constrained": True} if job.is_constrained else {}
    if job.sampling is not None:
        described |= {"num_samples": job.sampling.num_samples, "temperature": job.sampling.temperature}
        described |= {"top_p": job.sampling.top_p}
    return described


def _check_unique(records: list[dict[str, Any]], path: Path) -> None:
    seen: set[str] = set()
    for record in records:
        name = record_name(record)
        if name in seen:
            raise DrivingError(f"{path} holds the id {name} twice; answers are matched to truth by id")
        seen.add(name)


def _hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
