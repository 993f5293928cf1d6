"""The real device: executors, meters, probes and feeds (built in a later milestone)."""
