"""How many cores there are to compute with."""

import math
import os
from pathlib import Path


def cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: by the machine, its affinity, and the quota of its control groups.

    A container with a quota of 2 cores sees all 64 of its machine; 64 threads then wait for one another.

    Args:
        groups: where the control groups (version 2, or the cpu controller of version 1) are mounted.
        own: the file that lists the groups of this process.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return count
    allowed: list[float] = [count]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers or "cpu" in controllers.split(","):
            root = groups / "cpu" if controllers else groups
            folder = root / path.lstrip("/")
            allowed += [_quota(group) for group in (folder, *folder.parents) if group.is_relative_to(root)]
    return max(1, math.ceil(min(allowed)))


def _quota(group: Path) -> float:
    """Return the cores that a control group allows; infinity where it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
    except OSError:
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
