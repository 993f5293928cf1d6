"""How long an upload takes: one TCP connection, and the papers' fitted delays."""
