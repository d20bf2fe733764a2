"""Whole Once-for-All subnets, with PyPI `ofa` as the oracle."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.target import Target

from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.library import compile_subnet
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.lower import lower
from ofa_tvm.lowering.outputs import random_image


@pytest.fixture(scope="module")
def objects(host: Target, machine: Machine) -> KernelObjects:
    return KernelObjects(host, machine)


def _sample(supernet: nn.Module, seed: int) -> nn.Module:
    """A subnet, its BN statistics unlike those of a fresh network."""
    random.seed(seed)
    torch.manual_seed(seed)
    supernet.sample_active_subnet()
    subnet = supernet.get_active_subnet(preserve_weight=True)
    for module in subnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return subnet


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "width", "resolution"),
    [("mobilenet_v3", 0.5, 32), ("mobilenet_v3", 0.5, 44), ("proxyless", 0.5, 64)],
)
def test_a_subnet_runs_on_kernels_alone_and_is_right(
    official: SimpleNamespace,
    host: Target,
    machine: Machine,
    objects: KernelObjects,
    tmp_path: Path,
    network: str,
    width: float,
    resolution: int,
) -> None:
    torch.set_num_threads(1)
    supernet = getattr(official, network)(
        n_classes=10, width_mult=width, ks_list=[3, 5], expand_ratio_list=[3, 4], depth_list=[2, 3]
    )
    lowered = lower(_sample(supernet, seed=resolution), random_image(resolution, seed=1))
    compiled = compile_subnet(
        lowered.imported, host, machine, lambda w: TEMPLATES[w.kind].default(w, machine), kernels=objects
    )
    assert compiled.leftovers == ()
    kinds = Counter(workload.kind for workload in compiled.workloads)
    convolutions = sum(node.op_type == "Conv" for node in lowered.model.graph.node)
    assert kinds["conv"] == 1
    assert kinds["conv"] + kinds["depthwise"] + kinds["pointwise"] == convolutions + 1  # and the classifier
    path = tmp_path / "subnet.so"
    compiled.export(path)
    main = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())["main"]
    logits = main(tvm.runtime.tensor(lowered.sample_input)).numpy()
    assert check_outputs("library", lowered.sample_output, logits) < 1e-5
