"""How often the subnets of a space use each kernel: what is worth most of the time of tuning."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ofa_tvm.space.mobilenet_v3 import all_workloads, workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload

SUBNETS = 64


def kernel_uses(space: SearchSpace, resolutions: Sequence[int]) -> Mapping[Workload, float]:
    """Calls of each kernel in a random subnet, on the average, for every kernel of these resolutions.

    By the same random subnets at each resolution; a kernel that none of them has counts as half a call in one.
    """
    random = np.random.default_rng(0)
    drawn = [space.sample(random) for _ in range(SUBNETS)]
    total: defaultdict[Workload, float] = defaultdict(float)
    for resolution in resolutions:
        calls = Counter(w for subnet in drawn for w in workloads(space, replace(subnet, resolution=resolution)))
        for workload in all_workloads(space, resolution):
            total[workload] += max(calls[workload], 0.5) / SUBNETS / len(resolutions)
    return total


def mean_uses(uses: Collection[Mapping[Workload, float]]) -> dict[Workload, float]:
    """Calls of each kernel where each of these mappings, such as one a resolution, is as likely as the others."""
    total: defaultdict[Workload, float] = defaultdict(float)
    for of_one in uses:
        for workload, count in of_one.items():
            total[workload] += count / len(uses)
    return dict(total)
