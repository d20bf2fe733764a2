"""Graph passes from an imported Relax module to calls of fused kernels on packed tensors, one pass a file.

`ofa_tvm.compiler.pipeline` lists them by phase.
"""
