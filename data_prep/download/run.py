"""Fetch what is asked for and is not here yet: plan, say how much, check the disk, fetch, put the tables in place."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from data_prep.download.choice import Choice, check_asked, plan_choice
from data_prep.download.hub import Hub
from data_prep.download.jobs import run_jobs
from data_prep.download.local_tables import check_places, drop_single_clips, write_tables
from data_prep.download.options import DownloadOptions
from data_prep.download.patience import AGAIN, FetchError
from data_prep.download.plan import plan_jobs
from data_prep.download.records import Records
from data_prep.download.tables import load_tables
from data_prep.segment_options import SegmentOptions
from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, PLAN_NAME, claim_output, write_ledger
from driving.options import format_command
from driving.output_lock import LOCK_NAME

TOOL = "PhysicalAI-AV download"
GB = 10**9
SPARE_DISK_BYTES = 10**8  # tables, and what the file system itself needs


@dataclass(frozen=True)
class DownloadSummary:
    """What a run did: files or clips fetched, those that were here, bytes, and the line to print."""

    num_fetched: int
    num_here: int
    num_bytes: int
    message: str


def run(options: DownloadOptions) -> DownloadSummary:
    """Fetch recordings; see DownloadOptions.

    Raises:
        AccessError: No token, licence not accepted, no such revision, no network.
        SourceError: The dataset has no such chunk, clip or camera.
        LedgerError: The folder is another tool's, or another run is writing it.
        DrivingError: Nothing asked for, too little disk, too much without --yes; some files failed.
    """
    check_asked(options)
    for name in ("huggingface_hub", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.ERROR)  # every trouble is told once, by us
    root = options.output_dir
    stop = threading.Event()
    try:
        return _fetch_into(root, options, stop)
    finally:
        stop.set()


def _fetch_into(root: Path, options: DownloadOptions, stop: threading.Event) -> DownloadSummary:
    hub = Hub(options.repo_id, options.revision or _read_commit(root, options.repo_id) or "main", stop)
    _check_folder(root, hub)
    plan = {"tool": TOOL, "repo_id": hub.repo_id, "commit": hub.commit}
    with claim_output(root, plan) as output:
        records = Records(root)
        tables = load_tables(hub, root, records, options.split_name)
        choice = plan_choice(options, tables)
        check_places(root, choice, tables, records)
        jobs, num_here = plan_jobs(hub, root, choice, tables, records, options)
        num_bytes = sum(job.size for job in jobs)
        heading = f"{hub.repo_id} at {hub.commit[:12]}: {_describe(choice)}; {format_size(num_bytes)} to fetch"
        print(f"{heading} into {root}, {num_here:,} of {num_here + len(jobs):,} parts are here", flush=True)
        if options.dry_run:
            return DownloadSummary(0, num_here, num_bytes, "nothing was fetched (--dry-run)")
        _check_disk(root, num_bytes)
        if jobs:
            _ask(num_bytes, options)
        if output.is_complete and jobs:
            output.reopen()
        try:
            skips = run_jobs(jobs, options.workers, stop, options.progress)
            if not skips:
                drop_single_clips(root, choice.chunks, records)
        finally:
            write_tables(root, tables)
        write_ledger(root / LEDGER_NAME, skips)
        if skips:
            raise FetchError(
                f"{len(skips):,} of {len(jobs):,} parts could not be fetched, the others are here; see "
                f"{root / LEDGER_NAME} ({skips[0].reason}); {AGAIN}"
            )
        if not output.is_complete:
            output.finish({"commit": hub.commit})
    return DownloadSummary(len(jobs), num_here, num_bytes, _format_end(len(jobs), num_here, options))


def format_size(num_bytes: int) -> str:
    """12.3 GB, or 456.7 MB below one."""
    return f"{num_bytes / GB:,.1f} GB" if num_bytes >= GB else f"{num_bytes / 10**6:,.1f} MB"


def _format_end(num_fetched: int, num_here: int, options: DownloadOptions) -> str:
    """The last line: what was done, and the next command, for the same camera and splits."""
    if not num_fetched:
        return f"already complete: all {num_here:,} parts are in {options.output_dir}"
    following = SegmentOptions(
        input_dir=options.output_dir, camera=options.camera[0] if options.camera else "", split_name=options.split_name
    )
    command = format_command("prepare_video_segments.py", following)
    return f"{num_fetched:,} parts fetched and checked, {num_here:,} were here; next: {command}"


def _describe(choice: Choice) -> str:
    if choice.clips:
        return f"{_count(sum(map(len, choice.clips.values())), 'single clip')} of {_count(len(choice.clips), 'chunk')}"
    return _count(len(choice.chunks), "whole chunk")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def _read_commit(root: Path, repo_id: str) -> str:
    """The commit that this folder was begun with, or ""."""
    try:
        plan = json.loads((root / PLAN_NAME).read_text(encoding="utf-8"))
        return plan["commit"] if plan["tool"] == TOOL and plan["repo_id"] == repo_id else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # there is none, or it is somebody else's: claim_output says so


def _check_folder(root: Path, hub: Hub) -> None:
    """Raise where the folder holds another revision, or files from elsewhere: recordings must not be mixed."""
    commit = _read_commit(root, hub.repo_id)
    if commit and commit != hub.commit:
        raise DrivingError(
            f"{root} holds the dataset at {commit[:12]}, --revision asks for {hub.commit[:12]}; "
            "leave --revision away to go on with it, or name another --output-dir"
        )
    if root.is_dir() and not (root / PLAN_NAME).exists():
        strangers = sorted(path.name for path in root.iterdir() if path.name != LOCK_NAME)
        if strangers:
            raise DrivingError(
                f"{root} holds files that were not fetched by this tool ({strangers[0]}); name another --output-dir"
            )


def _check_disk(root: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(root).free
    if num_bytes + SPARE_DISK_BYTES > free:
        raise DrivingError(
            f"{format_size(num_bytes)} are to be fetched, {format_size(free)} are free at {root}; "
            "ask for fewer chunks or clips, or name an --output-dir on another disk"
        )


def _ask(num_bytes: int, options: DownloadOptions) -> None:
    """Let the user agree to a large download; never waits where nobody is there to answer."""
    if options.yes or num_bytes <= options.ask_above_gb * GB:
        return
    if not sys.stdin.isatty():
        raise DrivingError(
            f"{format_size(num_bytes)} are more than --ask-above-gb {options.ask_above_gb:g} and there is no terminal "
            "to ask at; pass --yes to fetch them"
        )
    if input(f"fetch {format_size(num_bytes)} into {options.output_dir}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise DrivingError("nothing was fetched: the answer was no; pass --yes not to be asked")
