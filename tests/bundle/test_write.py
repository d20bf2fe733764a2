from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess

import numpy as np
import pytest

from ofa_tvm.bundle.manifest import read_manifest
from ofa_tvm.bundle.verify import verify
from ofa_tvm.bundle.write import target_record, write_bundle
from ofa_tvm.errors import InvalidBundleError, OutputError


def _names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_read_back(pristine, contents):
    manifest = read_manifest(pristine)
    assert {name: getattr(manifest, name) for name in type(contents).model_fields} == dict(contents)
    assert set(manifest.files) == {"library.so", "sample_input.npy", "sample_output.npy", "README.md"}


def test_a_sample_image_is_part_of_the_bundle(tmp_path, contents, library, samples, image):
    write_bundle(tmp_path / "bundle", contents, library, *samples, image)
    assert "sample_image.png" in read_manifest(tmp_path / "bundle").files
    verify(tmp_path / "bundle")


def test_a_bundle_is_only_replaced_on_request(bundle, contents, library, samples):
    with pytest.raises(OutputError, match="already holds a bundle"):
        write_bundle(bundle, contents, library, *samples)
    cheaper = contents.model_copy(update={"class_names": ("v", "w", "x", "y", "z")})
    write_bundle(bundle, cheaper, library, *samples, overwrite=True)
    assert read_manifest(bundle).class_names == ("v", "w", "x", "y", "z")
    assert _names(bundle.parent) == ["bundle"]


def test_a_bundle_that_a_killed_deploy_was_about_to_replace_is_there_still(bundle, contents, library, samples):
    """Killed between two renames, where the system can't exchange names at once."""
    cradle = bundle.with_name(".bundle.x.ofa_tvm-unfinished")
    cradle.mkdir()
    bundle.rename(cradle / "old")
    with pytest.raises(OutputError, match="already holds a bundle"):
        write_bundle(bundle, contents, library, *samples)
    verify(bundle)
    assert _names(bundle.parent) == ["bundle"]


def test_foreign_files_are_never_deleted(bundle, tmp_path, contents, library, samples):
    (bundle / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"also holds notes\.txt"):
        write_bundle(bundle, contents, library, *samples, overwrite=True)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not empty and no bundle"):
        write_bundle(foreign, contents, library, *samples, overwrite=True)
    assert (bundle / "notes.txt").read_text() == (foreign / "thesis.tex").read_text() == "mine"


def test_an_empty_directory_may_become_a_bundle(tmp_path, contents, library, samples):
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", contents, library, *samples)
    verify(tmp_path / "empty")


def test_a_file_in_the_way(tmp_path, contents, library, samples):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "bundle"):
        with pytest.raises(OutputError, match=re.escape(str(place))):
            write_bundle(place, contents, library, *samples)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path, contents, library, samples):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OutputError, match=f"cannot write {tmp_path / 'out'}"):
            write_bundle(tmp_path / "out", contents, library, *samples)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _names(tmp_path) == []


def test_a_read_only_file_system(tmp_path, contents, library, samples):
    place = tmp_path / "read-only"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        if os.geteuid() == 0:
            pytest.skip("no right to mount a file system")
        place.chmod(0o555)
    try:
        with pytest.raises(OutputError, match=r"cannot write .*(Read-only|denied)"):
            write_bundle(place / "bundle", contents, library, *samples)
        assert _names(place) == []
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", place], check=True)


def test_a_bundle_that_fails_its_check_never_appears(tmp_path, contents, library, samples):
    with pytest.raises(InvalidBundleError, match="does not reproduce"):
        write_bundle(tmp_path / "out", contents, library, samples[0], samples[1] + np.float32(1), check=verify)
    assert _names(tmp_path) == []


def test_samples_of_another_shape_never_appear(tmp_path, contents, library, samples):
    with pytest.raises(InvalidBundleError, match=r"sample_output\.npy holds float32 \(1, 4\)"):
        write_bundle(tmp_path / "out", contents, library, samples[0], samples[1][:, :4])
    assert _names(tmp_path) == []


def test_the_target_record_has_the_vector_extensions_of_the_cpu():
    tvm_target = pytest.importorskip("tvm").target
    record = target_record(
        "x", tvm_target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"}), False
    )
    assert {"avx", "avx2", "fma", "f16c"} <= set(record.cpu_features)
    assert "avx512f" not in record.cpu_features
    options = {"kind": "llvm", "num-cores": 1, "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"}
    assert record.tvm_target == options
    assert target_record("x", tvm_target.Target({**options, "num-cores": 3}), False).tvm_target["num-cores"] == 3
    less = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3", "mattr": ["-avx2"]}
    assert "avx2" not in target_record("y", tvm_target.Target(less), False).cpu_features


def test_the_readmes_example_runs_without_this_package(pristine, tmp_path, image, command, weights):
    readme = (pristine / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    place = shutil.copytree(pristine, tmp_path / "received")
    bare = "import os, sys\nsys.modules['torch'] = None  # as on a device\nos.environ['TVM_USE_RUNTIME_LIB'] = '1'\n"
    (place / "example.py").write_text(f"{bare}{example}\nassert 'ofa_tvm' not in sys.modules\n")
    ran = command("example.py", image, cwd=place)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in ("ant", "bee", "[cat]", "dog", "elk")
    shown = command("-m", "ofa_tvm.bundle", "run", pristine, image, "--top", "1", "--json")
    assert f'"{ran.stdout.strip()}"' in shown.stdout
