"""The last stage: what deploy writes, and the proof that it stands alone.

A bundle is a directory with the compiled library, a manifest that says what it is and what was predicted
and measured, and a sample input with its output. Verifying and running one needs TVM's runtime, numpy and
Pillow: no torch, no ONNX, no compiler.
"""
