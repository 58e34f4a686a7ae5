"""`trainer completion bash|zsh|fish`: print the script that makes the Tab key complete `train` and `trainer`.

The script runs this file alone (`python -I -S completion.py --complete SHELL ...`) at each Tab, and that must not be
felt: it takes 15 ms, where a process that imports `trainer.cli` takes 60 ms and one with `trainer.config.root`, the
dataclasses, 130 ms. So nothing of the package is imported, and of the standard library only what the interpreter has
loaded anyway. The options are the names of the YAML files; the keys, their doc and choices are the lines of the files
in `conf/`, which `scripts/write_conf.py` writes from the dataclasses, one line a key; verbs, losses and lessons are
read in the same way. Options of plug-ins are not offered, for that would take executing them; nor is `~key`, which
`train` rejects.
"""

import itertools
import os
import sys

PACKAGE = __file__.rpartition("/")[0] + "/.."
CONF = next((c for c in (f"{PACKAGE}/conf", f"{PACKAGE}/../conf") if os.access(f"{c}/train.yaml", os.R_OK)), "")
GROUPS = ("model", "data", "optimizer", "scheduler", "task", "trainer", "run", "sweep", "experiment")
PARTS = ("transform", "loss", "metric", "logger")
KEYS = {  # of the root; they stand in no file of conf/
    "seed": "seed of the split, the initial weights, the sample order, the augmentation and the dropout",
    "output_dir": "folder of the run directories",
    "resume": "continue a run: auto (what this command has begun) | last | best | a run directory | a checkpoint",
    "init_from": "start from the weights of a run or checkpoint, and nothing else of it",
    "logger": "where the records of training and validation go (trainer list logger); train.log is always written",
}
Flags = dict[str, tuple[str, tuple[str, ...] | None]]  # doc, and the values where it takes one; () for paths
HELP: Flags = {"-h": ("print the help", None), "--help": ("print the help", None)}
TRAINED: Flags = HELP | {
    "--checkpoint": ("of a run directory", ("best", "last")),
    "--device": ("where to compute", ("auto", "cpu", "cuda", "mps")),
    "--on-error": ("what to do where a sample cannot be used", ("raise", "skip")),
    "--tta": ("images: average over views of each", ("flip", "shift", "flip,shift")),
    "--import": ("a file or module of your own components", ()),
}
LOOKED_UP: Flags = HELP | {
    "--import": ("a file or module of your own components", ()),
    "--config-dir": ("a folder of your own YAML files", ()),
}
SORTS = ("started", "run", "status", "best", "size", "sweep")
FLAGS: dict[str, Flags] = {
    "train": HELP
    | {
        **dict.fromkeys(("-m", "--multirun"), ("run every combination of comma-separated values", None)),
        "--dry-run": ("with -m: print the trials instead of running them", None),
        "--import": ("register your own components first", ()),
        "--config-dir": ("a folder of your own YAML files", ()),
        "--config": ("begin with the config of a run: RUN/config.yaml", ()),
        **dict.fromkeys(("-c", "--cfg"), ("print the config instead of training", None)),
        "--resolve": ("with --cfg: ${...} resolved", None),
        "--version": ("print the version", None),
    },
    "evaluate": TRAINED | {"--json": ("print one line of JSON", None), "--all": ("list every class", None)},
    "predict": TRAINED
    | {
        "--output": ("the file to write", ()),
        "--keep": ("columns of the table to write beside the prediction", ()),
        "--proba": ("which probabilities of classes", ("all", "top5", "none")),
    },
    "export": HELP
    | {
        "--format": ("of the file", ("onnx", "torch", "safetensors")),
        "--checkpoint": ("of a run directory", ("best", "last")),
        "--output": ("the file to write", ()),
        "--overwrite": ("replace a file that is there", None),
        "--import": ("a file or module of your own components", ()),
    },
    "runs": HELP | {"--sort": ("by a column", SORTS), "--json": ("a line of JSON for each run", None)},
    "compare": HELP
    | {
        "--metric": ("score to compare by", ()),
        "--csv": ("write the table to this file, too", ()),
        "--json": ("print JSON instead of tables", None),
        "--output": ("picture of the curves", ()),
    },
    "clean": HELP | {"--yes": ("remove it", None)},
    "list": LOOKED_UP,
    "explain": LOOKED_UP,
}
MOST_RUNS, MOST_FOLDERS = 100, 500  # that one Tab looks at
SCRIPTS = {
    "bash": r"""_trainer_complete() {
    local line=${COMP_LINE:0:COMP_POINT} word
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(@COMMAND@ bash "$line" "$2" 2>/dev/null)
    [[ ${COMPREPLY[0]-} != *[=.] ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _trainer_complete train trainer
""",
    "zsh": r"""_trainer_complete() {
    local word doc
    local -a whole whole_shown begun begun_shown
    while IFS=$'\t' read -r word doc; do
        if [[ $word == *[=.] ]]; then
            begun+=("$word") begun_shown+=("$word  -- $doc")
        else
            whole+=("$word") whole_shown+=("$word  -- $doc")
        fi
    done < <(@COMMAND@ zsh "${(@Q)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null)
    if (( ! ${#whole} && ! ${#begun} )); then
        compset -P '*='
        _files
        return
    fi
    (( ! ${#whole} )) || compadd -l -d whole_shown -a whole
    (( ! ${#begun} )) || compadd -l -S '' -d begun_shown -a begun
}
(( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit; }
compdef _trainer_complete train trainer
""",
    "fish": r"""function __trainer_complete
    set -l typed (commandline -ct)
    set -l found (@COMMAND@ fish (commandline -opc) "$typed" 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path "$typed"
    end
end
complete -c train -f -a '(__trainer_complete)'
complete -c trainer -f -a '(__trainer_complete)'
""",
}


