"""What the config of a run meant when it was started: `${...}` is saved as written, and may come to something else.

`config.yaml` keeps `${oc.env:TOKEN}` so that no secret is written to disk. Beside it `resolved.json` keeps what such a
key came to: a number, a boolean, null, a duration or one of a key's choices as it is, since none of these is a secret,
and of any other text a digest with random salt, which says whether it has changed and not what it was. Of `${now:...}`
it keeps the text, since the date of a run is that of its start.
"""

import copy
import dataclasses
import glob
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import compose
from trainer.config.override_errors import first_line
from trainer.config.root import Config
from trainer.errors import ConfigError
from trainer.runs.directory import Run
from trainer.system import atomic_files

_FILE = "resolved.json"
_ROUNDS = 20_000  # of the digest: about 10 ms, since a short secret could be found by trying
_FILE_KEYS = ("path", "root", "targets_path", "val_path", "val_targets_path")  # of data: files, from the folder


@dataclass(frozen=True)
class Meaning:
    """What the keys with `${...}` came to.

    Attributes:
        folder: the working directory, which relative paths are from; "" where it is not known.
        salt: random text of this run.
        now: what each `${now:...}` came to, by what stands behind the colon.
        values: of the keys whose value is no secret, by full name.
        digests: of the others.
    """

    folder: str = ""
    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    now: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cfg: DictConfig, folder: str) -> "Meaning":
        """Resolve a config here and now; raises `ConfigError` for a `${...}` that cannot be."""
        found = cls(folder)
        texts, values = compose.flat(cfg), compose.flat(cfg, resolve=True)
        for key in [key for key, text in texts.items() if is_interpolated(text)]:
            if _is_public(cfg, key, values[key]):
                found.values[key] = values[key]
            else:
                found.digests[key] = found.digest(values[key])
        if any("${now:" in str(texts[key]) for key in (*found.values, *found.digests)):  # Hydra's own use it too
            found.now.update({"\n".join(words): text for words, text in OmegaConf.get_cache(cfg)["now"].items()})
        return found

    @classmethod
    def read(cls, run: Run) -> "Meaning | None":
        """Return what a run has kept; None for one of an earlier version, or where the file is damaged."""
        try:
            kept = json.loads((run.directory / _FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        fields = {one.name: type(getattr(cls(), one.name)) for one in dataclasses.fields(cls)}
        if not isinstance(kept, dict) or kept.keys() != fields.keys():
            return None
        sound = all(isinstance(kept[name], kind) for name, kind in fields.items())
        texts = [*kept["now"].values(), *kept["digests"].values()] if sound else [None]
        return cls(**kept) if all(isinstance(text, str) for text in texts) else None

    def write(self, run: Run) -> None:
        """Keep it beside `config.yaml`."""
        atomic_files.write_text(run.directory / _FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    def digest(self, value: Any) -> str:
        """Return what says whether a value has changed, and not what it is."""
        text = json.dumps(value, sort_keys=True, default=str)
        return hashlib.pbkdf2_hmac("sha256", text.encode(), self.salt.encode(), _ROUNDS).hex()

    def is_same(self, key: str, value: Any) -> bool:
        """Return whether a key with `${...}` came to this value."""
        if key in self.values:
            return bool(self.values[key] == value)
        return self.digests.get(key) == self.digest(value)

    def stop_clock(self, cfg: DictConfig) -> None:
        """Let `${now:...}` be the time of the start in this config."""
        OmegaConf.get_cache(cfg)["now"].update({tuple(words.split("\n")): text for words, text in self.now.items()})

    def restored(self, saved: DictConfig) -> DictConfig:
        """Return a saved config with the values that were kept, in the place of their `${...}`.

        Raises:
            ConfigError: for a value that cannot be the key's, since the file was changed by hand.
        """
        cfg = copy.deepcopy(saved)
        texts = compose.flat(cfg)
        for key, value in self.values.items():
            if is_interpolated(texts.get(key)):
                try:
                    OmegaConf.update(cfg, key, value, merge=False)
                except OmegaConfBaseException as error:
                    raise ConfigError(f"{_FILE}: {key}={value}: {first_line(error)}; remove the file.") from error
        return cfg


def saved_config(run: Run) -> tuple[DictConfig, DictConfig, Meaning | None]:
    """Return the config of a run as written, the same as it was meant when the run was started, and what is kept of it.

    Raises:
        ConfigError: for a file that is no config of a run.
    """
    written = compose.from_yaml(run.read_config(), str(run.config))
    meaning = Meaning.read(run)
    if meaning is None:
        return written, written, None
    meaning.stop_clock(written)
    return written, meaning.restored(written), meaning


def write_meaning(run: Run, cfg: DictConfig) -> None:
    """Keep what the config of a run means in this process, which is what the run goes on with."""
    before = Meaning.read(run)
    here = str(Path.cwd())
    folder = before.folder if before is not None and not other_files(cfg, before) else here
    Meaning.of(cfg, folder).write(run)


def other_files(cfg: DictConfig, meaning: Meaning | None) -> dict[str, tuple[str, str]]:
    """Return the keys whose relative path leads to another file from here than it did where the run was started.

    A path that leads nowhere from here is none of them.
    """
    here = Path.cwd()
    if meaning is None or not meaning.folder or Path(meaning.folder) == here:
        return {}
    found = {}
    values = compose.flat(cfg, resolve=True)
    for key in (f"data.{name}" for name in _FILE_KEYS):
        path = values.get(key)
        if isinstance(path, str) and not path.startswith("~") and not Path(path).is_absolute():
            there = Path(meaning.folder) / path
            if _leads_somewhere(here / path) and not _is_same_file(here / path, there):
                found[key] = (str(there), str(here / path))
    return found


def is_interpolated(value: Any) -> bool:
    """Return whether a value as written holds a `${...}`, however deep."""
    if isinstance(value, Mapping):
        return any(is_interpolated(item) for item in value.values())
    if isinstance(value, list):
        return any(is_interpolated(item) for item in value)
    return isinstance(value, str) and "${" in value


def _is_public(cfg: DictConfig, key: str, value: Any) -> bool:
    """Return whether a value is of a kind that holds no secret."""
    if isinstance(value, list):
        return all(_is_public(cfg, key, item) for item in value)
    group, _, name = key.rpartition(".")
    about = (compose.section_type(cfg, group) if group else Config).keys()[name][2]
    return value is None or isinstance(value, (bool, int, float)) or bool(about.choices) or about.duration


def _leads_somewhere(path: Path) -> bool:
    return path.exists() or bool(glob.glob(str(path)))  # noqa: PTH207  # a pattern


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
