"""torchrun, with an end that a person can read: this is what the launchers start several ranks with.

    python -m qwenvl.train.torchrun --nproc_per_node 2 -m qwenvl.train.train_qwen ...     torchrun's own arguments

    ranks end ──▶ each has said why, once a machine (qwenvl.train.ranks)
                  ──▶ here: the ranks that a signal ended, and one exit code; no report of the agent, no traceback

torchrun itself works as well; its report of a page and its traceback then stand under our one line.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from driving.errors import DrivingError, run_main

SHUTDOWN_TIMEOUT_S = 600  # after SIGTERM the ranks finish a step and write a checkpoint; torchrun kills after 30 s
AGAIN = "run the same command again to continue"


def main(argv: Sequence[str] | None = None) -> int:
    """Start the ranks of this machine and wait for their end; returns the exit code of the first that failed."""
    return run_main(lambda: run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The same without the line for an error."""
    import torch
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    if "LOGLEVEL" not in os.environ:
        logging.disable(logging.ERROR)  # the agent's log of what the ranks have said themselves
    options = torchrun.parse_args([*extra_flags(torchrun.get_args_parser()), *argv])
    check_port(options)
    try:
        with tempfile.TemporaryDirectory(prefix="ranks_") as folder:  # torchrun would leave one behind for every run
            options.log_dir = options.log_dir or folder
            torchrun.run(options)
    except ChildFailedError as error:
        return report_failures(error.failures)
    except SignalException as stopped:
        if stopped.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + stopped.sigval
    except (RendezvousError, torch.distributed.DistError) as error:
        raise DrivingError(
            f"the launchers of {options.nnodes} machines did not find each other at MASTER_ADDR={options.master_addr} "
            f"MASTER_PORT={options.master_port} ({str(error).splitlines()[0]}); all of them need the same two values, "
            "and NODE_RANK=0 runs on that machine"
        ) from error
    return 0


def extra_flags(parser: Any) -> list[str]:
    """More time for a last checkpoint, where this torch can be told."""
    if "--shutdown-timeout" in parser._option_string_actions:
        return ["--shutdown-timeout", str(SHUTDOWN_TIMEOUT_S)]
    return []


def check_port(options: Any) -> None:
    """Raise where the first of several machines cannot open the port at which the others look for it.

    On one machine (--standalone) torchrun takes a free port itself.
    """
    if options.standalone or int(options.node_rank) != 0 or not options.master_port:
        return
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        socket.create_server(("", options.master_port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise DrivingError(
            f"MASTER_PORT={options.master_port} cannot be opened on this machine ({reason}); another run may hold it: "
            "give every machine of this run another one"
        ) from error


def report_failures(failures: dict[int, Any]) -> int:
    """Print what ended the ranks that had no time to say it; returns the exit code for all of them.

    Args:
        failures: {rank: torch's ProcessFailure}. The agent ends the ranks that are left with SIGTERM; those count only
            where no other has failed.
    """
    causes = {rank: failure for rank, failure in failures.items() if failure.exitcode != -signal.SIGTERM} or failures
    for rank, failure in sorted(causes.items()):
        if failure.exitcode < 0:
            hint = "the machine may be out of memory (dmesg says so); " if failure.exitcode == -signal.SIGKILL else ""
            print(f"error: rank {rank} was ended by {failure.signal_name()}; {hint}{AGAIN}", file=sys.stderr)
    code = min(causes.values(), key=lambda failure: failure.timestamp).exitcode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
