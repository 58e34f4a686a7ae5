"""A trained network as a file that others run: the graph with its preprocessing, and a description beside it."""

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import compose
from trainer.config.table import Csv
from trainer.data.images.normalize import Normalize
from trainer.data.types import Data, Samples, as_float
from trainer.errors import ConfigError, TrainerError
from trainer.runs.build import build_data_and_task
from trainer.runs.inference import predict
from trainer.runs.loading import Trained
from trainer.system import atomic_files

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": (), "safetensors": ()}
TOLERANCE = 1e-5  # largest difference of an output to that of the network, of numbers above 1 as a share of the largest
SAMPLES = 256  # of the validation data, for that comparison
INPUT, OUTPUT = "inputs", "outputs"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the network.
        description: what stands beside it, in JSON.
        samples: of the validation data on which it was compared.
        difference: the largest one to the network that was trained.
    """

    path: Path
    description: Path
    samples: int
    difference: float


class ExportedModel(nn.Module):
    """What is exported: preprocessing, network, and the probabilities of classes or the predicted numbers."""

    def __init__(self, prepare: Callable[[Tensor], Tensor], model: nn.Module, classes: bool) -> None:
        super().__init__()
        self.prepare, self.model, self.classes = prepare, model, classes

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(self.prepare(inputs))
        return outputs.softmax(1) if self.classes else outputs


def check_format(form: str) -> None:
    """Raise `ConfigError` for a format that does not exist, or whose library is not installed."""
    if form not in SUFFIXES:
        raise ConfigError(f"--format {form}: not one of {', '.join(SUFFIXES)}.")
    for package in PACKAGES[form]:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"--format {form} needs the package {package}: pip install 'trainer[export]'")


def export(trained: Trained, form: str, path: Path) -> Exported:
    """Write a trained network, once its outputs on validation samples are those of the network.

    Args:
        form: onnx (a graph for any runtime), torch (a program for `torch.export.load`) or safetensors (weights alone).
        path: of the file; the description is beside it, as NAME.json.

    Raises:
        ConfigError: where the network cannot be written in this form.
        TrainerError: where the outputs differ by more than `TOLERANCE`; nothing is written then.
    """
    data, _ = build_data_and_task(trained.config, trained.spec.labels)
    prepare, raw, facts = _preprocessing(trained, data)
    module = ExportedModel(prepare, trained.model, trained.spec.labels is not None).eval()
    expected = _outputs(trained, data, len(raw))
    description = {
        "format": form,
        "run": str(trained.checkpoint),
        "step": trained.step,
        "input": {"name": INPUT, "dtype": str(raw.dtype).removeprefix("torch."), "shape": ["batch", *raw.shape[1:]]},
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "shape": ["batch", trained.spec.outputs],
            "meaning": "predicted numbers" if trained.spec.labels is None else "probabilities of the classes",
        },
        "classes": trained.spec.labels,
        **facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}")
    try:
        match form:
            case "onnx":
                found = _write_onnx(module, raw, made, description)
            case "torch":
                found = _write_program(module, raw, made, description)
            case _:
                found = _write_weights(trained, module, raw, made, description)
        difference = float((found.double() - expected.double()).abs().max())
        bound = TOLERANCE * max(1.0, float(expected.abs().max()))  # of numbers in large units float32 is no finer
        if not difference <= bound:
            raise TrainerError(
                f"{path}: not written: on {len(raw)} validation samples its outputs differ from those of the network "
                f"by {difference:.2g}, more than {bound:.2g}."
            )
        beside = path.with_name(f"{path.name}.json")
        atomic_files.write_text(beside, json.dumps(description, indent=1, ensure_ascii=False) + "\n")
        made.chmod(beside.stat().st_mode)  # some of the libraries keep the file to the user
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return Exported(path, beside, len(raw), difference)


def _preprocessing(trained: Trained, data: Data) -> tuple[Callable[[Tensor], Tensor], Tensor, dict[str, Any]]:
    """Return what goes before the network, validation samples as it takes them, and what is to be known of both."""
    count = min(SAMPLES, len(data.val))
    if trained.preprocessing is not None and "columns" in json.loads(trained.preprocessing):
        from trainer.data.table.preprocess import Preprocessor
        from trainer.data.table.table_data import raw_columns
        from trainer.data.table.tensor_transforms import TableTransforms, is_tensor_work

        fitted = Preprocessor.from_json(trained.preprocessing)
        config, rows = trained.config.data, data.val.rows
        assert isinstance(config, Csv) and rows is not None
        raw = raw_columns(config, fitted, rows[:count], is_tensor_work)
        columns = [
            {
                "name": column.name,
                "kind": column.kind,
                "form": column.form,
                "inside": is_tensor_work(column),
                "entries": 1 if is_tensor_work(column) else column.width(),
                "codes": {level: code for code, level in enumerate(column.levels, 1)},
                "transforms": [transform.option for transform in column.transforms],
                "states": column.states,
            }
            for column in fitted.columns
        ]
        note = (
            "one entry a column, in this order: a number, seconds since 1970, 1 and 0 for yes and no, or the code of a "
            "category (0: any other); NaN: missing. A column that is not inside the graph has as many entries as its "
            "transforms give"
        )
        return TableTransforms(fitted), raw, {"columns": columns, "outside": f"reading the file; {note}."}
    samples = [data.val.inputs[i] for i in range(count)]
    raw = torch.stack([sample if isinstance(sample, Tensor) else torch.as_tensor(sample) for sample in samples])
    if trained.preprocessing is not None:
        normalize = Normalize.from_json(trained.preprocessing)
        channels, height, width = trained.spec.input_shape
        facts = {
            "image": {"channels": channels, "height": height, "width": width},
            "normalisation": {"mean": normalize.mean, "std": normalize.std, "inside": True},
            "outside": "decoding the file; resizing by the shorter side and cutting to the centre, to this size.",
        }
        return normalize, raw, facts
    return as_float, raw, {"outside": "nothing"}


@torch.inference_mode()
def _outputs(trained: Trained, data: Data, count: int) -> Tensor:
    """Return what the network says of the first validation samples, on the way that `trainer predict` takes."""
    part = data.val.subset(torch.arange(count))
    samples = Samples(part, data.prepare, "row", list(range(count)), workers=0)
    outputs = predict(trained, samples, torch.device("cpu"))
    return outputs.softmax(1) if trained.spec.labels is not None else outputs


def _write_onnx(module: nn.Module, raw: Tensor, path: Path, description: dict[str, Any]) -> Tensor:
    program = torch.onnx.export(
        module,
        (raw[:2],),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props["trainer"] = json.dumps(description, ensure_ascii=False)
    if description["classes"] is not None:
        program.model.metadata_props["classes"] = json.dumps(description["classes"], ensure_ascii=False)
    program.save(path)
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([OUTPUT], {INPUT: raw.numpy()})[0])


def _write_program(module: nn.Module, raw: Tensor, path: Path, description: dict[str, Any]) -> Tensor:
    program = torch.export.export(module, (raw[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    text = json.dumps(description, ensure_ascii=False)
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files={"trainer.json": text})
    with open(path, "rb") as file, torch.inference_mode():
        outputs: Tensor = torch.export.load(file).module()(raw)
    return outputs


def _write_weights(
    trained: Trained, module: ExportedModel, raw: Tensor, path: Path, description: dict[str, Any]
) -> Tensor:
    from safetensors.torch import load_file, save_file

    description["config"] = compose.flat(compose.from_config(trained.config))
    weights = {name: value.contiguous().clone() for name, value in trained.model.state_dict().items()}
    save_file(weights, path, metadata={"trainer": json.dumps(description, ensure_ascii=False)})
    trained.model.load_state_dict(load_file(path))
    with torch.inference_mode():
        outputs: Tensor = module(raw)
    return outputs
