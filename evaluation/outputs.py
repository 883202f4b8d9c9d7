"""The files of a finished evaluation: predictions in, numbers and report out.

    parts ──write_predictions──▶ predictions.jsonl, control_predictions.jsonl, skipped.jsonl, run.json
          ──finish_run──▶ metrics.json ──▶ report.html ──▶ manifest.json

`finish_run` reads what was written, so that a finished run can be scored again without asking the model again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, Output, Skip, check_bad_fraction, read_ledger, write_ledger
from driving.whole_files import dump_json, write_atomically, write_json
from evaluation.asking.predict import PARTS_NAME
from evaluation.asking.predictions import PLAIN, Prediction
from evaluation.frame_baseline import CACHE_NAME, answer_from_frames
from evaluation.planning import Run
from evaluation.run_card import describe_run
from evaluation.scoring.answers import Answers, judge_predictions, parse_text
from evaluation.scoring.baselines import predict_baselines
from evaluation.scoring.decoding import measure_decodings, measure_speed
from evaluation.scoring.frame_motion import FrameMotion
from evaluation.scoring.measure import ControlAnswers, Measured, measure
from evaluation.scoring.row_scores import ROW_SCORES_NAME, write_row_scores
from evaluation.scoring.skill import judge_gate
from evaluation.scoring.statistics import Bootstrap
from evaluation.scoring.tracks import SPOKEN, build_control_fallback, build_fallback
from evaluation.scoring.truth import Truth

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions

PREDICTIONS_NAME = "predictions.jsonl"
CONTROLS_NAME = "control_predictions.jsonl"
METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
RUN_NAME = "run.json"
ANSWER_FILES = (LEDGER_NAME, PREDICTIONS_NAME, CONTROLS_NAME, RUN_NAME)


def write_predictions(
    folder: Path,
    predictions: Sequence[Prediction],
    skips: Sequence[Skip],
    planned: Run,
    facts: dict[str, Any],
    max_bad_fraction: float,
) -> None:
    """Write what came back from the model, parsed but not yet scored.

    Raises:
        LedgerError: More rows could not be asked than the user allows.
    """
    write_ledger(folder / LEDGER_NAME, skips)
    num_bad = count_bad_rows(skips)
    check_bad_fraction(num_bad, len(planned.job.records), max_bad_fraction, folder / LEDGER_NAME)
    labelled = set(planned.truth.ids.tolist())
    for name, wanted in ((PREDICTIONS_NAME, True), (CONTROLS_NAME, False)):
        with write_atomically(folder / name, "w") as handle:
            for prediction in predictions:
                if (prediction.control == PLAIN) == wanted:
                    handle.write(dump_json(_prediction_line(prediction, planned, labelled)) + "\n")
    write_json(folder / RUN_NAME, facts)


def has_answers(folder: Path) -> bool:
    """Whether all rows were asked and their answers stored, so that they only have to be scored."""
    return all((folder / name).exists() for name in ANSWER_FILES) and not (folder / PARTS_NAME).exists()


def count_bad_rows(skips: Sequence[Skip]) -> int:
    """Rows that could not be asked at all; a control that could not be shown is in the ledger too, but not here."""
    return len({skip.id for skip in skips if not skip.stage.startswith("control")})


def _prediction_line(prediction: Prediction, planned: Run, labelled: set[str]) -> dict[str, Any]:
    parsed = parse_text(prediction.text, planned.answer_format)
    pairs = None if parsed.trajectory is None else parsed.trajectory.to_pairs().tolist()
    judged = {"parsing": parsed.parsing, "error": parsed.error, "pairs": pairs, "is_scored": prediction.id in labelled}
    return {**dataclasses.asdict(prediction), **judged}


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions back; what was judged about them is judged again."""
    names = [field.name for field in dataclasses.fields(Prediction)]
    return [Prediction(**{name: entry[name] for name in names if name in entry}) for entry in _read_lines(path)]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as handle:
            for line in handle:
                yield json.loads(line)
    except FileNotFoundError:
        raise DrivingError(f"{path} is missing; run without --rescore to ask the model again") from None


