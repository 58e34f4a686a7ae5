"""What rows of results say together: means over seeds and folds, how sure they are, and which trials nothing beats."""

import statistics
from typing import Any

from trainer.sweeps.student import half_interval, paired_p

REPEATS = ("seed", "data.fold")  # keys whose values are trials of the same thing

Row = dict[str, Any]


def mean_rows(rows: list[Row], keys: list[str], metric: str | None, mode: str | None) -> list[Row]:
    """Return mean, deviation and 95 % interval of trials that differ in nothing but the seed or the fold.

    The deviation is that of a sample (divided by n - 1). Trials without a score are not counted. [] where nothing was
    repeated.
    """
    settings = [key for key in keys if key not in REPEATS]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["best"] is not None and row["metric"] == metric:
            groups.setdefault(tuple(row[key] for key in settings), []).append(row)
    if settings == keys or max(map(len, groups.values()), default=0) < 2:
        return []
    means = []
    for values, group in groups.items():
        entry: Row = dict(zip(settings, values, strict=True)) | {"metric": metric}
        for name in ("best", "last"):
            scores = [row[name] for row in group if row[name] is not None]
            entry[f"{name}_mean"] = statistics.fmean(scores) if scores else None
            entry[f"{name}_std"] = statistics.stdev(scores) if len(scores) > 1 else None
            entry[f"{name}_ci95"] = half_interval(scores)
        means.append(entry | {"runs": len(group)})
    means.sort(key=lambda entry: entry["best_mean"] if mode == "min" else -entry["best_mean"])
    return means


def compare(rows: list[Row], means: list[Row], keys: list[str], metric: str | None) -> Row | None:
    """Return whether the best setting differs from the second: a t-test, paired over the seeds and folds of both."""
    if len(means) < 2:
        return None
    settings, repeats = [k for k in keys if k not in REPEATS], [k for k in keys if k in REPEATS]
    scores: list[dict[tuple[str, ...], float]] = []
    for entry in means[:2]:
        mine = [r for r in rows if r["best"] is not None and all(r[k] == entry[k] for k in settings)]
        scores.append({tuple(row[k] for k in repeats): row["best"] for row in mine if row["metric"] == metric})
    shared = [repeat for repeat in scores[0] if repeat in scores[1]]
    differences = [scores[0][repeat] - scores[1][repeat] for repeat in shared]
    return {
        "first": {k: means[0][k] for k in settings},
        "second": {k: means[1][k] for k in settings},
        "pairs": len(shared),
        "difference": statistics.fmean(differences) if differences else None,
        "p": paired_p(differences),
    }


def mark_pareto(rows: list[Row], names: list[str]) -> None:
    """Add to each row whether no other one is at least as good in every score and better in one."""

    def scores(row: Row) -> list[float] | None:
        found = []
        for name in names:
            value = row["best"] if name == row["metric"] else row.get(name)
            if value is None:
                return None
            found.append(float(value) if row["directions"].get(name) == "max" else -float(value))
        return found

    scored = {row["trial"]: found for row in rows if (found := scores(row))}
    for row in rows:
        own = scored.get(row["trial"])
        row["pareto"] = own is not None and not any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in scored.values()
        )
        row.pop("directions", None)
