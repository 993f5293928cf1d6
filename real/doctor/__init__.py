"""What is present, permitted, reachable and fresh on this machine and for a site, each with its mend."""
