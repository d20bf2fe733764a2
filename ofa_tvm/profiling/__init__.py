"""What to measure on a device, and measuring it: a space's kernels and whole subnets, for the latency predictor."""
