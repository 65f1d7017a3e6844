"""Fused kernels of the Global layer. `condense.layers.fused` is their door."""

LANES = 8
"""So many maps go through the CPU's kernels side by side."""
