"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import InputError
from ..log_records import Mode
from ..shield.shield import Fallback
from .engine import Overload
from .race import Limits

LISTEN = "127.0.0.1:9464"  # the port that OpenTelemetry's Prometheus exporters use
REMOTE_TIMEOUT_SLOS = (
    2.0  # a remote call is given up after so many objectives: its answer would still teach until then
)
GIVE_UP_SLOS = 20.0  # a frame without an answer after so many objectives has none


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of `carbonpilot run`; see docs/run.md.

    Attributes:
        site: site file.
        images: folder, image, video or camera.
        bundle, policy: one of them: a bundle's folder or `pretrained`, or the name of a static policy.
        wish: position of the dial, as typed; None: the site's.
        mode: shadow or active.
        rate: frames a second; None: the camera's, or the site's arrivals on the average.
        frames: stop after so many; None: at the source's end.
        repeat: begin again at the source's end.
        in_flight: remote calls at a time.
        queue: frames without a result at most.
        overload: what becomes of a frame that finds no room.
        fallback: when local steps in beside a remote call; see `Shield`.
        drain_s: time for frames under way when the run is stopped.
        log: folder of the log; None: a new one below runs/.
        log_file_bytes, log_files: size of a file, and how many are kept; None: all.
        masks: folder for masks; None: they are dropped.
        tensorboard: folder for curves; None: none are drawn.
        listen: address of metrics and status page; None: nothing listens.
        allow_other_device: run on another machine than the site file's.
        stand_in: compute nothing; every placement takes its calibrated service time.
        start_without_servers: a server that does not answer at the start is tried again later.
    """

    site: Path
    images: str
    bundle: Path | None = None
    policy: str | None = None
    wish: str | None = None
    mode: Mode = "shadow"
    rate: float | None = None
    frames: int | None = None
    repeat: bool = False
    in_flight: int = 4
    queue: int = 8
    overload: Overload = "skip"
    fallback: Fallback = "risk"
    drain_s: float = 5.0
    log: Path | None = None
    log_file_bytes: int = 64_000_000
    log_files: int | None = None
    masks: Path | None = None
    tensorboard: Path | None = None
    listen: str | None = LISTEN
    allow_other_device: bool = False
    stand_in: bool = False
    start_without_servers: bool = False

    @property
    def folder_of_log(self) -> Path:
        """The log's folder, which must have been chosen by now."""
        if self.log is None:
            raise InputError("A run needs a folder for its log.")
        return self.log

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: an option, or two that do not go together.
        """
        if (self.bundle is None) == (self.policy is None):
            raise InputError("Give either --bundle DIR or --policy NAME, and not both.")
        for name, value in (
            ("--in-flight", self.in_flight),
            ("--queue", self.queue),
            ("--frames", self.frames),
        ):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")

    def limits(self, slo_ms: float) -> Limits:
        """Limits of calls for an objective."""
        give_up_s = GIVE_UP_SLOS * slo_ms / 1000
        return Limits(
            in_flight=self.in_flight,
            remote_timeout_s=REMOTE_TIMEOUT_SLOS * slo_ms / 1000,
            local_timeout_s=give_up_s,
            give_up_s=give_up_s,
            late_s=slo_ms / 1000,
        )
