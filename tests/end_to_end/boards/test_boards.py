"""Emulated boards from start to end: set up over SSH, measured on, verified on, and gone without a trace."""

from __future__ import annotations

import json
import re
import shutil
import signal
from importlib.metadata import version

import pytest

from ofa_tvm.boards.emulation.board import start_board, stop_board
from ofa_tvm.boards.emulation.state import processes_of
from ofa_tvm.targets import load_target

from ...processes import lives, words_of
from .conftest import named

TARGET = "rasp4-emulated"
NATIVE = ("--runtime", "native")

pytestmark = pytest.mark.slow


def without_ids(text):
    """Device names without the few characters that tell boards of one host name apart."""
    return re.sub(r" \([0-9a-f]{6}\):", ":", text)


def test_the_inventory_has_the_board_and_its_link(site, eventually):
    eventually(lambda: site.free() == 1)  # an earlier test's session may be ending
    (board,) = site.emulated["boards"]
    assert site.emulated["emulated"] is board["emulated"] is True
    inventory = site.succeed("devices", "list", "--json").result
    assert inventory["tracker"] == str(site.tracker)
    (key,) = inventory["keys"]
    assert (key["key"], key["registered"], key["free"], key["busy"], key["waiting"]) == (TARGET, 1, 1, 0, 0)
    assert key["addresses"] == [f"127.0.0.1:{board['port']}"]
    (listed,) = inventory["boards"]
    assert (listed["name"], listed["state"], listed["emulated"]) == (f"{TARGET}-1", "link up", True)
    table = site.succeed("devices", "list", COLUMNS="200").stdout
    assert f"{TARGET}-1" in table
    assert "link up" in table


def test_a_check_finds_the_board_fit(site):
    (report,) = site.succeed("devices", "check", TARGET, "--json").result["devices"]
    assert (report["fit"], report["emulated"], report["problems"]) == (True, True, [])
    assert report["kernel_error"] < 1e-4
    assert report["round_trip_ms"] > 0
    info = report["info"]
    assert (info["server"], info["machine"], info["cpu_model"]) == ("native", "aarch64", "Cortex-A72")
    assert {"fp", "asimd", "crc32"} <= set(info["cpu_features"])
    assert "aes" not in info["cpu_features"]
    assert info["versions"] == {name: version(name) for name in ("apache-tvm", "apache-tvm-ffi")}
    shown = site.succeed("devices", "check", TARGET, COLUMNS="200").stdout
    assert f"{TARGET}-1: Cortex-A72 (emulated)" in without_ids(shown)


def test_a_profile_measures_every_kernel_and_subnet_and_says_emulated(site, profiled, all_there, tmp_path):
    result = profiled.result
    assert (result["target"], result["emulated"], result["kernels_failed"]) == (TARGET, True, 0)
    assert without_ids(result["device"]) == f"{TARGET} {TARGET}-1: Cortex-A72"
    runs = shutil.copytree(profiled.runs, tmp_path / "runs")
    records = all_there(runs)
    assert len(records) == result["kernels"] + result["subnets"]
    for record in records:
        assert (record["target"], record["outcome"]["emulated"]) == (TARGET, True)
        assert record["outcome"]["versions"]["device apache-tvm"] == version("apache-tvm")
    options = ("--target", TARGET, "--supernet", site.commands.supernet, "--runs", runs)
    table = site.succeed("profile", *options, "--resolutions", 24, "--subnets", 10, COLUMNS="200").stdout
    assert "emulated, not measured on hardware" in table
    assert len(all_there(runs)) == len(records)


def test_a_bundle_is_measured_and_verified_on_the_board(site, profiled, watch_listening, tmp_path):
    runs = shutil.copytree(profiled.runs, tmp_path / "runs")
    options = ("--supernet", site.commands.supernet, "--runs", runs, "--latency", 1e6, "--tune-minutes", 0)
    out = tmp_path / "bundle"
    run = site.start("deploy", "--target", TARGET, *options, "--max-attempts", 1, "--out", out, "--json")
    assert_loopback_alone(site.board(f"{TARGET}-1").address, *watch_listening(site, run))
    run.finish()
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    assert run.result["emulated"] is True
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["target"]["emulated"] is manifest["latency"]["measured"]["emulated"] is True
    assert "emulated: says nothing about real hardware" in (out / "README.md").read_text()
    verified = site.succeed("bundle", "verify", out, "--target", TARGET, "--json").result
    assert verified["emulated"] is True
    assert verified["relative_error"] <= verified["tolerance"] == 1e-4
    assert without_ids(verified["ran_on"]) == f"{TARGET} {TARGET}-1: Cortex-A72 (emulated)"
    table = site.succeed("bundle", "verify", out, "--target", TARGET, COLUMNS="200").stdout
    assert "Cortex-A72 (emulated)" in without_ids(table)
    assert "Cortex-A72 (computed or emulated, not measured on hardware)" in without_ids(table)
    damaged = out / "sample_output.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\0\x80\x3f")
    site.run("bundle", "verify", out, "--target", TARGET).fails(2, "sample_output.npy")


