"""From a target and an imported graph to a library: packed layouts, kernel templates, graph passes, tuning.

Kernels are schedule templates on channel-packed activations with a handful of candidates each, so the
best one is found by measuring all of them on the device instead of by sampling a schedule space.
"""
