"""Fitted estimators as ONNX models.

`graphs` is an ONNX graph as it grows, `rows` and `sequences` what rows of the engine's table are in
it, `models` what is around a network: inputs, links, labels.
"""

from fastbp.estimators.exporting.models import to_onnx

__all__ = ["to_onnx"]