def test_nothing_listens_beyond_loopback_while_a_profile_runs(profiled):
    assert_loopback_alone(profiled.address, *profiled.listening)


def assert_loopback_alone(address, here, there):
    assert here == {"127.0.0.1"}
    assert there == {f"{address}:22"}


def test_two_boards_share_a_profile_and_leave_nothing(own_site, unfinished, all_there, read):
    emulated = own_site.succeed("devices", "emulate", "rasp4", "--count", 2, "--json").result
    names = [f"{TARGET}-1", f"{TARGET}-2"]
    assert [board["name"] for board in emulated["boards"]] == names
    runs = unfinished(90)
    before = len(read(runs))
    run = own_site.profile(runs).finish()
    assert run.code == 0, run.stderr
    devices = {record["outcome"]["device"] for record in all_there(runs)[before:]}
    assert set(map(without_ids, devices)) == {f"{TARGET} {name}: Cortex-A72" for name in names}
    assert all(name in run.result["device"] for name in names)
    one = own_site.succeed("devices", "stop", names[0], "--json").result
    assert one == {"stopped": names[:1]}
    assert [board.name for board in own_site.boards()] == names[1:]
    assert own_site.succeed("devices", "stop", TARGET, "--json").result == {"stopped": names[1:]}
    own_site.leaves_nothing()
    own_site.run("devices", "stop", TARGET).fails(2, f"no board or target '{TARGET}' was set up from here")


def test_a_board_with_python(own_site):
    (board,) = own_site.succeed("devices", "emulate", "rasp4", "--runtime", "python", "--json").result["boards"]
    assert board["runtime"] == "python"
    (report,) = own_site.succeed("devices", "check", TARGET, "--json").result["devices"]
    assert (report["fit"], report["emulated"], report["info"]["server"]) == (True, True, "python")
    assert report["kernel_error"] < 1e-4
    assert report["info"]["versions"].keys() >= {"python", "apache-tvm", "apache-tvm-ffi"}
    own_site.succeed("devices", "stop", TARGET)
    own_site.leaves_nothing()


@pytest.fixture
def bare(own_site, tmp_path):
    """A board that no command knows yet, with sshd and nothing else."""
    board = start_board(load_target("rasp4"), "bare", tmp_path / "bare", print, tethered=True)
    yield board
    stop_board(board)


def programs(board):
    """What was started there beside sshd: the RPC server and what keeps it running."""
    arguments = {argument for process in processes_of(board.folder) for argument in words_of(process)}
    return {argument for argument in arguments if "rpc-server" in argument or "supervise.sh" in argument}


def test_a_board_set_up_by_hand(own_site, bare, eventually):
    where = ("--ssh", f"root@{bare.address}", "--identity", bare.identity, "--name", "bench", *NATIVE)
    line = own_site.run("devices", "setup", TARGET, *where).fails(2, bare.address, "--accept-host-key SHA256:")
    fingerprint = line.partition("--accept-host-key ")[2].split()[0].rstrip(".,;")
    wrong = "SHA256:" + 43 * "A"
    own_site.run("devices", "setup", TARGET, *where, "--accept-host-key", wrong).fails(2, fingerprint)
    assert not programs(bare)

    accepted = own_site.succeed("devices", "setup", TARGET, *where, "--accept-host-key", fingerprint, "--json").result
    assert (accepted["changed"], accepted["started"], accepted["board"]["emulated"]) == (True, True, True)
    server = named(bare, "rpc-server --")
    assert server
    again = own_site.succeed("devices", "setup", TARGET, *where, "--json")
    assert again.result["changed"] is False
    assert "bench is set up already: nothing to install" in again.stderr
    assert all(map(lives, server))
    assert own_site.free() == 1
    (report,) = own_site.succeed("devices", "check", TARGET, "--json").result["devices"]
    assert report["fit"]

    own_site.succeed("devices", "stop", "bench")
    eventually(lambda: not programs(bare) and not own_site.processes() and own_site.free() == 0)
    own_site.succeed("devices", "start", "bench")
    assert own_site.free() == 1
    own_site.succeed("devices", "stop", TARGET)
    eventually(lambda: not programs(bare))


