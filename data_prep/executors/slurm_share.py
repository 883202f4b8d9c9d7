"""What one task of the array does: its share of the chunks, beside other tasks, each chunk by one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from data_prep.chunk_run import is_finished, list_uncut
from data_prep.chunks import FinishJob
from data_prep.executors.slurm import read_chunk_names, read_task, work_path
from data_prep.provenance import hash_code
from data_prep.segment_jobs import cut_chunks, plan_output
from data_prep.segment_options import SegmentOptions, parse_share_of_chunks
from driving.errors import LedgerError
from driving.ledger import MANIFEST_NAME, check_plan, join_output
from driving.output_lock import try_lock_file
from driving.recording import RecordingRef


def run_share(options: SegmentOptions) -> str:
    """Cut and finish the chunks of one share; safe to be run twice, killed, or run by two tasks at once.

    Returns:
        What came of it, for the last line.

    Raises:
        LedgerError: The folder was begun with other options or other code, nothing was submitted, or another run
            writes it alone.
    """
    place, num_shares = parse_share_of_chunks(options.share)
    output_dir = options.output_dir
    refs: dict[str, RecordingRef] = {}
    with join_output(output_dir) as plan, contextlib.ExitStack() as locks:
        if (output_dir / MANIFEST_NAME).exists():
            return f"{output_dir} is already complete"
        check_plan(output_dir, plan, plan_output(options, plan["source"], plan["fps"]))
        names = read_chunk_names(output_dir)[place::num_shares]
        tasks = {name: read_task(output_dir, name) for name in names if not is_finished(output_dir, name)}
        if any(task.job.code != hash_code() for task in tasks.values()):
            raise LedgerError(
                f"the code has changed since the chunks of {output_dir} were submitted; run the command with "
                "--executor slurm again"
            )
        waiting = list_uncut(output_dir, [task.job for task in tasks.values()])

        def take_chunks() -> Iterator[tuple[FinishJob, list[str]]]:
            for name, task in tasks.items():
                if not locks.enter_context(try_lock_file(work_path(output_dir, name))):
                    print(f"{name} is in work by another task", flush=True)
                elif not is_finished(output_dir, name):
                    refs.update(task.refs)
                    yield task.job, list_uncut(output_dir, [task.job])[name]

        num_all = sum(len(task.job.recordings) for task in tasks.values())
        num_waiting = sum(len(ids) for ids in waiting.values())
        cut_chunks(options, plan["fps"], take_chunks(), refs, num_waiting, num_all)
        num_finished = sum(is_finished(output_dir, name) for name in names)
    return f"share {options.share}: {num_finished:,} of {len(names):,} chunks are finished"
