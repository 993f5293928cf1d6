"""The shield: what keeps the objective whatever the policy says and whatever fails."""