def finish_run(output: Output, planned: Run, options: EvaluateOptions, timing: dict[str, float]) -> dict[str, Any]:
    """Score the stored predictions, write metrics.json and report.html, and mark the folder complete."""
    from evaluation.report import write_report

    folder = output.folder
    predictions = {entry.id: entry for entry in read_predictions(folder / PREDICTIONS_NAME)}
    altered = read_predictions(folder / CONTROLS_NAME)
    scored = np.array([row for row, name in enumerate(planned.truth.ids) if name in predictions], dtype=np.int64)
    if not len(scored):
        raise DrivingError(f"no row was answered; see {folder / LEDGER_NAME}")
    truth = planned.truth.take(scored)
    frames = None
    if options.frame_baseline:
        started = time.monotonic()
        frames = answer_from_frames(folder, planned, truth, options)
        timing = {**timing, "frame_baseline_s": round(time.monotonic() - started, 1)}
    measured, answers = score_stored(planned, truth, predictions, altered, options, frames)
    facts = json.loads((folder / RUN_NAME).read_text(encoding="utf-8"))
    skips = read_ledger(folder / LEDGER_NAME)
    metrics = {
        **measured.metrics,
        "rows": {
            **measured.metrics["rows"],
            "num_asked": len(planned.job.records),
            "num_skipped": count_bad_rows(skips),
            "num_unlabelled": len(planned.job.records) - len(planned.truth),
        },
        "speed": measure_speed(facts.get("speed", {}), planned.job.batch_size),
        **describe_run(planned, truth, facts, list(predictions.values()), options),
    }
    metrics["gate"] = judge_gate(metrics, options.require_beat)
    write_json(folder / METRICS_NAME, metrics)
    write_row_scores(folder / ROW_SCORES_NAME, truth, answers, measured.columns["model"])
    write_report(folder / REPORT_NAME, metrics, measured, truth, answers, predictions, planned)
    files = [*ANSWER_FILES, METRICS_NAME, ROW_SCORES_NAME, REPORT_NAME]
    if (folder / CACHE_NAME).exists():
        files.append(CACHE_NAME)
    output.finish({"timing": timing, "num_scored": len(truth)}, files)
    return metrics


def score_stored(
    planned: Run,
    truth: Truth,
    predictions: dict[str, Prediction],
    altered: Sequence[Prediction],
    options: EvaluateOptions,
    frames: FrameMotion | None = None,
) -> tuple[Measured, Answers]:
    """Parse and measure the model's answers and those under each control."""
    train_labels = planned.train_table.train_labels()
    seen = None if frames is None else frames.motion
    baselines = predict_baselines(truth, train_labels, planned.answer_format, seen)
    fallback = build_fallback(truth, baselines, planned.answer_format)
    asked = [predictions[name] for name in truth.ids]
    answers = judge_predictions(asked, planned.answer_format, fallback)
    place = {name: row for row, name in enumerate(truth.ids)}
    controls = {}
    for control in planned.job.controls:
        shown = [entry for entry in altered if entry.control == control and entry.id in place]
        rows = np.array([place[entry.id] for entry in shown], dtype=np.int64)
        if len(rows):
            told = fallback[0][rows], fallback[1][rows]
            if changed := planned.job.altered.get(control):
                blind = tuple(part[rows] for part in baselines["train_mean"])
                as_asked = [changed[entry.id] for entry in shown]
                told = build_control_fallback(truth.take(rows), as_asked, blind, planned.answer_format)
            controls[control] = ControlAnswers(rows, judge_predictions(shown, planned.answer_format, told))
    track = planned.answer_format.track
    measured = measure(
        truth, answers, controls, baselines, track=track, num_resamples=options.bootstrap, seed=options.seed
    )
    bootstrap = Bootstrap(truth.groups, options.bootstrap, options.seed)
    if frames is not None:
        measured.metrics["frame_motion"] = frames.facts
    measured.metrics.update(
        measure_decodings(planned, truth, asked, altered, answers, measured, fallback, train_labels, bootstrap)
    )
    return measured, answers


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a finished run."""
    return json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))


def summarise_run(metrics: dict[str, Any], folder: Path) -> str:
    """The last line of output."""
    rows, model, reference = metrics["rows"], metrics["model"], metrics["reference"]
    parts = [f"{rows['num_scored']:,} answers of {rows['num_clips']:,} clips"]
    for name, unit in (("velocity_mae_mps", "m/s speed"), ("ade_m", "m ADE")):
        ours, theirs = model[name]["value"], metrics["baselines"][reference][name]["value"]
        parts.append(f"{ours:.2f} {unit} ({SPOKEN[reference]} {theirs:.2f})")
    if unlabelled := rows["num_unlabelled"]:
        parts[0] += f" ({unlabelled:,} more without recorded motion, not scored)"
    counts = metrics["parsing"]["counts"]
    cut = f" ({counts['cut']:,} cut at the token limit)" if counts["cut"] else ""
    parts.append(f"{counts['failed']:,} failed to parse{cut}, {rows['num_skipped']:,} skipped (see {LEDGER_NAME})")
    return f"{', '.join(parts)}; {folder / REPORT_NAME}"
