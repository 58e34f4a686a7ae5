"""Where runs live: poor file systems, folders of a group, users without a home, another working directory."""

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import TINY, run_python, the_run

from trainer import cli, load_model
from trainer.checkpoint.names import pointed

SHORT = (*TINY, "trainer.epochs=2", "trainer.threads=1")

LACKING = """
import errno, fcntl, os, stat, sys
locks, links, sync = (getattr(errno, name) for name in sys.argv[1:4])
fsync = os.fsync

def refusing(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))
    return call

def fsync_of_files(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(sync, os.strerror(sync))
    fsync(descriptor)

fcntl.flock = fcntl.lockf = refusing(locks)
os.symlink, os.fsync = refusing(links), fsync_of_files
from trainer.cli import run
sys.exit(run("train", sys.argv[4:]))
"""


def write_table(path: Path) -> None:
    path.write_text("a,b,y\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(60)))


@pytest.mark.parametrize(
    "errors",
    [
        ("ENOLCK", "EPERM", "EINVAL"),
        pytest.param(("EOPNOTSUPP", "EOPNOTSUPP", "ENOTSUP"), marks=pytest.mark.full),
        pytest.param(("ENOSYS", "ENOSYS", "EBADF"), marks=pytest.mark.full),
    ],
)
def test_a_file_system_without_locks_links_and_fsync_of_folders(
    errors: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "table.csv")
    words = ("data=csv", "data.path=table.csv", "data.target=y", "data.memory=disk", "model=linear", *SHORT[3:])
    done = run_python(tmp_path, "-c", LACKING, *errors, *words, "resume=auto")
    for words_of in ("its file system has no locks", "has no links", "does not fsync folders"):
        assert done.stdout.count(words_of) == 1
    run = the_run(tmp_path)
    assert not list(run.rglob(".lock.*"))
    for name in ("last", "best"):
        path = run / "checkpoints" / name
        assert path.is_file()
        assert not path.is_symlink()
        assert pointed(path.parent, name) == path.with_name(path.read_text().strip())
        assert (
            json.loads((run / "summary.json").read_text())[name]["checkpoint"]
            == f"checkpoints/{path.read_text().strip()}"
        )
    assert "nothing to do" in run_python(tmp_path, "-c", LACKING, *errors, *words, "resume=auto").stdout
    with contextlib.chdir(tmp_path):  # on a better file system it goes on, and has links
        load_model(run)
        load_model(run / "checkpoints/best")
        assert cli.run("train", [f"resume={run}/checkpoints/last", "trainer.epochs=3"]) == 0
    assert "resumed at step" in capsys.readouterr().out
    assert (run / "checkpoints/last").is_symlink()


def test_a_name_that_stands_for_no_checkpoint_stands_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "step-00000001").mkdir()
    for text in ("", "../..", "step-1", "step-00000002\n", "x" * 1000, "\0"):
        (tmp_path / "last").write_text(text)
        assert pointed(tmp_path, "last") is None
    (tmp_path / "last").write_text("step-00000001\n")
    assert pointed(tmp_path, "last") == tmp_path / "step-00000001"


