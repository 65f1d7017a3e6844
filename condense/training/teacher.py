"""The network that is imitated: in eval mode, without gradients."""

import torch
from torch import Tensor, nn

from condense.data import DataSet, batches
from condense.training.inputs import Inputs

CACHE_BYTES = 2**28
CACHE_BATCH = 256


class Teacher:
    """Answers of a teacher to the student's inputs.

    Args:
        model: The teacher itself; it is put on `device`, in eval mode.
        inputs: How the student's images are normalised.
        own: How the teacher's are.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, own: Inputs, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(requires_grad=False)
        self._answers: Tensor | None = None
        self._change: tuple[Tensor, Tensor] | None = None
        if (inputs.mean, inputs.std) != (own.mean, own.std):
            shift, scale, own_shift, own_scale = (
                torch.tensor(v, device=device).view(-1, 1, 1)
                for v in (*inputs.statistics, *own.statistics)
            )
            self._change = (scale / own_scale, (shift - own_shift) / own_scale)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits for images that are normalised for the student."""
        if self._change is not None:
            images = images * self._change[0] + self._change[1]
        logits: Tensor = self.model(images)
        return logits

    def remember(self, data: DataSet, inputs: Inputs) -> None:
        """Answer for all training images once, if the answers fit into memory.

        Only of use where each epoch shows the same images. Always in the same order and batches, so
        that a resumed run has the same answers to the last bit.
        """
        device = next(iter(self.model.parameters())).device
        chunks = []
        for images, _ in batches(data.train, CACHE_BATCH, device=device, **inputs.to_dict()):
            chunks.append(self(images))
            if chunks[0][0].nbytes * len(data.train) > CACHE_BYTES:
                return
        self._answers = torch.cat(chunks)

    def answer(self, images: Tensor, indices: Tensor) -> Tensor:
        """Logits for these images, which have these numbers in the training part."""
        if self._answers is None:
            return self(images)
        return self._answers[indices.to(self._answers.device)]
