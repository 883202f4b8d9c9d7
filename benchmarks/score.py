"""Seconds to score stored predictions: every metric, baseline, stratum and interval of metrics.json.

    drawn truth.parquet, predictions.jsonl ──(read, parse, fit baselines, measure, resample)──▶ metrics.json

`uv run python -m benchmarks.score [--json FILE]` makes its own input and prints one JSON object as its last line:

    score_s          from files to metrics.json, median over the rounds, with baselines fitted to the training rows, all
                     strata and 2,000 resamples of the clips behind every interval; no model, no report
    cpu_s            the same in processor seconds of all threads
    parts_s          read (both files), baselines, parse, measure, write
    worst_score_s    the same where every row is a clip of its own: nineteen times as many clips to draw

Python's imports are not counted (`import_s`). Nothing here is real driving: the motions are random walks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import build_parser, describe_processor, describe_versions, print_numbers

if TYPE_CHECKING:
    import numpy as np

NUM_SAMPLES = 30
ROWS_A_CLIP = 19
FAILED_SHARE = 0.01
COUNTRIES = ("Germany", "Italy", "Sweden", "United States")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("score", __doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="stored predictions")
    parser.add_argument("--train-rows", type=int, default=20_000, help="training rows in truth.parquet")
    parser.add_argument("--resamples", type=int, default=2000, help="of the clips")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--threads", type=int, default=2, help="of the matrix products")
    args = parser.parse_args(argv)
    os.environ.update({"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)})
    with tempfile.TemporaryDirectory() as folder:
        numbers = run_rounds(Path(folder), args)
    print_numbers(numbers, args.json)
    return 0


def run_rounds(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Score the usual and the worst clustering in turn."""
    started_s = time.perf_counter()
    import evaluation.outputs  # noqa: F401  what scoring imports

    import_s = time.perf_counter() - started_s
    shapes = {"usual": ROWS_A_CLIP, "worst": 1}
    for name, rows_a_clip in shapes.items():
        write_input(folder / name, args.rows, args.train_rows, rows_a_clip)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in shapes}
    for _ in range(args.rounds):
        for name in shapes:
            runs[name].append(score_once(folder / name, args.resamples))
    usual, worst = (
        {key: round(statistics.median(run[key] for run in runs[name]), 3) for key in runs[name][0]} for name in shapes
    )
    return {
        "score_s": usual["score_s"],
        "cpu_s": usual["cpu_s"],
        "worst_score_s": worst["score_s"],
        "worst_cpu_s": worst["cpu_s"],
        "parts_s": {key: usual[key] for key in ("read_s", "baselines_s", "parse_s", "measure_s", "write_s")},
        "import_s": round(import_s, 2),
        "runs": {name: [round(run["score_s"], 3) for run in found] for name, found in runs.items()},
        "rows": args.rows,
        "train_rows": args.train_rows,
        "clips": {name: -(-args.rows // rows_a_clip) for name, rows_a_clip in shapes.items()},
        "resamples": args.resamples,
        "threads": args.threads,
        "machine": describe_processor(),
        "versions": describe_versions(("numpy", "pyarrow")),
    }


def score_once(folder: Path, num_resamples: int) -> dict[str, float]:
    """Seconds of each part, of the whole, and of all threads."""
    from driving.answer_format import AnswerFormat
    from driving.whole_files import write_json
    from evaluation.outputs import read_predictions
    from evaluation.scoring.answers import read_answers
    from evaluation.scoring.baselines import predict_baselines
    from evaluation.scoring.measure import measure
    from evaluation.scoring.tracks import build_fallback
    from evaluation.scoring.truth_table import read_truth

    answer_format = AnswerFormat(num_pairs=NUM_SAMPLES)
    clock = [time.perf_counter()]
    cpu_s = time.process_time()
    predictions = read_predictions(folder / "predictions.jsonl")
    table = read_truth(folder / "truth.parquet", 1.0)
    truth, train_labels = table.rows([entry.id for entry in predictions]), table.train_labels()
    clock.append(time.perf_counter())
    baselines = predict_baselines(truth, train_labels, answer_format)
    clock.append(time.perf_counter())
    texts, cuts = [entry.text for entry in predictions], [entry.is_cut for entry in predictions]
    lengths = [entry.num_tokens for entry in predictions]
    answers = read_answers(texts, cuts, lengths, answer_format, build_fallback(truth, baselines, answer_format))
    clock.append(time.perf_counter())
    measured = measure(truth, answers, {}, baselines, num_resamples=num_resamples)
    clock.append(time.perf_counter())
    write_json(folder / "metrics.json", measured.metrics)
    clock.append(time.perf_counter())
    parts = [after - before for before, after in zip(clock, clock[1:], strict=False)]
    return dict(zip(("read_s", "baselines_s", "parse_s", "measure_s", "write_s"), parts, strict=True)) | {
        "score_s": clock[-1] - clock[0],
        "cpu_s": time.process_time() - cpu_s,
    }


def write_input(folder: Path, num_rows: int, num_train: int, rows_a_clip: int) -> None:
    """truth.parquet of random walks in speed and curvature, and predictions that are the truth with noise."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from driving.trajectory import integrate_batch

    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    total = num_rows + num_train
    motion = draw_motion(rng, total)
    targets = motion[:, NUM_SAMPLES:]
    poses = integrate_batch(targets[..., 0], targets[..., 1], 1 / NUM_SAMPLES)
    ids = [f"row{index}" for index in range(total)]
    table = {
        "id": ids,
        "group": [f"clip{index // rows_a_clip}" for index in range(total)],
        "split": ["test"] * num_rows + ["train"] * num_train,
        "targets": targets.tolist(),
        "observed": motion[:, :NUM_SAMPLES].tolist(),
        "future_pose": poses.tolist(),
        "country": [COUNTRIES[index // rows_a_clip % len(COUNTRIES)] for index in range(total)],
        "hour": [index // rows_a_clip % 24 for index in range(total)],
    }
    pq.write_table(pa.table(table), folder / "truth.parquet", compression="zstd", row_group_size=1000)
    write_predictions(folder / "predictions.jsonl", ids[:num_rows], targets[:num_rows], rng)


def draw_motion(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    """(B, 2 NUM_SAMPLES, 2): a second seen and a second to predict."""
    import numpy as np

    times_s = np.arange(2 * NUM_SAMPLES) / NUM_SAMPLES
    speed = rng.uniform(0, 30, (num_rows, 1)) + rng.normal(0, 1, (num_rows, 1)) * times_s
    bend = rng.normal(0, 0.01, (num_rows, 1)) + rng.normal(0, 0.005, (num_rows, 1)) * times_s
    return np.stack([np.maximum(speed, 0), bend], axis=-1)


def write_predictions(path: Path, ids: list[str], targets: np.ndarray, rng: np.random.Generator) -> None:
    """One line an answer, as an evaluation stores it; one in a hundred cannot be read."""
    from driving.answer_format import AnswerFormat, format_answer
    from driving.trajectory import Trajectory

    answer_format = AnswerFormat(num_pairs=NUM_SAMPLES)
    with path.open("w", encoding="utf-8") as handle:
        for name, pairs in zip(ids, targets, strict=True):
            noise = rng.normal(0, 1, 2) * (1.0, 0.003)
            text = format_answer(Trajectory.from_pairs(pairs + noise), answer_format)
            if rng.random() < FAILED_SHARE:
                text = text[:-20]
            entry = {"id": name, "group": name, "control": "plain", "text": text, "num_tokens": 400}
            handle.write(json.dumps(entry | {"prompt_tokens": 1800, "is_cut": False, "clip": [30, 256, 448]}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
