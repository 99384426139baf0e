#!/usr/bin/env python3
"""Measures whole runs of convexinfra and prints them beside the budgets, and beside Terraform where that is installed.

    benches/speed.py                    build, then measure
    benches/speed.py --binary PATH      measure this binary
    benches/speed.py --runs 9           more runs; the median of them counts (5)
    benches/speed.py --terraform never  leave Terraform out (else: its apply up to 100, `all`: up to 1,000)

CPU is user and system time together, as the operating system accounts it to the process. Memory is the peak resident set.
Needs Python 3.8 and nothing else. Every file that it writes lies in a temporary directory.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

SIZES = [1, 100, 1000, 5000]
CPU_BUDGETS = {
    "--version": {1: 5},
    "plan, nothing changed": {1: 8, 100: 10, 1000: 30, 5000: 150},
    "apply, all new": {1: 15, 100: 60, 1000: 500, 5000: 2500},
}
MEMORY_BUDGETS = {"plan, nothing changed": {1: 15, 100: 15, 1000: 30, 5000: 100}}
GROWTH_BUDGET = 1.1
# What GNU time prints; a figure of wait4 would never be below the size of this interpreter, which starts the process.
GNU_TIME = "/usr/bin/time"


def names(size):
    return [f"b{number:04}" for number in range(1, size + 1)]


def manifest(size):
    blocks = [f'[backends.{name}]\nprovider = "simulated"\nsimulated = {{ listen = false }}\n' for name in names(size)]
    return "\n".join(['project = "speed"\n', *blocks])


def run(command, folder, environment):
    """Runs a command to its end: CPU in milliseconds."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[:3]} ended with {status}: {said.decode(errors='replace')[-2000:]}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def peak(command, folder, environment):
    """The peak memory of a command in MiB; none where there is no GNU time."""
    if platform.system() != "Linux" or not os.access(GNU_TIME, os.X_OK):
        return None
    report = folder / "peak"
    run([GNU_TIME, "-f", "%M", "-o", report, *command], folder, environment)
    return int(report.read_text().split()[-1]) / 1024


class Tool:
    """One program, measured verb by verb in a folder per size."""

    def __init__(self, root, runs):
        self.root, self.runs = root, runs
        self.cpu, self.memory = {}, {}

    def measure(self, verb, size, command, folder, environment, prepare=lambda: None, runs=None):
        times = []
        for _ in range(runs or self.runs):
            prepare()
            times.append(run(command, folder, environment))
        self.cpu.setdefault(verb, {})[size] = statistics.median(times)
        if runs is None:
            prepare()
            self.memory.setdefault(verb, {})[size] = peak(command, folder, environment)


def measure_convexinfra(binary, root, runs):
    tool = Tool(root, runs)
    for size in SIZES:
        folder = root / str(size)
        folder.mkdir()
        (folder / "convex.toml").write_text(manifest(size))
        home, applied = folder / "home", folder / "applied"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CONVEXINFRA_")}
        environment |= {"CONVEXINFRA_HOME": str(home), "NO_COLOR": "1"}

        def empty():
            shutil.rmtree(home, ignore_errors=True)

        def restore():
            empty()
            shutil.copytree(applied, home)

        def verb(name, *words, prepare=lambda: None):
            tool.measure(name, size, [str(binary), *words], folder, environment, prepare)

        if size == 1:
            verb("--version", "--version")
        verb("validate", "validate")
        verb("plan, all new", "plan", prepare=empty)
        verb("apply, all new", "apply", "--yes", prepare=empty)
        shutil.copytree(home, applied)
        verb("plan, nothing changed", "plan")
        verb("drift", "drift")
        verb("status", "status")
        verb("destroy", "destroy", "--allow-destroy", ",".join(names(size)), prepare=restore)
    return tool


