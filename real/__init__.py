"""The real device: what executes, measures, observes, guards and records there; never torch, SB3 or Gymnasium.

`interfaces` (frames, answers, executors), `site_file` (where everything is), `log_records` (what a run writes) are
what the rooms below agree on; each room's own package says what it does.
"""
