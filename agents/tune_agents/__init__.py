"""`carbonpilot tune --algo`: search the settings of a learning algorithm on training tapes."""