def main(arguments: list[str]) -> int:
    """Print the script of a shell; or, after `--complete SHELL`, what the words typed so far can go on with."""
    if "--complete" in arguments[:1]:
        try:
            answer = complete(arguments[1], arguments[2:])
        except (LookupError, ValueError, OSError):  # nobody who presses Tab has asked for an error
            answer = ""
        sys.stdout.buffer.write(answer.encode("utf-8", "surrogateescape"))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        from trainer.errors import ConfigError

        raise ConfigError(f"{' '.join(['trainer completion', *arguments])}: name one shell: {', '.join(SCRIPTS)}.")
    import shlex

    command = shlex.join([sys.executable, "-I", "-S", "-X", "utf8", os.path.realpath(__file__), "--complete"])
    print(SCRIPTS[arguments[0]].replace("@COMMAND@", command), end="")
    return 0


def complete(shell: str, words: list[str]) -> str:
    """Return the candidates, one a line; for zsh and fish each with a tab and its doc.

    Args:
        words: what is typed, up to the cursor. From bash: the line, and what its readline would replace, which begins
            after the last of COMP_WORDBREAKS (`=`, `:`): what stands before must not be in a candidate.
    """
    replaced = words[-1]
    if shell == "bash":
        words = split(words[0])
    typed = words[-1]
    cut = len(typed) - len(replaced) if typed.endswith(replaced) else 0
    found = {word: doc for word, doc in candidates(words).items() if word.startswith(typed)}
    return "".join(f"{word[cut:]}\n" if shell == "bash" else f"{word}\t{doc}\n" for word, doc in found.items())


def split(line: str) -> list[str]:
    """Return the words of a line of bash; the last one, "" after a blank, is being typed, and may lack its quote."""
    if not any(character in line for character in "'\"\\"):
        return line.split() + [""] * line[-1:].isspace()
    import shlex

    for end in ("_", "_'", '_"'):  # the mark makes a word of what follows a blank
        try:
            *before, last = shlex.split(line + end)
        except ValueError:
            continue
        return [*before, last[:-1]]
    return [""]


def candidates(words: list[str]) -> dict[str, str]:
    """Return all that can stand in the place of the last word, each with one line of doc."""
    verb, before, typed = words[0].rpartition("/")[2], words[1:-1], words[-1]
    if verb != "train":
        if not before:
            return verbs() | {flag: doc for flag, (doc, _) in HELP.items() if typed.startswith("-")}
        verb, *before = before
    flags = FLAGS.get(verb, HELP)
    values = flags.get(before[-1], ("", None))[1] if before else None
    if values is not None:
        return dict.fromkeys(values, "")
    if typed.startswith("-"):
        return {flag: doc for flag, (doc, _) in flags.items()}
    if verb == "train":
        return overrides(before, typed)
    if verb == "explain":
        return explained(typed)
    pairs = itertools.pairwise(["", *before])
    if any(word[:1] != "-" and flags.get(flag, ("", None))[1] is None for flag, word in pairs):
        return {}  # only the first argument is one of a list
    match verb:
        case "evaluate" | "predict" | "export" | "compare":
            return runs("outputs", typed)
        case "list":
            return dict.fromkeys(GROUPS, "options of the group") | dict.fromkeys(PARTS, "components that keys name")
        case "learn":
            return lesson_names()
        case "completion":
            return {shell: f"the script for {shell}" for shell in SCRIPTS}
    return {}


