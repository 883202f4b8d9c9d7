"""The command line of the synthetic recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.synthetic.clip import EGO_SPARSE_TAIL_S, ClipPlan
from data_prep.synthetic.dataset import DatasetSummary, write_dataset
from data_prep.synthetic.draw import draw_motion
from data_prep.synthetic.layout import LAYOUTS, PRESENCE_FILES
from driving.errors import DrivingError, run_main
from driving.executors import count_cores
from driving.lineage import write_commands
from driving.option_values import number, parse_count, whole_number
from driving.options import format_command, option, parse_options

GAP_S = 0.6
MAX_SECONDS = 600.0  # a recording is held in memory while it is drawn


@dataclass(frozen=True)
class SyntheticOptions:
    """Draw driving recordings with exactly known motion, in the layout of NVIDIA PhysicalAI-AV.

    Reads nothing, writes --output-dir. Nothing in a single picture tells the speed: it is in the motion alone.
    Running twice is safe: finished recordings are kept, and a complete folder is left untouched.
    """

    output_dir: Path = option(Path("physical_ai_data"), help="where the recordings go")
    clips: int = option(100, parse=whole_number(1), help="how many recordings")
    seconds: float = option(
        20.0, unit="s", parse=number(0, MAX_SECONDS, above=True), help="length of a recording, at most 600"
    )
    height: int = option(256, unit="px", help="height of the pictures")
    width: int = option(448, unit="px", help="width of the pictures")
    seed: int = option(7, help="decides everything; the same seed and options give the same bytes")
    workers: int = option(0, parse=parse_count, help="processes that draw; 0 means one per core")
    layout: str = option("hub", choices=LAYOUTS, help="the hub's archives with an index, or plain extracted folders")
    clips_per_chunk: int = option(100, parse=whole_number(1), help="recordings in one archive or folder")
    presence: str = option("feature_presence", choices=PRESENCE_FILES, help="name of the table of what each clip has")
    gap_clips: int = option(
        -1, parse=whole_number(-1), help="recordings with 0.6 s of ego motion missing; -1 means one in fifty"
    )
    invalid_clips: int = option(0, parse=parse_count, help="recordings marked as not valid in the index")
    overwrite_output: bool = option(False, help="delete what is in --output-dir first")


def plan_clips(options: SyntheticOptions) -> list[ClipPlan]:
    """Decide every recording of a run: its motion, its gaps and its validity."""
    num_gaps = options.clips // 50 if options.gap_clips < 0 else options.gap_clips
    if num_gaps + options.invalid_clips > options.clips:
        raise DrivingError(
            f"{num_gaps} recordings with gaps and {options.invalid_clips} invalid ones do not fit in {options.clips}; "
            "lower --gap-clips or --invalid-clips"
        )
    step = max(1, options.clips // max(1, num_gaps))
    with_gap = {step * (number + 1) - 1 for number in range(num_gaps)}
    others = [index for index in range(options.clips) if index not in with_gap]
    invalid = set(others[len(others) - options.invalid_clips :])
    middle_s = options.seconds / 2
    return [
        ClipPlan(
            draw_motion(options.seed, index, options.seconds + EGO_SPARSE_TAIL_S + 1),
            index=index,
            is_valid=index not in invalid,
            ego_gaps_s=((middle_s, middle_s + GAP_S),) if index in with_gap else (),
        )
        for index in range(options.clips)
    ]


def write_recordings(options: SyntheticOptions, show_progress: bool = False) -> DatasetSummary:
    """Write the recordings that the options ask for.

    Raises:
        DrivingError: Options that contradict each other, or an output folder that holds something else.
    """
    return write_dataset(
        options.output_dir,
        plan_clips(options),
        layout=options.layout,
        seconds=options.seconds,
        height=options.height,
        width=options.width,
        seed=options.seed,
        workers=options.workers or count_cores(),
        clips_per_chunk=options.clips_per_chunk,
        presence=options.presence,
        overwrite_output=options.overwrite_output,
        show_progress=show_progress,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parse_options(SyntheticOptions, argv)
    summary = write_recordings(options, show_progress=True)
    if summary.was_complete:
        print(f"{options.output_dir}: already complete, {len(summary.clip_ids)} recordings")
    else:
        command = format_command("scripts/make_synthetic_recordings.py", options, ("workers", "overwrite_output"))
        write_commands(options.output_dir, None, command)
        print(f"{options.output_dir}: {len(summary.clip_ids)} recordings of {options.seconds:g} s")
    return 0
