"""Two finished evaluations -> one table on the screen and one HTML page.

A/row_scores.parquet, metrics.json  ─┐
                                     ├─check_comparable──▶ pair_rows ──compare──▶ table, comparison.html, JSON
B/row_scores.parquet, metrics.json  ─┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.option_values import parse_count, whole_number
from driving.options import option, parse_options
from driving.whole_files import write_json, write_text
from evaluation.comparing.comparison import COMPARED, HEADLINES, compare, pair_rows
from evaluation.scoring.row_scores import RowScores, read_row_scores


@dataclass(frozen=True)
class CompareOptions:
    """Put two evaluations of the same rows side by side, with paired intervals that draw whole clips.

    Reads the output folders of two scripts/evaluate.py runs; neither their models nor their data are needed. Writes one
    HTML page. Rows that only one run answered are left out and counted; other truth or another track is refused.
    """

    a: Path = option(help="output folder of one evaluation", positional=True)
    b: Path = option(help="output folder of the other; differences are B - A", positional=True)
    out: Path = option(Path("comparison.html"), help="where the page is written; an older one is replaced")
    json: Path | None = option(None, help="file for the numbers as JSON")
    bootstrap: int = option(2000, parse=whole_number(1), help="resamples of the clips behind each interval")
    seed: int = option(7, parse=parse_count, help="seed of the resamples")


@dataclass(frozen=True)
class Finished:
    """One finished evaluation: its folder, metrics.json and rows."""

    folder: Path
    metrics: dict[str, Any]
    rows: RowScores


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    options = parse_options(CompareOptions, argv)
    for line in run(options)["lines"]:
        print(line)
    return 0


def run(options: CompareOptions) -> dict[str, Any]:
    """Compare, write the page, and return the numbers with the `lines` to print.

    Raises:
        DrivingError: A folder holds no finished evaluation, or the two cannot be compared.
    """
    from evaluation.report.versus import render_comparison

    check_targets(options)
    a, b = read_finished(options.a), read_finished(options.b)
    check_comparable(a, b)
    pair = pair_rows(a.rows, b.rows, (str(a.folder), str(b.folder)))
    bins = {axis: list(entry["bins"]) for axis, entry in a.metrics["strata"].items()}
    result = {
        "a": _describe(a),
        "b": _describe(b),
        "track": a.metrics["track"],
        "horizon_s": a.metrics["horizon_s"],
        **compare(pair, options.bootstrap, options.seed, bins),
    }
    write_text(options.out, render_comparison(result, a.metrics, b.metrics))
    if options.json is not None:
        write_json(options.json, result)
    return {**result, "lines": [*format_table(result), f"written to {options.out}"]}


def read_finished(folder: Path) -> Finished:
    """Read what a finished evaluation left.

    Raises:
        DrivingError: It is not finished, or was made by another version.
    """
    from evaluation.outputs import METRICS_NAME, read_metrics
    from evaluation.planning import FORMAT_VERSION

    try:
        metrics = read_metrics(folder)
        if not isinstance(metrics, dict):
            raise ValueError(f"{METRICS_NAME} holds no object")
    except (OSError, ValueError) as error:
        raise DrivingError(
            f"{folder} holds no finished evaluation ({METRICS_NAME}: {type(error).__name__}); "
            "give the output folder of scripts/evaluate.py"
        ) from error
    if metrics.get("format_version") != FORMAT_VERSION:
        raise DrivingError(
            f"{folder / METRICS_NAME} is of format {metrics.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}; evaluate again with this version, into a new folder"
        )
    return Finished(folder, metrics, read_row_scores(folder))


def check_comparable(a: Finished, b: Finished) -> None:
    """Raise where the two answered different questions.

    Raises:
        DrivingError: The tracks or the horizons differ.
    """
    tracks = a.metrics["track"], b.metrics["track"]
    if tracks[0] != tracks[1]:
        raise DrivingError(
            f"{a.folder} is of the track {tracks[0]!r}, {b.folder} of {tracks[1]!r}: one model was told what the other "
            "had to see, so they are not compared; evaluate both on one track"
        )
    horizons = a.metrics["horizon_s"], b.metrics["horizon_s"]
    if abs(horizons[0] - horizons[1]) > 1e-6:
        raise DrivingError(
            f"{a.folder} looks {horizons[0]:g} s ahead, {b.folder} {horizons[1]:g} s; evaluate both on one test.json"
        )


def check_targets(options: CompareOptions) -> None:
    """Raise where a page or file would be written over a run's own.

    Raises:
        DrivingError: Such a target, or one that is a folder.
    """
    runs = {options.a.resolve(), options.b.resolve()}
    for name, path in (("--out", options.out), ("--json", options.json)):
        if path is None:
            continue
        if path.is_dir():
            raise DrivingError(f"{name} {path} is a folder; give the name of a file")
        if path.resolve().parent in runs and path.exists():
            raise DrivingError(f"{name} {path} is a file of an evaluation; choose another name")


def _describe(run: Finished) -> dict[str, Any]:
    card = run.metrics["model_card"]
    return {
        "folder": run.folder.as_posix(),
        "model": card["name"],
        "fingerprint": card["fingerprint"],
        "stamps": run.metrics["stamps"],
    }


def format_table(result: dict[str, Any]) -> list[str]:
    """The comparison as lines for a screen."""
    rows = result["rows"]
    lines = [f"{which.upper()}  {result[which]['folder']}  ({result[which]['model']})" for which in ("a", "b")]
    lines += [f"{which.upper()}  {stamp}" for which in ("a", "b") for stamp in result[which]["stamps"]]
    lines.append(
        f"{rows['num_shared']:,} rows of {rows['num_clips']:,} clips that both answered; left out: "
        f"{rows['num_only_a']:,} only in A, {rows['num_only_b']:,} only in B; {result['track']}"
    )
    head = ("", "A", "B", "B - A", "95 % interval", "could show", "")
    table = [head, *(_format_row(name, result["metrics"][name]) for name in (*HEADLINES, "failed_rate"))]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers, row[-1]]).rstrip())
    return lines


def _format_row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    metric, digits = COMPARED[name], 4 if "per_m" in name else 3
    unit = f" [{metric.unit}]" if metric.unit else " [%]" if metric.is_share else ""
    scale = 100 if metric.is_share else 1

    def write(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{scale * value:{sign}.{digits}f}"

    difference = entry["difference"]
    low, high = write(difference["low"], "+"), write(difference["high"], "+")
    verdict = {"a": "A is better", "b": "B is better", None: "no difference shown"}[entry["better"]]
    return (
        f"{metric.label}{unit}",
        write(entry["a"]["value"]),
        write(entry["b"]["value"]),
        write(difference["value"], "+"),
        "-" if difference["low"] is None else f"[{low}, {high}]",
        write(entry["min_detectable"]),
        verdict,
    )
