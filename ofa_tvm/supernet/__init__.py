"""The weight-sharing network: elastic layers, extraction of stand-alone subnets, BN calibration, checkpoints."""
