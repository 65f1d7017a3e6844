"""One process or several: what they tell each other.

`torchrun` and `accelerate launch` start the same command several times and number the copies in
the environment; each batch is shared out among them, and only the first one writes.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among the others.

    Args:
        rank: Its number; the first one (0) writes.
        count: How many there are.
        device: That it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def share(self) -> tuple[int, int]:
        """(rank, count), as `data.batches` takes it."""
        return self.rank, self.count

    @property
    def is_first(self) -> bool:
        """Whether this one writes and shows progress."""
        return self.rank == 0

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        if self.count == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def any_of(self, number: int) -> int:
        """The largest `number` over all processes: what one was asked, all know."""
        if self.count == 1:
            return number
        values = torch.tensor(number, device=self.device)
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)

    def agree(self, model: nn.Module) -> None:
        """Give every process the first one's running statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that were launched together, connected for as long as the block runs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    is_ours = not distributed.is_initialized()
    if is_ours:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if is_ours:
            distributed.destroy_process_group()
