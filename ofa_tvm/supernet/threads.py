"""How many threads PyTorch computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let PyTorch use no thread but this one.

    A single image or a small matrix is too little work to share: on a busy host its threads wait for each other most of
    the time. One thread gives the same sums everywhere. And a forked process has to compute so, because the threads of
    its parent are not in it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
