"""The contract with parts from outside the package, checked on a few samples before anything is trained or written."""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config.plugins import outside_traceback
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.data.loaders.protocols import TrainLoader
from trainer.data.types import Batch, Data, DataSpec
from trainer.errors import ConfigError
from trainer.runs.build import rescales
from trainer.runs.build_parts import own_builder
from trainer.system.memory import is_out_of_memory
from trainer.tasks.base import Task
from trainer.training.context import Compute
from trainer.training.non_finite import BufferBackup

FAR = 10.0  # from there on, training from usual initial weights takes much longer
SAMPLES = 4  # of the first batch; BatchNorm needs at least two


def check_trainable(model: nn.Module, config: Config) -> None:
    """Raise `ConfigError` for a network without parameters that train."""
    parameters = list(model.parameters())
    if not any(p.requires_grad for p in parameters):
        what = "all of its parameters are frozen (requires_grad=False)" if parameters else "it has no parameters"
        raise ConfigError(f"model={_name(config.model)}: {what}, so there is nothing to train.")


def check_contract(
    config: Config, data: Data, model: nn.Module, task: Task, train: TrainLoader, compute: Compute
) -> tuple[str, ...]:
    """Run the first samples forwards and backwards where a part of the run is a plug-in's; leave no trace in the model.

    The parts of this package are not checked: their tests do that.

    Args:
        data: samples that are in memory are taken as they are; others are not read, zeros stand for their inputs.
        model: on the device.

    Returns:
        What is odd and does not prevent training, a sentence each.

    Raises:
        ConfigError: where outputs or loss are not what training needs: says what came and what was expected. What the
            plug-in's own code raises is left as it is.
    """
    if not config.has_outside_parts:
        return ()
    batch = _first(data, train, compute.device)
    backup = BufferBackup(model)
    backup.keep()
    try:
        model.train()
        outputs = _forward(config, model, task, batch, compute)
        with compute.autocast():
            loss = task.loss_sum(outputs, batch.targets, batch.weights)
        _check_loss(config, loss)
        loss.backward()
        unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        model.eval()
        with torch.inference_mode():
            evaluation = task.evaluation(compute.device)
            evaluation.update(
                _forward(config, model, task, batch, compute).float(),
                batch.targets,
                torch.ones(len(batch.targets), device=compute.device),
            )
            _check_scores(config, task, evaluation.scores())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        unused = []  # the loop knows what to do: it may go on with fewer samples at a time
    finally:
        backup.undo()
        model.zero_grad(set_to_none=True)
        model.train()
    odd = _unscaled(config, data.spec)
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        odd.append(f"model={_name(config.model)}: the loss does not depend on {shown}; these weights stay as they are.")
    return tuple(odd)


def _unscaled(config: Config, spec: DataSpec) -> list[str]:
    """Return a warning where a model must learn numbers that are far from those its initial weights give."""
    if spec.target_mean is None or spec.target_std is None or rescales(config, spec):
        return []
    far = max(abs(mean) for mean in spec.target_mean), max(spec.target_std), min(spec.target_std)
    if far[0] <= FAR and far[1] <= FAR and far[2] >= 1 / FAR:
        return []
    scale = f"mean {spec.target_mean[0]:.4g} and deviation {spec.target_std[0]:.4g}"
    text = f"its outputs are taken as they are, and the target has {scale}; task.rescale=true scales them to that."
    return [f"model={_name(config.model)}: {text}"]


def _name(section: Section) -> str:
    """Return what a section was chosen by; a class that is not registered by its own name."""
    return section.option or type(section).__qualname__


def _first(data: Data, train: TrainLoader, device: torch.device) -> Batch:
    """Return the first samples: reading files, or starting workers, is left to the loop."""
    if not isinstance(data.train.inputs, Tensor):
        targets = data.train.targets[:SAMPLES].to(device)
        return Batch(torch.zeros(len(targets), *data.spec.input_shape, device=device), targets)
    with contextlib.closing(train.stream(0)) as stream:
        batch = next(stream)
    weights = None if batch.weights is None else batch.weights[:SAMPLES]
    return Batch(batch.inputs[:SAMPLES], batch.targets[:SAMPLES], weights)


def _forward(config: Config, model: nn.Module, task: Task, batch: Batch, compute: Compute) -> Tensor:
    """Return the outputs for a batch, checked."""
    samples = len(batch.targets)
    try:
        with compute.autocast():
            outputs = model(compute.formatted(batch.inputs))
    except RuntimeError as error:
        if is_out_of_memory(error) or outside_traceback(error) is not None:
            raise
        shape = tuple(batch.inputs.shape)  # only layers of torch were at work: their frames say nothing
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"model={_name(config.model)}: it takes no inputs of shape {shape}: {text}.") from error
    own = own_builder(config.task) is not None  # a task of a plug-in knows what it takes
    columns = None if own else _columns(batch, task)
    expected = f"({samples}, {'...' if columns is None else columns})"
    if (
        isinstance(outputs, Tensor)
        and outputs.is_floating_point()
        and outputs.ndim > 0
        and len(outputs) == samples
        and (columns is None or tuple(outputs.shape) == (samples, columns))
    ):
        return outputs
    what = {"classification": "classes", "regression": "numbers to predict"}.get(task.kind, "outputs")
    raise ConfigError(
        f"model={_name(config.model)}: its forward returned {describe(outputs)} for {samples} samples; "
        f"task={task.kind} takes a float tensor of shape {expected}: (samples, {what})."
    )


def _columns(batch: Batch, task: Task) -> int:
    """Return how many outputs a built-in task takes for each sample."""
    classes = getattr(task, "classes", None)
    return batch.targets.shape[1] if classes is None else int(classes)


def _check_loss(config: Config, loss: object) -> None:
    problem = None
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        problem = f"the loss is {describe(loss)}; loss_sum returns a float scalar tensor, the sum over the batch"
    elif not loss.requires_grad:
        problem = "the loss does not depend on the weights: its value was detached, or computed outside torch"
    if problem:
        raise ConfigError(f"task={_name(config.task)} with model={_name(config.model)}: {problem}.")


def _check_scores(config: Config, task: Task, scores: dict[str, float]) -> None:
    missing = [name for name in task.score_names if name not in scores]
    if missing:
        raise ConfigError(
            f"task={_name(config.task)}: its evaluation gives the scores {', '.join(scores)}, and not "
            f"{', '.join(missing)}, which its score_names promise."
        )


def describe(value: Any) -> str:
    """Say in a few words what something is: "a tuple of 2", "a float32 tensor of shape (4, 1, 10)", "None"."""
    match value:
        case None:
            return "None"
        case Tensor():
            dtype = str(value.dtype).removeprefix("torch.")
            return f"{'an' if dtype[0] in 'aeiou' else 'a'} {dtype} tensor of shape {tuple(value.shape)}"
        case tuple() | list():
            return f"a {type(value).__name__} of {len(value)}"
        case dict():
            return f"a dict with {', '.join(map(str, value)) or 'nothing'}"
        case _:
            name = type(value).__name__
            return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