def overrides(before: list[str], typed: str) -> dict[str, str]:
    """Return the groups, keys and values of `train`, by the options, the experiment and the folders typed before."""
    name, equals, value = typed.lstrip("+").partition("=")
    sign = typed[: len(typed) - len(typed.lstrip("+"))]
    given = dict(word.lstrip("+").partition("=")[::2] for word in before if "=" in word)
    folders = flag_values(before, "--config-dir")
    files = {group: option_files(group, folders) for group in GROUPS}
    if not equals and "." not in name:
        groups = {f"{group}=": f"options: {', '.join(files[group])}" for group in GROUPS}
        sections = {f"{group}.": f"keys of the section {group}" for group in GROUPS[:-1]}
        found = groups | sections | {f"{key}=": doc for key, doc in KEYS.items()}
        return {sign + word: doc for word, doc in found.items()}
    group, _, key = name.partition(".")
    keys = chosen_keys(group, before, given, files, folders) if group in GROUPS else {}
    if not equals:
        return {f"{sign}{group}.{key}=": doc for key, (_, doc) in keys.items()}
    if name in GROUPS:
        found = {option: top_line(path) for option, path in files[name].items()}
    elif name == "resume":
        words = {"auto": "what this command has begun", "last": "the run begun last", "best": "its best checkpoint"}
        found = words | runs(given.get("output_dir", "outputs"), value)
    elif name == "init_from":
        found = runs(given.get("output_dir", "outputs"), value)
    else:
        found = dict.fromkeys(values_of(*keys.get(key, ("", ""))), "")
    start = f"{sign}{name}={value[: value.rfind(',') + 1]}"  # a sweep: the values before the last one stay
    return {start + word: doc for word, doc in found.items()}


def chosen_keys(
    group: str, before: list[str], given: dict[str, str], files: dict[str, dict[str, str]], folders: list[str]
) -> dict[str, tuple[str, str]]:
    """Return the keys of the option, or of a sweep's options, that is chosen for a group."""
    sources = [f"{folder}/train.{suffix}" for folder in [CONF, *reversed(folders)] for suffix in ("yaml", "yml")]
    sources += [*flag_values(before, "--config"), f"{home(given.get('resume', 'auto'))}/config.yaml"]
    sources += [files["experiment"].get(given.get("experiment", ""), "")]
    chosen = {group: option for path in sources for group, option in choices_in(path).items()} | given
    keys: dict[str, tuple[str, str]] = {}
    for option in chosen[group].split(","):
        keys |= keys_of(group, option, files[group])
    return keys


