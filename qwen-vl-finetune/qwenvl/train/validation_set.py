"""The held-out rows of a run: all of them for the loss, some of them to be answered. Chosen once, before any weight.

val.json ──load_rows──▶ rows ──▶ samples with their answers (loss)
                          └─choose_evenly─▶ prompts, true answers, format (generation)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from driving.answer_format import AnswerFormat
from driving.ego_history import explain_other_track
from driving.errors import DrivingError
from driving.ledger import Skip
from driving.row_choice import choose_evenly
from qwenvl.data import DatasetUse
from qwenvl.data.dataset import DrivingDataset
from qwenvl.data.held_out import find_validation
from qwenvl.data.rows import Rows, load_rows
from qwenvl.data.stream import read_any_records
from qwenvl.data.stream_index import load_shards
from qwenvl.data.stream_rows import find_shards
from qwenvl.train.answer_scores import MOTION_METRICS, TEXT_METRICS
from qwenvl.train.argument import TrainPlan
from qwenvl.train.checkpoints import hash_file
from qwenvl.train.generation import choose_max_new_tokens


@dataclass(frozen=True)
class ValidationSet:
    """What a model is judged on.

    Attributes:
        samples: every usable row, with its answer.
        prompts: the rows that are answered, without it.
        truths: their true answers.
        formats: and formats, None where an answer is free text.
        max_new_tokens: of an answer.
        identity: 16 hex digits that change when two evaluations cannot be compared.
        skips: rows that cannot be used.
        num_shared_groups: recordings that are also trained on.
        num_groups: recordings in all.
    """

    samples: DrivingDataset
    prompts: DrivingDataset
    truths: list[str]
    formats: list[AnswerFormat | None]
    max_new_tokens: int
    identity: str
    skips: list[Skip]
    num_shared_groups: int
    num_groups: int

    @property
    def metrics(self) -> dict[str, bool]:
        """What can be measured, under the names of the log, and whether more of it is better."""
        known = {"loss": False}
        if any(answer_format is not None for answer_format in self.formats):
            known |= MOTION_METRICS
        if any(answer_format is None for answer_format in self.formats):
            known |= TEXT_METRICS
        return {f"eval_{name}": is_better for name, is_better in known.items()}


def build_validation_set(
    plan: TrainPlan, training: Sequence[DatasetUse], training_rows: Rows, dataset: DrivingDataset
) -> ValidationSet:
    """Read the held-out rows and choose those that are answered.

    Args:
        dataset: of the training rows; the same processor, frame size and decoder are used.

    Raises:
        DrivingError: There are no such rows, they ask for another format, or cannot give the metric asked for.
    """
    uses = find_validation(training, plan.data.eval_dataset_use)
    rows = load_rows(uses, plan.run.seed, check_files=not plan.data.prepared_dir, weighted=False, read=read_any_records)
    if training_rows.answer_format and rows.answer_format and training_rows.answer_format != rows.answer_format:
        other = explain_other_track("training", training_rows.answer_format, uses[0].name, rows.answer_format)
        if other:
            raise DrivingError(f"{other}; evaluate on rows of the track that is trained")
        raise DrivingError(
            f"{uses[0].name} asks for answers as {rows.answer_format}, the training rows as "
            f"{training_rows.answer_format}; make both with one ./convert_to_training_format.py"
        )
    chosen = choose_evenly(rows.records, plan.run.eval_samples, plan.run.seed) if plan.run.eval_samples else []
    truths = [str(rows.records[row]["conversations"][-1]["value"]) for row in chosen]
    answer_format = AnswerFormat.from_json(rows.answer_format) if rows.answer_format else None
    formats = [answer_format if rows.names[row] in rows.names_with_format else None for row in chosen]
    tokenizer = dataset.processor.tokenizer
    shared = set(rows.groups).intersection(training_rows.groups)
    validation_set = ValidationSet(
        samples=_take(rows, range(len(rows.records)), dataset, with_answer=True),
        prompts=_take(rows, chosen, dataset, with_answer=False),
        truths=truths,
        formats=formats,
        max_new_tokens=choose_max_new_tokens(truths, tokenizer) if truths else 0,
        identity=_identify(uses, plan),
        skips=list(rows.skips),
        num_shared_groups=len(shared),
        num_groups=len(rows.groups),
    )
    metric = plan.run.metric_for_best_model
    if metric not in validation_set.metrics:
        raise DrivingError(
            f"--metric_for_best_model {metric} cannot be taken on {uses[0].name}; "
            f"there are {', '.join(validation_set.metrics)}"
        )
    return validation_set


def _take(rows: Rows, places: Sequence[int], dataset: DrivingDataset, *, with_answer: bool) -> DrivingDataset:
    taken = DrivingDataset(
        [rows.records[place] for place in places],
        [rows.folders[place] for place in places],
        dataset.processor,
        dataset.preprocessing,
        dataset.model_max_length,
        guard=dataset.guard,
        with_answer=with_answer,
    )
    if dataset.prepared is not None:
        taken.use_prepared(dataset.prepared)
    return taken


def _identify(uses: Sequence[DatasetUse], plan: TrainPlan) -> str:
    facts = [[(_hash_rows(use), use.percent) for use in uses], plan.run.seed, plan.run.eval_samples]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _hash_rows(use: DatasetUse) -> str:
    shards = find_shards(use.annotation_path)
    return "".join(shard.digest for shard in load_shards(shards)) if shards else hash_file(use.annotation_path)


def describe_validation_set(validation_set: ValidationSet, plan: TrainPlan) -> list[str]:
    """Lines for the plan: what is evaluated, how often, and what is odd about it."""
    run = plan.run
    often = "every epoch" if run.eval_strategy == "epoch" else f"every {run.eval_steps:g} steps"
    if run.eval_strategy == "steps" and run.eval_steps < 1:
        often = f"every {run.eval_steps:.1%} of the steps"
    lines = [f"evaluation       {often}: loss of {len(validation_set.samples):,} rows"]
    if validation_set.truths:
        lines[0] += (
            f", {len(validation_set.truths):,} answers of at most {validation_set.max_new_tokens:,} tokens; "
            f"the best checkpoint by {run.metric_for_best_model}"
        )
    if validation_set.skips:
        first = validation_set.skips[0]
        lines.append(f"note             {len(validation_set.skips):,} rows cannot be used; {first.id}: {first.reason}")
    if validation_set.num_shared_groups:
        lines.append(
            f"WARNING          {validation_set.num_shared_groups:,} of {validation_set.num_groups:,} recordings "
            "evaluated on are also trained on: what is learnt by heart looks good there"
        )
    return lines
