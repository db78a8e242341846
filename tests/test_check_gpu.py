"""The check on a GPU, as far as it goes without one: its parts in small, and where they fail."""

import argparse
import re
import subprocess
import sys
import time
import types

import benchmark
import check_gpu
import helpers
import jax
import jax.numpy as jnp
import pytest
from benchmarking.contenders import jaxnet_train
from benchmarking.workloads import workloads
from check_gpu import Part
from checking_gpu import children, device_tests, many, products, repeatability, speed, trials
from checking_gpu.children import Failed, Setting
from checking_gpu.outcome import Outcome
from checking_gpu.section import HEADING, replace_section
from tqdm import tqdm

SETTING = Setting("cpu", reduced=True)
DEVICE = {"platform": "cpu", "kind": "abacus", "count": 1, "version": "2", "memory": 8e10}
SAME_PROGRAMS = ("W3 memmap", "W5 x256")  # as W3 and W5 x64
TRAININGS = [w for w in workloads(quick=False) if w.name not in SAME_PROGRAMS]
REST = "# Benchmarks\n\ntext\n"
LINE = "---\n\nMeasured\n\n## W1\n"


# The section of the file.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{HEADING}\n\nnew\n"),
        (REST, f"{REST}\n{HEADING}\n\nnew\n"),
        (f"{REST}\n{LINE}", f"{REST}\n{HEADING}\n\nnew\n\n{LINE}"),
        (f"{REST}\n{HEADING}\n\nold\n\n### W1\n\n{LINE}", f"{REST}\n{HEADING}\n\nnew\n\n{LINE}"),
        (f"{REST}\n{HEADING}\n\nold\n\n## Next\n", f"{REST}\n{HEADING}\n\nnew\n\n## Next\n"),
        (f"{HEADING}\n\n| a |\n| --- |\n", f"{HEADING}\n\nnew\n"),
    ],
    ids=["no file", "no section", "a line", "an earlier one", "another section", "a table"],
)
def test_section_is_replaced_and_the_rest_stays(tmp_path, before, after):
    path = tmp_path / "file.md"
    if before:
        path.write_text(before)
    for _ in range(2):
        replace_section(path, f"{HEADING}\n\nnew\n")
        assert path.read_text() == after


def test_benchmarks_have_one_such_section():
    text = (children.ROOT / "BENCHMARKS.md").read_text()
    assert text.count(f"\n{HEADING}\n") == 1
    assert text.index(HEADING) < text.index("\n---\n")


# The script, with parts that cost nothing.


