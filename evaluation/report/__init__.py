"""report.html: what the numbers say, for a person, in one file that opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError
from driving.records import record_name
from driving.whole_files import write_text
from evaluation.asking.predictions import Prediction
from evaluation.planning import Run
from evaluation.report.baselines import render_baselines
from evaluation.report.claims import render_grounding
from evaluation.report.clips import render_clips
from evaluation.report.decoding import render_constrained, render_samples, render_speed
from evaluation.report.examples import ReadFrames, Shown, render_examples
from evaluation.report.failures import render_failures
from evaluation.report.figures import render_learning, render_scatter
from evaluation.report.motion import render_feasibility, render_horizons
from evaluation.report.page import render_page, render_section
from evaluation.report.papers import render_data, render_method
from evaluation.report.sections import render_header, render_metrics, render_tiles
from evaluation.report.strata import render_strata
from evaluation.scoring.answers import Answers
from evaluation.scoring.measure import Measured
from evaluation.scoring.tracks import SPOKEN
from evaluation.scoring.truth import Truth


def write_report(
    path: Path,
    metrics: dict[str, Any],
    measured: Measured,
    truth: Truth,
    answers: Answers,
    predictions: dict[str, Prediction],
    planned: Run,
) -> None:
    """Write the report of one run."""
    errors, reference = measured.columns["model"], metrics["reference"]
    blind = (SPOKEN[reference], measured.baselines[reference])
    shown = Shown(truth, answers, predictions, errors, blind, frame_reader(planned, metrics))
    clips = render_clips(truth.groups, errors, answers.is_parsed)
    parts = [
        render_header(metrics),
        render_tiles(metrics),
        render_grounding(metrics),
        render_baselines(metrics),
        render_scatter(truth, answers, planned.job.seed),
        render_strata(metrics),
        render_section(
            "Best, middle and worst",
            render_examples(shown) + clips,
            "Clips ranked by their mean ADE; of each, the row in the middle. On the last frame that was seen, the "
            "second after it: recorded green, predicted blue. Below it, the first frame and the middle one.",
        ),
        render_horizons(metrics),
        render_feasibility(metrics),
        render_failures(metrics, answers, predictions, truth.ids),
        render_constrained(metrics),
        render_samples(metrics),
        render_learning(planned.checkpoint.log),
        render_metrics(metrics),
        render_speed(metrics),
        render_data(metrics),
        render_method(metrics),
    ]
    write_text(path, render_page(f"Evaluation of {metrics['model_card']['name']}", "\n".join(parts)))


def frame_reader(planned: Run, metrics: dict[str, Any]) -> ReadFrames:
    """Read a row's frames again, as the model saw them (a blind one: as it would have).

    A video that moved away is a note in the report, no error.
    """
    records = {record_name(record): record for record in planned.job.records}
    folders = [Path(metrics["data"]["test_data"]).parent, Path.cwd()]

    def read(name: str) -> np.ndarray:
        from qwenvl.data.dataset import read_clips
        from qwenvl.data.preprocessing import Preprocessing

        stored = planned.checkpoint.preprocessing
        preprocessing = Preprocessing(**{**(stored or {}), "blind": False})
        clips = read_clips(records[name], preprocessing, folders)
        if not clips:
            raise DrivingError(f"{name} has no video")
        return clips[0].frames

    return read
