"""Tables of speed and memory: `openmm-allegro bench` over sizes, peers, hyperparameters and bridges.

Usage: python tests/benchmarks/performance_tables.py [--only a] [--output tables] [--threads 2] [--device cpu]
       [--limit 900]
Table a is time against size beside the peers, b the cost of each hyperparameter, c memory and time at large sizes by
both bridges. Every point runs in a process of its own. Its figures are added to OUTPUT/points.jsonl, one JSON object a
line, and points that are there already are not run again: stop it and start it as you like, delete a line to measure it
anew. A point that takes too long, wants too much memory or fails is written down with the reason. OUTPUT/tables.md is
made from all lines.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCH = [sys.executable, "-c", "from openmm_allegro.cli import entry_point; entry_point()", "bench", "--json"]
PEERS = ("openmm-ml", "nequip-torchscript", "nequip-aoti")
Options = dict[str, str | int | float]


def points() -> dict[str, list[Options]]:
    """Options of each point by table; what is not named has the default of `openmm-allegro bench`."""
    sizes = (24, 192, 615, 3_000, 10_000, 100_000)
    alone: list[Options] = [{"atoms": atoms} for atoms in sizes]
    beside: list[Options] = [{"atoms": atoms, "peer": peer} for atoms in sizes for peer in PEERS]
    ranges: dict[str, tuple[float, ...]] = {
        "l-max": (1, 2, 3),
        "layers": (1, 2, 3),
        "channels": (8, 16, 32, 64),
        "cutoff": (4.0, 4.5, 5.0, 5.5, 6.0),
    }
    varied: list[Options] = [{name: value} for name, values in ranges.items() for value in values]
    large: list[Options] = [
        {"atoms": atoms, "bridge": bridge, "steps": 5, "warmup": 2}
        for atoms in (1_000, 10_000, 100_000, 1_000_000)
        for bridge in ("python", "torchforce")
    ]
    return {"a": alone + beside, "b": varied, "c": large}


def run(options: Options, limit: float, memory_gib: float) -> dict[str, object]:
    """Figures of one point, or why there are none."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([*BENCH, *words], stdout=out, stderr=err, start_new_session=True)
        failed, started = None, time.monotonic()
        try:
            while process.poll() is None and failed is None:
                time.sleep(0.2)
                if time.monotonic() - started > limit:
                    failed = f"took longer than {limit:.0f} s"
                elif rss_gib(process.pid) > memory_gib:
                    failed = f"took more memory than {memory_gib:.0f} GiB"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the compilers it may have started
        status = process.wait()
        out.seek(0)
        err.seek(0)
        if failed is None and status != 0:
            lines = err.read().strip().splitlines()
            last = lines[-1].removeprefix("openmm-allegro: ") if lines else "no message"
            failed = last if status > 0 else f"ended by signal {-status}"
        return {"failed": failed} if failed is not None else {"figures": json.loads(out.read())}


def rss_gib(pid: int) -> float:
    """Memory of a process; zero when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmRSS:")), 0.0)


def markdown(done: list[dict]) -> str:
    """All tables, from the lines of the file."""
    rows = {"a": size_rows, "b": hyperparameter_rows, "c": memory_rows}
    heads = {
        "a": "| atoms | program | s/step | lowest – highest | GiB | ours in this run | times faster | × products |",
        "b": "| option | value | edges an atom | s/step | lowest – highest | products, s | × products |",
        "c": "| atoms | bridge | s/step | µs/atom | peak memory, GiB | of it for the force, kB/atom |",
    }
    parts = []
    for table, head in heads.items():
        chosen = [line for line in done if line["table"] == table]
        if chosen:
            rule = "|" + "---|" * (head.count("|") - 1)
            parts.append("\n".join([head, rule, *(rows[table](line) for line in chosen)]))
    machines = sorted({machine(line["figures"]) for line in done if "figures" in line})
    return "\n\n".join(parts + [f"Measured on {each}." for each in machines]) + "\n"


def machine(figures: dict) -> str:
    """What the figures were measured on, and with which versions."""
    where, versions = figures["machine"], figures["versions"]
    gpu = f", {where['gpu']}" if where["gpu"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{where['cpu']}, {where['cores']} cores, {figures['threads']} threads{gpu}: {packages}"


def size_rows(line: dict) -> str:
    options, figures = line["options"], line.get("figures")
    start = f"| {options['atoms']:,} | {options.get('peer', 'AllegroForce')} |"
    if figures is None:
        return f"{start} {line['failed']} | | | | | |"
    if figures["peer"] is None:
        return f"{start} {time_and_spread(figures)} | {figures['peak_rss_gib']:.2f} | | | {figures['times_gemm']:.2f} |"
    spread = f"{figures['peer_lowest']:.3g} – {figures['peer_highest']:.3g}"
    own, faster, peak = (figures[name] for name in ("seconds_per_step", "times_faster", "peak_rss_with_peer_gib"))
    return f"{start} {figures['peer_seconds_per_step']:.3g} | {spread} | {peak:.2f} | {own:.3g} | {faster:.1f} | |"


def hyperparameter_rows(line: dict) -> str:
    ((name, value),) = (item for item in line["options"].items() if item[0] not in ("threads", "device"))
    figures = line.get("figures")
    if figures is None:
        return f"| {name} | {value} | | {line['failed']} | | | |"
    per_atom = figures["edges"] / figures["atoms"]
    products = f"{figures['gemm_seconds']:.3g} | {figures['times_gemm']:.2f}"
    return f"| {name} | {value} | {per_atom:.1f} | {time_and_spread(figures)} | {products} |"


def memory_rows(line: dict) -> str:
    options, figures = line["options"], line.get("figures")
    start = f"| {options['atoms']:,} | {options['bridge']} |"
    if figures is None:
        return f"{start} {line['failed']} | | | |"
    microseconds = 1e6 * figures["seconds_per_step"] / figures["atoms"]
    kilobytes = 2**30 / 1000 * (figures["peak_rss_gib"] - figures["rss_before_gib"]) / figures["atoms"]
    peak = f"{figures['peak_rss_gib']:.2f} | {kilobytes:.1f}"
    return f"{start} {figures['seconds_per_step']:.3g} | {microseconds:.0f} | {peak} |"


def time_and_spread(figures: dict) -> str:
    lowest, highest = figures["seconds_lowest"], figures["seconds_highest"]
    return f"{figures['seconds_per_step']:.3g} | {lowest:.3g} – {highest:.3g}"


def main() -> None:
    """Run what is not there yet and write the tables after every point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(points()), help="one table")
    parser.add_argument("--output", type=Path, default=Path("tables"), help="folder [default: tables]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each run [default: all]")
    parser.add_argument("--device", default="cpu", help="where the models run [default: cpu]")
    parser.add_argument("--limit", type=float, default=900.0, help="most seconds of a point [default: 900]")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parser.add_argument("--memory", type=float, default=0.8 * total, help="most GiB of a point [default: 80 %% of all]")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    path = asked.output / "points.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for table, all_options in points().items():
        for own in all_options if asked.only in (None, table) else []:
            options = {**own, "threads": asked.threads, "device": asked.device}
            if any(line["table"] == table and line["options"] == options for line in done):
                continue
            print(f"{table}: {options}", file=sys.stderr, flush=True)
            line = {"table": table, "options": options, **run(options, asked.limit, asked.memory)}
            done.append(line)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            (asked.output / "tables.md").write_text(markdown(done))
    if done:
        print(markdown(done))


if __name__ == "__main__":
    main()
