"""Whether losses, gradients and weights are numbers, asked without making the GPU wait for the answer.

loss, gradient norm ──isfinite, on the device──▶ flag ──copied aside──▶ looked at when it has arrived, or before a save
weights ──check_weights, before a save──▶ a checkpoint that cannot be continued from is never written
"""

from __future__ import annotations

from collections import deque

import torch

from driving.errors import DrivingError

ANOTHER_RATE = "another rate is another run: give it another --output_dir, or --overwrite_output True"


class LossWatch:
    """Raises for a loss or a gradient that is not finite.

    At once on a CPU, a step or so later on a GPU, always before a save.
    """

    def __init__(self) -> None:
        self._waiting: deque = deque()

    def note(self, value: torch.Tensor, ids: list[str], step: int, what: str = "loss") -> None:
        """Take the loss of a micro-batch, or a step's gradient norm; raises for it, or for an earlier one that arrived.

        Raises:
            DrivingError: It is not finite; names the step and the samples.
        """
        flag = torch.isfinite(value.detach())
        event = None
        if flag.is_cuda:
            host = torch.empty((), dtype=torch.bool, pin_memory=True)
            host.copy_(flag, non_blocking=True)
            flag, event = host, torch.cuda.Event()
            event.record()
        self._waiting.append((flag, event, value.detach(), what, ids, step))
        while self._waiting and (self._waiting[0][1] is None or self._waiting[0][1].query()):
            self._look()

    def check(self) -> None:
        """Wait for every flag; raises as `note` does."""
        while self._waiting:
            if self._waiting[0][1] is not None:
                self._waiting[0][1].synchronize()
            self._look()

    def _look(self) -> None:
        flag, _, value, what, ids, step = self._waiting.popleft()
        if not flag:
            raise DrivingError(
                f"the {what} is {value.item()} at step {step} on the samples {', '.join(ids)}; "
                f"look at them, or lower --learning_rate ({ANOTHER_RATE}); the last checkpoint is untouched"
            )


def check_weights(model: torch.nn.Module, step: int) -> None:
    """Raise where a trained weight is no number any more; a finite loss with a broken gradient leaves such weights.

    Raises:
        DrivingError: Names the first such weight and the step that it was found after.
    """
    trained = [(name, weight.detach()) for name, weight in model.named_parameters() if weight.requires_grad]
    # One look at the device, not one a weight. Under ZeRO-3 each rank sees its own shards only, or none.
    flags = torch.stack([weight.isfinite().all() for _, weight in trained]).tolist() if trained else []
    for (name, _), is_finite in zip(trained, flags, strict=True):
        if not is_finite:
            raise DrivingError(
                f"{name} holds values that are no numbers after step {step}; lower --learning_rate ({ANOTHER_RATE}); "
                "nothing is saved of this step, the last checkpoint is untouched"
            )