def fail(error):
    return lambda setting, seconds: helpers.raise_(error)


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Calls the script with parts; the file that it writes has a section already."""
    path = tmp_path / "file.md"

    def call(*parts, arguments=("--reduced", "--output", str(path))):
        path.write_text(f"{HEADING}\n\nold\n")
        monkeypatch.setattr(check_gpu, "REDUCED", list(parts))
        monkeypatch.setattr(check_gpu, "ask", lambda *_: DEVICE)
        monkeypatch.setattr(sys, "argv", ["check_gpu.py", *arguments])
        return check_gpu.main(), path.read_text()

    return call


GOOD = Part("good", 1, lambda setting, seconds: Outcome("fine"))


def test_a_part_that_fails_is_reported_and_the_others_go_on(check):
    broken = Part("broken", 1, fail(RuntimeError("no such\nthing")))
    late = Part("late", 1, fail(Failed("its time was up")))
    status, text = check(broken, late, GOOD)
    assert status == 0
    assert "### Broken\n\nFailed: RuntimeError: no such thing.\n" in text
    assert "### Late\n\nFailed: its time was up.\n" in text
    assert text.endswith("### Good\n\nfine\n") and "old" not in text
    assert "abacus, 80.0 GB for JAX" in text


@pytest.mark.parametrize("run", [fail(Failed("no test ran")), lambda *_: Outcome("", passed=False)])
def test_a_check_that_fails_decides_the_status(check, run):
    assert check(Part("tests", 1, run, is_check=True), GOOD)[0] == 1


def test_ctrl_c_leaves_the_file_as_it_is(check):
    assert check(GOOD, Part("long", 1, fail(KeyboardInterrupt()))) == (130, f"{HEADING}\n\nold\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reduced"], "expected --output"),
        (["--only", "tests"], "expected --output"),
        (["--only", "test", "--output", "file"], "expected parts among tests, repeatability, W1"),
    ],
)
def test_wrong_arguments(check, capsys, arguments, words):
    with pytest.raises(SystemExit, match="2"):
        check(GOOD, arguments=arguments)
    assert words in capsys.readouterr().err


def test_a_part_has_what_is_left_when_the_later_parts_have_theirs():
    given = []

    def run(setting, seconds):
        given.append(round(seconds))
        return Outcome("")

    check_gpu.perform([Part(name, 100, run) for name in "abc"], SETTING, 1000)
    assert given == [800, 900, 1000]
    assert sum(part.seconds for part in check_gpu.PARTS) <= 60 * check_gpu.MINUTES


# Children.


def test_a_child_ends_with_all_that_it_started_when_its_time_is_up():
    script = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']).pid)\n"
        "sys.stdout.flush(); time.sleep(1000)"
    )
    finished = children.run(SETTING, [sys.executable, "-c", script], 2)
    assert finished.status is None
    for _ in range(1000):
        if not is_running(int(finished.output)):
            return
        time.sleep(0.01)
    raise AssertionError("the child's child goes on")


def is_running(process):
    """It may be a zombie until its new parent has asked for it."""
    command = ["ps", "-o", "stat=", "-p", str(process)]
    state = subprocess.run(command, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_a_child_that_fails_is_an_error_with_its_last_line():
    with pytest.raises(Failed, match=r"status 1: .*No module named checking_gpu\.nothing"):
        children.ask(SETTING, 60, "nothing")


# The parts.


@pytest.mark.parametrize("workload", TRAININGS, ids=lambda w: w.name)
def test_a_training_can_be_lowered_for_cuda(workload):
    """With the update and the loops, as there is no GPU to run it."""
    many = (workload.networks,) if workload.networks > 1 else ()

    def array(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    weights = [
        (array(*many, i, o), array(*many, o))
        for i, o in zip(workload.sizes, workload.sizes[1:], strict=False)
    ]
    labels = array(workload.examples, dtype=jnp.int32)
    targets = labels if workload.classifies else array(workload.examples, workload.sizes[-1])
    data = array(workload.examples, workload.sizes[0]), targets
    train = jaxnet_train(workload)
    if many:
        train = jax.vmap(train, (0, 0, 0, None))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), many) if many else KEY)
    traced = jax.jit(train).trace(weights, array(*many), keys, data)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.while" in text and "stablehlo.dot_general" in text
    assert "callback" not in text


KEY = jax.random.key(0)

ALONE = """
tests/a.py::test_one[a b] PASSED                                         [ 50%]
tests/a.py::test_two FAILED                                              [100%]
tests/a.py::test_three SKIPPED (other devices run more lanes)            [100%]
FAILED tests/a.py::test_two - assert 1 == 2
"""
PARALLEL = "\n".join(
    [
        "[gw0] [ 33%] PASSED tests/a.py::test_one[a b] ",
        "[gw1] [ 66%] FAILED tests/a.py::test_two ",
        "[gw0] [100%] SKIPPED tests/a.py::test_three ",
        "FAILED tests/a.py::test_two - assert 1 == 2",
    ]
)


@pytest.mark.parametrize("output", [ALONE, PARALLEL], ids=["alone", "parallel"])
def test_verdicts_are_counted(output):
    counts, failed = device_tests.count(output)
    assert counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert failed == ["tests/a.py::test_two"]


@pytest.mark.parametrize(
    ("status", "passed", "words"),
    [(0, True, "1 passed"), (1, False, "`tests/a.py::test_two`"), (None, False, "60 s, was up")],
)
def test_tests_that_fail_or_do_not_end_are_no_success(monkeypatch, status, passed, words):
    output = ALONE if status else ALONE.replace("FAILED", "PASSED")
    monkeypatch.setattr(device_tests, "run", lambda *_, **__: children.Finished(status, output))
    outcome = device_tests.check(SETTING, 60)
    assert outcome.passed == passed and words in outcome.text.replace("2 passed", "1 passed")


def test_the_tests_on_a_device_exist():
    for name in [*device_tests.TESTS, *device_tests.FEW]:
        assert (children.ROOT / "tests" / name).exists()


@pytest.mark.parametrize("differs", [None, "second", "resumed", "lost"])
def test_other_bits_are_noticed(monkeypatch, differs):
    """In another process, after an interruption, or because a run began anew."""
    calls = []

    def ask(setting, seconds, module, size, part, folder, **environment):
        assert "--xla_gpu_deterministic_ops=true" in environment["XLA_FLAGS"]
        calls.append("half" if part == "half" else ["first", "second", "", "resumed"][len(calls)])
        done = 2 if calls[-1] == "resumed" and differs != "lost" else 0
        bits = "b" if calls[-1] == differs else "a"
        return {"digests": {"small": bits}, "done": {"small": done}}

    monkeypatch.setattr(repeatability, "ask", ask)
    outcome = repeatability.check(SETTING, 60)
    assert calls == ["first", "second", "half", "resumed"]
    assert outcome.passed == (differs is None)
    assert ("OTHER BITS" in outcome.text) == (differs in ("second", "resumed"))


def test_a_run_goes_on_in_its_second_half(tmp_path):
    run = repeatability.REDUCED["small"]
    half = repeatability.train(run, run.epochs // 2, tmp_path)
    rest = repeatability.train(run, run.epochs, tmp_path)
    assert (half[1], rest[1]) == (0, run.epochs // 2)
    assert half[0] != rest[0]


def test_a_flag_that_fails_is_in_the_table(monkeypatch):
    found = {"W1": {"seconds": 2.0, "digest": "a", "cost": 0.25}}
    faster = {"W1": {"seconds": 1.0, "digest": "b", "cost": 0.5}}
    same = {"W1": dict(found["W1"])}
    answers = iter([found, faster, Failed("unknown flag"), same, same])

    def ask(*_, **environment):
        answer = next(answers)
        return helpers.raise_(answer) if isinstance(answer, Failed) else answer

    monkeypatch.setattr(trials, "ask", ask)
    monkeypatch.setattr(trials, "COMPARED", ["W1"])
    text = trials.compare_flags(Setting("cuda,cpu", reduced=False), 60).text
    cells = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert cells == ["2.00 s (0.25)", "0.50 (0.5)", "failed: unknown flag", "1.00 =", "1.00 ="]


def test_children_measure():
    """What they print, from this process."""
    sweep = many.measure(1, 2)
    assert sweep["networks"] == 2 and sweep["lost"] == 0
    assert 0 < sweep["best"] <= sweep["worst"] < 2.3  # log(10) before the training
    assert products.rate_of_products(64, "bfloat16") > 0


def test_contenders_that_are_not_installed_are_left_out(monkeypatch):
    assert "jaxnet train" not in speed.missing()
    monkeypatch.setattr(speed, "_is_installed", lambda module: "torch" not in module)
    assert speed.missing() == ["PyTorch fused", "PyTorch torch.func vmap"]
    assert not set(speed.missing()) & set(speed.choose("W1", reduced=False))


def test_no_run_of_a_workload_begins_when_its_time_is_up(monkeypatch):
    """Each run takes ten seconds, of 25: the first contender has a steady run, the other none."""
    now = [0.0]

    class Worker:
        def answer(self):
            return {"ready": True}

        def ask(self, request):
            now[0] += 10 * (request == "run")
            return {"seconds": 10.0} if request == "run" else {"peak_megabytes": 1}

    server = types.SimpleNamespace(opened=lambda *_: Worker())
    arguments = argparse.Namespace(quick=False, repeats=5, cold=1, seconds=25.0)
    monkeypatch.setattr(benchmark, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    servers, bar = {"first": server, "second": server}, tqdm(total=0, disable=True)
    found = benchmark.measured(workloads(quick=True)[0], servers, arguments, bar)
    assert found["first"] == {"cold": [10.0], "seconds": [10.0], "peak_megabytes": 1}
    assert found["second"] == {"failed": "no time was left"}
    assert now == [30.0]


def test_reduced_check_in_its_own_processes(tmp_path, monkeypatch):
    path = tmp_path / "section.md"
    arguments = ["check_gpu.py", "--reduced", "--only", "memory", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert check_gpu.main() == 0
    text = path.read_text()
    data, parameters = 1024 * (10 + 1), 10 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3
    least = 4 * (data + 4 * parameters) / 1e6
    assert text.startswith(HEADING) and re.search(rf"\| W1 \| not known \| +{least:.1f} \|", text)
