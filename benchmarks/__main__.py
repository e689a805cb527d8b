"""`python -m benchmarks [NAME ...]`: run all benchmarks, or the named ones."""

import sys
from collections.abc import Callable, Mapping

from benchmarks import bench_exec, bench_faults, bench_overlap, bench_peer_faults, bench_peer_steps, bench_steps

BENCHMARKS: Mapping[str, Callable[[], None]] = {
    "steps": bench_steps.main,
    "peer-steps": bench_peer_steps.main,
    "exec": bench_exec.main,
    "overlap": bench_overlap.main,
    "faults": bench_faults.main,
    "peer-faults": bench_peer_faults.main,
}
"""In the order in which they run: `peer-steps` adds to the results of `steps`."""


def main(names: list[str]) -> int:
    """Run them; 2 for a name that is none."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    for name in names or list(BENCHMARKS):
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
