"""What all clips of PhysicalAI-AV take, reckoned from what was measured on a few: the table of docs/scale.md.

    benchmarks/results/prep_*.json, convert_*.json ──build_table──▶ docs/scale.md, between its two marks

`uv run python -m benchmarks.estimate` prints it, `--write` puts it into the document; a test says when the document and
the results differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "scale.md"
MARKS = ("<!-- made by benchmarks.estimate -->", "<!-- end -->")

# Of the dataset, as its own tables and page tell: not measured here.
NUM_CLIPS = 306_152
CLIP_S, SEGMENTS_PER_CLIP = 20.0, 19
CORES = (2, 16, 64, 512)
NUM_SEGMENTS = NUM_CLIPS * SEGMENTS_PER_CLIP
BUSY_LOAD = 2.0  # above it two workers cannot be told from one
CONVERTED = 100_000  # segments of the conversion that is scaled up


@dataclass(frozen=True)
class Estimate:
    """One stage over all clips.

    Attributes:
        core_hours: of the processors that the figures were measured on.
        disk_gb: what it leaves.
        reckoned: the arithmetic, with its figures.
        is_spread: over cores and machines; a stage that is not takes its core hours.
    """

    stage: str
    core_hours: float
    disk_gb: float
    reckoned: str
    is_spread: bool = True

    def wall_h(self, num_cores: int, efficiency: float) -> float:
        """Hours on so many cores, each of which does `efficiency` of what one alone does."""
        return self.core_hours / (num_cores * efficiency) if self.is_spread else self.core_hours


def newest(kind: str) -> Path:
    """The latest results file of a benchmark: names end in the date."""
    return sorted(RESULTS.glob(f"{kind}_20*.json"))[-1]


def estimate(prep: dict[str, Any], convert: dict[str, Any]) -> list[Estimate]:
    """Every way to cut, and what comes after it."""
    video_h = NUM_CLIPS * CLIP_S / 3600
    spent = prep["cpu_s_per_video_s"]
    index_gb = NUM_SEGMENTS * convert["index_bytes_per_segment"] / 1e9
    files = [
        ("resized", prep["bytes_per_segment"], "bytes a segment"),
        ("scaled", prep["scaled_bytes_per_second"], "bytes a second"),
    ]
    rows = [
        Estimate(
            f"segments, `--cut {cut}`",
            video_h * spent[cut],
            NUM_SEGMENTS * num_bytes / 1e9 + index_gb,
            f"{NUM_CLIPS:,} x {CLIP_S:g} s x {spent[cut]:.4f} CPU s a second; {NUM_SEGMENTS:,} x {num_bytes:,} {unit} "
            f"and the index",
        )
        for cut, num_bytes, unit in files
    ]
    rate, rows_bytes = prep["index_segments_per_s"], convert["index_bytes_per_segment"]
    rows.append(
        Estimate(
            "segments, `--cut index`", NUM_SEGMENTS / rate / 3600, index_gb,
            f"{NUM_SEGMENTS:,} / {rate:,} segments a second, without the reading of 6 TB for their sums; "
            f"x {rows_bytes:,} bytes a row",
        )
    )  # fmt: skip
    for stage, name, folder in (("dataset", "hf", "dataset"), ("training JSON and truth", "convert", "training")):
        seconds, num_bytes = convert[f"{name}_100k_s"], convert[f"{folder}_bytes_per_segment"]
        rows.append(
            Estimate(
                stage, NUM_SEGMENTS / CONVERTED * seconds / 3600, NUM_SEGMENTS * num_bytes / 1e9,
                f"{NUM_SEGMENTS:,} / {CONVERTED:,} x {seconds:g} s; x {num_bytes:,} bytes a segment", is_spread=False,
            )
        )  # fmt: skip
    return rows


def build_table(prep_path: Path, convert_path: Path) -> str:
    """The table as Markdown, with the files it comes from."""
    prep, convert = (json.loads(path.read_text(encoding="utf-8")) for path in (prep_path, convert_path))
    is_busy = prep["load_average_before"] > BUSY_LOAD
    efficiency = 1.0 if is_busy else min(1.0, prep["two_workers_speedup"] / 2)
    head = ["stage", "core hours", *(f"{num:,} cores" for num in CORES), "disk", "from"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in estimate(prep, convert):
        walls = [_format_hours(row.wall_h(num, efficiency)) for num in CORES]
        cells = [row.stage, f"{row.core_hours:,.1f}", *walls, f"{row.disk_gb:,.0f} GB", row.reckoned]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [
        f"From `{prep_path.relative_to(ROOT)}` (drawn 1080p30 H.264 at {prep['input_mbit_s']:g} Mbit/s) and",
        f"`{convert_path.relative_to(ROOT)}`. Load average before: {prep['load_average_before']:g} and",
        f"{convert['load_average_before']:g}; above 1 or so other work shared the processors: too high.",
        "Hours on several cores: core hours / cores; what cores lose beside each other was not measured."
        if is_busy
        else f"Hours on several cores: core hours / (cores x {efficiency:.2f}), what is left of a core beside another.",
        "The dataset and the JSON are made by one process each.",
    ]
    return "\n".join([*lines, "", *notes])


def _format_hours(hours: float) -> str:
    return (
        f"{hours / 24:,.1f} d" if hours >= 48 else f"{hours:,.1f} h" if hours >= 1 else f"{max(1, hours * 60):,.0f} min"
    )


def place_table(document: str, table: str) -> str:
    """The document with the table between its marks."""
    before, rest = document.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(prog="benchmarks.estimate", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="put it into docs/scale.md")
    args = parser.parse_args(argv)
    table = build_table(newest("prep"), newest("convert"))
    if args.write:
        DOCUMENT.write_text(place_table(DOCUMENT.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
