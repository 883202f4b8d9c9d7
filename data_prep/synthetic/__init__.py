"""Driving recordings drawn by us, with exactly known motion, in exactly PhysicalAI-AV's layout.

    draw (random drives) ─┐
    constant_motion ──────┴─▶ ClipPlan ──▶ clip (clocks, pictures, tables) ──▶ layout (archives, index)

They are the quick start's data and the tests' oracle, and never the only thing that a claim rests on.
"""

from data_prep.synthetic.clip import ClipPlan
from data_prep.synthetic.dataset import DatasetSummary, write_dataset
from data_prep.synthetic.draw import draw_motion
from data_prep.synthetic.motion import Motion, MotionState, constant_motion
from data_prep.synthetic.tool import SyntheticOptions, main, plan_clips, write_recordings

__all__ = [
    "ClipPlan",
    "DatasetSummary",
    "Motion",
    "MotionState",
    "SyntheticOptions",
    "constant_motion",
    "draw_motion",
    "main",
    "plan_clips",
    "write_dataset",
    "write_recordings",
]
