"""`trainer completion`: what Tab offers in a real bash is what the registry has, and asking loads nothing of it."""

import inspect
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import TINY, the_run

from trainer import cli
from trainer.commands import completion, evaluate, predict
from trainer.commands.help import options_of
from trainer.commands.learn import lessons, name_of
from trainer.commands.train import parse_arguments
from trainer.config import registry
from trainer.config.root import Config
from trainer.config.section import Key
from trainer.config.yaml_files import CHOICES, OPTIONS, options
from trainer.errors import ConfigError

Tab = Callable[..., list[list[str]]]

# As bash calls it: the variables of a completion, the function, and what it leaves. `compopt` works only while readline
# asks; here it is written down.
HARNESS = r"""
source "$1"; shift
compopt() { printf 'compopt %s\n' "$*"; }
while (( $# )); do
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($2) COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    _trainer_complete "${COMP_WORDS[0]}" "$3" ""
    (( ! ${#COMPREPLY[@]} )) || printf '%s\n' "${COMPREPLY[@]}"
    echo ---
    shift 3
done
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, as `trainer completion bash` prints it."""
    path = tmp_path_factory.mktemp("completion") / "completion.bash"
    path.write_text(printed("completion", "bash"))
    return path


@pytest.fixture
def tab(script: Path, tmp_path: Path) -> Tab:
    """`tab("train model=")` gives COMPREPLY for each line with the cursor at its end, after `compopt ...` if called."""

    def press(*lines: str, breaks: str = "=:") -> list[list[str]]:
        words = []
        for line in lines:
            parts = re.findall(rf"[{breaks}]+|[^\s{breaks}]+", line) if breaks else line.split()
            replaced = re.split(rf"[\s{breaks}]", line)[-1]  # what readline replaces
            words += [line, " ".join(parts), replaced]
        done = subprocess.run(
            ["bash", "--norc", "-c", HARNESS, "bash", str(script), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stderr == ""
        return [answer.splitlines() for answer in done.stdout.split("---\n")[:-1]]

    return press


def printed(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def asked(shell: str, *words: str, folder: Path | None = None) -> str:
    """What the shell's script gets for these words; nothing may be on the standard error."""
    command = re.search(rf"\(([^()]* --complete) {shell}", printed("completion", shell))
    assert command is not None
    done = subprocess.run(
        [*shlex.split(command[1]), shell, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


def components() -> list[tuple[str, str]]:
    return [(group, name) for group in OPTIONS for name in registry.names(group)]


def values_of(kind: str, key: Key) -> list[str]:
    return list(key.choices or ()) or (["true", "false"] if kind in ("bool", "bool or null") else [])


# The answers, in bash


def test_every_option_of_every_group_is_offered_after_the_equals_sign(tab: Tab) -> None:
    answers = tab(*(f"train {group}=" for group in CHOICES))
    assert answers == [options(group) for group in CHOICES]
    assert tab("train model=ml", "trainer train model=ml", "/usr/bin/train ++model=ml") == [["mlp"]] * 3


def test_the_keys_of_every_option_are_offered_without_a_blank_after_them(tab: Tab) -> None:
    answers = tab(*(f"train {group}={name} {group}." for group, name in components()))
    for (group, name), answer in zip(components(), answers, strict=True):
        keys = [f"{group}.{key}=" for key in registry.lookup(group, name).keys()]
        assert answer == (["compopt -o nospace", *keys] if keys else []), f"{group}={name}"


def test_the_values_of_every_key_that_has_words_for_values_are_offered(tab: Tab) -> None:
    words = {"trainer.device": ["auto", "cpu", "cuda", "mps"], "task.loss": registry.names("loss")}
    wanted = {
        f"train {group}={name} {group}.{key}=": sorted(words.get(f"{group}.{key}", values_of(kind, about)))
        for group, name in components()
        for key, (kind, _, about) in registry.lookup(group, name).keys().items()
    }
    asked_once = {(line.split()[2], *words): line for line, words in wanted.items()}.values()  # many options share keys
    for line, answer in zip(asked_once, tab(*asked_once), strict=True):
        assert sorted(answer) == wanted[line], line
    assert wanted["train trainer=default trainer.precision="] == ["auto", "bf16", "fp16", "fp32"]
    assert wanted["train trainer=default trainer.channels_last="] == ["false", "true"]


def test_the_first_word_is_a_group_a_section_or_a_key_of_the_root(tab: Tab) -> None:
    [nospace, *words] = tab("train ")[0]
    assert nospace == "compopt -o nospace"
    names = [*(f"{group}=" for group in CHOICES), *(f"{group}." for group in OPTIONS)]
    assert sorted(words) == sorted([*names, *(f"{key}=" for key in Config.keys())])
    assert tab("train +se", "train ++mod", "train ~") == [
        ["compopt -o nospace", "+seed="],
        ["compopt -o nospace", "++model=", "++model."],
        [],  # keys cannot be removed
    ]


def test_the_keys_are_those_of_what_is_chosen_before(tab: Tab) -> None:
    keys = {name: [f"model.{key}=" for key in registry.lookup("model", name).keys()] for name in ("cnn", "mlp")}
    default, typed, experiment, both, sweep = tab(
        "train model.",
        "train model=mlp model.",
        "train experiment=adult model.",
        "train experiment=adult model=cnn model.",
        "train -m model=cnn,mlp model.",
    )
    assert default[1:] == both[1:] == keys["cnn"]
    assert typed[1:] == experiment[1:] == keys["mlp"]
    assert set(sweep[1:]) == {*keys["cnn"], *keys["mlp"]}


def test_only_what_readline_replaces_is_answered(tab: Tab) -> None:
    assert tab("train model=c", breaks="") == [["model=cnn"]]  # COMP_WORDBREAKS without the equals sign
    assert tab("train -m model=cnn,ml", "train optimizer=adam data.flip=fal") == [["cnn,mlp"], []]
    assert (
        tab("train 'run.name=my run' model=ml", r"train run.name=my\ run model=ml", "train -m model=ml")
        == [["mlp"]] * 3
    )


def test_flags_are_those_of_the_parsers(tab: Tab) -> None:
    def flags(*parsers: Callable[..., object]) -> list[str]:
        sources = " ".join(inspect.getsource(parser) for parser in parsers)
        added = re.findall(r"add_argument\(([^)]*)", sources)
        return sorted({"-h", "--help", *re.findall(r'"(--?[a-z-]+)"', " ".join(added))})

    train, scored, predicted = tab("train -", "trainer evaluate RUN -", "trainer predict -")
    assert sorted(train) == flags(parse_arguments)
    assert sorted(scored) == flags(evaluate)
    assert set(predicted) == {*flags(evaluate, predict)} - {"--json", "--all"}
    assert tab("train --config-dir ", "train --config-dir=", "train --config ", "train --import ") == [[]] * 4
    assert tab("trainer evaluate --on-error ") == [["raise", "skip"]]
    assert "complete -o default" in printed("completion", "bash")  # where nothing is offered, bash offers files


def test_the_verbs_and_their_arguments(tab: Tab) -> None:
    assert tab("trainer ", "trainer list ", "trainer learn ", "trainer completion ", "trainer learn 1 ") == [
        [*cli.VERBS],
        [*CHOICES, *registry.PARTS],
        [*map(name_of, lessons()), *(str(number + 1) for number in range(len(lessons())))],
        ["bash", "zsh", "fish"],
        [],
    ]
    keys, option, top = tab("trainer explain optimizer.", "trainer explain model=ml", "trainer explain se")
    owners = [registry.lookup("optimizer", name) for name in registry.names("optimizer")]
    assert set(keys) == {f"optimizer.{key}" for owner in owners for key in owner.keys()}
    assert [option, top] == [["mlp"], ["seed"]]


def test_runs_are_offered_and_their_options_are_known(tab: Tab, train, tmp_path: Path) -> None:
    train(*TINY, "model=mlp", "trainer.epochs=1", "output_dir=mine")
    run = str(the_run(tmp_path).relative_to(tmp_path))
    (tmp_path / "mine" / "other").mkdir()
    (tmp_path / "mine" / "other" / "config.yaml").write_text("batch: 3\n")
    resumed, begun, part, scored = tab(
        "train output_dir=mine resume=", "train output_dir=mine init_from=", f"train output_dir=mine resume={run[:-3]}",
        "trainer evaluate ",
    )  # fmt: skip
    assert resumed == ["auto", "last", "best", run]
    assert begun == part == [run]
    assert scored == []
    (tmp_path / "mine").rename(tmp_path / "outputs")
    run = run.replace("mine", "outputs")
    assert tab("trainer evaluate ", "trainer predict --device cpu ", f"trainer predict {run} ") == [[run], [run], []]
    keys = [f"model.{key}=" for key in registry.lookup("model", "mlp").keys()]
    assert [answer[1:] for answer in tab(f"train resume={run} model.", f"train --config {run}/config.yaml model.")] == [
        keys,
        keys,
    ]


def test_the_files_of_a_folder_of_ones_own_are_offered(tab: Tab, tmp_path: Path) -> None:
    for name, text in {
        "experiment/small.yaml": "# @package _global_\n# A small one.\ndefaults:\n  - override /model: linear\n",
        "experiment/deep/large.yml": "# @package _global_\ndefaults:\n- override /model: wide # of mine\n",
        "model/wide.yml": "defaults: [mlp, _self_]\n\nhidden: [4096]\n",
        "model/cnn.yaml": "defaults:\n  - _cnn\n  - _self_\n\ndropout: 0.1\n",
        "train.yaml": "defaults:\n  - override /data: csv\n",
    }.items():
        (tmp_path / "my conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my conf" / name).write_text(text)
    (tmp_path / "mine").symlink_to("my conf")
    folder = "train --config-dir mine"
    experiments, models, *keys = tab(
        f"{folder} experiment=", "train --config-dir='my conf' model=", f"{folder} model=wide model.",
        f"{folder} experiment=deep/large model.", f"{folder} model.", f"{folder} experiment=small model.",
        f"{folder} data.",
    )  # fmt: skip
    assert experiments == sorted([*options("experiment"), "deep/large", "small"])
    assert models == sorted([*options("model"), "wide"])
    classes = [("model", "mlp"), ("model", "mlp"), ("model", "cnn"), ("model", "linear"), ("data", "csv")]
    for (group, name), answer in zip(classes, keys, strict=True):
        assert answer[1:] == [f"{group}.{key}=" for key in registry.lookup(group, name).keys()]
    assert "experiment=small\tA small one.\n" in asked("fish", *folder.split(), "experiment=", folder=tmp_path)


def test_a_person_who_types_in_bash_gets_whole_words_and_can_go_on_after_a_key(script: Path, tmp_path: Path) -> None:
    """The keys of a keyboard, through a terminal: what Tab adds, and where it leaves a blank, decides the arguments."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "rc").write_text(f"PS1='$ '\nsource {script}\ntrain() {{ printf '<%s>' \"$@\" end; echo; }}\n")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        cwd=tmp_path, env=os.environ | {"TERM": "dumb", "HISTFILE": ""}, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        os.write(master, b"train mod\t=att\tsee\t3 trainer.prec\tbf\t--config-d\tco\t 'model=tabu\t\nexit\n")
        text, end = "", time.monotonic() + 60
        while "<end>" not in text and time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                text += os.read(master, 4096).decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    typed = ["model=attention", "seed=3", "trainer.precision=bf16", "--config-dir", "conf/", "model=tabular", "end"]
    assert "".join(f"<{word}>" for word in typed) in text


# The other shells, and what it costs


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_the_doc_of_each_candidate(shell: str) -> None:
    for group in ("model", "experiment"):
        docs = "".join(f"{group}={name}\t{doc}\n" for name, doc in options_of(group).items())
        assert asked(shell, "train", f"{group}=") == docs
    keys = registry.lookup("optimizer", "sgd").keys()
    lines = asked(shell, "trainer", "train", "optimizer=sgd", "optimizer.").splitlines()
    for line, (name, (_, _, key)) in zip(lines, keys.items(), strict=True):
        assert line.startswith(f"optimizer.{name}=\t{key.doc}")
    assert asked(shell, "trainer", "") == "".join(f"{verb}\t{doc}\n" for verb, (_, doc) in cli.VERBS.items())
    assert {name: key.doc for name, (_, _, key) in Config.keys().items()} == completion.KEYS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_well_formed(shell: str, tmp_path: Path) -> None:
    """By the shell itself; where it is not installed, zsh's by bash, which shares its syntax, fish's by its blocks."""
    path = tmp_path / "script"
    path.write_text(printed("completion", shell))
    if shell != "fish" or shutil.which("fish"):
        program = shell if shutil.which(shell) else "bash"
        done = subprocess.run([program, "-n", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        words = shlex.split(path.read_text())  # raises where a quote is open
        assert words.count("end") == words.count("function") + words.count("if") == 2
        assert path.read_text().count("(") == path.read_text().count(")")


@pytest.mark.parametrize("typed", ["", "model=", "model=mlp|model.", "resume=", "--|", "trainer.precision="])
def test_an_answer_imports_neither_the_package_nor_a_library(typed: str, script: Path) -> None:
    command = re.search(r"\(([^()]* --complete) bash", script.read_text())
    assert command is not None
    python, *rest = shlex.split(command[1])
    words = ["zsh", "train", *typed.split("|")]
    done = subprocess.run(
        [python, "-X", "importtime", *rest, *words], capture_output=True, text=True, timeout=60, check=True
    )
    names = re.findall(r"^import time:.*\|\s*([\w.]+)$", done.stderr, re.MULTILINE)
    heavy = {"torch", "numpy", "hydra", "omegaconf", "rich", "yaml", "trainer"}
    assert done.stdout and "os" in names
    assert {name.partition(".")[0] for name in names} & (heavy | {"re", "typing", "pathlib", "argparse"}) == set()


# Mistakes


@pytest.mark.parametrize("words", [["tcsh"], [], ["bash", "zsh"], ["--help"]])
def test_an_unknown_shell_is_one_sentence_with_the_choices(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("completion", words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {' '.join(['trainer completion', *words])}: name one shell: bash, zsh, fish.\n"


@pytest.mark.parametrize("flag", ["-sc", "--shell-completion"])
def test_hydras_flag_names_the_verb(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"--shell-completion.*trainer completion bash"):
        parse_arguments([flag])


def test_a_tab_never_prints_an_error(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "bad.yaml").write_bytes(b"\xff\x00defaults: [\n\n")
    (tmp_path / "model" / "loop.yaml").write_text("defaults: [loop]\n")
    (tmp_path / "outputs").write_text("no folder")
    for line in (
        "", "train", "train model=bad model.", "train 'a", 'train "a\\', "train =", "train .", "train +++=",
        "trainer foo ", "train foo.bar=", "train --config-dir . model=bad model.", "train experiment=../.. model.",
        "train --config-dir . model=loop model.", "train --config outputs model=x,, model.", "train \udcff=",
    ):  # fmt: skip
        asked("bash", line, "", folder=tmp_path)
        asked("fish", *(line.split() or [""]), folder=tmp_path)
    assert asked("bash") == asked("fish") == ""
    assert asked("bash", "train resume=", "", folder=tmp_path).split() == ["auto", "last", "best"]
    assert asked("bash", "train model=ml", "ml", folder=tmp_path) == "mlp\n"
