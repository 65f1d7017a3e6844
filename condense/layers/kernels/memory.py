"""Tensors as arrays, and how the maps of a batch lie in memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.layers.kernels import LANES


def memory_format(h: Tensor, f: Tensor | None) -> torch.memory_format:
    """Of what `global_layer` gives: channels_last, if it is given that and lanes divide C."""
    maps = (h,) if f is None else (h, f)
    is_last = (
        h.device.type != "cuda"
        and h.shape[1] % LANES == 0
        and all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
        and not all(m.is_contiguous() for m in maps)
    )
    return torch.channels_last if is_last else torch.contiguous_format


def as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Its memory, if it is contiguous."""
    return tensor.detach().contiguous().numpy()


def as_maps(maps: Tensor) -> np.ndarray[Any, Any]:
    """All values in one row; a view if the maps are contiguous."""
    return as_array(maps).reshape(-1)


def as_tensor(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    """Of the same type as `like`."""
    return torch.from_numpy(values).to(like.dtype)
