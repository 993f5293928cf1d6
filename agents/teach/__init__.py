"""Teaching from the tape: hindsight labels, behaviour cloning, DAgger, and a baseline that cuts the variance of RL."""
