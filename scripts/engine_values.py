"""Stores what ONNX Runtime computes for the fixture models, for tests/engine.rs to compare with.

    python scripts/engine_values.py        # needs numpy and onnxruntime; writes fixtures/models/*.values

Each file holds float32 numbers, little-endian: the logits of the first IMAGES test images, in order.
"""

import pathlib

import numpy as np
import onnxruntime as ort

IMAGES = 4
ROOT = pathlib.Path(__file__).resolve().parent.parent / "fixtures"


def main() -> None:
    raw = np.fromfile(ROOT / "data/test-1000-images-idx3-ubyte", np.uint8, offset=16)
    x = raw[: IMAGES * 28 * 28].reshape(IMAGES, 1, 28, 28).astype(np.float32)
    x = (x / np.float32(255) - np.float32(0.2860)) / np.float32(0.3530)
    for path in sorted((ROOT / "models").glob("*.onnx")):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"input": x})
        path.with_suffix(".values").write_bytes(logits.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
