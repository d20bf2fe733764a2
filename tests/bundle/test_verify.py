from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from ofa_tvm.bundle import host
from ofa_tvm.bundle.files import check_files
from ofa_tvm.bundle.runtime import load_main
from ofa_tvm.bundle.trial import run_trial
from ofa_tvm.bundle.verify import verify
from ofa_tvm.errors import InvalidBundleError

HOSTILE = "\x1b[2J"
"""Would clear the terminal."""


def test_a_bundle_as_written_is_verified(pristine):
    report = verify(pristine)
    assert report.relative_error < 1e-6
    assert (report.budget_ms, report.measured_ms, report.here_ms) == (2.0, 1.6, None)
    assert report.files == len(list(pristine.iterdir())) - 1  # all but SHA256SUMS


def test_timing_here_gives_a_latency(pristine):
    assert len(run_trial(pristine, repeats=4).samples_ms) == 4


def test_sha256sum_accepts_the_checksums(pristine):
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=pristine, capture_output=True, text=True)
    assert checked.returncode == 0
    assert "manifest.json: OK" in checked.stdout


def test_a_flipped_bit_names_the_file_and_both_digests(bundle):
    path = bundle / "library.so"
    recorded = hashlib.sha256(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidBundleError) as caught:
        verify(bundle)
    for part in ("library.so", recorded, hashlib.sha256(content).hexdigest()):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["library.so", "sample_input.npy", "sample_output.npy", "README.md", "SHA256SUMS"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(InvalidBundleError, match=name):
        verify(bundle)


def test_an_altered_manifest_is_noticed(bundle):
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"median_ms": 1.6', '"median_ms": 0.6'))
    with pytest.raises(InvalidBundleError, match=r"manifest\.json was altered: .* SHA256SUMS says [0-9a-f]{64}"):
        verify(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(surprise=1), "surprise: Extra inputs"),
        (lambda m: m["latency"]["measured"].update(note="x"), r"latency\.measured\.note"),
        (lambda m: m.pop("accuracy"), "accuracy: Field required"),
        (lambda m: m.update(format_version=2), "format_version"),
        (lambda m: m["latency"]["measured"].update(median_ms=float("nan")), "median_ms"),
        (lambda m: m["class_names"].pop(), "4 class names for 5 outputs"),
        (lambda m: m["architecture"].update(resolution=12), "resolution 12"),
        (lambda m: m["architecture"]["stages"][0][0].update(kernel_size=9), "kernel size 9"),
        (lambda m: m["files"].update({"../escape": m["files"]["README.md"]}), "outside the bundle"),
        (lambda m: m["files"].update({"/etc/passwd": m["files"]["README.md"]}), "outside the bundle"),
        (lambda m: m["files"].pop("library.so"), r"does not list library\.so"),
        (lambda m: m["input"].update(std=[1e-300, 1, 1]), r"input\.std\.0"),
        (lambda m: m["input"].update(mean=[0, 1e300, 0]), r"input\.mean\.1"),
        (lambda m: m["target"].update(name=HOSTILE), r"target\.name: '\\x1b\[2J' holds what a terminal would obey"),
        (lambda m: m["target"]["tvm_target"].update(mcpu=HOSTILE), "target.tvm_target.mcpu"),
        (lambda m: m["target"]["tvm_target"].update(mattr=[HOSTILE]), "target.tvm_target.mattr"),
        (lambda m: m["target"]["tvm_target"].update({"num-cores": 0}), "num-cores is 0, not a number of threads"),
        (lambda m: m["target"]["tvm_target"].update({"num-cores": "two"}), "num-cores is 'two'"),
        (lambda m: m["target"].update(cpu_features=[HOSTILE]), "target.cpu_features.0"),
        (lambda m: m["supernet"].update(name=HOSTILE), "supernet.name"),
        (lambda m: m["input"].update(name=HOSTILE), "input.name"),
        (lambda m: m["output"].update(name=HOSTILE), "output.name"),
        (lambda m: m["latency"]["measured"].update(device="board\nerror: none"), "latency.measured.device"),
        (lambda m: m["versions"].update(tvm=HOSTILE), "versions.tvm"),
        (lambda m: m["files"].update({HOSTILE: m["files"]["README.md"]}), "files"),
        (lambda m: m.update({HOSTILE: 1}), "Extra inputs"),
        (lambda m: m["class_names"].__setitem__(0, HOSTILE), r"class_names\.0"),
        (lambda m: m["class_names"].__setitem__(0, m["class_names"][1]), "names two classes"),
        (lambda m: m["class_names"].__setitem__(0, " "), "a class name is empty"),
        (lambda m: m["latency"]["measured"].update(median_ms=2.5), "2.5 ms on local, above the budget of 2 ms"),
    ],
)
def test_a_forged_manifest_is_refused(bundle, forge, change, message):
    forge(bundle, change)
    with pytest.raises(InvalidBundleError, match=message) as caught:
        verify(bundle)
    assert str(caught.value).isprintable()


