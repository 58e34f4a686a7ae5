"""Seconds for many small trials: our sweep, `train` for each, Lightning with Hydra, and Optuna around a plain loop.

    python scripts/benchmarks/bench_sweep.py --data adult.csv --target Salary    # 32 trials, two at a time
    python scripts/benchmarks/bench_sweep.py --quick                             # 4 trials on a made-up table

Each trial is one epoch of a linear model with another learning rate. The plain loop reads and encodes the table once
in each of its two processes, makes no checkpoints, logs or validation curves, and validates once at its end.
"""

import argparse
import csv
import importlib.util
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import torch

JOBS, BATCH = 2, 64
LIGHTNING = Path(__file__).with_name("lightning_sweep.py")


def made_up_table(path: Path) -> str:
    """Write 4,000 rows of two numbers and a word that decide a class; return the name of its column."""
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "word", "target"])
        for _ in range(4000):
            a, b, word = draw.gauss(0, 1), draw.gauss(0, 1), draw.choice("xyz")
            writer.writerow([a, b, word, "yes" if a + (word == "x") > b else "no"])
    return "target"


def words(data: Path, target: str) -> list[str]:
    """Return what all trials of ours share."""
    return [
        *("model=linear", "data=csv", f"data.path={data}", f"data.target={target}", f"data.batch_size={BATCH}"),
        *("trainer.epochs=1", "scheduler=constant", "trainer.threads=1", "logger=[files]"),
    ]


def sweep(folder: Path, shared: list[str], rates: list[float]) -> None:
    """Run all trials as one sweep."""
    values = ",".join(map(str, rates))
    command = [sys.executable, "-m", "trainer", "train", "-m", f"optimizer.lr={values}", *shared, f"sweep.jobs={JOBS}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def one_by_one(folder: Path, shared: list[str], rates: list[float]) -> None:
    """Start `train` for each trial, two at a time."""
    running: list[subprocess.Popen[bytes]] = []
    for rate in rates:
        if len(running) == JOBS:
            running.pop(0).wait()
        command = [sys.executable, "-m", "trainer", "train", f"optimizer.lr={rate}", *shared]
        running.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL))
    for process in running:
        process.wait()


def plain(data: str, target: str, rates: list[float]) -> None:
    """Be one of two processes: Optuna around a loop as one writes it by hand."""
    torch.set_num_threads(1)
    with open(data, encoding="utf-8", newline="") as file:
        rows = [{k.strip(): v.strip() for k, v in row.items()} for row in csv.DictReader(file)]
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name == target:
            continue
        try:
            numbers = torch.tensor([float(value) for value in values])
            columns.append(((numbers - numbers.mean()) / numbers.std().clamp(min=1e-6))[:, None])
        except ValueError:
            known = {value: i for i, value in enumerate(sorted(set(values)))}
            columns.append(torch.nn.functional.one_hot(torch.tensor([known[value] for value in values])).float())
    inputs = torch.cat(columns, 1)
    classes = {value: i for i, value in enumerate(sorted({row[target] for row in rows}))}
    targets = torch.tensor([classes[row[target]] for row in rows])
    cut = len(rows) * 4 // 5

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(0)
        model = torch.nn.Linear(inputs.size(1), len(classes))
        optimizer = torch.optim.AdamW(model.parameters(), lr=trial.suggest_categorical("lr", rates))
        for batch in torch.randperm(cut).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            return float((model(inputs[cut:]).argmax(1) == targets[cut:]).float().mean())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler({"lr": rates}, seed=0))
    study.optimize(objective, n_trials=len(rates))


def by_optuna(data: Path, target: str, rates: list[float]) -> None:
    """Run the plain loop in two processes, each with half of the trials."""
    context = multiprocessing.get_context("spawn")
    halves = [rates[i::JOBS] for i in range(JOBS)]
    processes = [context.Process(target=plain, args=(str(data), target, half)) for half in halves]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def by_lightning(folder: Path, data: Path, target: str, rates: list[float]) -> None:
    """Run a sweep of Lightning and Hydra's basic launcher: jobs in turn, in one process."""
    values = ",".join(map(str, rates))
    command = [sys.executable, str(LIGHTNING), "-m", f"+data={data}", f"+target={target}", f"+lr={values}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure them, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few trials on a made-up table, to see that it runs")
    parser.add_argument("--data", type=Path, help="a CSV file")
    parser.add_argument("--target", default="Salary", help="the column to predict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, target = (args.data, args.target) if args.data else (folder / "table.csv", "")
        target = target or made_up_table(data)
        count = 4 if args.quick else 32
        rates = [round(10 ** (-3 + 2 * i / (count - 1)), 6) for i in range(count)]
        shared = words(data.absolute(), target)
        took = {}
        for title, run in (
            ("sweep", lambda: sweep(folder, shared, rates)),
            ("train, one by one", lambda: one_by_one(folder, shared, rates)),
            ("lightning + hydra", lambda: by_lightning(folder, data.absolute(), target, rates)),
            ("optuna + plain loop", lambda: by_optuna(data.absolute(), target, rates)),
        ):
            if title.startswith("lightning") and importlib.util.find_spec("lightning") is None:
                print("lightning is not installed (pip install lightning): left out")
                continue
            began = time.perf_counter()
            run()
            took[title] = time.perf_counter() - began
        for title, seconds in took.items():
            print(f"{title:<22}{seconds:6.1f} s  {seconds / took['sweep']:5.2f} × the sweep  ({count} trials)")


if __name__ == "__main__":
    main()
