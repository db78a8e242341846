"""Reports of what was measured: tables in Markdown, which a terminal shows well, and a picture."""

import statistics
from typing import Any

LIMITS = ("limit", "limit vmap", "limit 2 devices", "limit 2 threads")
_TICKS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
COST_FACTOR, FALL_FACTOR = 1.5, 1.25  # from the median; beyond it somebody did other work


def concluded(workload: dict[str, Any]) -> None:
    """Adds to measured times what follows from them: medians, ratios and whose result is apart."""
    results = workload["contenders"]
    for result in results.values():
        if "failed" not in result:
            result["steady_seconds"] = statistics.median(result["seconds"])
            result["cold_seconds"] = statistics.median(result["cold"])
    limits = {name: results[name]["steady_seconds"] for name in LIMITS if _ran(results, name)}
    workload["yardstick"] = min(limits, key=limits.get) if limits else None
    costs = [result["final_cost"] for result in results.values() if "final_cost" in result]
    for result in results.values():
        if limits and "failed" not in result:
            result["ratio"] = result["steady_seconds"] / min(limits.values())
        if "final_cost" in result:
            result["apart"] = _is_apart(result, statistics.median(costs))


def _ran(results: dict[str, Any], name: str) -> bool:
    return "steady_seconds" in results.get(name, {})


def _is_apart(result: dict[str, Any], median: float) -> bool:
    """Whether cost, or how far it fell, is not about that of the others.

    What is left of a half per cent of the start is as good as nothing, and differs by chance.
    """
    final, start = result["final_cost"], result["start_cost"]
    near = _within(max(final, start / 200), max(median, start / 200), COST_FACTOR)
    return not (near and _within(start - final, start - median, FALL_FACTOR))


def _within(value: float, other: float, factor: float) -> bool:
    return value > 0 and other > 0 and max(value / other, other / value) <= factor


def body(results: dict[str, Any]) -> str:
    """All of it, as Markdown."""
    parts = [_header(results)]
    if results["workloads"]:
        parts += ["## Training time over the limit's", _ratios(results["workloads"])]
    for each in results["workloads"]:
        parts += [f"## {each['name']}", *workload(each)]
    if results["first"]:
        parts += ["## The first result", _FIRST, _first(results["first"])]
    if results["sweeps"]:
        parts += ["## Sweeps over widths", *_sweeps(results)]
    if results["halving"]:
        parts += ["## Halving", _HALVING, _saved(results["halving"]["sweep"])]
        parts += [_SEARCH, _searched(results["halving"]["search"])]
    if results["streams"]:
        parts += ["## Data larger than memory", _STREAMS, _streams(results["streams"])]
    if results["growth"]:
        parts += ["## How cost grows", _growth_text(results)]
        parts += [_growth(axis, rows) for axis, rows in results["growth"].items()]
    return "\n\n".join(parts) + "\n"


def _header(results: dict[str, Any]) -> str:
    platform = results["platform"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    devices = ", ".join(results["devices"]) or "cpu"
    sizes = "quick sizes, which are too small to quote" if results["quick"] else "full sizes"
    return (
        f"Measured on {results['date']}: {platform['processor']}, {platform['cores']} cores, "
        f"{platform['system']}; computed on: {devices}. {versions}.\n\n"
        f"{sizes.capitalize()}; steady seconds are the median of at least "
        f"{results['repeats']} runs. Machines are noisy: trust ratios, and no ratio under 1.1."
    )


_STREAMS = (
    "W3's network on 4 GB of rows, with 1 GB for the data of each process: examples per second in "
    "the passes after the first, and anonymous memory after each pass. The contenders are "
    "described in `scripts/benchmarking/streams.py`."
)


def _streams(results: dict[str, Any]) -> str:
    best = results["jaxnet train, in memory"].get("rate")
    rows = []
    for name, result in results.items():
        if "failed" in result:
            rows.append([name, _failure(result), "-", "-"])
            continue
        megabytes = ", ".join(f"{value:.0f}" for value in result["megabytes"])
        share = f"{result['rate'] / best:.2f}" if best else "-"
        rows.append([name, f"{result['rate']:,.0f}", share, megabytes])
    return table(["", "examples/s", "of `train`", "MB"], rows)


def _ratios(workloads: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for w in workloads for name in w["contenders"]))
    rows = []
    for name in names:
        found = [w["contenders"].get(name) for w in workloads]
        rows.append([name, *[_ratio(result) for result in found]])
    return table(["", *[w["name"] for w in workloads]], rows)


