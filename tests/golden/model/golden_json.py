"""Writes golden JSON: floats at 8 significant digits (f32 keeps 7.2), one line per innermost list."""

import json
from pathlib import Path

import numpy


def plain(value, digits=8):
    """Turns tensors, arrays and nested containers into plain Python values, floats rounded."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy() if value.is_floating_point() else value.cpu().numpy()
    if isinstance(value, numpy.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    value = float(value)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("golden values must be finite")
    value = float(f"{value:.{digits}g}")
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def render(value, indent=0):
    if isinstance(value, dict) and value:
        pad = " " * (indent + 1)
        lines = [f"{pad}{json.dumps(key, ensure_ascii=False)}: {render(entry, indent + 1)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    if isinstance(value, list) and any(isinstance(entry, (list, dict)) for entry in value):
        pad = " " * (indent + 1)
        return "[\n" + ",\n".join(pad + render(entry, indent + 1) for entry in value) + "\n" + " " * indent + "]"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(path, value, digits=8):
    Path(path).write_text(render(plain(value, digits)) + "\n", encoding="utf-8")
