"""What can vary: architectures, search spaces, their encodings, and the workloads they consist of.

No torch and no tvm here: every later stage may import this one.
"""
