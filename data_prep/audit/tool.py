"""The command line of the audit: every recording through every check, one table, exit code 1 where one fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.audit.findings import FAIL, PASS, SKIP, Finding, Verdict, format_table, summarise
from driving.errors import DrivingError, SourceError, run_main
from driving.option_values import parse_count
from driving.options import option, parse_options

if TYPE_CHECKING:
    from data_prep.audit.camera_clock import TurnPair
    from data_prep.audit.label_check import SegmentLabels
    from data_prep.audit.samples import Samples
    from driving.recording import Recording, RecordingRef, Source

MAX_AUDITED_SEGMENTS = 20_000
CHECKS = (
    "recordings open", "ego timestamps", "finite values", "ego rate", "ego gaps", "quaternion norm", "pose axes",
    "velocity frame", "curvature column", "camera frames", "shared clock", "camera clock", "labels",
)  # fmt: skip


@dataclass(frozen=True)
class AuditOptions:
    """Check driving recordings for the mistakes that spoil labels without a sound.

    Reads a folder of recordings (and, if given, the segments made from it), writes nothing but the table and --json.
    Exit code 1 where a check fails. Each line says what was measured and, where it fails, the likely fix.
    """

    input_dir: Path = option(positional=True, help="folder with the recordings")
    source: str = option("auto", help="recording format; auto asks each in turn")
    camera: str = option("", help="camera to look at; empty means the format's usual one")
    max_clips: int = option(0, parse=parse_count, help="stop after this many recordings; 0 means all")
    max_video_clips: int = option(
        10, parse=parse_count, help="recordings whose pictures are decoded for the clock check; 0 means none"
    )
    segments_path: Path | None = option(None, help="segments folder or index whose labels are computed again")
    json: Path | None = option(None, help="file for the findings as JSON")


@dataclass(frozen=True)
class AuditReport:
    """One verdict a check, and every finding behind them."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]

    @property
    def failed_checks(self) -> set[str]:
        return {verdict.check for verdict in self.verdicts if verdict.status == FAIL}

    def to_json(self) -> dict:
        findings = [vars(finding) for finding in self.findings]
        return {"verdicts": [verdict.to_json() for verdict in self.verdicts], "findings": findings}


def audit_recordings(options: AuditOptions, show_progress: bool = False) -> AuditReport:
    """Run every check on every recording.

    Raises:
        SourceError: The folder holds no recordings that a source knows.
    """
    from tqdm import tqdm

    from data_prep.sources import find_source

    source = find_source(options.source, options.input_dir)
    refs = source.plan(options.input_dir, options.camera)
    refs = refs[: options.max_clips] if options.max_clips else refs
    labels = _read_labels(options.segments_path) if options.segments_path else {}
    findings: list[Finding] = []
    turning: list[tuple[float, Samples]] = []
    for ref in tqdm(refs, unit="recording", disable=not show_progress):
        samples = _open(source, ref, findings)
        if samples is not None:
            findings += _check_recording(samples, labels.get(ref.recording_id))
            turning.append((_yaw_spread(samples), samples))
    turning.sort(key=lambda pair: -pair[0])
    watched = [samples for _, samples in turning[: options.max_video_clips]]
    findings += _check_clock(
        [_watch_turns(samples) for samples in tqdm(watched, unit="video", disable=not show_progress)]
    )
    return AuditReport(tuple(summarise(findings, CHECKS)), tuple(findings))


def _open(source: Source, ref: RecordingRef, findings: list[Finding]) -> Samples | None:
    """Read a recording the product's way, which is a check of its own, and then raw."""
    from data_prep.audit.samples import read_samples
    from video_io import probe_video

    name = "recordings open"
    if ref.excluded:
        findings.append(Finding(name, ref.recording_id, SKIP, "", ref.excluded))
        return None
    recording: Recording | None = None
    try:
        if ref.fault:
            raise SourceError(ref.fault)
        recording = source.read(ref)
        if recording.ego_motion is None:  # nothing else looks at its video
            probe_video(recording.video)
        findings.append(Finding(name, ref.recording_id, PASS, "all tables read"))
    except DrivingError as error:
        findings.append(Finding(name, ref.recording_id, FAIL, str(error), "this recording goes to the ledger"))
    if ref.fault and ref.source != "comma2k19":  # a fault may be a name that points outside; comma2k19's is no video
        return None
    try:
        samples = read_samples(ref, recording)
    except DrivingError as error:
        findings.append(Finding("ego timestamps", ref.recording_id, SKIP, "", str(error)))
        return None
    if len(samples.ordered.timestamps_us) < 10:
        findings.append(Finding("ego timestamps", ref.recording_id, SKIP, "", "fewer than 10 rows of ego motion"))
        return None
    return samples


def _check_recording(raw: Samples, labels: SegmentLabels | None) -> Iterator[Finding]:
    from data_prep.audit import motion_checks
    from data_prep.audit.camera_checks import check_overlap
    from data_prep.audit.curvature_check import check_curvature
    from data_prep.audit.label_check import check_labels

    yield motion_checks.check_order(raw)
    yield motion_checks.check_finite(raw)
    yield motion_checks.check_quaternions(raw)
    samples = raw.ordered
    checks: list[Callable[[Samples], Finding]] = [
        motion_checks.check_rate,
        motion_checks.check_gaps,
        motion_checks.check_heading,
        motion_checks.check_velocity,
        check_curvature,
        check_overlap,
    ]
    yield from (check(samples) for check in checks)
    yield _check_frames(raw)
    yield check_labels(samples, labels)


