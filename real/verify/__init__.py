"""A run's log against the simulator: the log becomes a tape, the tape is played, and what came is compared.

`run_log` reads, `served` and `conditions` say what happened, `world` and `tape_of_log` make the tape, `replay` plays
it, `compare` and `checks` judge, `report` tells. `simulated_log` writes the log of a simulated run.
"""
