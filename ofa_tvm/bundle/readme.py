"""The README of a bundle, for whoever receives it."""

from __future__ import annotations

from ofa_tvm.bundle.manifest import Contents

_TEMPLATE = """\
# Image classifier for {target}

A subnet of the Once-for-All supernet {supernet}, compiled by TVM for {target}.

| | |
|---|---|
| architecture | `{architecture}` |
| input | `{input_name}`, float32 {input_shape}, RGB, see `input` in `manifest.json` |
| output | `{output_name}`, float32 {output_shape}, logits of the classes in `manifest.json` |
| latency budget | {budget_ms:g} ms |
| measured latency | {median_ms:.4g} ms, median on {device}{emulated} |
| measured accuracy | {accuracy:.1%} top-1 on {images} images |

## Verify

```
sha256sum --check SHA256SUMS
python -m ofa_tvm.bundle verify .
```

The first finds damaged files. The second also runs the library on `sample_input.npy` and compares
the result with `sample_output.npy`.

## Run

```
python -m ofa_tvm.bundle run . image.png
```

That puts transparent images on white and scales greys of 16 bits; the program below takes opaque images of 8 bits.
It needs no `ofa_tvm`, but the packages `apache-tvm` and `apache-tvm-ffi` (versions in `manifest.json`), numpy and
Pillow. TVM's runtime is enough: set `TVM_USE_RUNTIME_LIB=1` to leave its compiler out.

```python
import json
import os
import sys

import numpy as np
import tvm.runtime
from PIL import Image, ImageOps
from tvm.runtime.vm import VirtualMachine

manifest = json.load(open("manifest.json"))
os.environ.setdefault("TVM_NUM_THREADS", str(manifest["target"]["tvm_target"]["num-cores"]))
spec = manifest["input"]
(low, high), (_, _, height, width) = spec["value_range"], spec["shape"]
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
image = image.resize((width, height), Image.Resampling.BILINEAR)
array = np.asarray(image, "float32") / 255 * (high - low) + low
array = ((array - spec["mean"]) / spec["std"]).astype("float32").transpose(2, 0, 1)[None]
vm = VirtualMachine(tvm.runtime.load_module("./library.so"), tvm.runtime.cpu())
logits = vm["main"](tvm.runtime.tensor(np.ascontiguousarray(array))).numpy()[0]
print(manifest["class_names"][logits.argmax()])
```
"""


def bundle_readme(contents: Contents, architecture: str) -> str:
    """The text, in Markdown; `architecture` is its compact form."""
    measured = contents.latency.measured
    return _TEMPLATE.format(
        target=contents.target.name,
        supernet=contents.supernet.name,
        architecture=architecture,
        input_name=contents.input.name,
        input_shape=contents.input.shape,
        output_name=contents.output.name,
        output_shape=contents.output.shape,
        budget_ms=contents.latency.budget_ms,
        median_ms=measured.median_ms,
        device=measured.device,
        emulated=" (emulated: says nothing about real hardware)" if measured.emulated else "",
        accuracy=contents.accuracy.measured,
        images=contents.accuracy.images,
    )
