"""Train the networks of `many_networks.py` in three processes that joblib starts.

    python examples/launch_joblib.py [folder]

The processes share the folder, so each makes what the others have not begun. With a backend of
joblib for a cluster, such as Dask's, they may run on several hosts that see the folder.
"""

import sys

from joblib import Parallel, delayed
from many_networks import train_all


def complete(folder: str) -> int:
    """Complete the sweep with the other processes; the results are in the folder."""
    return int(train_all(folder).done.sum())


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "many_networks"
    for count in Parallel(n_jobs=3)(delayed(complete)(folder) for _ in range(3)):
        print(f"a process returned {count} networks")
