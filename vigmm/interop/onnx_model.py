"""Prediction as an ONNX graph, by way of scikit-learn and skl2onnx: for runtimes without Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from vigmm.core.errors import OutputError
from vigmm.interop.sklearn_model import standardised_mixture
from vigmm.subject import posterior_of

__all__ = ["to_onnx"]


def to_onnx(source: Any) -> Any:
    """An ``onnx.ModelProto`` of the mixture that `vigmm.to_sklearn` gives.

    Its input ``rows`` is N x D of float64, N any number, in the units of the data and in the order of the
    model's columns (metadata ``columns``, one a line). Outputs are ``component`` (N), ``responsibilities``
    (N x K) and ``log_density`` (N). Rows are standardised in the graph, and all of it is in float64: columns
    far from zero keep their digits.

    Args:
        source: a `vigmm.Fit` or a `vigmm.Posterior`.

    Raises:
        SpecError: for components that are not Gaussian, and for a noise component.
        OutputError: if skl2onnx is not installed.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
        from skl2onnx import to_onnx as convert
        from skl2onnx.common.data_types import DoubleTensorType
    except ImportError as error:
        raise OutputError("ONNX needs skl2onnx; pip install 'vigmm[onnx]'") from error
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    posterior = posterior_of(source)
    mixture = standardised_mixture(posterior)
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = posterior.center, posterior.scale
    scaler.var_, scaler.n_features_in_ = posterior.scale**2, posterior.dim
    model = convert(
        make_pipeline(scaler, mixture),
        initial_types=[("rows", DoubleTensorType([None, posterior.dim]))],
        options={id(mixture): {"score_samples": True}},
    )
    graph = model.graph
    label, probabilities, inner = (one.name for one in graph.output)
    # The last one is the log density of standardised rows; its unit of volume is another.
    volume = np.log(posterior.scale).sum(keepdims=True)
    graph.initializer.append(numpy_helper.from_array(volume, "log_volume"))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "columns"))
    graph.node.append(helper.make_node("Squeeze", [label, "columns"], ["component"]))
    graph.node.append(helper.make_node("Identity", [probabilities], ["responsibilities"]))
    graph.node.append(helper.make_node("Sub", [inner, "log_volume"], ["shifted"]))
    graph.node.append(helper.make_node("Squeeze", ["shifted", "columns"], ["log_density"]))
    del graph.output[:]
    outputs: dict[str, tuple[int, list[int | None]]] = {
        "component": (TensorProto.INT64, [None]),
        "responsibilities": (TensorProto.DOUBLE, [None, posterior.num_components]),
        "log_density": (TensorProto.DOUBLE, [None]),
    }
    for name, (kind, shape) in outputs.items():
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    helper.set_model_props(model, {"columns": "\n".join(posterior.columns)})
    return model
