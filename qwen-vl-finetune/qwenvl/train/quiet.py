"""Messages of the libraries that nobody can act on, dropped one by one, by their text. Everything else is shown."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

# logger -> beginning of a message that is harmless: bitsandbytes' optional kernels on a CPU, which are not in this
# project's extras; DeepSpeed on a machine without a GPU, which the run's own plan already says; a tied head, which no
# checkpoint holds; other saving and logging steps on resume, which our own comparison of plans allows.
HARMLESS = {
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward from kernels-community",
    "DeepSpeed": "Setting accelerator to CPU",
    "transformers.trainer": "There were missing keys in the checkpoint model loaded: ['lm_head.weight']",
    "transformers.trainer_utils": "Warning: The following arguments do not match the ones in the `trainer_state.json`",
}
# peft asks transformers by the old name.
HARMLESS_WARNING = "`is_gradient_checkpointing` is deprecated"


class _Without(logging.Filter):
    """Drops the records that begin with one text."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self.beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginning)

    def __eq__(self, other: object) -> bool:  # a logger takes an equal filter once
        return isinstance(other, _Without) and other.beginning == self.beginning

    def __hash__(self) -> int:
        return hash(self.beginning)


def drop_harmless_messages() -> None:
    """Call before the libraries are loaded; calling it again changes nothing."""
    for name, beginning in HARMLESS.items():
        logging.getLogger(name).addFilter(_Without(beginning))
    warnings.filterwarnings("ignore", message=HARMLESS_WARNING, category=FutureWarning)


@contextlib.contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """No progress bar of transformers where nobody watches: in a log file it is one long line."""
    from transformers.utils import logging as transformers_logging

    if sys.stderr.isatty() or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
