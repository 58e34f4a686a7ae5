"""Which run a person means."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.config import compose
from trainer.config.safe_yaml import read
from trainer.errors import CheckpointError, ConfigError
from trainer.runs.directory import Run
from trainer.runs.start_record import StartRecord
from trainer.system.home import expanded

OURS = re.compile(rb"^options:", re.MULTILINE)  # at the top of every config.yaml of a run
FOREIGN, DAMAGED, UNREADABLE = "not of this program", "damaged", "unreadable"

SWEEP_FILE = "sweep.yaml"  # the definition of a sweep, in its directory


def is_sweep(directory: Path) -> bool:
    """Whether a directory is that of a sweep."""
    return (directory / SWEEP_FILE).is_file()


def sweep_to_resume(typed: Sequence[str]) -> Path | None:
    """Return the sweep that `resume=` names among overrides; None where it names a run, or nothing."""
    given = [o.value() for o in compose.parse(typed) if o.key_or_group == "resume" and not o.is_sweep_override()]
    path = expanded(str(given[-1])) if given and given[-1] is not None else None
    return path if path is not None and is_sweep(path) else None


@dataclass(frozen=True)
class FoundRun:
    """A run directory, and how it was begun; a run made in Python has no record of that."""

    run: Run
    record: StartRecord | None

    @property
    def time(self) -> float:
        """When the run was begun, in seconds since 1970; else when its config was last written."""
        return self.run.config.stat().st_ctime if self.record is None else self.record.time

    @property
    def is_copy(self) -> bool:
        """Whether the directory is a copy of another one, or was renamed."""
        return self.record is not None and self.record.is_copy(self.run)


@dataclass
class Survey:
    """The runs below a folder, and what looks like a run and is passed over, by the reason."""

    runs: list[FoundRun] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)

    def pass_over(self, reason: str, path: Path) -> None:
        """Count what is no run to go on with."""
        self.passed_over.setdefault(reason, []).append(path)

    def words(self) -> str:
        """Return what was passed over, in words; "" for nothing."""
        return ", ".join(
            f"{len(paths)} {reason} ({paths[0]}{', …' * (len(paths) > 1)})"
            for reason, paths in self.passed_over.items()
        )


def survey(output_dir: Path) -> Survey:
    """Find all runs below a folder, those of sweeps included; nothing is written or locked there."""
    found = Survey()

    def unreadable(error: OSError) -> None:
        found.pass_over(UNREADABLE, Path(error.filename))

    for folder, folders, names in os.walk(output_dir, onerror=unreadable) if output_dir.is_dir() else ():
        folders.sort()
        if "config.yaml" in names:
            folders.clear()
            _add(found, Run(Path(folder)))
    return found


def _add(found: Survey, run: Run) -> None:
    try:
        with open(run.config, "rb") as file:
            ours = OURS.search(file.read(4096))
    except OSError:
        found.pass_over(UNREADABLE, run.directory)
        return
    if ours:
        found.runs.append(FoundRun(run, StartRecord.read(run)))
    else:
        found.pass_over(DAMAGED if "imports" in run.environment() else FOREIGN, run.directory)


def own_run(command: StartRecord, output_dir: Path) -> tuple[Run | None, list[str]]:
    """Return the run that a command line has begun before, None where there is none, and what to say about that.

    Of several it is the one with the furthest checkpoint. Runs of a sweep belong to the sweep.

    Raises:
        CheckpointError: where a live process is writing such a run; names it.
    """
    found = survey(output_dir)
    same = [one for one in found.runs if _may_be_own(one, command, found)]
    for one in same:
        if holder := one.run.holder():
            raise CheckpointError(_held(one.run, holder, command))
    passed = [f"resume=auto: passed over: {found.words()}."] if found.passed_over else []
    if not same:
        others = f" ({len(found.runs)} of other commands are there)" if found.runs else ""
        return None, [*passed, f"resume=auto: no run of this command in {output_dir}{others}; starting a new one."]
    run = max(same, key=_preference).run
    several = f", of {len(same)} runs of this command the one with the furthest checkpoint" if len(same) > 1 else ""
    return run, [*passed, f"resume=auto: {run.directory}{several}"]


def _may_be_own(one: FoundRun, command: StartRecord, found: Survey) -> bool:
    """Return whether a run is one of this command that can be gone on with; count it where it only looks like one."""
    directory = one.run.directory
    if one.record is None and (directory / "environment.json").exists():
        found.pass_over(DAMAGED, directory)
    if one.record is None or not one.record.is_same_command(command) or is_sweep(directory.parent):
        return False
    if one.is_copy:
        found.pass_over("copied or renamed", directory)
        return False
    if not os.access(directory, os.W_OK | os.X_OK):
        found.pass_over("not writable by this user", directory)
        return False
    try:
        read(one.run.config)
    except ConfigError:
        found.pass_over(DAMAGED, directory)
        return False
    return True


def _preference(one: FoundRun) -> tuple[int, bool, float, str]:
    """Order runs of one command: by the checkpoint, then those that are where they were, then by the time."""
    assert one.record is not None
    place = one.record.directory == str(one.run.directory.absolute())
    return one.run.last_step(), place, one.time, str(one.run.directory)


def _held(run: Run, holder: str, command: StartRecord) -> str:
    text = f"resume=auto: {run.directory} is the run of this command and is being written by {holder}; wait for it or "
    if command.name is not None and command.array_task is not None:
        task = "SLURM_ARRAY_TASK_ID"
        return f"{text}stop it, or give each task of the array a name: 'run.name={command.name}-${{oc.env:{task}}}'."
    return f"{text}stop it."
