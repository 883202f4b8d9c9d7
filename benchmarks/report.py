"""Size of report.html, and how long a browser takes to load it, for an evaluation of two thousand clips.

    drawn truth, answers and video ──evaluation.evaluate──▶ report.html ──headless Chromium──▶ load event

`uv run python -m benchmarks.report [--json FILE]` makes its own input and prints one JSON object as its last line:

    megabytes        of report.html, 10^6 bytes; the whole report: nothing else is loaded
    load_s           from navigation to the load event in a headless Chromium, the median over the rounds
    worst_load_s     the slowest round
    elements         in the document
    comparison       the same of comparison.html, for two such runs

The frames are noise in part, which a JPEG cannot make small. Nothing here is real driving: motions are random walks.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.browser import describe_browser, open_page
from benchmarks.measuring import build_parser, describe_processor, print_numbers
from benchmarks.score import NUM_SAMPLES, write_input

HEIGHT, WIDTH, FPS = 256, 448, 30
NUM_LOG_LINES = 5000
COUNT_ELEMENTS = "doc.getElementsByTagName('*').length"


class Clip(NamedTuple):
    """What stands for a decoded clip where nobody looks at it."""

    frames: np.ndarray
    fps: float


class DrawnAnswers:
    """An engine that answers with the truth and noise, and sometimes with words."""

    max_new_tokens = 512

    def __init__(self, targets: dict[str, np.ndarray], seed: int) -> None:
        from driving.answer_format import AnswerFormat

        self.targets, self.rng = targets, np.random.default_rng(seed)
        self.answer_format = AnswerFormat(num_pairs=NUM_SAMPLES)

    def read(self, record: dict[str, Any]) -> list[Clip]:
        return [Clip(np.zeros((2, 2, 2, 3), np.uint8), FPS)]

    def prepare(self, record: dict[str, Any], clips: list[Clip]) -> str:
        return record["id"]

    def generate(self, samples: Sequence[str]) -> list[Any]:
        from driving.answer_format import format_answer
        from driving.trajectory import Trajectory
        from qwenvl.train.generation import Generated

        answers = []
        for name in samples:
            noise = self.rng.normal(0, 1, 2) * (1.0, 0.003)
            text = format_answer(Trajectory.from_pairs(self.targets[name] + noise), self.answer_format)
            text = "The road is clear. " * 60 if self.rng.random() < 0.01 else text
            answers.append(Generated(text, 400, False, 1800))
        return answers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("report", __doc__)
    parser.add_argument("--clips", type=int, default=2000, help="clips in the report")
    parser.add_argument("--rows", type=int, default=5, help="rows of each clip")
    parser.add_argument("--rounds", type=int, default=5, help="times that each page is loaded")
    parser.add_argument("--resamples", type=int, default=2000, help="of the clips")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        numbers = measure(Path(folder), args.clips, args.rows, args.rounds, args.resamples)
    print_numbers(numbers, args.json)
    return 0


def measure(folder: Path, num_clips: int, rows_a_clip: int, rounds: int, num_resamples: int) -> dict[str, Any]:
    """Make two evaluations and their comparison, and load both kinds of page.

    Raises:
        RuntimeError: There is no browser.
    """
    from evaluation.comparing.tool import CompareOptions
    from evaluation.comparing.tool import run as compare

    browser = describe_browser()
    write_dataset(folder / "data", num_clips, rows_a_clip)
    runs = [evaluate(folder, name, seed, num_resamples) for seed, name in enumerate("ab")]
    page = folder / "comparison.html"
    compare(CompareOptions(*runs, out=page, bootstrap=num_resamples))
    return {
        **load(runs[0] / "report.html", rounds),
        "comparison": load(page, rounds),
        "clips": num_clips,
        "rows": num_clips * rows_a_clip,
        "frame": [HEIGHT, WIDTH],
        "browser": browser,
        "machine": describe_processor(),
    }


def load(page: Path, rounds: int) -> dict[str, Any]:
    """Size of a page, and seconds to its load event."""
    seen = [open_page(page, COUNT_ELEMENTS) for _ in range(rounds)]
    seconds = [round(one.load_ms / 1000, 3) for one in seen]
    return {
        "megabytes": round(page.stat().st_size / 1e6, 3),
        "load_s": round(statistics.median(seconds), 3),
        "worst_load_s": max(seconds),
        "elements": seen[0].value,
        "runs": seconds,
    }


def write_dataset(folder: Path, num_clips: int, rows_a_clip: int) -> None:
    """truth.parquet, test.json, dataset.json and the one video that all rows share."""
    from driving.answer_format import AnswerFormat

    num_rows = num_clips * rows_a_clip
    write_input(folder, num_rows, max(200, num_rows // 4), rows_a_clip)
    answer_format = AnswerFormat(num_pairs=NUM_SAMPLES)
    turns = [{"from": "human", "value": f"<video>\n{answer_format.question}"}, {"from": "gpt", "value": "[]"}]
    records = [
        {"id": f"row{row}", "group": f"clip{row // rows_a_clip}", "video": "clip.mp4", "conversations": turns}
        for row in range(num_rows)
    ]
    (folder / "test.json").write_text(json.dumps(records), encoding="utf-8")
    facts = {"answer_format": answer_format.to_json(), "fps": FPS, "duration_s": 1.0}
    (folder / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    write_clip(folder / "clip.mp4")
    write_model(folder / "model", answer_format.to_json())


def write_clip(path: Path) -> None:
    """A second of a grey road under noise."""
    from video_io.encode import write_video

    rng = np.random.default_rng(0)
    shade = np.linspace(200, 60, HEIGHT)[:, None, None] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    frames = (np.clip(np.roll(shade, shift, axis=1), 0, 255).astype(np.uint8) for shift in range(FPS))
    write_video(path, frames, FPS)


def write_model(folder: Path, answer_format: dict[str, Any]) -> None:
    """A model's papers, with a training log of some length."""
    folder.mkdir()
    stored = {"video_fps": float(FPS), "answer_format": answer_format}
    (folder / "preprocessing.json").write_text(json.dumps(stored), encoding="utf-8")
    (folder / "training_groups.json").write_text("[]", encoding="utf-8")
    steps = range(10, 10 * NUM_LOG_LINES + 10, 10)
    losses = ((step, 2 / (1 + step / 900)) for step in steps)
    lines = [json.dumps({"step": step, "loss": loss, "eval_loss": 1.1 * loss}) for step, loss in losses]
    (folder / "training_log.jsonl").write_text("\n".join(lines), encoding="utf-8")


