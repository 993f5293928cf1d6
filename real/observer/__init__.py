"""What the device observes, as the features that the policy was trained on."""
