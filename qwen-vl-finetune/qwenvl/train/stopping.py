"""Being asked to stop: SIGTERM ends the run after the step it is in, with a checkpoint behind it.

SIGTERM on any rank ──flag──▶ end of step: all ranks agree ──▶ checkpoint ──▶ exit code 143, to be continued

The same word at the end of a step says whether any rank skipped a row that the others do not know of.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import AuthenticationError
from typing import Any

import transformers

from qwenvl.data.child_process import STOP_SIGNALS, die_with_parent
from qwenvl.train.consensus import Consensus
from qwenvl.train.skips import SkipBook

STOPPED_CODE = 128 + signal.SIGTERM  # what a shell reports for a process that SIGTERM ended


class StopOnRequest(transformers.TrainerCallback):
    """Turns SIGTERM into a checkpoint and an end that all ranks take at the same step, while it is entered.

    Attributes:
        has_stopped: the run ended before its last step because it was asked to.
    """

    def __init__(self, ranks: Consensus, skip_book: SkipBook) -> None:
        self.is_asked = False
        self.has_stopped = False
        self._ranks = ranks
        self._skip_book = skip_book
        self._before: Any = None

    def __enter__(self) -> StopOnRequest:
        if threading.current_thread() is threading.main_thread():  # Python takes signals in no other
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: Any) -> None:
        self.is_asked = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A rank that stops alone would leave the others waiting.
        is_asked, has_news = self._ranks.any_of(self.is_asked, self._skip_book.has_news)
        if has_news:
            self._skip_book.share(self._ranks)
        if is_asked and state.global_step < state.max_steps:
            self.has_stopped = True
            control.should_save = True
            control.should_evaluate = False  # who asks to stop may not wait for it; the next start does it
            control.should_training_stop = True


def outlive_foreign_stop(worker_index: int = 0) -> None:
    """Let a loader's worker be ended by its own process alone, not by a signal to the whole group.

    torchrun and schedulers send SIGTERM to every process; a worker that dies of it takes its rank along in the middle
    of the step. Only the sender tells the two apart, which a Python handler is not told. Ctrl-C reaches every process
    too, and a worker would answer it with a traceback. A worker whose process was killed ends at once.
    """
    parent = os.getppid()
    die_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    sys.excepthook = _say_unless_cut_off
    threading.Thread(target=_wait_for_parent, args=(parent,), daemon=True).start()


def _say_unless_cut_off(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """For the thread that hands a batch's memory over: a training process that leaves meanwhile has said why."""
    if not issubclass(kind, ConnectionError | EOFError | AuthenticationError):
        sys.__excepthook__(kind, error, trace)


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
