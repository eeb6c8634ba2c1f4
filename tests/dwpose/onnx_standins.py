"""Small ONNX files of the layout of DWPose's two models: real convolutions with fixed random weights.

The detector answers to red: a grey picture has no person. Sizes are small, read from the file by the code.
"""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the stand-in models are written with the onnx package")
FLOAT = onnx.TensorProto.FLOAT

DET_SIDE = 64
POSE_SIZE = 48, 36  # height, width
STRIDES = (8, 16, 32)
CLASSES, POINTS, FEATURES = 80, 133, 8


def save_detector(path, batch):
    """YOLOX layout: images (batch, 3, 64, 64) -> output (batch, 84, 85)."""
    random = np.random.default_rng(0)
    nodes, constants, parts = [], {"scale": np.float32(1 / 255), "rows": np.array([0, 5 + CLASSES, -1])}, []
    nodes.append(node("Mul", ["images", "scale"], "x"))
    for s in STRIDES:
        redness = np.array([1.0, -0.5, -0.5])[:, None, None] / s**2
        weight = random.normal(size=(FEATURES, 3, s, s)) / s
        weight[0] = redness
        head = random.normal(size=(5 + CLASSES, FEATURES, 1, 1)) * 0.2
        head[4, :, 0, 0] = [12, *[0] * (FEATURES - 1)]
        bias = np.full(5 + CLASSES, -3.0)
        bias[:6] = 0.5, 0.5, 0.9, 1.4, -3, 2
        constants |= {f"w{s}": weight, f"h{s}": head, f"b{s}": bias}
        nodes += [
            node("Conv", ["x", f"w{s}"], f"f{s}", strides=[s, s]),
            node("Tanh", [f"f{s}"], f"t{s}"),
            node("Conv", [f"t{s}", f"h{s}", f"b{s}"], f"o{s}"),
            node("Reshape", [f"o{s}", "rows"], f"r{s}"),
        ]
        parts.append(f"r{s}")
    constants |= {"first": np.array([0]), "fifth": np.array([4]), "last": np.array([5 + CLASSES])}
    constants["axis"] = np.array([1])
    nodes += [
        node("Concat", parts, "all", axis=2),
        node("Slice", ["all", "first", "fifth", "axis"], "geometry"),
        node("Slice", ["all", "fifth", "last", "axis"], "logits"),
        node("Sigmoid", ["logits"], "scores"),
        node("Concat", ["geometry", "scores"], "columns", axis=1),
        node("Transpose", ["columns"], "output", perm=[0, 2, 1]),
    ]
    anchors = sum((DET_SIDE // s) ** 2 for s in STRIDES)
    shapes = {"output": [batch, anchors, 5 + CLASSES]}
    save(path, nodes, constants, {"images": [batch, 3, DET_SIDE, DET_SIDE]}, shapes)


def save_estimator(path, batch):
    """RTMPose layout: input (batch, 3, 48, 36) -> simcc_x (batch, 133, 72), simcc_y (batch, 133, 96)."""
    random = np.random.default_rng(1)
    height, width = POSE_SIZE
    cells = (height // 12) * (width // 12)
    constants = {
        "weight": random.normal(size=(POINTS, 3, 12, 12)) * 0.1,
        "to_x": random.normal(size=(cells, 2 * width)) * 0.15,
        "to_y": random.normal(size=(cells, 2 * height)) * 0.15,
        "offset": np.resize([0.3, -1.2, 0.0], POINTS)[:, None],
        "rows": np.array([0, POINTS, -1]),
    }
    nodes = [
        node("Conv", ["input", "weight"], "f", strides=[12, 12]),
        node("Tanh", ["f"], "t"),
        node("Reshape", ["t", "rows"], "r"),
        node("MatMul", ["r", "to_x"], "x"),
        node("MatMul", ["r", "to_y"], "y"),
        node("Add", ["x", "offset"], "simcc_x"),
        node("Add", ["y", "offset"], "simcc_y"),
    ]
    shapes = {"simcc_x": [batch, POINTS, 2 * width], "simcc_y": [batch, POINTS, 2 * height]}
    save(path, nodes, constants, {"input": [batch, 3, height, width]}, shapes)


def node(operator, inputs, output, **attributes):
    return onnx.helper.make_node(operator, inputs, [output], **attributes)


def save(path, nodes, constants, inputs, outputs):
    tensors = [
        onnx.numpy_helper.from_array(
            value if value.dtype == np.int64 else np.asarray(value, np.float32), name
        )
        for name, value in constants.items()
    ]
    ends = [
        [onnx.helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in group.items()]
        for group in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph(nodes, "stand-in", *ends, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