def workload(workload: dict[str, Any]) -> list[str]:
    """What a workload is, its table, and what to say about it."""
    results = workload["contenders"]
    header = ["", "steady s", "over limit", "cold s", "peak MB", "final loss"]
    rows = [[name, *_cells(result)] for name, result in _by_time(results)]
    parts = [f"{workload['title'][0].upper()}{workload['title'][1:]}.", table(header, rows)]
    if yardstick := workload["yardstick"]:
        parts.append(_yardstick(workload, results[yardstick]["steady_seconds"]))
    if apart := [name for name, result in results.items() if result.get("apart")]:
        parts.append(f"The final loss is not that of the others: {'; '.join(apart)}.")
    return parts


def _by_time(results: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(results.items(), key=lambda item: item[1].get("steady_seconds", float("inf")))


def _cells(result: dict[str, Any]) -> list[str]:
    if "failed" in result:
        return [_failure(result), *["-"] * 4]
    final = result.get("final_cost")
    return [
        _number(result["steady_seconds"]),
        _ratio(result),
        _number(result["cold_seconds"]),
        f"{result['peak_megabytes']:.0f}",
        "-" if final is None else f"{final:.4g}" + " (!)" * result["apart"],
    ]


def _failure(result: dict[str, Any]) -> str:
    return f"failed: {result['failed'].replace('|', '/')[:60]}"


def _yardstick(workload: dict[str, Any], seconds: float) -> str:
    speeds = [f"{_number(workload['steps'] / seconds)} steps/s"]
    if workload["networks"] > 1:
        speeds = [f"{_number(workload['networks'] / seconds)} networks/s"]
    speeds.append(f"{_number(workload['products'] / seconds / 1e9)} GFLOP/s in products")
    return f"The yardstick is {workload['yardstick']}: {', '.join(speeds)}."


_FIRST = (
    "Seconds, and CPU seconds in brackets, up to the predictions, in a new process that has "
    "imported the library; the median of as many processes as there are runs. The tasks are "
    "described in `scripts/benchmarking/first.py`."
)


def _first(results: dict[str, Any]) -> str:
    rows = [[name, *map(_first_cell, tasks.values())] for name, tasks in results.items()]
    spread = ["accuracy"]
    for task in results["jaxnet"]:
        found = [tasks[task]["accuracy"] for tasks in results.values() if "accuracy" in tasks[task]]
        spread.append(f"{min(found):.2f} to {max(found):.2f}" if found else "-")
    return table(["", *results["jaxnet"]], [*rows, spread])


def _first_cell(result: dict[str, Any]) -> str:
    if "failed" in result:
        return "failed"
    return f"{_number(result['seconds'])} ({_number(result['cpu'])})"


_SWEEPS = (
    "{networks:,} networks 64-width-10 on scikit-learn's digits: {widths} widths, {rates} learning "
    "rates, {seeds} seeds; batch 64, Adam, 10 epochs. Where a sample was trained, the seconds are "
    "scaled to all networks. Ratios are to the first line. The final loss is the mean over the "
    "trained networks; beside it are the median of the contenders for the same widths and rates, "
    "and the standard deviation over seeds, and (!) marks a larger difference. The contenders are "
    "described in `scripts/benchmarking/sweeps.py`."
)
_TARGETS = {
    "jaxnet, separate": "0.83 or more",
    "PyTorch": "10 or more",
    "torch.func": "3 or more",
}
_PAIRS = {
    "saving": ("results in memory; in a folder", "1.03 or less"),
    "compilation": ("programs compiled one by one; in one call", "0.70 or less"),
}


def _sweeps(results: dict[str, Any]) -> list[str]:
    columns = "steady s,ratio,target,first s,ratio,trained,final loss,median,spread"
    sweeps = results["sweeps"]
    rows = [[name, *_sweep_cells(name, found)] for name, found in sweeps["networks"].items()]
    networks = table(["", *columns.split(",")], rows)
    rows = [[_PAIRS[name][0], *_pair(name, found)] for name, found in sweeps["pairs"].items()]
    text = _SWEEPS.format(**results["sweeps_size"])
    return [text, networks, table(["", "s", "s", "ratio", "target"], rows)]


def _sweep_cells(name: str, result: dict[str, Any]) -> list[str]:
    if "failed" in result:
        return [_failure(result), *["-"] * 8]
    losses = [f"{result[loss]:.4f}" for loss in ("final_loss", "typical_loss", "spread")]
    return [
        _number(result["steady_seconds"]),
        _ratio(result),
        _TARGETS.get(name, "-"),
        _number(result["first_seconds"]),
        _number(result["first_ratio"]) if "first_ratio" in result else "-",
        f"{result['networks']:,}",
        losses[0] + " (!)" * result["apart"],
        *losses[1:],
    ]


def _pair(name: str, result: dict[str, Any]) -> list[str]:
    if "failed" in result:
        return [_failure(result), *["-"] * 3]
    return [*map(_number, result["seconds"]), _ratio(result), _PAIRS[name][1]]


_HALVING = (
    "CPU seconds to choose among 1,024 configurations, with everything that is compiled, and the "
    "test cost of the choice, trained again with 16 seeds: mean and deviation. The tasks are "
    "described in `scripts/benchmarking/halving.py`."
)
_SEARCH = (
    "CPU seconds to search and predict, with everything that is compiled, and in brackets the "
    "error of the best network on held-out rows, and that of the mean of jaxnet's finalists."
)


def _saved(results: dict[str, Any]) -> str:
    rows = []
    for task, found in results.items():
        times = [found[name]["cpu"] for name in ("halve", "sweep")]
        again = zip(found["again"]["mean"], found["again"]["deviation"], strict=True)
        costs = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in again]
        rows.append([task, *map(_number, [*times, times[0] / times[1]]), *costs])
    header = ["", "halve", "sweep", "ratio", "cost after halve", "cost after sweep"]
    return table(header, rows)


