# SPDX-License-Identifier: Apache-2.0
"""Unit tests of the benchmark itself: a wrong figure looks just like a right one."""

import json
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from benchlib import plot, report, runner, stats, workload  # noqa: E402
from benchlib.process import Process, ProcessError, guest_mappings, parse_smaps  # noqa: E402
from benchlib.table import Bench, Metric  # noqa: E402

MIB = 1 << 20


def mapping_text(start, size, perms, path, **kib):
    fields = {"Size": size // 1024, "Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0, **kib}
    head = f"{start:08x}-{start + size:08x} {perms} 00000000 00:00 0 {path}\n"
    return head + "".join(f"{name}: {value:8} kB\n" for name, value in fields.items()) + "VmFlags: rd\n"


def test_smaps_are_parsed_by_mapping():
    text = mapping_text(0x400000, MIB, "r-xp", "/bin/a b", Rss=40, Private_Clean=8) + \
        mapping_text(0x700000, MIB, "rw-p", "", Rss=12, Private_Dirty=12, Anonymous=12)
    first, second = parse_smaps(text)
    assert (first["path"], first["Rss"], first["Private_Clean"]) == ("/bin/a b", 40, 8)
    assert (second["start"], second["end"], second["Anonymous"]) == (0x700000, 0x800000, 12)


@pytest.mark.parametrize("sizes, expected", [
    ([(0, 4), (10, 128), (200, 129)], [10]),         # exactly the size, although a larger one is there
    ([(0, 4), (10, 100), (110, 28), (138, 2)], [10, 110]),  # split by an madvise
    ([(0, 4), (10, 130), (200, 131)], [10]),         # merged with a neighbour
])
def test_guest_memory_is_found_by_size(sizes, expected):
    text = "".join(mapping_text(0x10000000 + start * MIB, size * MIB, "rw-p", "") for start, size in sizes)
    found = guest_mappings(parse_smaps(text), 128 * MIB)
    assert [m["start"] for m in found] == [0x10000000 + start * MIB for start in expected]


def test_no_guest_memory_is_an_error():
    text = mapping_text(0, 64 * MIB, "rw-p", "") + mapping_text(0x10000000, 200 * MIB, "rw-p", "")
    with pytest.raises(ProcessError, match="128 MiB"):
        guest_mappings(parse_smaps(text), 128 * MIB)


def test_ratios_pair_the_rounds_and_leave_failed_ones_out():
    assert stats.paired_ratios([10, None, 30, 40], [5, 5, None, 80]) == [2.0, 0.5]
    assert stats.summary([3, 1, 2]) == {"n": 3, "median": 2, "min": 1, "max": 3, "q1": 1.5, "q3": 2.5}


def test_results_on_a_console_with_other_output():
    text = "[    1.0] kernel says\r\nxxRESULT randread_d1 1234.5\r\nRESULT seqread_128k 7\n"
    assert workload.parse_results(text) == {"randread_d1": 1234.5, "seqread_128k": 7.0}
    with pytest.raises(workload.WorkloadError, match="no answer"):
        workload.parse_results("RESULT error no answer\r\n")
    with pytest.raises(workload.WorkloadError, match="not a number"):
        workload.parse_results("RESULT x y\n")


class Contestant:
    kind = "firecracker-compatible"

    def __init__(self, name, samples):
        self.name = name
        self.binary = "/x"
        self.samples = iter(samples)


def _take(_context, contestant):
    value = next(contestant.samples)
    if isinstance(value, str):
        raise RuntimeError(value)
    return {"t": value}


def _results(*contestants, runs=3):
    bench = Bench("b", "a bench", _take, (Metric("t", "time", "ms"),), runs)
    done = runner.run_bench(None, bench, contestants, runs, lambda text: None)
    return {"format": 1, "host": {"cpu": "c", "cpus": 2, "kernel": "k"}, "benches": [done],
            "contestants": [{"name": c.name, "binary": "/x", "version": "v"} for c in contestants]}


def test_contestants_take_turns_and_failures_stay_visible():
    results = _results(Contestant("a", [2.0, 4.0, 6.0]), Contestant("b", [4.0, "it broke", 4.0]))
    row = results["benches"][0]["rows"][0]
    assert row["cells"]["a"]["median"] == 4.0
    assert row["cells"]["b"]["samples"] == [4.0, None, 4.0]
    assert row["ratios"]["b"]["median"] == 1.0 and row["ratios"]["b"]["n"] == 2
    assert "(1) 1 of 3 failed: it broke" in report.table(results)


def test_a_contestant_that_always_fails_shows_why_and_is_given_up():
    broken = Contestant("b", ["no device", "no device"])  # a third try would raise StopIteration
    results = _results(Contestant("a", [1.0, 2.0, 3.0]), broken)
    assert "failed: no device" in report.table(results)
    assert results["benches"][0]["rows"][0]["ratios"] == {}


def test_the_json_is_read_back_and_merged(tmp_path):
    results = _results(Contestant("a", [1.0, 2.0, 3.0]), Contestant("b", [2.0, 4.0, 6.0]))
    (tmp_path / "r").write_text(report.as_json(results))
    loaded = report.load(tmp_path / "r")
    assert report.merge([loaded])["benches"][0]["rows"] == results["benches"][0]["rows"]
    other = json.loads(report.as_json(results).replace('"name": "b"', '"name": "z"'))
    with pytest.raises(report.ReportError, match="different contestants"):
        report.merge([loaded, other])
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(report.ReportError, match="not a results file"):
        report.load(tmp_path / "bad")


def test_the_plot_is_well_formed_and_right_means_better():
    results = _results(Contestant("a<&", [1.0, 2.0, 3.0]), Contestant("b", [2.0, 4.0, 6.0]))
    picture = plot.draw(results)
    xml.dom.minidom.parseString(picture)
    assert "a&lt;&amp;" in picture
    assert plot.advantage({"median": 0.5, "q1": 0.4, "q3": 0.8}, True) == (2.0, 1.25, 2.5)
    assert plot.advantage({"median": 0.5, "q1": 0.4, "q3": 0.8}, False) == (0.5, 0.4, 0.8)


def test_output_is_waited_for_and_an_early_end_is_told():
    with Process(["sh", "-c", "printf one; sleep 0.05; echo two"]) as process:
        match, when = process.wait_for_output(rb"two\n", 10)
        assert match.start() == 3 and when >= process.started_s
        with pytest.raises(ProcessError, match="it ended .status 0. before it printed 'three'.*onetwo"):
            process.wait_for_output(rb"three", 10)


@pytest.mark.parametrize("argv, words", [
    ([], "at least one --vmm"),
    (["--vmm", "/nonexistent"], "not an executable"),
    (["--vmm", "/bin/true", "--only", "nothing"], "no bench is called 'nothing'"),
    (["--vmm", "/bin/true", "--runs", "0"], "--runs: at least 1"),
    (["--vmm", "/bin/true", "--kernel", "/nonexistent"], "--kernel: there is no file"),
    (["--vmm", "/bin/true", "--plot", "x.png"], "must end in .svg"),
    (["--vmm", "/bin/true", "--from", "x"], "cannot be used with --vmm"),
    (["--vmm", "/bin/true", "--vmm-name", "a", "--vmm-name", "b"], "2 --vmm-name for 1 --vmm"),
])
def test_bad_usage_says_what_is_wrong(argv, words):
    done = subprocess.run([BENCH / "compare", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_program_that_is_no_monitor_fails_in_its_cell():
    done = subprocess.run([BENCH / "compare", "--vmm", "/bin/true", "--only", "start", "--quiet"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed: exited with" in done.stdout
