"""Every clip in one table, the worst first: where to look when the mean says too little."""

from __future__ import annotations

from html import escape

import numpy as np

from evaluation.report.examples import rank_clips
from evaluation.report.page import format_number, render_table
from evaluation.scoring.score import Columns

MAX_CLIPS = 2000
SHOWN = {"velocity_mae_mps": 2, "curvature_mae_per_m": 4, "fde_m": 2}


def render_clips(groups: np.ndarray, errors: Columns, is_parsed: np.ndarray) -> str:
    """Markup of the table, folded; of more clips than MAX_CLIPS the worst."""
    names, ade_m, codes = rank_clips(errors["ade_m"], groups)
    counts = np.bincount(codes, minlength=len(names))
    means = {name: _mean_of_clip(errors[name], codes, len(names)) for name in SHOWN}
    failed = np.bincount(codes, weights=~is_parsed, minlength=len(names)).astype(int)
    rows = [
        [f"<code>{escape(names[clip])}</code>", f"{counts[clip]:,}", format_number(ade_m[clip], 2),
         *(format_number(_known(means[name][clip]), digits) for name, digits in SHOWN.items()), f"{failed[clip]:,}"]
        for clip in range(len(names) - 1, max(-1, len(names) - 1 - MAX_CLIPS), -1)
    ]  # fmt: skip
    head = ["clip", "rows", "ADE [m]", "speed error [m/s]", "curvature error [1/m]", "FDE [m]", "not readable"]
    which = f"the worst {MAX_CLIPS:,} of {len(names):,}" if len(names) > MAX_CLIPS else f"all {len(names):,}"
    return f"<details><summary>{which} clips, the worst first</summary>{render_table(head, rows)}</details>"


def _mean_of_clip(column: np.ndarray, codes: np.ndarray, num_clips: int) -> np.ndarray:
    """(C,) means over what is known; NaN where a clip has nothing to say."""
    known = ~np.isnan(column)
    counts = np.bincount(codes[known], minlength=num_clips)
    with np.errstate(invalid="ignore"):
        return np.bincount(codes[known], weights=column[known], minlength=num_clips) / counts


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
