"""What kind of file a model is in, told from its first bytes and the names in its archive; nothing in it is run."""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from openmm_allegro.checkpoint import LONGEST_HEADER, check_model_file

Kind = Literal["safetensors", "checkpoint", "package", "torchscript"]
NAMES: dict[Kind, str] = {
    "safetensors": "safetensors",
    "checkpoint": "nequip checkpoint",
    "package": "nequip package",
    "torchscript": "nequip TorchScript",
}
KNOWN = (
    "known are `.safetensors` of openmm-allegro, and `.ckpt`, `.nequip.zip` and `.nequip.pth` of nequip with "
    "nequip-allegro 0.5 to 0.8"
)
DEPLOYED = ("num_types", "n_species", "nequip_version")
"""Extra files that only nequip writes into TorchScript: from 0.7 on, and by `nequip-deploy` before."""
ENDINGS = (".safetensors", ".pt", ".pt2", ".pth", ".ckpt", ".zip", ".model")
MOST_NAMED = 200_000
"""Bytes of a pickle in which names of classes are looked for."""


def recognise(path: str | Path) -> Kind:
    """The kind of a model file. Raises ValueError that says what the file is when it is none that can be read."""
    check_model_file(path)
    with Path(path).open("rb") as file:
        start = file.read(512)
    if start[:2] == b"PK":
        return _of_archive(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER:
        return "safetensors"
    raise ValueError(f"{path} {_what_else(start)}; {KNOWN}")


def looks_like_model(path: str | Path) -> bool:
    """Whether a file is a model or at least named like one, so that `recognise` can say what is wrong with it."""
    if Path(path).suffix in ENDINGS:
        return True
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        start = file.read(9)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def _what_else(start: bytes) -> str:
    """What a file is that begins so, as the end of a sentence."""
    text = start.lstrip()[:64].lower()
    if not start:
        return "is empty; copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs and not the file itself; get that by `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page and not a model: what was saved is the page around the download"
    if start[:1] == b"\x80":
        return (
            "is a pickle, which would run code on reading (a model saved whole by an old PyTorch?); save it anew with "
            "the program that made it"
        )
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "is an HDF5 file and not a model"
    if start[:2] == b"\x1f\x8b" or start[:6] == b"\xfd7zXZ\x00":
        return "is compressed; unpack it first"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return "is a text file and not a model"
    return "is no model file: it begins as none does"


def _of_archive(path: str | Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
            if "constants.pkl" in names and any(name.startswith("code/") for name in names):
                return _of_torchscript(path, names)
            if any(name.startswith("model/") and name.endswith("_model.pkl") for name in names):
                return "package"
            if "data.pkl" in names:
                prefix = archive.namelist()[0].partition("/")[0]
                with archive.open(f"{prefix}/data.pkl") as file:
                    return _of_pickle(path, file)
            whole = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is a zip archive without its end; it is truncated, copy it again") from error
    if any("aotinductor" in name for name in whole):
        raise ValueError(
            f"{path} is a model compiled by AOTInductor: machine code, from which no weights can be read; give the "
            "checkpoint or the package that it was compiled from"
        )
    if all(name.endswith(".npy") for name in whole):
        raise ValueError(f"{path} is an npz file of arrays and not a model; {KNOWN}")
    raise ValueError(f"{path} is a zip archive that holds no model (first in it is {whole[:1]}); {KNOWN}")


def _of_torchscript(path: str | Path, names: set[str]) -> Kind:
    if any(f"extra/{name}" in names for name in DEPLOYED):
        return "torchscript"
    if "extra/metadata.json" in names and any("openmm_allegro" in name for name in names):
        raise ValueError(
            f"{path} is a force for one system, written by `openmm-allegro export` for `openmmtorch.TorchForce(path)`; "
            "give the model that it was made from"
        )
    makers = sorted(
        {name.split("/")[2] for name in names if name.startswith("code/__torch__/") and name.count("/") > 2}
    )
    maker = next((name for name in makers if name not in ("torch", "e3nn", "typing")), "another program")
    raise ValueError(f"{path} is a TorchScript model of {maker} and not of nequip; {KNOWN}")


def _of_pickle(path: str | Path, file: IO[bytes]) -> Kind:
    """What `torch.save` wrote, told from the classes and keys that its pickle names."""
    content = file.read(MOST_NAMED)
    if b"hyper_parameters" in content and b"state_dict" in content:
        if b"nequip" in content:
            return "checkpoint"
        raise ValueError(f"{path} is a checkpoint of Lightning, but not of nequip's training; {KNOWN}")
    classes = [name for name in _classes(content) if name.partition(".")[0] not in ("torch", "collections", "builtins")]
    if classes:
        maker = classes[0].partition(".")[0]
        raise ValueError(
            f"{path} is a pickled model of {maker} (`{classes[0]}`), which would run code on reading and is not of "
            f"nequip-allegro; {KNOWN}"
        )
    raise ValueError(
        f"{path} was written by `torch.save` and holds tensors without the options of their model (a state dict?), "
        f"from which no model can be built; {KNOWN}"
    )


def _classes(content: bytes) -> Iterator[str]:
    """Dotted names of the classes in the beginning of a pickle."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
    except ValueError:  # the end was cut off
        return