def measure_terraform(root, largest_apply):
    tool = Tool(root, 1)
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    words = ["-input=false", "-no-color"]
    for size in SIZES:
        folder = root / f"terraform-{size}"
        folder.mkdir()
        blocks = [f'resource "terraform_data" "{name}" {{\n  input = "{name}"\n}}\n' for name in names(size)]
        (folder / "main.tf").write_text("".join(blocks))
        state = folder / "terraform.tfstate"
        run(["terraform", "init", *words], folder, environment)
        if size <= largest_apply:
            def empty():
                state.unlink(missing_ok=True)

            tool.measure("apply, all new", size, ["terraform", "apply", "-auto-approve", *words], folder, environment, empty, 1)
        state.write_text(json.dumps(terraform_state(size)))
        tool.measure("plan, nothing changed", size, ["terraform", "plan", *words], folder, environment, runs=1)
        tool.memory.setdefault("plan, nothing changed", {})[size] = peak(["terraform", "plan", *words], folder, environment)
    return tool


def terraform_state(size):
    """What an apply leaves behind, written at once: Terraform itself would need minutes for the largest one."""
    def attributes(name):
        text = {"type": "string", "value": name}
        return {"id": name, "input": text, "output": text, "triggers_replace": None}

    resources = [
        {
            "mode": "managed", "type": "terraform_data", "name": name,
            "provider": 'provider["terraform.io/builtin/terraform"]',
            "instances": [{"schema_version": 0, "attributes": attributes(name)}],
        }
        for name in names(size)
    ]
    return {"version": 4, "terraform_version": "1.0.0", "serial": 1, "lineage": "speed", "outputs": {}, "resources": resources}


def growth(figures):
    """The exponent of the best line through the logarithms of the figures from 100 to 5,000."""
    points = [(math.log(size), math.log(figures[size])) for size in SIZES if size >= 100 and figures.get(size)]
    if len(points) < 3:
        return None
    middle = [statistics.fmean(axis) for axis in zip(*points)]
    return sum((x - middle[0]) * (y - middle[1]) for x, y in points) / sum((x - middle[0]) ** 2 for x, _ in points)


def cell(measured, budget):
    if measured is None:
        return ""
    text = f"{measured:,.1f}" if measured < 100 else f"{measured:,.0f}"
    return f"{text} / {budget:,} {'ok' if measured <= budget else 'OVER'}" if budget else text


def table(title, rows, sizes):
    print(f"\n{title}\n")
    print(f"| {'':36} | " + " | ".join(f"{size:>18,}" for size in sizes) + " | growth |")
    print(f"|{'-' * 38}|" + f"{'-' * 20}|" * len(sizes) + "--------|")
    for name, figures, budgets in rows:
        exponent = growth(figures)
        grows = "" if exponent is None else f"N^{exponent:.2f}"
        print(f"| {name:36} | " + " | ".join(f"{cell(figures.get(size), budgets.get(size)):>18}" for size in sizes) + f" | {grows:6} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--terraform", choices=["never", "some", "all"], default="some")
    options = parser.parse_args()
    binary = options.binary
    if binary is None:
        repository = pathlib.Path(__file__).resolve().parent.parent
        subprocess.run(["cargo", "build", "--release"], cwd=repository, check=True)
        binary = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", repository / "target")) / "release" / "convexinfra"
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        own = measure_convexinfra(binary.resolve(), root, options.runs)
        terraform = None
        if options.terraform != "never" and shutil.which("terraform"):
            terraform = measure_terraform(root, 1000 if options.terraform == "all" else 100)
    rows = [(verb, figures, CPU_BUDGETS.get(verb, {})) for verb, figures in own.cpu.items()]
    peaks = [(verb, figures, MEMORY_BUDGETS.get(verb, {})) for verb, figures in own.memory.items()]
    if terraform:
        rows += [(f"terraform: {verb}", figures, {}) for verb, figures in terraform.cpu.items()]
        peaks += [(f"terraform: {verb}", figures, {}) for verb, figures in terraform.memory.items()]
    table(f"CPU in ms (measured / budget), median of {options.runs} runs, by number of backends", rows, SIZES)
    print(f"\nthe budget for growth is N^{GROWTH_BUDGET}; fitted from 100 to 5,000")
    if any(figure is not None for _, figures, _ in peaks for figure in figures.values()):
        table("peak memory in MiB (measured / budget)", peaks, SIZES)
    else:
        print("peak memory is measured where GNU time is installed as /usr/bin/time")


if __name__ == "__main__":
    main()