AS_USER = """
import contextlib, getpass, io, os, sys, tempfile
from trainer.cli import run
from trainer.data.files.download import datasets_folder
user, group, mask = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3], 8)
with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
    # Import all that is needed: the user may not be allowed to read the folder that Python is installed in.
    words = [word for word in sys.argv[5:] if not word.startswith("resume=")]
    assert run("train", [*words, f"output_dir={folder}"]) == 0
tempfile.tempdir = None  # not that of the process that this one is forked from
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
os.umask(mask)
for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", *(["HOME"] if not os.environ["HOME"] else [])):
    os.environ.pop(name, None)
code = run(sys.argv[4], sys.argv[5:])
print(getpass.getuser(), datasets_folder(None))
sys.exit(code)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    (folder / "tmp").mkdir(mode=0o777)
    (folder / "tmp").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_user(folder: Path, user: int, *words: str, home: str = "", code: int = 0) -> str:
    """Run `train` as a user without an entry in the user database, of a group, with its umask; "": without a home."""
    env = {"HOME": home, "TMPDIR": str(folder / "tmp")}
    done = run_python(folder, "-c", AS_USER, str(user), "777", "002", "train", *words, env=env, code=code)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_user_without_a_home_trains_and_that_is_said(shared: Path) -> None:
    write_table(shared / "table.csv")
    (shared / "table.csv").chmod(0o444)
    words = ("data=csv", "data.path=table.csv", "data.target=y", "data.memory=disk", "model=linear", *SHORT[3:])
    printed = as_user(shared, 12345, *words)
    user = 12345 if os.geteuid() == 0 else os.getuid()
    if os.geteuid() == 0:
        assert printed.count(f"User {user} has no home folder (see HOME): {shared}/tmp/trainer-{user}") == 1
    assert "end       completed" in printed
    assert not (shared / "~").exists()


def test_with_a_read_only_home_and_data_the_cache_is_among_temporary_files_and_that_is_said(shared: Path) -> None:
    data, home = shared / "data", shared / "home"
    for folder in (data, home):
        folder.mkdir()
    write_table(data / "table.csv")
    for folder in (data, home):
        folder.chmod(0o555)
    words = ("data=csv", f"data.path={data}/table.csv", "data.target=y", "data.memory=disk", "model=linear", *SHORT[3:])
    printed = as_user(shared, 12345, *words, home=str(home))
    assert "end       completed" in printed
    if os.geteuid() == 0:
        assert printed.count(f"{shared}/tmp/trainer-12345/cache/data: has the cache, for {home}/.cache/") == 1
        assert f"user12345 {shared}/tmp/trainer-12345/datasets\n" in printed


def test_the_users_of_a_group_go_on_with_each_others_runs_by_name(shared: Path) -> None:
    as_user(shared, 12345, *SHORT, "run.name=ours", "resume=auto")
    run = the_run(shared)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (run, *run.rglob("*")) if not path.is_symlink()}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o664}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o775}
    (run / ".lock").chmod(0o644)  # as an earlier version made it
    printed = as_user(shared, 12346, *SHORT, "run.name=ours", "resume=auto", "trainer.epochs=3")
    assert "resumed at step 6" in printed


def test_a_command_of_two_users_has_two_runs_and_one_that_may_not_be_written_is_a_sentence(shared: Path) -> None:
    as_user(shared, 12345, *SHORT, "resume=auto")
    run = the_run(shared)
    (shared / "outputs/private").mkdir(mode=0o700)
    printed = as_user(shared, 12346, *SHORT, "resume=auto")
    if os.geteuid() == 0:
        assert "resume=auto: passed over: 1 unreadable (outputs/private)." in printed
        assert "(1 of other commands are there); starting a new one" in printed
        (run / ".lock").chmod(0o600)
        printed = as_user(shared, 12346, f"resume={run}", "trainer.epochs=3", code=2)
        assert printed.count("error: ") == 1
        assert f"{run}: this user may not write there" in printed


@pytest.fixture
def moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run over `table.csv` of the folder `here`; the working directory is another one now."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    write_table(here / "table.csv")
    (here / "mine.py").write_text("loaded = True\n")
    monkeypatch.chdir(here)
    words = ("data=csv", "data.path=table.csv", "data.target=y", "model=linear", *SHORT[3:], "--import", "mine.py")
    assert cli.run("train", words) == 0
    monkeypatch.chdir(there)
    return the_run(here)


def test_relative_paths_of_a_run_are_those_of_the_folder_it_began_in(
    moved_on: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.run("train", [f"resume={moved_on}", "trainer.epochs=3", "--import", "mine.py"]) == 0
    printed = capsys.readouterr().out
    assert f"data.path=table.csv: not here, but where the run began: {tmp_path}/here/table.csv." in printed
    assert "resumed at step" in printed
    assert "path: table.csv" in (moved_on / "config.yaml").read_text()
    assert cli.run("evaluate", [str(moved_on), "--import", "mine.py"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_what_is_here_comes_first(moved_on: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "there/table.csv")
    capsys.readouterr()
    assert cli.run("train", [f"resume={moved_on}", "trainer.epochs=3"]) == 0
    assert "not here" not in capsys.readouterr().out


def test_a_file_to_import_that_is_nowhere_is_named(moved_on: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("train", [f"resume={moved_on}", "trainer.epochs=3", "--import", "other.py"]) == 2
    assert "--import other.py: no such file" in capsys.readouterr().err
