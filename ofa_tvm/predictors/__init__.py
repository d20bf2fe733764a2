"""Predict a subnet's latency on a device and its accuracy, without building or running it.

The latency predictor (XGBoost) learns from kernels and subnets measured on the device, the accuracy
predictor (a small network) from subnets evaluated with the supernet's weights. Both can be rebuilt
from these records at any time.
"""
