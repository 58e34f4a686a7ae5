"""The wheel: what it contains, and that it trains from an environment where the repository is not."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import trainer

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("trainer", "conf", "scripts", "pyproject.toml", "README.md", "LICENSE")


@dataclass
class Installed:
    """A virtual environment with the wheel."""

    wheel: Path
    bin: Path
    packages: Path

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; nothing else of this process's Python reaches it."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder,
            env=clean,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def pip(*arguments: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("install")
    copy = folder / "copy"
    copy.mkdir()
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, copy / name)
    pip("wheel", "--no-deps", "--no-build-isolation", ".", "-w", "wheels", folder=copy)
    [wheel] = (copy / "wheels").glob("*.whl")
    wheel = wheel.rename(folder / wheel.name)
    shutil.rmtree(copy)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel), folder=folder)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # torch and the other dependencies come from here, after the environment's own packages.
    dependencies = "\n".join(sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    (packages / "dependencies.pth").write_text(dependencies + "\n")
    return Installed(wheel, environment / "bin", packages)


def test_the_wheel_has_the_package_its_yaml_its_data_and_its_licence(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
        licence = next(name for name in names if name.endswith("/licenses/LICENSE"))
        assert archive.read(licence) == (REPOSITORY / "LICENSE").read_bytes()
    assert installed.wheel.name == f"trainer-{trainer.__version__}-py3-none-any.whl"
    assert {"trainer/cli.py", "trainer/data/datasets/digits.csv.gz", "trainer/conf/train.yaml"} <= names
    ours = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "conf").rglob("*.yaml")}
    assert {f"trainer/{path.as_posix()}" for path in ours} == {name for name in names if "/conf/" in name}
    sources = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "trainer").rglob("*.py")}
    assert sources == {name for name in names if name.endswith(".py")}


def test_the_wheel_has_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"trainer", f"trainer-{trainer.__version__}.dist-info"}
    assert [name for name in names if "test" in name or "outputs" in name or name.endswith(".pyc")] == []


def test_the_installed_package_is_the_one_that_runs(installed: Installed, tmp_path: Path) -> None:
    code = "import trainer, trainer.config.yaml_files as f; print(trainer.__file__); print(f.conf_dir())"
    result = installed.run(tmp_path, "python", "-c", code)
    assert result.returncode == 0, result.stderr
    package = installed.packages / "trainer"
    assert result.stdout.splitlines() == [str(package / "__init__.py"), str(package / "conf")]


def test_the_installed_commands_answer(installed: Installed, tmp_path: Path) -> None:
    listed = installed.run(tmp_path, "trainer", "list")
    assert listed.returncode == 0, listed.stderr
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"model", "data", "optimizer", "experiment"}
    assert "digits" in listed.stdout
    version = installed.run(tmp_path, "train", "--version")
    assert version.stdout == f"trainer {trainer.__version__}\n"


def test_the_installed_lessons_are_listed_and_run(installed: Installed, tmp_path: Path) -> None:
    listed = installed.run(tmp_path, "trainer", "learn")
    assert listed.returncode == 0, listed.stderr
    assert "  2  reshaping " in listed.stdout
    result = installed.run(tmp_path, "trainer", "learn", "reshaping", "--seed", "1")
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("outputs/fundamentals/*/*/views.png"))) == 1


def test_the_installed_train_learns_the_shipped_digits_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    result = installed.run(tmp_path, "train", "trainer.epochs=1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "data      digits" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    [summary] = tmp_path.glob("outputs/*/*/summary.json")
    found = json.loads(summary.read_text())
    assert found["status"] == "completed"
    assert found["best"]["value"] > 0.3  # chance is 0.1
