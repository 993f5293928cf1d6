"""The risk head, the price on risk, and the policy `learned-risk` that is made of both."""
