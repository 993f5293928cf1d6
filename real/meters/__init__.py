"""Energy meters: Jetson rails, tegrastats, RAPL and NVML; windows, background sampling and energy per request."""

from .find import Finding, find_meters
from .jetson_rails import JetsonRails
from .meter import Meter, MeterError, Sample, Scope
from .nvml import Nvml
from .rapl import Rapl
from .request_energy import Attribution, Correction, RequestEnergyModel, TimedRequest
from .sampler import SamplerThread
from .tegrastats import Tegrastats
from .windows import IdleBaseline, WindowEnergy, WindowIntegrator

__all__ = [
    "Attribution",
    "Correction",
    "Finding",
    "IdleBaseline",
    "JetsonRails",
    "Meter",
    "MeterError",
    "Nvml",
    "Rapl",
    "RequestEnergyModel",
    "Sample",
    "SamplerThread",
    "Scope",
    "Tegrastats",
    "TimedRequest",
    "WindowEnergy",
    "WindowIntegrator",
    "find_meters",
]
