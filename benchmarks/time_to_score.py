"""How long a training took until it was within 1 % of its final score: risk head, teaching and RL, each apart.

    python benchmarks/time_to_score.py RUN_DIR ... [--within 0.01]

Nothing is played: the figures are those that the training kept. Seconds are wall time on the machine that trained, with
whatever else it did then; starting Python is not in them.

- A run with a teacher is scored after each stage on held-back training tapes (``stages.json``). The final score is that
  of the stage that was handed out. The score is the one by which it was: mg a request, dearer by 5 % for each point of
  compliance that is missing to the aim.
- Its risk head was scored after each round, on fresh training tapes of its own (``risk/price.json``). A round's
  distance from the finished head is added to that of the finished head, the stage `untaught`, from the final score.
- Any other run has its evaluations (TensorBoard), on few tapes; the last is the final score.

Of a run with a teacher the best so far counts, because that is what it would have handed out; of any other run its
newest evaluation. Within 1 % counts from when it stays so until the final score: one lucky evaluation is not enough.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from carbonpilot.agents.risk.folder import CARD_FILE
from carbonpilot.agents.run_dir import RISK_FOLDER
from carbonpilot.agents.teach.best_stage import AIM
from carbonpilot.agents.teach.school import UNTAUGHT
from carbonpilot.agents.teach.stage_book import FILE as STAGES
from carbonpilot.agents.teach.stage_book import RL
from carbonpilot.agents.tracking import FILE as EMISSIONS
from carbonpilot.agents.tune_objective import PENALTY
from carbonpilot.envs.errors import CarbonPilotError, InputError

WITHIN = 0.01
HEAD, TEACHING = "head", "teaching"
PARTS = (HEAD, TEACHING, RL)


@dataclass(frozen=True)
class Point:
    """What there was at some moment of a training.

    Attributes:
        part: "head", "teaching" or "rl".
        name: of the stage, round or evaluation.
        seconds: since the training of the head, or of the run where it has none, began.
        excess: how far what would have been handed out then is from the final score, as a share of that; negative
            where it is better.
        final: whether this is the final score.
    """

    part: str
    name: str
    seconds: float
    excess: float
    final: bool = False


def score(carbon_mg: float, kept: float, aim: float) -> float:
    """Carbon, dearer by what is missing to the aim, mg."""
    return carbon_mg * (1.0 + PENALTY * max(0.0, aim - kept))


def points(run: Path) -> list[Point]:
    """All moments of a training at which it was scored, oldest first.

    Raises:
        InputError: the folder holds nothing by which the training could be followed.
    """
    book = _json(run / STAGES)
    if book is None:
        return list(_evaluations(run))
    if "handed_out" not in book:
        raise InputError(f"{run} has not finished: its {STAGES} does not say yet which stage is handed out.")
    rows = {row["name"]: row for row in book["stages"]}
    scores = {
        name: score(r["carbon_mg_per_request"], r["episodes_meeting_slo"], AIM) for name, r in rows.items()
    }
    chosen = book["handed_out"]
    excess = {name: value / scores[chosen] - 1.0 for name, value in scores.items()}
    found = list(_head(run, excess[UNTAUGHT])) or [Point(TEACHING, UNTAUGHT, 0.0, excess[UNTAUGHT])]
    found[-1] = replace(found[-1], final=chosen == UNTAUGHT)
    for name, row in rows.items():
        if name != UNTAUGHT:
            part, clock = RL if name == RL else TEACHING, found[-1].seconds + row["seconds"]
            found.append(Point(part, name, clock, excess[name], name == chosen))
    best = accumulate((point.excess for point in found), min)
    return [replace(point, excess=least) for point, least in zip(found, best, strict=True)]


def _head(run: Path, finished_excess: float) -> Iterator[Point]:
    """The rounds of the risk head under a run; the last is the finished head, `untaught`."""
    card = _json(run / RISK_FOLDER / CARD_FILE)
    if card is None:
        return
    training = card["training"]
    *rounds, last = training["stages"]
    aim, clock = training["settings"]["aim"], 0.0

    def mg(stage: dict[str, Any]) -> float:
        return score(stage["fresh_mg_per_request"], stage["fresh_episodes_meeting_slo"], aim)

    for stage in rounds:
        clock += stage["seconds"]
        if stage["samples"]:  # the first is the rule, which is only there to be compared with
            yield Point(HEAD, stage["stage"], clock, mg(stage) / mg(last) - 1.0 + finished_excess)
    yield Point(HEAD, last["stage"], training["seconds"], finished_excess)


def _evaluations(run: Path) -> Iterator[Point]:
    """The evaluations of a run without a teacher."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    emissions = _json(run / EMISSIONS)
    if emissions is None or not (run / "tb").is_dir():
        raise InputError(
            f"{run}: expected a run folder with {EMISSIONS} and tb/, made by `carbonpilot train`."
        )
    if len(emissions["sessions"]) != 1:
        raise InputError(f"{run} was resumed: between its sessions the clock of its evaluations went on.")
    began = datetime.fromisoformat(emissions["sessions"][0]["started_utc"]).timestamp()
    events = EventAccumulator(str(run / "tb"))
    events.Reload()
    carbon, kept = (
        events.Scalars(f"eval/{tag}") for tag in ("carbon_mg_per_request", "episodes_meeting_slo")
    )
    scores = [score(c.value, k.value, AIM) for c, k in zip(carbon, kept, strict=True)]
    for event, its in zip(carbon, scores, strict=True):
        seconds, last = event.wall_time - began, event is carbon[-1]
        yield Point(RL, f"step {event.step}", seconds, its / scores[-1] - 1.0, last)


def until(found: Sequence[Point], within: float) -> Point:
    """The earliest moment from which on it stays within so much of the final score, until that is reached."""
    final = next(i for i, point in enumerate(found) if point.final)
    outside = [i for i in range(final) if found[i].excess > within]
    return found[outside[-1] + 1 if outside else 0]


def seconds_of(found: Sequence[Point], part: str) -> float | None:
    """Seconds of a part of the training; None where there was none."""
    mine = [i for i, point in enumerate(found) if point.part == part]
    if not mine:
        return None
    return found[mine[-1]].seconds - (found[mine[0] - 1].seconds if mine[0] else 0.0)


def table(runs: Sequence[Path], within: float) -> str:
    """Markdown, one line for each run and their median."""
    lines = [
        f"| run | {' | '.join(f'{part} s' for part in PARTS)} | all s | within {within:.0%} after s | which was |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    rows = []
    for run in runs:
        found = points(run)
        reached = until(found, within)
        rows.append([*(seconds_of(found, part) for part in PARTS), found[-1].seconds, reached.seconds])
        lines.append(_line(run.resolve().name, rows[-1], f"{reached.part}: {reached.name}"))
    if len(runs) > 1:
        columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
        lines.append(_line("median", [statistics.median(c) if c else None for c in columns], ""))
    return "\n".join(lines)


def _line(name: str, seconds: Sequence[float | None], which: str) -> str:
    return f"| {name} | {' | '.join('-' if s is None else f'{s:.0f}' for s in seconds)} | {which} |"


def _json(file: Path) -> Any:
    return json.loads(file.read_text()) if file.is_file() else None


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--within", type=float, default=WITHIN, help="share of the final score (default 0.01)"
    )
    options = parser.parse_args()
    try:
        print(table(options.runs, options.within))
    except CarbonPilotError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
