"""`carbonpilot risk train`: rollouts, fits and searches in turn, and what each of them gave.

Round 0 sees what the tuned rule meets. Later rounds see what the head of the round before meets, because a policy that
takes more risk comes into other states (DAgger: Ross, Gordon, Bagnell, "A Reduction of Imitation Learning and
Structured Prediction to No-Regret Online Learning", 2011). Every round's samples are kept. Training tapes only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__
from ...envs.console import Progress
from ...envs.errors import InputError
from ...envs.observation import build_table, remote_placements
from ...envs.scenario import load_scenario, refuse_held_out, scenario_sha256
from ...envs.schema import Scenario
from ..host_tracker import HostTracker
from ..policy import Policy
from ..predictive import SloPredictiveBudget
from ..provenance import command_line, commit
from ..rule_parameters import make_rule, tuned_parameters
from ..tracking import measured
from ..tune import tape_seeds
from ..tune_workers import Players
from .asked import check_folder, pricing_site
from .blind import seen_features
from .calibration import correction, curves
from .collect import Collector, Samples, joined
from .fit import Fit, cautious, fit_head, logits_of, rescaled
from .folder import Arrays, Risk, read_risk_for, write_risk
from .parameters import CAUTION, PRICE, default_price, newer, without_caution
from .policy import LearnedRiskMaker
from .settings import RiskSettings, load_risk_settings
from .stages import SpreadPrices, Stage, calibration_line
from .tune_price import TunedPrice, options_of, tune_price

RULE = SloPredictiveBudget.name
Say = Callable[[str], None]


def run_risk_training(
    scenario_name: str,
    out: str | Path,
    *,
    seed: int = 0,
    traces: str | Path | None = None,
    head: str | Path | None = None,
    settings_file: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    jobs: int = 1,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make a risk head with its price and write them as a risk folder.

    Args:
        scenario_name: shipped name or path.
        out: folder to create.
        seed: of everything that is drawn; the same seed gives the same folder, but for the seconds.
        traces: trace folder of a scenario that reads files.
        head: risk folder whose head is kept; only a price for it is searched, on this scenario.
        settings_file: instead of configs/train/risk.yaml.
        changes: settings that replace those of the file; None values are skipped.
        jobs: processes of the searches for a price.
        say: called with a line after each stage.
        progress: called with what is being searched, settings done and settings in all.

    Returns:
        The folder.

    Raises:
        InputError: unknown scenario or setting, a scenario that is held out, a head or a site to price on with other
            placements or another table, or a folder that cannot be written; nothing was started then.
    """
    scenario = load_scenario(scenario_name, traces=traces is not None)
    refuse_held_out(scenario)
    settings = load_risk_settings(scenario.name, scenario.family, settings_file, changes)
    path = check_folder(out)
    if not remote_placements(scenario):
        raise InputError(f"'{scenario.name}' has no placement but the device: there is no risk to weigh.")
    given = None if head is None else read_risk_for(head, scenario)
    folder = None if traces is None else str(traces)
    site = scenario if head is not None else pricing_site(settings.price_on, scenario, folder)
    trainer = RiskTraining(scenario, site, settings, seed, folder, jobs, say or _silent, progress)
    arrays, card = trainer.run(given)
    return write_risk(path, arrays, card)