def _searched(results: dict[str, Any]) -> str:
    rows = []
    for search, found in results.items():
        ours, theirs = found["jaxnet"], found["scikit-learn"]
        errors = f"{ours['error']:.3f}, {ours['error of the mean']:.3f}"
        cells = [f"{_number(ours['cpu'])} ({errors})"]
        rows.append([search, *cells, f"{_number(theirs['cpu'])} ({theirs['error']:.3f})"])
    return table(["", "jaxnet.halve", "scikit-learn"], rows)


def _growth_text(results: dict[str, Any]) -> str:
    held = ", ".join(f"{axis} {value:,}" for axis, value in results["growth_held"].items())
    return (
        "`jaxnet.train` on 16 inputs and 10 classes with Adam, one size changed at a time, from "
        f"{held}. The exponent is the slope since the line above, both axes logarithmic."
    )


def _growth(axis: str, rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        exponent = "-" if row["exponent"] is None else f"{row['exponent']:.2f}"
        cells.append([f"{row[axis]:,}", f"{row['step_seconds'] * 1e6:,.1f}", exponent])
    return table([axis, "us a step", "exponent"], cells)


def _ratio(result: dict[str, Any] | None) -> str:
    if result is None:
        return "-"
    if "failed" in result:
        return "failed"
    return _number(result["ratio"]) if "ratio" in result else "-"


def _number(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([cells[0].ljust(widths[0]), *rest])} |"

    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def draw(results: dict[str, Any], path: str) -> None:
    """Bars of the time over the limit's, a panel per workload."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    workloads = [w for w in results["workloads"] if w["yardstick"]]
    columns = min(3, len(workloads))
    lines = -(-len(workloads) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(6 * columns, 4.4 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(workloads) :]:
        axis.set_axis_off()
    most = max(len(w["contenders"]) for w in workloads)
    for axis, workload in zip(axes.flat, workloads, strict=False):
        _panel(axis, workload)
        axis.set_ylim(most - 0.5, -0.5)
    figure.suptitle("Training time over the limit's (logarithmic; shorter is faster)", fontsize=14)
    figure.savefig(path, dpi=110)


def _panel(axis: Any, workload: dict[str, Any]) -> None:
    ran = [(n, r) for n, r in _by_time(workload["contenders"]) if "ratio" in r]
    names, ratios = [name for name, _ in ran], [result["ratio"] for _, result in ran]
    colours = [_colour(name) for name in names]
    lowest = min(0.8, 0.9 * min(ratios))
    axis.barh(names, [ratio - lowest for ratio in ratios], left=lowest, color=colours, height=0.7)
    axis.set_xscale("log")
    axis.set_xlim(lowest, 1.5 * max(ratios))
    axis.axvline(1, color="0.3", linewidth=0.8, linestyle=":")
    for place, ratio in enumerate(ratios):
        axis.annotate(
            _number(ratio), (ratio, place), (4, 0), textcoords="offset points", va="center", size=8
        )
    axis.set_title(workload["name"], loc="left", fontweight="bold")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0, labelsize=9)
    ticks = [tick for tick in _TICKS if lowest < tick < axis.get_xlim()[1]]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _colour(name: str) -> str:
    if name.startswith("jaxnet"):
        return "#d1495b"
    return "#66a182" if name in LIMITS or name == "jnp.dot alone" else "#9aa5b1"
