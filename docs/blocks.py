"""Runs the code blocks of a page, in their order and in one folder, as a reader would.

`toml` blocks are written to the file that their first line names (`# water.toml`), `bash` blocks run in a shell, and
the `python` blocks of a page are one program, of which each goes on with the names of those before. Blocks of other
languages are for reading. `examples` of the repository is in the folder.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REPOSITORY = Path(__file__).parents[1]


def run_page(page: Path, folder: Path, quicker: Mapping[str, str] | None = None) -> None:
    """Run all blocks of a page in a folder; quicker: what stands for what, so that long work becomes short.

    Raises RuntimeError with the block and what it printed if one fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(REPOSITORY / "examples")
    names: dict[str, object] = {"__name__": "__main__"}
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for long, short in (quicker or {}).items():
            block = block.replace(long, short)
        if language == "toml":
            (folder / block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
        elif language == "bash":
            _run_shell(block, folder)
        elif language == "python":
            with chdir(folder):
                exec(compile(block, f"{page.name}, a block of Python", "exec"), names)


def _run_shell(block: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"this block failed:\n{block}\nit printed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
