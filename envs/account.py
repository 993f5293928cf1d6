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
from .units import MG_PER_J_PER_G_PER_KWH, MS_PER_S

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
    device_grid = world[rows["carbon"]] * MG_PER_J_PER_G_PER_KWH  # node 0 is the device
    node_grid = read(world, rows["carbon"], node) * MG_PER_J_PER_G_PER_KWH
    network_grid = read(world, rows["network_carbon"], link) * MG_PER_J_PER_G_PER_KWH
    here = compute + radio_j
    marginal_j = here + network + server
    marginal_mg = here * device_grid + network * network_grid + server * node_grid
    gap_ms = s.issued_ms - s.previous_ms
    device_idle = gap_ms * (site.scenario.device.idle_power_w / MS_PER_S)
    server_idle = gap_ms * remote * (pick(c.server_idle_w, a) / MS_PER_S)
    if site.has_background:  # tenants share the server's idle power by their number of requests
        server_idle = server_idle / (gap_ms * pick(c.background_per_ms, level + pick(c.level_start, a)) + 1.0)
    return Outcome(
        placement=a,
        issued_ms=s.issued_ms,
        compute_energy_j=compute,
        radio_energy_j=radio_j,
        network_energy_j=network,
        server_energy_j=server,
        device_idle_energy_j=device_idle,
        server_idle_energy_j=server_idle,
        energy_j_marginal=marginal_j,
        energy_j_attributional=marginal_j + device_idle + server_idle,
        carbon_mg_marginal=marginal_mg,
        carbon_mg_attributional=marginal_mg + device_idle * device_grid + server_idle * node_grid,
        accuracy_miou=pick(c.accuracy, a),
    )
