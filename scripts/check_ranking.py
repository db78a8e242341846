"""Checks the verdicts of `rank_optimizers` on real runs, which takes about ten minutes.

    python scripts/check_ranking.py [--pairs 200] [--trials 16] [--seeds 5]

The same optimizer under two names is tuned twice, 200 times, on two tasks. At most 5 % of the
pairs may be called better or worse. Then an effect of known size is planted: the losses of the
first of each pair are lowered by a factor. The size is the one that is told with a probability of
80 % if the variances are those that are estimated, so at least 80 % must be told.

The exit status is 1 if a fraction is on the wrong side by more than chance explains in 1 of 1000
checks.
"""

import argparse
import math
import sys

import jax
import numpy as np
from scipy import stats

from jaxnet.ranking import Contender, rank_optimizers, standard_contenders, standard_tasks
from jaxnet.ranking.statistics import LEVEL, POWER, Comparison, compare_all
from jaxnet.ranking.trials import Outcome

TASKS = {"wine", "diabetes"}


def compare(first: list[Outcome], second: list[Outcome]) -> Comparison:
    return compare_all(["first", "second"], [first, second])[0]


def plant(outcomes: list[Outcome], effect: float) -> list[Outcome]:
    return [outcome._replace(test=outcome.test * math.exp(-effect)) for outcome in outcomes]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--optimizer", default="Adam", help="one of the standard contenders")
    arguments = parser.parse_args()

    chosen = next(c for c in standard_contenders() if c.name == arguments.optimizer)
    names = [f"{chosen.name} {i}" for i in range(2 * arguments.pairs)]
    contenders = [Contender(name, chosen.make, chosen.space) for name in names]
    tasks = [task for task in standard_tasks() if task.name in TASKS]
    ranking = rank_optimizers(
        contenders,
        tasks,
        key=jax.random.key(0),
        trials=arguments.trials,
        seeds=arguments.seeds,
    )
    rows = [list(row) for row in ranking.outcomes]
    couples = list(zip(rows[::2], rows[1::2], strict=True))

    same = [compare(*couple) for couple in couples]
    false = np.mean([pair.verdict != "cannot be told" for pair in same])
    # The stated size: half of the interval, and the quantile of the power, for the mean variance.
    halves = [math.log(pair.high / pair.low) / 2 for pair in same]
    share = stats.norm.ppf(POWER) / stats.norm.ppf(1 - LEVEL / 2)
    size = math.sqrt(np.mean(np.square(halves))) * (1 + share)
    planted = [compare(plant(first, size), second) for first, second in couples]
    told = np.mean([pair.verdict == "better" for pair in planted])

    print(
        f"the same optimizer: {false:.1%} of {len(same)} pairs are told apart; at most 5 % may be"
    )
    print(
        f"a test loss lower by {1 - math.exp(-size):.0%}: {told:.1%} are called better; "
        f"at least {POWER:.0%} must be"
    )
    count = len(same)
    bad = stats.binomtest(round(false * count), count, LEVEL, "greater").pvalue < 1e-3
    weak = stats.binomtest(round(told * count), count, POWER, "less").pvalue < 1e-3
    sys.exit(int(bad or weak))


if __name__ == "__main__":
    main()
