"""The best a model can do with each answer format, before any training: what the text itself cannot say.

    segments ──▶ targets (v, kappa) ──write──▶ text ──read──▶ (v, kappa) ──arcs──▶ path
                 future_pose ◀───────────────────── compared ─────────────────────┘   ADE / FDE, by speed

The first rows drive the labels themselves: what arcs over recorded (v, kappa) lose against the recorded pose.
N = segments, T = pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driving.answer_format import NOTATIONS, AnswerFormat, format_answer, parse_answer
from driving.errors import DrivingError, run_main
from driving.metrics import ade_m, fde_m
from driving.motion_bins import SPEED_EDGES_MPS
from driving.option_values import number, parse_count
from driving.options import option, parse_options
from driving.trajectory import Trajectory, integrate_batch, repeat_to_rate

BIN_EDGES_MPS = (0.0, *SPEED_EDGES_MPS)
UNROUNDED = "labels, unrounded"


@dataclass(frozen=True)
class LabelFloorOptions:
    """Print, before training, the best ADE and FDE that each answer format allows on this data, and its tokens.

    Reads the segments of prepare_video_segments.py, writes nothing but the table and --json.
    """

    segments_path: Path = option(Path("qwen_video_segments"), help="segments folder, or its index")
    tokenizer: str = option("", help="model folder or name whose tokens are counted; empty counts characters only")
    answer_hz: tuple[float, ...] = option(
        (), parse=number(0, above=True), help="also try these lower rates of pairs; must divide the frame rate"
    )
    max_segments: int = option(5000, parse=parse_count, help="evenly chosen segments to use; 0 means all")
    json: Path | None = option(None, help="file for the table as JSON")


@dataclass(frozen=True)
class FloorRow:
    """One answer format on one speed bin.

    Attributes:
        format: name of the notation, with the rate where it is not the full one.
        speed: the bin, "8-15"; "all" for every segment.
        num_segments: in the bin.
        ade_m, fde_m: means over the segments; fde_p95_m: the 95th percentile of the final error.
        tokens, chars: of one answer, mean; tokens None without a tokenizer.
    """

    format: str
    speed: str
    num_segments: int
    ade_m: float
    fde_m: float
    fde_p95_m: float
    tokens: float | None
    chars: float | None


@dataclass(frozen=True)
class FloorInput:
    """What the floor is computed from.

    Attributes:
        targets: (N, T, 2) velocity and curvature.
        future: (N, T + 1, 3) recorded pose over the same window, from the pose at its start.
        fps: pairs per second.
    """

    targets: np.ndarray
    future: np.ndarray
    fps: float

    @property
    def interval_s(self) -> float:
        return 1.0 / self.fps


def read_floor_input(path: Path, max_segments: int = 0) -> FloorInput:
    """The labelled segments of an index, evenly thinned to `max_segments`.

    Raises:
        SourceError: There is no usable index. DrivingError: No segment has labels, or they differ in length.
    """
    from data_prep.segment_table import open_segments

    table = open_segments(path)
    lengths = table.count_labels()
    usable = np.flatnonzero(lengths)
    if not len(usable):
        raise DrivingError(f"no segment of {table.path} has labels; a floor needs ego motion")
    rates = {float(rate) for rate in table.read_rows(("fps",))["fps"]}
    if len(np.unique(lengths[usable])) > 1 or len(rates) > 1:
        raise DrivingError(
            f"segments of {table.path} hold {np.unique(lengths[usable]).tolist()} pairs at {sorted(rates)} Hz; "
            "give those of one run"
        )
    if max_segments and len(usable) > max_segments:
        usable = usable[np.linspace(0, len(usable) - 1, max_segments).round().astype(int)]
    num_pairs = int(lengths[usable[0]])
    is_wanted = np.isin(np.arange(table.num_rows), usable).tolist()
    targets, future = [], []
    for part in table.iter_tables(is_wanted, ("targets", "future_pose")):
        targets += part["targets"].to_pylist()
        future += [poses[: num_pairs + 1] for poses in part["future_pose"].to_pylist()]
    duration_s = table.read_plan().get("duration", num_pairs / rates.pop())
    return FloorInput(
        np.array(targets, dtype=np.float64), np.array(future, dtype=np.float64)[..., :3], num_pairs / duration_s
    )


def compute_floor(
    floor_input: FloorInput, answer_hz: Sequence[float] = (), count_tokens: Callable[[str], int] | None = None
) -> list[FloorRow]:
    """Every notation at the full rate and the lower ones asked for, on every speed bin."""
    unrounded = integrate_batch(floor_input.targets[..., 0], floor_input.targets[..., 1], floor_input.interval_s)
    rows = _rows(UNROUNDED, floor_input, unrounded, None, None)
    num_full = floor_input.targets.shape[1]
    for rate_hz in (floor_input.fps, *answer_hz):
        num_pairs = _count_pairs(floor_input, rate_hz)
        for name in NOTATIONS:
            answer_format = AnswerFormat(name, num_pairs, floor_input.fps, num_full / floor_input.fps)
            texts = [format_answer(Trajectory.from_pairs(pairs), answer_format) for pairs in floor_input.targets]
            read = np.array([_read_back(text, answer_format, num_full) for text in texts])
            path = integrate_batch(read[..., 0], read[..., 1], floor_input.interval_s)
            tokens = np.array([count_tokens(text) for text in texts]) if count_tokens else None
            label = name if num_pairs == num_full else f"{name} {rate_hz:g} Hz"
            rows += _rows(label, floor_input, path, tokens, np.array([len(text) for text in texts]))
    return rows


def _count_pairs(floor_input: FloorInput, rate_hz: float) -> int:
    num_full = floor_input.targets.shape[1]
    num_pairs = round(num_full * rate_hz / floor_input.fps)
    if (
        rate_hz <= 0
        or num_pairs < 1
        or num_full % num_pairs
        or abs(num_pairs - num_full * rate_hz / floor_input.fps) > 1e-6
    ):
        raise DrivingError(
            f"--answer-hz {rate_hz:g} does not divide {floor_input.fps:g} Hz into {num_full} pairs; choose a divisor"
        )
    return num_pairs


def _read_back(text: str, answer_format: AnswerFormat, num_samples: int) -> np.ndarray:
    return repeat_to_rate(parse_answer(text, answer_format).trajectory, num_samples).to_pairs()


def _rows(
    label: str, floor_input: FloorInput, path: np.ndarray, tokens: np.ndarray | None, chars: np.ndarray | None
) -> list[FloorRow]:
    average, final = ade_m(path, floor_input.future), fde_m(path, floor_input.future)
    speed = np.abs(floor_input.targets[..., 0]).mean(axis=1)
    upper = (*SPEED_EDGES_MPS, np.inf)
    bins = {f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g}+": (speed >= low) & (speed < high)
            for low, high in zip(BIN_EDGES_MPS, upper, strict=True)}  # fmt: skip
    rows = []
    for name, chosen in {"all": np.ones(len(speed), bool), **bins}.items():
        if not chosen.any():
            continue
        rows.append(
            FloorRow(
                format=label,
                speed=name,
                num_segments=int(chosen.sum()),
                ade_m=float(average[chosen].mean()),
                fde_m=float(final[chosen].mean()),
                fde_p95_m=float(np.quantile(final[chosen], 0.95)),
                tokens=None if tokens is None else float(tokens[chosen].mean()),
                chars=None if chars is None else float(chars[chosen].mean()),
            )
        )
    return rows


def format_floor(rows: Sequence[FloorRow]) -> str:
    """The table as text."""
    lines = [
        f"{'format':<20}{'speed m/s':<11}{'segments':>9}{'ADE m':>9}{'FDE m':>9}{'FDE p95':>9}{'tokens':>8}{'chars':>7}"
    ]
    for row in rows:
        tokens = "-" if row.tokens is None else f"{row.tokens:.0f}"
        chars = "-" if row.chars is None else f"{row.chars:.0f}"
        label = row.format if row.speed == "all" else ""
        lines.append(
            f"{label:<20}{row.speed:<11}{row.num_segments:>9,}{row.ade_m:>9.4f}{row.fde_m:>9.4f}{row.fde_p95_m:>9.4f}"
            f"{tokens:>8}{chars:>7}"
        )
    return "\n".join(lines)


def load_token_counter(tokenizer: str) -> Callable[[str], int]:
    """A function from text to its number of tokens.

    Raises:
        DrivingError: The tokenizer cannot be loaded, or has no vocabulary.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise DrivingError("--tokenizer needs transformers; run uv sync --inexact --extra finetune") from error
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise DrivingError(f"tokenizer {tokenizer} cannot be loaded: {error}") from error
    # transformers 5 loads a folder without vocabulary files in silence, as an empty tokenizer.
    if not loaded("(12.3, -0.0042)", add_special_tokens=False)["input_ids"]:
        raise DrivingError(f"tokenizer {tokenizer} has no vocabulary; give the folder of a whole model")
    return lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])


def run(options: LabelFloorOptions) -> list[FloorRow]:
    """Compute the floor that the options ask for."""
    floor_input = read_floor_input(options.segments_path, options.max_segments)
    counter = load_token_counter(options.tokenizer) if options.tokenizer else None
    return compute_floor(floor_input, options.answer_hz, counter)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(lambda: _main(parse_options(LabelFloorOptions, argv)))


def _main(options: LabelFloorOptions) -> int:
    rows = run(options)
    print(format_floor(rows))
    print("the floor: what each spelling loses against the recorded pose when every digit is right; no model beats it")
    print(
        "prepare_huggingface_dataset.py --ego-history tells as many pairs again in every question, read and not written"
    )
    if options.json is not None:
        from driving.whole_files import write_text

        values: list[dict[str, Any]] = [vars(row) for row in rows]
        write_text(options.json, json.dumps(values, indent=2) + "\n")
    return 0
