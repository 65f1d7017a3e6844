"""A model as one ONNX file, which is checked against PyTorch before anyone sees it."""

from condense.export.agreement import ExportCheck, open_session
from condense.export.onnx_file import export_onnx

__all__ = ["ExportCheck", "export_onnx", "open_session"]
