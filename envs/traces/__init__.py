"""Grid, network and arrival traces: readers, checks, signals, and libraries that episodes are cut from."""

from .checks import check_file
from .defects import Defect
from .folder import trace_folder
from .readers import read_arrivals, read_grid, read_network, read_trace
from .records import ArrivalTrace, GridTrace, NetworkTrace
from .signals import Signal
from .summary import summarise

__all__ = [
    "ArrivalTrace",
    "Defect",
    "GridTrace",
    "NetworkTrace",
    "Signal",
    "check_file",
    "read_arrivals",
    "read_grid",
    "read_network",
    "read_trace",
    "summarise",
    "trace_folder",
]
