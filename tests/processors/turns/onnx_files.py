"""Tiny models in the format of ONNX, written by hand: `onnx.proto3` of onnx/onnx names the fields."""

from __future__ import annotations

from pathlib import Path

FLOAT, INTS, INT = 1, 7, 2  # of TensorProto.DataType, AttributeProto.AttributeType


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(data)) + data


def _tensor(name: str, *sizes: int | str) -> bytes:
    shape = b"".join(_field(1, _field(2 if isinstance(size, str) else 1, size)) for size in sizes)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape)))


def _node(kind: str, source: str, target: str, attributes: bytes = b"") -> bytes:
    return _field(1, source) + _field(2, target) + _field(4, kind) + attributes


def write_mean_model(path: Path, bands: int = 80, steps: int = 800) -> Path:
    """Write a model that takes features, and returns the sigmoid of their mean."""
    axes = _field(1, "axes") + b"".join(_field(8, axis) for axis in (1, 2)) + _field(20, INTS)
    keep = _field(1, "keepdims") + _field(3, 0) + _field(20, INT)
    nodes = (
        _node("ReduceMean", "input_features", "mean", _field(5, axes) + _field(5, keep)),
        _node("Sigmoid", "mean", "logits"),
    )
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny")
    graph += _field(11, _tensor("input_features", "batch", bands, steps)) + _field(12, _tensor("logits", "batch"))
    path.write_bytes(_field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13 - 2)))
    return path