class RiskTraining:
    """The stages of one training, in order."""

    def __init__(
        self,
        scenario: Scenario,
        priced_on: Scenario,
        settings: RiskSettings,
        seed: int,
        traces_dir: str | None,
        jobs: int,
        say: Say,
        progress: Progress | None,
    ) -> None:
        """Remember what for; the final price is searched on ``priced_on``, of the same placements and table."""
        self.scenario, self.priced_on, self.settings, self.seed = scenario, priced_on, settings, seed
        self._traces_dir, self._jobs, self._say, self._progress = traces_dir, jobs, say, progress
        self._names = [p.name for p in scenario.placements]
        self._seen = seen_features(build_table(scenario))
        self._parts: list[Samples] = []
        self._stages: list[Stage] = []
        self._tracker = HostTracker(settings.country_iso_code)
        self._started = time.perf_counter()

    def run(self, given: Risk | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Play, fit and search, or only search a price for the head that is given; return arrays and card."""
        self._tracker.start()
        try:
            arrays, card = self._make() if given is None else self._reprice(given)
        finally:
            self._tracker.stop()
        card["training"]["emissions"] = measured(self._tracker, self.settings.country_iso_code)
        return arrays, card

    def _make(self) -> tuple[Arrays, dict[str, Any]]:
        rule = tuned_parameters(self.scenario)[RULE]
        self._rule_stage(tuned_parameters(self.priced_on)[RULE])
        searched = {t.name for t in PRICE}
        price = default_price() | {t.name: t.default for t in CAUTION}
        price |= {k: v for k, v in rule.items() if k in searched}
        behaviour = self._spread(partial(make_rule, RULE), rule, 0)
        for n in range(self.settings.rounds + 1):
            started = time.perf_counter()
            fit = self._round(behaviour, n)
            search = self._report("price", self.settings.quick_trials)
            tuned = tune_price(
                self.scenario, fit.arrays, price, self._options(quick=True), self._traces_dir, search
            )
            price = tuned.price
            played = self.settings.episodes * self.scenario.episode.requests
            self._add_stage(f"round {n}", fit, tuned, started, played)
            behaviour = self._spread(LearnedRiskMaker(fit.arrays), price, n + 1)
        return self._finish(fit, price)

    def _reprice(self, given: Risk) -> tuple[Arrays, dict[str, Any]]:
        """Search the price on this site for a head that was made on another one; its caution is searched anew too."""
        started = time.perf_counter()
        self._rule_stage(tuned_parameters(self.scenario)[RULE])
        slope, shift = given.card.caution["slope"], given.card.caution["shift"]
        price = newer(given.card.price) | dict(zip((t.name for t in CAUTION), (slope, shift), strict=True))
        arrays, card = self._priced(cautious(given.arrays, 1 / slope, -shift / slope), price, started, None)
        made = {"scenario": given.card.scenario, "files": given.card.files, "training": given.card.training}
        card["training"]["head"] = made
        return arrays, card

    def _finish(self, fit: Fit, price: dict[str, float]) -> tuple[Arrays, dict[str, Any]]:
        """Correct the head's probabilities, search the final price, and see on fresh tapes how right they are."""
        started = time.perf_counter()
        samples = self._own_choices(self.scenario, fit.arrays, price, 100)
        arrays = rescaled(fit.arrays, *correction(samples, logits_of(fit.arrays, samples.observation)))
        return self._priced(arrays, price, started, fit)

    def _priced(
        self, arrays: Arrays, price: dict[str, float], started: float, fit: Fit | None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Search the final price for a head, whose ``fit`` is None where it was made elsewhere."""
        options = self._options(quick=False)
        site = self.priced_on
        count = options.trials_for(len(PRICE) + len(CAUTION), options.search_tapes * site.episode.requests)
        tuned = tune_price(site, arrays, price, options, self._traces_dir, self._report("price", count))
        self._add_stage("final price", fit, tuned, started, 0)
        checked = self._own_choices(site, arrays, tuned.price, 101)
        found = curves(checked, logits_of(arrays, checked.observation), self._names)
        self._say(calibration_line(found))
        shipped, (slope, shift) = without_caution(tuned.price)
        card = self._card(tuned, shipped, {name: c.as_dict() for name, c in found.items()})
        return cautious(arrays, slope, shift), card | {"caution": {"slope": slope, "shift": shift}}

    def _rule_stage(self, parameters: dict[str, float]) -> None:
        """The rule that the head is compared with, on the tapes that the final price is chosen on."""
        started, tapes = time.perf_counter(), self.settings.selection_tapes
        with Players(self.priced_on, tape_seeds(self.seed, tapes, True), self._traces_dir) as players:
            scores = players.score(RULE, [parameters])
        carbon, kept = float(scores.mean_carbon_mg[0]), float(scores.compliance[0])
        requests = tapes * self.priced_on.episode.requests
        self._note(Stage(f"rule {RULE}", 0, requests, {}, carbon, kept, time.perf_counter() - started))

    def _round(self, behaviour: Policy, n: int) -> Fit:
        collector = Collector(self.scenario, self.settings.exploration, self.settings.share, self._traces_dir)
        seeds = self._seeds(n, self.settings.episodes)
        self._parts.append(collector.collect(behaviour, seeds, self._rng(n)))
        return fit_head(joined(self._parts), self._seen, self.settings, self.seed + n)

    def _spread(self, make: Any, parameters: Mapping[str, float], stream: int) -> Policy:
        spread, rng = self.settings.price_spread, self._rng(1000 + stream)
        return SpreadPrices(make, self.scenario, parameters, spread, rng)

    def _own_choices(
        self, site: Scenario, arrays: Arrays, price: Mapping[str, float], stream: int
    ) -> Samples:
        """What the policy meets by itself on fresh tapes."""
        collector = Collector(site, 0.0, self.settings.share, self._traces_dir)
        seeds = self._seeds(stream, self.settings.calibration_tapes)
        policy = LearnedRiskMaker(arrays)(site, price)
        return collector.collect(policy, seeds, self._rng(stream))

    def _add_stage(
        self, name: str, fit: Fit | None, tuned: TunedPrice, started: float, requests: int
    ) -> None:
        loss = {} if fit is None else dict(zip(self._names, fit.loss.tolist(), strict=True))
        seconds = time.perf_counter() - started
        self._note(
            Stage(
                name,
                0 if fit is None else fit.samples,
                requests + tuned.requests,
                loss,
                tuned.fresh_mg,
                tuned.fresh_compliance,
                seconds,
            )
        )

    def _note(self, stage: Stage) -> None:
        self._stages.append(stage)
        self._say(stage.line())

    def _options(self, quick: bool) -> Any:
        s = self.settings
        if quick:
            return options_of(s.quick_trials, s.quick_tapes, s.selection_tapes, self.seed, s.aim, self._jobs)
        return options_of(s.trials, s.search_tapes, s.selection_tapes, self.seed, s.aim, self._jobs)

    def _report(self, what: str, total: int) -> Callable[[int], None] | None:
        if self._progress is None:
            return None
        report, done = self._progress, 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            report(f"{what}, stage {len(self._stages)}", min(done, total), total)

        return more

    def _seeds(self, stream: int, count: int) -> npt.NDArray[np.int64]:
        """Training tapes of a stage; the searches have others (`tune.tape_seeds`)."""
        return np.random.SeedSequence([self.seed, 7, stream]).generate_state(count).astype(np.int64)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 8, stream])

    def _card(
        self, tuned: TunedPrice, price: dict[str, float], calibration: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "carbonpilot_version": __version__,
            "table_sha256": build_table(self.scenario).sha256,
            "scenario": self.scenario.name,
            "scenario_sha256": scenario_sha256(self.scenario),
            "family": self.scenario.family,
            "actions": self._names,
            "price": price,
            "calibration": calibration,
            "training": {
                "seed": self.seed,
                "command": command_line(),
                "commit": commit(),
                "settings": self.settings.model_dump(mode="json"),
                "stages": [stage.as_dict() for stage in self._stages],
                "price_search": {**tuned.as_dict(), "scenario": self.priced_on.name},
                "seconds": round(time.perf_counter() - self._started, 1),
            },
        }


def _silent(line: str) -> None:
    """Say nothing."""
