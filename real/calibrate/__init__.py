"""Measures a site: local and remote service times, links, payloads, energy; writes the site file.

`calibration` is the whole, `job` what its parts share, `ledger` who keeps the numbers; `local`, `remote`, `link`,
`transfers`, `payload`, `power` measure, `link_entry` and `node_entry` enter what was measured into the scenario.
"""
