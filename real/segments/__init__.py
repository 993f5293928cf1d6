"""Split models: head for the device, tail for a server, what crosses between them, and the proof that they agree."""
