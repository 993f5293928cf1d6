"""A run's settings in TensorBoard's table of hyperparameters, with its last evaluation as the result.

The table has the columns of every algorithm in every run alike, because TensorBoard takes them from one run only: a
folder that holds runs of DQN and of PPO shows both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue] (made by protobuf)
)
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from .training_config import load_training_config
from .training_evaluation import SAVING, SHOWN
from .training_plan import Plan
from .training_settings import SETTINGS

Value = str | float | bool
METRICS = (*SHOWN, SAVING)  # their last values are the result
FIRST = {"algorithm", "learning_rate", "scenario", "seed", "steps"}  # columns that TensorBoard shows unasked


def flat_settings(content: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Nested settings as dotted key -> number or text; lists as text (``64 64``), nothing as "none"."""
    return dict(_flat(content, prefix))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", " ".join(str(v) for v in value)
        else:
            yield f"{prefix}{key}", "none" if value is None else value


def run_hparams(plan: Plan) -> dict[str, Value]:
    """What the table shows of a run: what it is, and every setting."""
    about: dict[str, Value] = {
        "algorithm": plan.algo,
        "scenario": plan.scenario.name,
        "seed": plan.seed,
        "steps": plan.steps,
    }
    return about | flat_settings(plan.settings.model_dump(mode="json"))


def write_start(writer: SummaryWriter, plan: Plan) -> None:
    """Write the table's columns and this run's row; the run counts as going on."""
    own = run_hparams(plan)
    columns, _, _ = hparams(_every_column() | own, dict.fromkeys(METRICS, 0.0))
    _put_first(columns)
    _, row, _ = hparams(own, {})
    _write(writer, columns, row)


def write_end(writer: SummaryWriter) -> None:
    """Mark the run as finished; its results are the last values of the evaluation's scalars."""
    _, _, end = hparams({}, {})
    _write(writer, end)


def _put_first(columns: Any) -> None:
    """TensorBoard sorts settings that differ between runs before the others, and shows five of them."""
    data = columns.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in FIRST
    data.content = content.SerializeToString()


def _every_column() -> dict[str, Value]:
    """Every setting of every algorithm as shipped; only names and types matter."""
    columns: dict[str, Value] = {}
    for algo in SETTINGS:
        settings, _ = load_training_config(algo, "", "")
        columns |= flat_settings(settings.model_dump(mode="json"))
    return columns


def _write(writer: SummaryWriter, *summaries: Any) -> None:
    file = writer.file_writer
    assert file is not None, "a SummaryWriter has a file until it is closed"
    for summary in summaries:
        file.add_summary(summary)