def keys_of(group: str, option: str, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return each key of an option, with its default and doc; a user's file has those of the options it builds on."""
    path = files.get(option, "")
    if path in ("", f"{CONF}/{group}/{option}.yaml"):
        fields = [line.partition(": ") for line in lines(path) if line[0] not in "# -\n" and "  # " in line]
        return {key: (value.partition("  # ")[0], value.partition("  # ")[2].strip()) for key, _, value in fields}
    keys: dict[str, tuple[str, str]] = {}
    for base in choices_in(path):
        name, others = base.removeprefix("_"), {other: file for other, file in files.items() if file != path}
        schema = {name: f"{CONF}/{group}/{name}.yaml"}
        keys |= keys_of(group, name, schema if base.startswith("_") else schema | others)
    return keys


def values_of(default: str, doc: str) -> list[str]:
    """Return the values that a key can have, where they are words."""
    inside = doc.rpartition(" [")[2].removesuffix("]").split(" | ") if doc.endswith("]") else []
    first = doc.partition(";")[0].split(" | ")  # trainer.device: auto | cpu | cuda | cuda:N | mps; auto: ...
    if len(inside) > 1:
        return inside
    if len(first) > 1 and not any(" " in word for word in first):
        return [word for word in first if word.islower()]
    if "(trainer list loss)" in doc:
        marked = (line.split('"') for line in lines(f"{PACKAGE}/config/loss.py") if line.startswith("@register("))
        return [words[3] for words in marked]
    return ["true", "false"] if default in ("true", "false") else []


def explained(typed: str) -> dict[str, str]:
    """Return what `trainer explain` explains: groups, options and the keys of all options."""
    group = typed.replace("=", ".").partition(".")[0]
    files = option_files(group, []) if group in GROUPS[:-1] else {}
    if "=" in typed:
        return {f"{group}={option}": top_line(path) for option, path in files.items()}
    if "." in typed:
        return {f"{group}.{key}": doc for option in files for key, (_, doc) in keys_of(group, option, files).items()}
    return dict.fromkeys(GROUPS, "a group") | {f"{group}.": "its keys" for group in GROUPS[:-1]} | KEYS


def lines(path: str) -> list[str]:
    """Return the lines of a text file; none of one that cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []


def top_line(path: str) -> str:
    """Return the line of doc at the top of a YAML file."""
    texts = (line.lstrip("# ").rstrip() for line in lines(path) if line.startswith("#") and "@package" not in line)
    return next(texts, "")


def choices_in(path: str) -> dict[str, str]:
    """Return what the list `defaults`, or the `options` of a run's config, names: each group with its option, or ""."""
    found: dict[str, str] = {}
    inside = False
    for line in lines(path):
        if line[0] not in "# -\n":
            inside = line.startswith(("defaults:", "options:"))
            entries = line.partition("[")[2].partition("]")[0].split(",") if inside else []
        else:
            entries = [line.partition("#")[0].strip().removeprefix("- ")] if inside else []
        for name, _, option in (entry.strip().removeprefix("override ").partition(":") for entry in entries):
            found[name.strip(" /'\"")] = option.strip(" '\"")
    return found


def option_files(group: str, folders: list[str]) -> dict[str, str]:
    """Return the YAML file of each option of a group; that of the first folder goes before the others, and ours."""
    found: dict[str, str] = {}
    for base in (f"{folder}/{group}" for folder in (*folders, CONF)):
        for place, _, names in os.walk(base):
            for stem, _, suffix in (name.rpartition(".") for name in sorted(names)):
                if suffix in ("yaml", "yml"):
                    found.setdefault(f"{place}/{stem}"[len(base) + 1 :], f"{place}/{stem}.{suffix}")
    return dict(sorted(found.items()))


def flag_values(words: list[str], flag: str) -> list[str]:
    """Return the paths given to a flag, as `--flag PATH` or `--flag=PATH`."""
    after = [word for name, word in itertools.pairwise(words) if name == flag]
    return [home(path) for path in after + [w.partition("=")[2] for w in words if w.startswith(f"{flag}=")]]


def home(path: str) -> str:
    """Return a path as it is, its `~/` replaced, which a shell does only when it runs the line."""
    return f"{os.environ.get('HOME', '~')}{path[1:]}" if path.startswith("~/") else path


def runs(folder: str, typed: str) -> dict[str, str]:
    """Return the runs below a folder that the typed path can become, the newest first, each with what was typed."""
    found: dict[str, str] = {}
    waiting, looked = [folder], 0
    while waiting and len(found) < MOST_RUNS and looked < MOST_FOLDERS:
        place, looked = waiting.pop(), looked + 1
        if not (place.startswith(typed) or typed.startswith(place)):
            continue
        if lines(f"{place}/config.yaml")[:1] == ["options:\n"]:
            found[place] = " ".join(line.removeprefix("- ").rstrip() for line in lines(f"{place}/overrides.yaml"))
        else:
            below = next(os.walk(place), ("", [], []))[1]  # nothing in what cannot be read
            waiting += sorted(f"{place}/{name}" for name in below)
    return found


def verbs() -> dict[str, str]:
    """Return the verbs with their help, from the lines of the table in `cli.py`."""
    table = (line.split('"') for line in lines(f"{PACKAGE}/cli.py") if line.startswith('    "') and ": (" in line)
    return {parts[1]: parts[5] for parts in table if len(parts) > 5}


def lesson_names() -> dict[str, str]:
    """Return the names and numbers of the lessons with their first line."""
    names, numbers = {}, {}
    for file in sorted(next(os.walk(f"{PACKAGE}/lessons"))[2]):
        number, _, name = file.removesuffix(".py").partition("_")
        if number.isdecimal() and int(number):
            names[name] = lines(f"{PACKAGE}/lessons/{file}")[0].strip('"\n')
            numbers[str(int(number))] = f"{name}: {names[name]}"
    return names | numbers


if __name__ == "__main__":
    main(sys.argv[1:])
