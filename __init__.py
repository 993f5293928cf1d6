"""CarbonPilot: place each edge-AI request where it emits least CO2 within its latency objective.

Rooms (see DESIGN in docs): ``envs`` (traces, tape, physics, Gymnasium layer), ``agents`` (policies,
training, evaluation, frozen bundles), ``oracle`` (hindsight judges), ``real`` (the device), ``configs``.
"""

__version__ = "0.1.0"
