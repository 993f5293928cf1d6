"""What can be checked and opened before anything runs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...agents.policy import Policy
from ...envs.absence import zones_in_use
from ...envs.dial import parse_wish, scenario_at
from ...envs.next_request import RECENT_WEIGHT
from ...envs.observation import ObservationTable, build_table
from ...envs.scenario import scenario_sha256
from ...envs.schema import Scenario
from ..clock import Clock
from ..interfaces import Executor
from ..meters.meter import Meter
from ..observer import Carried
from ..site_file import SiteFile, load_site
from .checks import check_machine, open_policy
from .ends import Ends
from .feeds import SiteFeeds, site_feeds
from .log_files import lock_folder
from .log_repair import Earlier, check_same_site, earlier, repair
from .options import RunOptions
from .site_parts import SiteProbes, StandInProbes, site_executors, site_meters, site_probes, stand_ins


@dataclass
class Checked:
    """All that a run starts from; nothing runs so far.

    Attributes:
        site, table: the site and its observation table.
        shown: the site's scenario with the dial where the options want it: what the policy is shown. The log, and all
            that judges it later, keep the site's own.
        policy, policy_name, card_sha256: what decides.
        before: what earlier runs left in the log.
        repaired: what was done to a log that a crash had torn.
        probes, feeds, meters, executors: opened, not started.
        ends: gives back what is held, such as the log's folder.
    """

    site: SiteFile
    table: ObservationTable
    shown: Scenario
    policy: Policy
    policy_name: str
    card_sha256: str
    before: Earlier
    repaired: list[str]
    probes: SiteProbes | StandInProbes
    feeds: SiteFeeds
    meters: dict[str, Meter]
    executors: dict[str, Executor]
    ends: Ends


def check(options: RunOptions, clock: Clock) -> Checked:
    """Read everything and refuse what cannot run.

    Raises:
        InputError: with what was expected, what came and the mend.
    """
    options.check()
    log = options.folder_of_log
    site = load_site(options.site)
    folder = options.site.resolve().parent
    check_machine(site, options.site, options.allow_other_device or options.stand_in)
    table = build_table(site.scenario)
    shown = site.scenario if options.wish is None else scenario_at(site.scenario, parse_wish(options.wish))
    policy, name, card_sha256 = open_policy(options.bundle, options.policy, shown, table)
    ends, lock = Ends(), lock_folder(log)
    ends.add("log's folder", lambda: os.close(lock))
    try:
        repaired = repair(log)
        before = earlier(log, site.scenario.episode.requests)
        check_same_site(before, scenario_sha256(site.scenario), log)
        wanted = zones_in_use(site.scenario)
        feeds = site_feeds(site.deployment.feeds, folder, log / "feeds.json", clock, wanted)
        if options.stand_in:
            probes, executors, meters = StandInProbes(site.scenario, clock), stand_ins(site, folder), {}
        else:
            executors = site_executors(site, folder, options.start_without_servers)
            probes, meters = site_probes(site, clock), site_meters(site.deployment)
    except BaseException:
        ends.close()
        raise
    return Checked(
        site, table, shown, policy, name, card_sha256, before, repaired, probes, feeds, meters, executors, ends
    )  # fmt: skip


def carried(before: Earlier, requests: int) -> Carried:
    """What the observer goes on with: frames are counted in blocks of an episode's length, from frame 0 on."""
    frames = before.next_frame % requests
    block = before.missed[len(before.missed) - frames :] if frames else ()
    recent = 0.0
    for missed in before.missed:
        recent += RECENT_WEIGHT * (missed - recent)
    return Carried(frames, float(sum(block)), recent)