def evaluate(folder: Path, name: str, seed: int, num_resamples: int) -> Path:
    """One evaluation with drawn answers; returns its folder."""
    from evaluation.evaluate import EvaluateOptions, run

    data = folder / "data"
    options = EvaluateOptions(
        model=str(data / "model"),
        test_data=data / "test.json",
        output_dir=folder / name,
        bootstrap=num_resamples,
        batch_size=500,
    )
    num_rows = len(json.loads((data / "test.json").read_text(encoding="utf-8")))
    targets = read_targets(data / "truth.parquet", num_rows)
    facts = {"model": {"device": "none"}, "max_new_tokens": DrawnAnswers.max_new_tokens}
    run(options, lambda planned, asked: (DrawnAnswers(targets, seed), facts))
    return folder / name


def read_targets(path: Path, num_rows: int) -> dict[str, np.ndarray]:
    """The true answers of the test rows, (NUM_SAMPLES, 2) each."""
    from evaluation.scoring.truth_table import read_truth

    truth = read_truth(path, 1.0).rows([f"row{row}" for row in range(num_rows)])
    pairs = np.stack([truth.velocity_mps, truth.curvature_per_m], axis=-1)
    return dict(zip(truth.ids.tolist(), pairs, strict=True))


if __name__ == "__main__":
    sys.exit(main())
