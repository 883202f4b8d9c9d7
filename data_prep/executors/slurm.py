"""The chunks of a run as tasks of a Slurm array, and one job after them that writes the index.

    submit ──▶ metadata/work/<chunk>.json  recordings of a chunk that is not finished, so that no task lists the input
               metadata/work/array.json    the chunks in the array's order, and the jobs' ids
               sbatch array.sbatch  ──▶ the same door with --share 3/1000 ──▶ finished chunks
               sbatch index.sbatch  ──▶ the same door with --share index, once all of them succeeded

Output and checkout are on a file system that all nodes share. A task that died is made up for by the same command.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.chunks import FinishJob
from data_prep.segment_options import INDEX_SHARE, NOT_OF_THE_OUTPUT, SegmentOptions
from driving.errors import DrivingError, LedgerError
from driving.options import format_flags
from driving.recording import RecordingRef
from driving.whole_files import write_json, write_text

WORK_FOLDER = Path("metadata") / "work"
DOOR = Path(__file__).resolve().parents[2] / "prepare_video_segments.py"


@dataclass(frozen=True)
class ChunkTask:
    """A chunk as a task finds it: what finishes it, and its recordings by id."""

    job: FinishJob
    refs: dict[str, RecordingRef]


def work_path(output_dir: Path, name: str) -> Path:
    return output_dir / WORK_FOLDER / f"{name}.json"


def write_tasks(output_dir: Path, jobs: Sequence[FinishJob], refs: Mapping[str, RecordingRef]) -> None:
    """Write what tasks need of each chunk, and the list of chunks, last."""
    for job in jobs:
        kept = {**asdict(job), "output_dir": str(job.output_dir)}
        own = [asdict(refs[recording_id]) for recording_id, _ in job.recordings]
        write_json(work_path(output_dir, job.name), {"job": kept, "refs": own}, indent=None)
    write_json(_array_path(output_dir), {"chunks": [job.name for job in jobs], "job_ids": []})


def read_task(output_dir: Path, name: str) -> ChunkTask:
    kept = _read(work_path(output_dir, name))
    recordings = [(recording_id, fingerprint) for recording_id, fingerprint in kept["job"]["recordings"]]
    job = FinishJob(**{**kept["job"], "recordings": recordings, "output_dir": output_dir})
    return ChunkTask(job, {ref["recording_id"]: RecordingRef(**ref) for ref in kept["refs"]})


def read_chunk_names(output_dir: Path) -> list[str]:
    """The chunks of the array, in its order.

    Raises:
        LedgerError: None was submitted.
    """
    if not _array_path(output_dir).is_file():
        raise LedgerError(
            f"nothing was submitted for {output_dir}; --share is what tasks of --executor slurm are given"
        )
    return _read(_array_path(output_dir))["chunks"]


def check_idle(output_dir: Path) -> None:
    """Raise LedgerError where jobs that were submitted for a folder are still waiting or running."""
    if not _array_path(output_dir).is_file():
        return
    for job_id in _read(_array_path(output_dir))["job_ids"]:
        # squeue fails where it has forgotten the job.
        asked = _call(["squeue", "--noheader", f"--jobs={job_id}"], check=False)
        if asked.returncode == 0 and asked.stdout.strip():
            raise LedgerError(f"job {job_id} still works on {output_dir}; wait for it, or end it with scancel {job_id}")


def submit(options: SegmentOptions, num_chunks: int) -> list[str]:
    """Hand the array and the job after it to Slurm; their ids.

    Raises:
        DrivingError: There is no sbatch here, or it refuses.
    """
    folder = options.output_dir / WORK_FOLDER
    array, index = format_scripts(options, num_chunks)
    write_text(folder / "array.sbatch", array)
    write_text(folder / "index.sbatch", index)
    array_id = _submit([str(folder / "array.sbatch")])
    names = _read(_array_path(options.output_dir))["chunks"]
    write_json(_array_path(options.output_dir), {"chunks": names, "job_ids": [array_id]})
    index_id = _submit([*format_dependency(array_id), str(folder / "index.sbatch")])
    write_json(_array_path(options.output_dir), {"chunks": names, "job_ids": [array_id, index_id]})
    return [array_id, index_id]


def format_dependency(array_id: str) -> list[str]:
    """What makes the job after the array wait for it."""
    return [f"--dependency=afterok:{array_id}", "--kill-on-invalid-dep=yes"]


def format_scripts(options: SegmentOptions, num_chunks: int) -> tuple[str, str]:
    """The array's script and that of the job after it. Account, partition, time: sbatch's own SBATCH_ variables."""
    num_tasks = min(num_chunks, options.array_size)
    workers = options.workers or 1
    words = [sys.executable, str(DOOR), *format_flags(options, NOT_OF_THE_OUTPUT), "--workers", str(workers)]
    logs = (Path.cwd() / options.output_dir / WORK_FOLDER).as_posix()
    head = f"#SBATCH --cpus-per-task={workers}\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
    body = f"\ncd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(words)} --share"
    array = (
        f"#!/bin/bash\n#SBATCH --job-name=segments\n#SBATCH --array=0-{num_tasks - 1}\n"
        f'#SBATCH --output="{logs}/%A_%a.log"\n{head}{body} "$SLURM_ARRAY_TASK_ID/{num_tasks}"\n'
    )
    log = f'#SBATCH --output="{logs}/%j.log"\n'
    after = f"# sbatch {' '.join(format_dependency('<id of the array>'))}\n"
    index = f"#!/bin/bash\n{after}#SBATCH --job-name=segments-index\n{log}{head}{body} {INDEX_SHARE}\n"
    return array, index


def _submit(words: Sequence[str]) -> str:
    done = _call(["sbatch", "--parsable", *words], check=True)
    return done.stdout.strip().partition(";")[0]  # "id;cluster" where there are several


def _call(words: Sequence[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=check)
    except FileNotFoundError as error:
        raise DrivingError(
            f"--executor slurm needs {words[0]}, which is not on this machine; run this on a login node, or look at "
            "the scripts with --dry-run"
        ) from error
    except subprocess.CalledProcessError as error:
        raise DrivingError(
            f"{words[0]} refused ({error.stderr.strip()}); mend it (SBATCH_ACCOUNT, SBATCH_PARTITION, SBATCH_TIMELIMIT "
            "are read; --array-size makes the array smaller), and run the same command again"
        ) from error


def _array_path(output_dir: Path) -> Path:
    return output_dir / WORK_FOLDER / "array.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read ({error}); run the command with --executor slurm again") from error
