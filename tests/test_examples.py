"""The examples, run as a user runs them, and read as a user reads them."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TABLE = (EXAMPLES / "fruit.csv").read_text()
NUMBER = r"-?\d+\.\d+"


def run(
    folder: Path, name: str, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """The example as a program of its own, without the settings of the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA", "PYTHON"))}
    settings = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **helpers.QUIET, **settings}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=kept | settings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=helpers.HANGS,
    )


def output(folder: Path, name: str, *arguments: str, **settings: str) -> str:
    result = run(folder, name, *arguments, **settings)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def numbers(text: str, start: str) -> list[float]:
    """Those in the line that starts so."""
    lines = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert len(lines) == 1, text
    return [float(n) for n in re.findall(NUMBER, lines[0])]


@pytest.fixture
def sort_fruit(monkeypatch: pytest.MonkeyPatch):
    """The module, whose neighbours are found as when it is run."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__("sort_fruit")


def test_make_fruit_makes_the_table(tmp_path: Path) -> None:
    output(tmp_path, "make_fruit.py", "fruit.csv")
    assert (tmp_path / "fruit.csv").read_bytes() == (EXAMPLES / "fruit.csv").read_bytes()


def test_sort_fruit(tmp_path: Path) -> None:
    text = output(tmp_path, "sort_fruit.py")
    assert float(re.findall(r"The estimator recognizes ([\d.]+)% of", text)[0]) >= 90
    for optimizer, steps in [("gradient descent", 100), ("SGD", 1500), ("Adam", 1500)]:
        accuracy, _ = numbers(text, optimizer)
        assert 0.9 <= accuracy < 1
        assert re.search(rf"{optimizer} +\w+ +{steps} ", text)

    confusion = [
        [int(n) for n in row.split()]
        for row in re.findall(r"^(?:apple|banana|orange) +((?:\d+ *){3})$", text, re.MULTILINE)
    ]
    assert [sum(row) for row in confusion] == [50, 50, 50]  # a quarter of 600, stratified
    hits = [row[i] for i, row in enumerate(confusion)]
    assert accuracy == pytest.approx(sum(hits) / 150, abs=5e-4)

    scores = re.findall(rf"^\w+ +({NUMBER}) +({NUMBER}) +({NUMBER})$", text, re.MULTILINE)
    for i, (precision, recall, f1) in enumerate(scores):
        taken = sum(row[i] for row in confusion)
        assert float(precision) == pytest.approx(hits[i] / taken, abs=5e-4)
        assert float(recall) == pytest.approx(hits[i] / 50, abs=5e-4)
        assert float(f1) == pytest.approx(2 * hits[i] / (taken + 50), abs=5e-4)
    assert len(scores) == 3

    assert "A smooth red fruit of 150 g, medium for its kind: apple 9" in text
    for sentence in re.findall(r"^A smooth .*", text, re.MULTILINE):
        percents = [float(n) for n in re.findall(rf"({NUMBER})%", sentence)]
        assert percents == sorted(percents, reverse=True)
        assert sum(percents) == pytest.approx(100, abs=0.15)  # three numbers, rounded to 0.1


def test_sort_fruit_takes_ones_own_table(tmp_path: Path, sort_fruit, capsys, monkeypatch) -> None:
    """As small as it may be, and typed as people type; the same again, but for the seconds."""
    header, *rows = (line.split(",") for line in TABLE.splitlines())
    few = [row for fruit in ("apple", "banana", "orange") for row in rows if row[-1] == fruit][::50]
    lines = [header, *few]
    shuffled = [";".join(reversed(line)).replace(";", " , ").upper() + ",a note" for line in lines]
    path = tmp_path / "mine.csv"
    path.write_text("\ufeff" + "\r\n\r\n".join(shuffled), encoding="utf-8")
    monkeypatch.setattr(sort_fruit, "EPOCHS", 1)
    for name in ("gradient descent", "SGD"):  # one will do
        monkeypatch.delitem(sort_fruit.OPTIMIZERS, name)
    texts = []
    for _ in range(2):
        sort_fruit.main(path)
        text = capsys.readouterr().out
        texts.append(re.sub(rf" +{NUMBER}$", "", text, count=1, flags=re.MULTILINE))
    assert texts[0].startswith("12 pieces of fruit: 9 to learn from, 3 held out.\n")
    assert texts[0] == texts[1]


HEADER = "weight,colour,texture,size,fruit"


def row(line: int, cells: str) -> str:
    """The table, with something else in a line; the header is line 1."""
    lines = TABLE.splitlines()
    lines[line - 1] = cells
    return "\n".join(lines)


MALFORMED = {
    "no weight": (row(1, "mass,colour,texture,size,fruit"), "line 1: expected one column weight"),
    "two sizes": (row(1, "weight,colour,size,size,fruit"), "line 1: expected one column texture"),
    "twice": (row(1, HEADER + ",size"), "line 1: expected one column size. Received: 2"),
    "no header": (TABLE.partition("\n")[2], "line 1: expected one column weight"),
    "semicolons": (TABLE.replace(",", ";"), "line 1: expected one column weight"),
    "colour": (row(7, "150,purple,smooth,small,apple"), "line 7, column colour: "),
    "texture": (row(7, "150,red,soft,small,apple"), "line 7, column texture: "),
    "size": (row(7, "150,red,smooth,huge,apple"), "line 7, column size: "),
    "fruit": (row(7, "150,red,smooth,small,pear"), "line 7, column fruit: "),
    "empty": (row(7, "150,,smooth,small,apple"), "line 7, column colour: "),
    "no number": (row(601, "heavy,red,smooth,small,apple"), "line 601, column weight: "),
    "no weight given": (row(7, ",red,smooth,small,apple"), "line 7, column weight: "),
    "decimal comma": (row(7, '"150,5",red,smooth,small,apple'), "line 7, column weight: "),
    "zero": (row(7, "0,red,smooth,small,apple"), "line 7, column weight: "),
    "negative": (row(7, "-150,red,smooth,small,apple"), "line 7, column weight: "),
    "NaN": (row(7, "nan,red,smooth,small,apple"), "line 7, column weight: "),
    "infinite": (row(7, "inf,red,smooth,small,apple"), "line 7, column weight: "),
    "overflow": (row(7, "1e999,red,smooth,small,apple"), "line 7, column weight: "),
    "too short": (row(7, "150,red,smooth"), "line 7, column size: "),
    "too long": (row(7, "150,red,smooth,small,apple,ripe"), "Expected 5 fields in line 7, saw 6"),
    "after blank lines": (row(7, "\n\n0,red,smooth,small,apple"), "line 9, column weight: "),
    "after a line break": (row(7, '1,"a\nb",c,d,e'), "line 7, column colour: "),
    "open quote": (row(7, '"150,red,smooth,small,apple'), "EOF inside string starting at row 6"),
    "empty file": ("", ": No columns to parse from file"),
    "blank file": ("\n \n,,\n", ": No columns to parse from file"),
    "commas only": (",,\n,,\n", "line 1: expected one column weight. Received: 0"),
    "only a header": (HEADER, ": expected at least 4 rows of apple. Received: 0"),
    "too few": (
        "\n".join(TABLE.splitlines()[:8]),
        ": expected at least 4 rows of apple. Received: 3",
    ),
    "spreadsheet": (b"PK\x03\x04\x90\xff", ": 'utf-8' codec can't decode byte"),
    "one kind": (
        HEADER + 9 * "\n1,red,smooth,small,apple",
        ": expected at least 4 rows of banana. Received: 0",
    ),
}


@pytest.mark.parametrize(("table", "words"), MALFORMED.values(), ids=MALFORMED)
def test_sort_fruit_refuses_a_malformed_table(
    tmp_path: Path, sort_fruit, table: str | bytes, words: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(SystemExit) as exit_:
        sort_fruit.main(path)
    message = str(exit_.value.code)  # which Python prints to stderr, and exits with 1
    assert message.startswith(str(path))
    assert words in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_sort_fruit_fails_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(row(7, "150,purple,smooth,small,apple"))
    result = run(tmp_path, "sort_fruit.py", "mine.csv")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "mine.csv: line 7, column colour: expected one of red, yellow, orange, green. "
        "Received: 'purple'\n"
    )


def test_sort_fruit_misses_the_table(tmp_path: Path) -> None:
    result = run(tmp_path, "sort_fruit.py", "mine.csv")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "mine.csv: No such file or directory\n"


def test_read_digits(tmp_path: Path) -> None:
    text = output(tmp_path, "read_digits.py")
    (percent,) = re.findall(rf"Read ({NUMBER})% of 450 held-out digits", text)
    assert float(percent) >= 97
    mistakes = re.findall(r"^  (\d) taken for (\d): (\d+) of (\d+)$", text, re.MULTILINE)
    assert len(mistakes) == 3
    counts = [int(count) for _, _, count, _ in mistakes]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) <= 450 - round(4.5 * float(percent))
    is_, read_as = re.findall(r"a (\d) that the network reads as a (\d)", text)[0]
    assert is_ != read_as
    picture = text.splitlines()[-8:]
    assert all(re.fullmatch(r"  [ .:\-=+*#%@]{16}", line) for line in picture)


def test_custom_loop(tmp_path: Path) -> None:
    text = output(tmp_path, "custom_loop.py")
    costs = [float(n) for n in re.findall(rf"last batch ({NUMBER})", text)]
    assert len(costs) == 4
    assert costs[-1] < costs[0]
    assert numbers(text, "held-out accuracy")[0] >= 0.95
    table = [numbers(text, f"seed {seed}") for seed in range(3)]
    assert numbers(text, "rate") == [0.0001, 0.001, 0.01, 0.1]
    assert all(len(values) == 4 for values in table)
    assert len({tuple(values) for values in table}) == 3  # other keys, other runs
    assert all(max(values) >= 0.95 > values[0] for values in table)  # 0.0001 is too low a rate


@functools.cache
def article() -> str:
    return output(ROOT, "article.py")


def test_article_neuron_softmax_and_losses() -> None:
    text = article()
    assert numbers(text, "z  ")[-2:] == [2.5, -0.8]
    assert numbers(text, "linear") == [2.5, -0.8]
    assert numbers(text, "ReLU") == [2.5, 0]
    assert numbers(text, "sigmoid") == [0.924142, 0.310026]  # 1 / (1 + exp(-2.5)), mpmath
    assert numbers(text, "binary step") == [1, 0]
    probabilities = numbers(text, "softmax  ")
    assert [round(p, 2) for p in probabilities] == [0.88, 0.12, 0]
    assert numbers(text, "their sum") == [1]
    assert "0.7744 + 0.7744 + 1e-08 = 1.5488\n" in text
    assert numbers(text, "mean absolute error") == [0.5867]  # (0.88 + 0.88 + 0.0001) / 3
    assert numbers(text, "cross-entropy") == [2.1203]  # -log(0.12)


def test_article_backpropagation_by_hand_is_jaxs() -> None:
    text = article()
    rows = re.findall(rf"^  \w+\[[01,]+\] +({NUMBER}(?: +{NUMBER}){{4}})$", text, re.MULTILINE)
    assert len(rows) == 9  # 2 x 2 weights and 2 biases, 2 weights and 1 bias
    for values in rows:
        before, by_hand, jax_grad, after, jaxnet_after = (float(n) for n in values.split())
        # Half a unit of the last digit printed on each side, and float32's rounding.
        assert jax_grad == pytest.approx(by_hand, abs=1.1e-6)
        assert jaxnet_after == pytest.approx(after, abs=1.1e-6)
        assert after == pytest.approx(before - 0.5 * by_hand, abs=1.6e-6)
    falls = re.findall(rf"falls from ({NUMBER}) to ({NUMBER})", text)
    assert float(falls[0][0]) > float(falls[0][1])


def launch(folder: Path, script: str, *arguments: str, **settings: str) -> str:
    """A shell script of the examples, as a user starts it in the folder above `examples`."""
    (folder / "examples").symlink_to(EXAMPLES) if not (folder / "examples").exists() else None
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA", "PYTHON"))}
    settings = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **helpers.QUIET, **settings}
    result = subprocess.run(
        ["sh", f"examples/{script}", *arguments],
        env=kept | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=helpers.HANGS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_many_networks_in_parts(tmp_path: Path) -> None:
    """Two tasks of a job array, which keep their programs on disk, as the README advises."""
    keep = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    keep |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    for task in (1, 0):
        number = {"SLURM_ARRAY_TASK_ID": str(task), "PARTS": "2"}
        text = launch(tmp_path, "launch_slurm.sh", **number, **keep)
        assert task == 0 or text == "72 of 144 networks are trained\n"
    picture = tmp_path / "many_networks.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    rows = re.findall(r"width +(\d+): error (0\.\d+) .* rate, (0\.\d+)$", text, re.MULTILINE)
    errors = {int(width): float(error) for width, error, _ in rows}
    assert list(errors) == [8, 32, 128]
    assert errors[128] < errors[8] < 0.15
    assert all(0.001 < float(rate) < 0.1 for *_, rate in rows)  # neither the smallest nor largest


@pytest.mark.slow
def test_many_networks_in_processes(tmp_path: Path) -> None:
    """Processes that share what is missing, then a call alone.

    They keep no programs, since one could read what another has half written.
    """
    keep_none = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "3600"}
    text = output(tmp_path, "many_networks.py")
    picture = tmp_path / "many_networks.png"
    picture.unlink()
    files = sorted((tmp_path / "many_networks").glob("runs-*"))
    files[0].unlink()
    assert launch(tmp_path, "launch_processes.sh", **keep_none) == text * 3
    assert picture.exists()
    files[-1].unlink()
    counts = output(tmp_path, "launch_joblib.py", **keep_none)
    assert counts == "a process returned 144 networks\n" * 3


def test_search_optuna(tmp_path: Path) -> None:
    text = output(tmp_path, "search_optuna.py")
    loss = float(text.split("the lowest loss is ")[1].split()[0])
    assert text.startswith("96 trials;") and 0.05 < loss < 0.2
    assert 1e-4 < numbers(text, "rate")[0] < 1 and 0 <= numbers(text, "momentum")[0] < 0.99


def test_crowded_valley(tmp_path: Path) -> None:
    text = output(tmp_path, "crowded_valley.py", "results", "--quick")
    assert text.startswith("40 runs in ")  # 4 contenders, 8 trials and 2 seeds of the best
    names = ["gradient descent", "gradient descent, cosine", "SGD", "SGD, cosine"]
    for name in names:
        assert re.search(rf"^{name}  +\d+\.\d+ +\d +\d$", text, re.MULTILINE)
    assert len((tmp_path / "results" / "trials.csv").read_text().splitlines()) == 33
    assert (tmp_path / "results" / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_data_larger_than_memory_train_as_well_as_data_in_memory(tmp_path: Path) -> None:
    """With one line changed, to another order of the examples."""
    accuracies = [
        numbers(output(tmp_path, "larger_than_memory.py", "--from", source), "accuracy")[0]
        for source in ("memory", "file", "iterator")
    ]
    assert min(accuracies) > 0.7
    assert max(accuracies) - min(accuracies) < 0.05
