"""Bundles among several threads of Python's, and the number of threads of TVM's."""

from __future__ import annotations

import re

import pytest
from tvm import relax

from ofa_tvm.bundle import runtime
from ofa_tvm.bundle.manifest import THREADS
from ofa_tvm.bundle.runner import BundleRunner

TWO_THREADS_ONE_LIBRARY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ofa_tvm.bundle.runtime import load_main

main = load_main(Path(sys.argv[1]))
images = np.random.default_rng(0).standard_normal((2, 1, 3, 8, 8)).astype(np.float32)
expected = [main(image) for image in images]


def same(number):
    return all(np.array_equal(main(images[number]), expected[number]) for _ in range(2000))


with ThreadPoolExecutor(2) as pool:
    assert all(pool.map(same, range(2))), "an output of the other image"
"""


def _many_steps(builder, image):
    """So many that two threads are amid them at once."""
    for _ in range(20):
        image = builder.emit(relax.op.nn.softmax(relax.op.multiply(image, relax.const(2.0, "float32"))))
    return image


def test_threads_may_share_a_library(export, command):
    ran = command("-c", TWO_THREADS_ONE_LIBRARY, export(_many_steps))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("given", "warnings"), [("2", 1), ("3", 0)])
def test_a_bundle_that_gets_another_number_of_threads_says_so(bundle, forge, monkeypatch, caplog, given, warnings):
    monkeypatch.setenv(runtime.THREADS_VARIABLE, given)  # as a bundle loaded before does, or the user
    forge(bundle, lambda manifest: manifest["target"]["tvm_target"].update({THREADS: 3}))
    BundleRunner(bundle)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warnings
    assert all("measured on 3 threads, but TVM_NUM_THREADS is 2" in line for line in told)


def test_the_readmes_example_runs_on_as_many_threads(bundle, forge, monkeypatch, image, command):
    monkeypatch.delenv(runtime.THREADS_VARIABLE, raising=False)
    forge(bundle, lambda manifest: manifest["target"]["tvm_target"].update({THREADS: 2}))
    (example,) = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    bare = "import os, sys\nsys.modules['torch'] = None  # as on a device\nos.environ['TVM_USE_RUNTIME_LIB'] = '1'\n"
    (bundle / "example.py").write_text(f"{bare}{example}\nassert tvm.runtime.num_threads() == 2\n")
    ran = command("example.py", image, cwd=bundle)
    assert ran.returncode == 0, ran.stderr