def _check_frames(raw: Samples) -> Finding:
    from data_prep.audit.camera_checks import check_frames
    from driving.errors import VideoError
    from video_io import probe_video

    if raw.video is None:
        return Finding("camera frames", raw.recording_id, SKIP, "", "there are no pictures")
    try:
        info = probe_video(raw.video)
    except VideoError as error:
        return Finding("camera frames", raw.recording_id, FAIL, str(error), "download the video again")
    return check_frames(raw, info.num_frames, info.frame_times_us)


def _yaw_spread(samples: Samples) -> float:
    from data_prep.audit.camera_clock import yaw_spread_radps

    return yaw_spread_radps(samples.ordered)


def _check_clock(watched: list[TurnPair | str]) -> list[Finding]:
    from data_prep.audit.camera_clock import NAME, TurnPair, check_clock

    pairs = [pair for pair in watched if isinstance(pair, TurnPair)]
    reasons = sorted({reason for reason in watched if isinstance(reason, str)})
    if not pairs:
        return [Finding(NAME, "", SKIP, "", "; ".join(reasons[:2]) if reasons else "no pictures were asked for")]
    return [check_clock(pairs)]


def _watch_turns(raw: Samples) -> TurnPair | str:
    """Decode one recording's pictures, small, and lay them beside its turning; or say why that cannot be done."""
    from data_prep.audit.camera_clock import MIN_YAW_SPREAD_RADPS, frames_apart, pair_turns, yaw_spread_radps
    from data_prep.audit.picture_yaw import WORK_WIDTH_PX, measure_shifts
    from driving.errors import VideoError
    from video_io import iter_frames, probe_video

    if raw.video is None or raw.frame_times_us is None or np.any(np.diff(raw.frame_times_us) <= 0):
        return "no pictures with an ordered clock of their own"
    samples = raw.ordered
    if yaw_spread_radps(samples) < MIN_YAW_SPREAD_RADPS:
        return "the car turns too little, or too evenly, to compare clocks"
    try:
        info = probe_video(raw.video)
        if info.num_frames != len(raw.frame_times_us):
            return "frames and timestamps differ in number"
        height = max(32, round(info.height * WORK_WIDTH_PX / info.width / 2) * 2)
        pictures = iter_frames(raw.video, range(info.num_frames), size=(height, WORK_WIDTH_PX), info=info)
        shift_px = measure_shifts((picture for _, picture in pictures), frames_apart(samples))
    except VideoError as error:
        return str(error)
    return pair_turns(samples, shift_px)


def _read_labels(path: Path) -> dict[str, SegmentLabels]:
    """The labels of a segments folder, by recording."""
    from data_prep.audit.label_check import SegmentLabels
    from data_prep.segment_table import open_segments

    table = open_segments(path)
    rows = table.read_rows(("clip_uuid", "start_second", "fps", "num_frames"))
    plan = table.read_plan()
    places: dict[str, list[int]] = {}
    for place in np.flatnonzero(table.count_labels()).tolist():
        places.setdefault(rows["clip_uuid"][place], []).append(place)
    places = _thin(places, MAX_AUDITED_SEGMENTS)
    wanted = sorted(place for chosen in places.values() for place in chosen)
    parts = table.iter_tables(np.isin(np.arange(table.num_rows), wanted).tolist(), ("targets",))
    read = (target for part in parts for target in part["targets"].to_pylist())
    targets = {place: np.array(target, dtype=np.float64) for place, target in zip(wanted, read, strict=True)}
    return {
        clip_id: SegmentLabels(
            start_s=np.array([rows["start_second"][place] for place in chosen], dtype=np.float64),
            targets=[targets[place] for place in chosen],
            fps=float(rows["fps"][chosen[0]]),
            duration_s=plan.get("duration", rows["num_frames"][chosen[0]] / rows["fps"][chosen[0]]),
            curvature=plan.get("curvature", "pose"),
        )
        for clip_id, chosen in places.items()
    }


def _thin(places: dict[str, list[int]], max_segments: int) -> dict[str, list[int]]:
    """Fewer segments where there are very many: evenly chosen ones of each recording, at least one."""
    if sum(map(len, places.values())) <= max_segments:
        return places
    num_each = max(1, max_segments // len(places))
    return {clip_id: chosen[:: -(-len(chosen) // num_each)] for clip_id, chosen in places.items()}


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parse_options(AuditOptions, argv)
    report = audit_recordings(options, show_progress=True)
    print(format_table(report.verdicts))
    if options.json is not None:
        from driving.whole_files import write_text

        write_text(options.json, json.dumps(report.to_json(), indent=2) + "\n")
    num_failed = len(report.failed_checks)
    num_open = sum(f.check == "recordings open" for f in report.findings)
    print(f"{num_open} recordings, {len(CHECKS)} checks, {num_failed} failed")
    return 1 if num_failed else 0
