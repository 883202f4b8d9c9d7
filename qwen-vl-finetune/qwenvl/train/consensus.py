"""Short words between the processes of a run, from host to host: an answer read back from a GPU makes a step wait."""

from __future__ import annotations

from typing import Any

import torch


class Consensus:
    """Every method is called by all ranks alike, or none of them goes on."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._group: Any = None

    def any_of(self, *claims: bool) -> list[bool]:
        """For each claim whether any rank makes it."""
        if self.world_size == 1:
            return list(claims)
        said = torch.tensor([int(claim) for claim in claims])
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX, group=self._join())
        return [bool(value) for value in said]

    def gather(self, value: Any) -> list[Any]:
        """The value of each rank, in their order."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        torch.distributed.all_gather_object(values, value, group=self._join())
        return values

    def _join(self) -> Any:
        if self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        return self._group