def test_a_board_set_up_for_a_later_cpu_is_found_out(own_site, bare):
    """It is a Cortex-A72, which lacks what code for an RK3588 uses."""
    target = "rk3588-emulated"
    where = ("--ssh", f"root@{bare.address}", "--identity", bare.identity, *NATIVE)
    line = own_site.run("devices", "setup", target, *where).fails(2, "--accept-host-key")
    fingerprint = line.partition("--accept-host-key ")[2].split()[0].rstrip(".,;")
    own_site.succeed("devices", "setup", target, *where, "--accept-host-key", fingerprint)
    run = own_site.run("devices", "check", target, "--json")
    assert run.code == 5
    (report,) = run.result["devices"]
    assert not report["fit"]
    assert "asimddp" in report["problems"][0]
    assert report["kernel_error"] is None
    own_site.succeed("devices", "stop", target)


def test_a_board_with_another_host_key_is_refused(own_site, bare, tmp_path):
    """As after a man in the middle: what was accepted once does not hold for another key."""
    where = ("--ssh", f"root@{bare.address}", "--identity", bare.identity, "--name", "bench", *NATIVE)
    other = "AAAAC3NzaC1lZDI1NTE5AAAAI" + 42 * "A" + "A"
    own_site.state.mkdir()
    (own_site.state / "known_hosts").write_text(f"{bare.address} ssh-ed25519 {other}\n")
    own_site.run("devices", "setup", TARGET, *where).fails(2, bare.address, "known_hosts")


def emulate_options(site, runs):
    return "--target", "rasp4", "--emulate", "--supernet", site.commands.supernet, "--runs", runs


def test_profile_and_deploy_with_a_board_for_the_run(own_site, unfinished, all_there, watch_listening):
    runs = unfinished(20)
    run = own_site.profile(runs, "--emulate", target="rasp4")
    here, there = watch_listening(own_site, run)
    assert run.finish().code == 0, run.stderr
    run.leaves_nothing()
    own_site.leaves_nothing()
    assert here == {"127.0.0.1"}
    assert all(address.startswith("10.213.") and address.endswith(":22") for address in there)
    assert len(there) == 1
    assert (run.result["target"], run.result["emulated"]) == (TARGET, True)
    all_there(runs)

    out = own_site.folder / "bundle"
    budget = ("--latency", 1e6, "--tune-minutes", 0, "--max-attempts", 1, "--out", out, "--json")
    result = own_site.succeed("deploy", *emulate_options(own_site, runs), *budget).result
    own_site.leaves_nothing()
    assert (result["target"], result["emulated"]) == (TARGET, True)
    assert json.loads((out / "manifest.json").read_text())["latency"]["measured"]["emulated"] is True


@pytest.mark.parametrize("line", ["copying", "kernels: "])
def test_an_interrupted_run_takes_its_board_with_it(own_site, unfinished, line):
    runs = unfinished(60)
    run = own_site.profile(runs, "--emulate", target="rasp4")
    run.wait_for(line)
    own_site.boards()
    run.process.send_signal(signal.SIGINT)
    run.finish().fails(130, "the same command can be run again")
    own_site.leaves_nothing()


def test_a_killed_run_takes_its_board_with_it_and_the_next_one_cleans_up(
    own_site, unfinished, all_there, read, eventually
):
    runs = unfinished(40)
    run = own_site.profile(runs, "--emulate", target="rasp4")
    before = len(read(runs))
    eventually(lambda: len(read(runs)) > before)
    (board,) = own_site.boards()
    run.process.kill()
    run.finish()
    eventually(lambda: not own_site.processes() and not run.processes())
    assert board.folder.exists()
    assert own_site.run("devices", "list", "--json").result["boards"][0]["state"] == "gone"
    again = own_site.profile(runs, "--emulate", target="rasp4").finish()
    assert again.code == 0, again.stderr
    all_there(runs)
    own_site.leaves_nothing()