def test_a_link_out_of_the_bundle_is_refused(bundle, tmp_path):
    shutil.move(bundle / "library.so", tmp_path / "elsewhere.so")
    (bundle / "library.so").symlink_to(tmp_path / "elsewhere.so")
    with pytest.raises(InvalidBundleError, match="outside the bundle"):
        verify(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_none_is_refused(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(InvalidBundleError, match=r"manifest\.json: "):
        verify(bundle)


def test_a_directory_without_a_bundle(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidBundleError, match=r"is no bundle: it has no manifest\.json"):
            verify(place)


def _truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def _pickle(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _huge_header(path):
    header = path.read_bytes().replace(b"(1, 3, 8, 8), }", b"(1, 3, 99999999999999, 8), }")
    path.write_bytes(header)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _pickle,
        _huge_header,
        lambda path: path.write_bytes(b"no array"),
        lambda path: np.save(path, np.zeros((1, 3, 4, 4), np.float32)),
        lambda path: np.save(path, np.zeros((1, 3, 8, 8), np.float64)),
    ],
)
def test_a_sample_that_is_no_such_array_is_refused(bundle, forge, damage):
    damage(bundle / "sample_input.npy")
    forge(bundle)
    with pytest.raises(InvalidBundleError, match=r"sample_input\.npy (is no array|holds)"):
        verify(bundle)


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_a_sample_output_that_is_not_reproduced(bundle, forge, samples, wrong):
    np.save(bundle / "sample_output.npy", (samples[1] * np.float32(wrong)).astype(np.float32))
    forge(bundle)
    with pytest.raises(InvalidBundleError, match="does not reproduce the sample output"):
        verify(bundle)


def test_a_library_for_another_architecture_is_told_before_it_is_loaded(bundle, forge):
    content = bytearray((bundle / "library.so").read_bytes())
    content[18:20] = (183 if content[18] == 62 else 62).to_bytes(2, "little")
    (bundle / "library.so").write_bytes(content)
    forge(bundle)
    with pytest.raises(InvalidBundleError, match=r"library\.so is for (aarch64|x86_64), this machine is"):
        verify(bundle)
    assert check_files(bundle).target.name == "local"


def test_a_library_for_a_cpu_with_more_extensions_is_told_before_it_is_loaded(bundle, forge, monkeypatch, tmp_path):
    forge(bundle, lambda manifest: manifest["target"].update(cpu_features=["avx2", "avx512f", "avx512vnni"]))
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx avx2 avx512_vnni\n")
    monkeypatch.setattr(host, "_CPUINFO", cpuinfo)
    with pytest.raises(InvalidBundleError, match="this CPU lacks avx512f;"):
        verify(bundle)


def test_features_are_compared_across_spellings():
    intel = "flags : sse4_1 avx avx2 fma f16c avx512f avx512_vnni"
    assert host.missing_features(["avx512vnni", "sse4.1", "fma", "newer-than-linux"], intel) == []
    arm = "Features : fp asimd asimddp asimdhp sve"
    assert host.missing_features(["dotprod", "fullfp16", "sve", "i8mm"], arm) == ["i8mm"]
    assert host.missing_features(["avx512f"], "processor : 0") == []
    assert host.vector_features(["64bit", "avx2", "sse2", "fma", "fast-lzcnt", "neon"]) == ("avx2", "fma", "neon")


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV])
def test_a_library_that_crashes_is_an_error_line(bundle, forge, tmp_path, number):
    source = tmp_path / "crash.c"
    source.write_text(f"#include <signal.h>\n__attribute__((constructor)) static void f(void) {{ raise({number:d}); }}")
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", bundle / "library.so", source], check=True)
    forge(bundle)
    with pytest.raises(InvalidBundleError, match=f"library.so was stopped by {number.name}"):
        verify(bundle)


def test_a_shared_library_that_is_not_tvms(bundle, forge, tmp_path):
    source = tmp_path / "empty.c"
    source.write_text("int nothing;")
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", bundle / "library.so", source], check=True)
    forge(bundle)
    with pytest.raises(InvalidBundleError, match=r"library\.so cannot be loaded as a Relax VM library"):
        verify(bundle)


def test_a_bundle_where_nothing_may_be_executed_is_told_so(bundle, monkeypatch):
    """The loader says only that it failed to map a segment."""
    (bundle / "library.so").write_bytes(b"stands for one that can't be mapped")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(InvalidBundleError, match="mounted noexec: copy the bundle to another one"):
        load_main(bundle / "library.so")


def test_a_library_that_hangs_is_given_up(bundle, forge, replace_library):
    replace_library(bundle, 'for (;;) __asm__ volatile("");')
    with pytest.raises(InvalidBundleError, match=r"library\.so did not load within 2 s"):
        run_trial(bundle, timeout_s=2)


def test_a_library_that_ends_the_process_is_an_error_line(bundle, forge, replace_library):
    replace_library(bundle, "exit(0);")
    with pytest.raises(InvalidBundleError, match=r"library\.so ended the process that ran it"):
        run_trial(bundle)


def test_what_a_library_says_while_it_is_loaded_spoils_nothing(bundle, forge, replace_library):
    replace_library(bundle, 'puts("\\033[2J"); fputs("\\033[2J\\xff\\n", stderr); fflush(stdout); exit(3);')
    with pytest.raises(InvalidBundleError):
        run_trial(bundle)


def test_a_library_that_does_not_take_the_image(bundle, forge, pristine):
    def shrink(manifest):
        manifest["input"]["shape"] = [1, 3, 4, 4]
        manifest["architecture"]["resolution"] = 4
        manifest["search_space"]["resolutions"] = [4]

    np.save(bundle / "sample_input.npy", np.zeros((1, 3, 4, 4), np.float32))
    forge(bundle, shrink)
    with pytest.raises(InvalidBundleError, match=r"library\.so cannot be run: .*mismatch"):
        verify(bundle)


def test_the_manifest_is_plain_json(pristine):
    manifest = json.loads((pristine / "manifest.json").read_bytes())
    assert manifest["input"]["shape"] == [1, 3, 8, 8]
    assert set(manifest["versions"]) == {"tvm", "tvm_ffi", "python", "numpy", "ofa_tvm"}
