"""The runtime: frames in, results and log lines out, whatever fails."""
