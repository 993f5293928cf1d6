"""How long an upload takes: the TCP model and the empirical one."""
