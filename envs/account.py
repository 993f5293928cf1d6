"""Energy and carbon of a placement, in both accounts.

marginal: what this request added. attributional: that, and its share of the idle power of everything that stood
ready for it. Carbon is energy x intensity of the grid zone it was drawn from x PUE (CarbonEdge eq (2)).
"""

from __future__ import annotations

from typing import Any

from .constants import Constants
from .outcome import Outcome
from .site import Site
from .state import State
from .units import MS_PER_S

Number = Any


def account(
    ops: Any, site: Site, c: Constants, s: State, world: Any, payload_kb: Number, a: Number, remote: Number,
    node: Number, link: Number, level: Number, batch: Number, radio_j: Number,
) -> Outcome:  # fmt: skip
    """Fill energies and carbon of an outcome; the latencies are left to the caller.

    Args:
        ops, site, c, s, world, a: as in `physics.serve`.
        payload_kb: size of the request.
        remote: 1 for servers, 0 for the device.
        node, link: handles of the placement's node and link.
        level: load level of the node.
        batch: images in the batch it rides in.
        radio_j: radio energy the request adds.
    """
    pick, read, rows = ops.pick, ops.read, site.rows.start
    compute = pick(c.device_energy_j, a)
    server = (pick(c.server_fixed_j, a) / batch + pick(c.server_each_j, a)) * remote
    network = payload_kb * pick(c.network_j_per_kb, a) * remote
    device_grid = world[rows["carbon_mg_per_j"]]  # node 0 is the device
    node_grid = read(world, rows["carbon_mg_per_j"], node)
    here = compute + radio_j
    gap_ms = s.issued_ms - s.previous_ms

    def idle() -> tuple[Number, Number]:
        """Idle energy of device and server since the last request that is this request's share, J."""
        server_idle = gap_ms * remote * (pick(c.server_idle_w, a) / MS_PER_S)
        if site.has_background:  # tenants share the server's idle power by their number of requests
            server_idle = server_idle / (gap_ms * pick(c.background_per_ms, level + pick(c.level_start, a)) + 1.0)
        return gap_ms * (site.scenario.device.idle_power_w / MS_PER_S), server_idle

    return Outcome(
        placement=a,
        issued_ms=s.issued_ms,
        compute_energy_j=compute,
        radio_energy_j=radio_j,
        network_energy_j=network,
        server_energy_j=server,
        carbon_mg_marginal=here * device_grid
        + network * read(world, rows["network_carbon_mg_per_j"], link)
        + server * node_grid,
        accuracy_miou=pick(c.accuracy, a),
        idle_share=idle,
        device_grid=device_grid,
        node_grid=node_grid,
    )
