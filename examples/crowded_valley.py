"""Compare 15 optimizers on 7 tasks, each tuned with 64 random trials for each schedule.

    python examples/crowded_valley.py [folder] [--full | --quick] [--key 0]

This repeats, on small networks, a study that took a cluster: Schmidt, Schneider and Hennig,
Descending through a crowded valley, 2021. Each optimizer has a constant and a cosine schedule, and
the best trial runs again with 10 seeds: more than 15,000 runs. With --full there are four
schedules and more than 50,000 runs. --quick only shows that the program works. The folder gets
tables, figures and a manifest.
"""

import argparse
import time

import jax

from jaxnet.ranking import (
    constant,
    cosine,
    rank_optimizers,
    save_ranking,
    standard_contenders,
    standard_tasks,
    trapezoid,
    warm_restarts,
)

OMITTED = {"AdaMax", "Adan", "LARS", "NovoGrad"}  # which leaves 15


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="gets the tables and figures")
    parser.add_argument("--key", type=int, default=0, help="the seed of all randomness")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="four schedules and 110 trials")
    size.add_argument("--quick", action="store_true", help="two optimizers, one task and 8 trials")
    arguments = parser.parse_args()

    schedules = (
        [constant, cosine, warm_restarts, trapezoid] if arguments.full else [constant, cosine]
    )
    trials = 110 if arguments.full else 8 if arguments.quick else 64
    seeds = 2 if arguments.quick else 10
    tasks = standard_tasks()
    # The schedules of an optimizer follow each other, since they share a compiled program.
    contenders = [
        contender
        for group in zip(*map(standard_contenders, schedules), strict=True)
        for contender in group
        if group[0].name not in OMITTED
    ]
    if arguments.quick:
        tasks, contenders = tasks[1:2], contenders[:4]

    start = time.perf_counter()
    ranking = rank_optimizers(
        contenders, tasks, key=jax.random.key(arguments.key), trials=trials, seeds=seeds
    )
    seconds = time.perf_counter() - start
    runs = len(contenders) * len(tasks) * (trials + seeds)
    print(f"{runs:,} runs in {seconds:.0f} seconds.\n\n{ranking}")
    if arguments.folder:
        save_ranking(ranking, arguments.folder)


if __name__ == "__main__":
    main()
