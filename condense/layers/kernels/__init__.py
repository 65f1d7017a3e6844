"""Fused kernels of the Global layer. `condense.layers.fused` is their door."""
