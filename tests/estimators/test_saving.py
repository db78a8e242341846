"""A saved estimator predicts with NumPy alone, in an interpreter where JAX cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

import jaxnet
from jaxnet.estimators import DenseClassifier, DenseRegressor, portable

SMALL = {"hidden": (8,), "members": 2, "epochs": 2, "random_state": 0}
RANDOM = np.random.default_rng(0)
ROWS = 40
FRAME = pd.DataFrame(
    {
        "weight": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.normal(150, 20, ROWS)),
        "colour": RANDOM.choice(["red", "green", None], ROWS),
        "ripe": pd.array(RANDOM.choice([True, False, None], ROWS), "boolean"),
        "size": pd.Categorical(RANDOM.choice([1, 2, 3], ROWS)),
        "grower": [f"grower {i}" for i in range(20)] * 2,
        "shop": ["north", *["south"] * (ROWS - 1)],
    }
)
KIND = np.where(FRAME["colour"] == "red", "apple", "pear")
NEW = pd.DataFrame(
    {
        "shop": ["west", None, "south"],
        "weight": [np.nan, 1e6, -3.0],
        "colour": ["red", "violet", None],
        "ripe": pd.array([True, None, False], "boolean"),
        "size": pd.Categorical([9, 2, None]),
        "grower": ["grower 1", "nobody", "grower 19"],
    }
)


@pytest.fixture(scope="module")
def classifier():
    return DenseClassifier(**SMALL).fit(FRAME, KIND)


@pytest.fixture(scope="module")
def regressor():
    return DenseRegressor(**SMALL).fit(RANDOM.normal(size=(ROWS, 3)), RANDOM.normal(size=ROWS))


# JAX, scikit-learn, pandas and jaxnet raise an ImportError; only the file itself is copied.
READER = """
import json, sys
for name in ("jax", "jaxnet", "sklearn", "pandas", "scipy", "safetensors"):
    sys.modules[name] = None
sys.path.insert(0, {folder!r})
import portable
model = portable.load({path!r})
X = json.loads({rows!r})
answers = [model.predict(X).tolist()]
if hasattr(model, "classes_"):
    answers.append(model.predict_proba(X).tolist())
print(json.dumps(answers))
"""


def read_without_jax(tmp_path, estimator, rows):
    path = tmp_path / "saved.model"
    estimator.save(path)
    (tmp_path / "portable.py").write_bytes(Path(portable.__file__).read_bytes())
    script = READER.format(folder=str(tmp_path), path=str(path), rows=json.dumps(rows))
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("rows", [FRAME, NEW], ids=["known", "new"])
def test_a_classifier_predicts_without_jax(rows, classifier, tmp_path):
    plain = rows.astype(object).where(rows.notna(), None).to_dict("list")
    labels, probabilities = read_without_jax(tmp_path, classifier, plain)
    assert labels == classifier.predict(rows).tolist()
    # In float64 a sum of some hundred products may differ in the order of its terms.
    np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), rtol=1e-12)
    read = portable.load(tmp_path / "saved.model")
    assert read.predict_proba(rows[::-1]).tolist() == pytest.approx(np.array(probabilities)[::-1])


def test_a_regressor_predicts_without_jax(regressor, tmp_path):
    rows = [[0.5, None, 1e9], [-0.5, 2, 3]]
    (numbers,) = read_without_jax(tmp_path, regressor, rows)
    expected = regressor.predict(np.array(rows, float))
    np.testing.assert_allclose(numbers, expected, rtol=1e-12)
    with pytest.raises(AttributeError, match="expected a classifier"):
        portable.load(tmp_path / "saved.model").predict_proba(rows)
    with pytest.raises(ValueError, match=r"expected numbers \[rows, 3\]. Received: \[1, 2\]"):
        portable.load(tmp_path / "saved.model").predict([[1.0, 2.0]])


def test_a_changed_byte_is_found(regressor, tmp_path):
    path = tmp_path / "saved.model"
    regressor.save(path)
    data = bytearray(path.read_bytes())
    for place in (3, 90, 200, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match="corrupt"):
            portable.load(path)
        data[place] ^= 1
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="corrupt"):
        portable.load(path)
    jaxnet.save(path, {"weights": np.ones(3)})
    with pytest.raises(ValueError, match="expected a file of an estimator"):
        portable.load(path)


def test_the_file_is_one_of_jaxnet(regressor, tmp_path):
    path = tmp_path / "saved.model"
    regressor.save(path)
    assert set(jaxnet.load_metadata(path)) == {"estimator"}
    assert set(portable.load(path).versions) == {
        "python",
        "jax",
        "jaxlib",
        "jaxnet",
        "numpy",
        "optax",
    }


def test_what_a_file_cannot_hold_is_refused(tmp_path):
    X, y = RANDOM.normal(size=(ROWS, 3)), RANDOM.normal(size=ROWS)
    own = DenseRegressor(preprocessor=StandardScaler(), **SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"^DenseRegressor.save: expected preprocessor=None"):
        own.save(tmp_path / "saved.model")
    assert not list(tmp_path.iterdir())
