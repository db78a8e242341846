"""What is saved of an estimator: a description, as JSON, and arrays."""

from typing import Any

import numpy as np

from jaxnet.core import checks
from jaxnet.estimators import columns
from jaxnet.estimators.portable import FORMAT


def describe(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describes a fitted estimator for `portable.Model`.

    Returns:
        What JSON can hold, and a tree of arrays.

    Raises:
        InvalidValue: a preprocessor or a network of the user's.
    """
    for name in ("preprocessor", "network"):
        if getattr(estimator, name) is not None:
            raise checks.InvalidValue(
                f"expected {name}=None, as a file cannot hold a {name} of your own; pickle can. "
                f"Received: {checks.describe(getattr(estimator, name))}"
            )
    about, tensors = _describe_outputs(estimator)
    about |= {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "names": list(estimator._columns.names) if estimator._columns.of_frame else None,
        "columns": len(estimator._columns.names),
        "layers": len(estimator._layers),
        "numbers": [],
        "categories": [],
    }
    tensors["layers"] = estimator._layers
    parts = estimator.preprocessor_.named_transformers_
    if "numbers" in parts:
        about["numbers"] = estimator._columns.of(columns.NUMBER)
        imputer, encoder = parts["numbers"]["impute"], parts["numbers"]["encode"]
        about["indicators"] = imputer.indicator_.features_.tolist()
        about["ends"] = np.cumsum([len(edges) for edges in encoder.edges_])[:-1].tolist()
        tensors["medians"] = imputer.statistics_
        tensors["edges"] = np.concatenate(encoder.edges_)
        tensors["bin_means"] = encoder.bin_means_
        tensors["means"], tensors["scales"] = encoder.means_, encoder.scales_
    if "categories" in parts:
        names, encoder = estimator._columns.of(columns.CATEGORY), parts["categories"]
        each = zip(names, encoder.categories_, encoder.infrequent_categories_, strict=True)
        about["categories"] = [_describe_levels(*column) for column in each]
    _check_names(about)
    return about, tensors


def _describe_outputs(estimator: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describes how predictions are made of the outputs of the network."""
    kind, *_ = estimator._describe_outputs()
    if kind == "numbers":
        means, scales = estimator._target_means, estimator._target_scales
        tensors = {"target_means": np.asarray(means), "target_scales": np.asarray(scales)}
        return {"kind": kind, "is_column": estimator._is_column}, tensors
    classes = estimator.classes_
    about = {"classes": classes.tolist(), "dtype": classes.dtype.str}
    return {"kind": kind, "temperature": estimator.temperature_, **about}, {}


def _check_names(about: dict[str, Any]) -> None:
    """Checks that the names of a table's columns are strings, which JSON keeps."""
    for name in (*about["numbers"], *(each["name"] for each in about["categories"])):
        if about["names"] and not isinstance(name, str):
            raise checks.InvalidType(
                f"expected names of columns that are strings. Received: {name!r}"
            )


def _describe_levels(name: Any, known: np.ndarray, infrequent: np.ndarray | None) -> dict[str, Any]:
    """The categories with a column of their own, and whether the others share one."""
    rare = set() if infrequent is None else {_to_json(level) for level in infrequent}
    levels = [level for level in map(_to_json, known) if level not in rare]
    return {"name": name, "levels": levels, "others": infrequent is not None}


def _to_json(level: Any) -> str | None:
    return level if isinstance(level, str) else None  # NaN stands for a missing category
