"""The two ways from OpenMM to a potential: openmm-torch's TorchForce, and PythonForce of OpenMM itself.

`import torch` stands before `import openmm`: in the other order OpenMM does not find the plugin's kernels.
"""

import functools
import logging
import sys
import threading
import warnings
from importlib.metadata import version

import torch  # isort: skip
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble_file import from_bytes, to_bytes
from openmm_allegro.export import ForceModule
from openmm_allegro.kernels import triton_problem
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedModel, ScriptedPotential
from openmm_allegro.torchscript import script
from openmm_allegro.workers import work_on

log = logging.getLogger("openmm_allegro")

NOT_INSTALLED = "openmmtorch is not installed (`pip install openmm-allegro[torchforce]`)"
CANNOT_BE_COPIED = (
    "openmmtorch 1.5 was built for OpenMM 8.5, and with a newer one Python crashes when a System with its force is "
    "copied, read from XML or used in CustomCVForce; install openmm 8.5.2 for TorchForce"
)


def choose_bridge(bridge: str, has_gpu: bool, has_cuda: bool) -> str:
    """`torchforce` or `python`; with `auto` the faster one that works here, and the log says why.

    On OpenMM's CUDA platform that is TorchForce: positions and forces stay on the GPU. On OpenCL they do not. On a CPU
    PythonForce was measured a little faster, and it does not need the first steps to compile TorchScript.

    has_gpu: whether torch has one; has_cuda: see `torchforce_has_cuda`.
    """
    if bridge not in ("auto", "torchforce", "python"):
        raise ValueError(f"`bridge` is {bridge!r}; it can be 'auto', 'torchforce' or 'python'")
    if bridge == "auto" and not has_gpu:
        log.info("AllegroForce uses openmm.PythonForce: without a GPU it is the faster one")
        return "python"
    if bridge == "python":
        return bridge
    problem = torchforce_problem()
    if bridge == "torchforce":
        if problem is not None:
            raise ValueError(f"`bridge` is 'torchforce', but TorchForce cannot be used: {problem}")
        if not torchforce_can_be_copied():
            warnings.warn(CANNOT_BE_COPIED, stacklevel=3)
        return bridge
    if problem is None and torchforce_can_be_copied():
        if not has_cuda:
            log.info(
                "AllegroForce uses openmm.PythonForce: TorchForce has no CUDA platform here, where it would keep "
                'positions and forces on the GPU (`pip install "openmm-allegro[cuda12]"`)'
            )
            return "python"
        log.info("AllegroForce uses openmm-torch's TorchForce: positions and forces stay on the GPU")
        return "torchforce"
    if problem == NOT_INSTALLED:
        log.info("AllegroForce uses openmm.PythonForce: %s", problem)
    else:
        warnings.warn(f"AllegroForce uses openmm.PythonForce: {problem or CANNOT_BE_COPIED}", stacklevel=3)
    return "python"


def torchforce_has_cuda() -> bool:
    """Whether TorchForce runs on OpenMM's CUDA platform; without their extra packages a GPU is used by OpenCL."""
    platforms = [openmm.Platform.getPlatform(index) for index in range(openmm.Platform.getNumPlatforms())]
    return any(each.getName() == "CUDA" and each.supportsKernels(["CalcTorchForce"]) for each in platforms)


@functools.cache
def torchforce_problem() -> str | None:
    """Why TorchForce cannot be used here, found by evaluating one; None when it works."""
    try:
        import openmmtorch
    except ModuleNotFoundError:
        return NOT_INSTALLED
    except ImportError as error:
        return f"openmmtorch is installed but does not load ({error}); it needs torch 2.9 built for CUDA 12"
    try:
        system = openmm.System()
        system.addParticle(1.0)
        system.addForce(openmmtorch.TorchForce(script(_SumOfSquares())))
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions([openmm.Vec3(0.5, 0, 0)])
        energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    except Exception as error:  # what a binary for another torch raises is not known beforehand
        if torch_came_late():
            return (
                "torch was imported after openmm, so OpenMM does not find TorchForce's kernels; put `import torch` "
                "first in the script, before openmm, openmmml and mdtraj"
            )
        first_line = str(error).strip().splitlines()[0]
        return (
            f"openmmtorch is installed but does not work with torch {torch.__version__} ({first_line}); "
            "it needs torch 2.9, imported before openmm"
        )
    return None if energy == 0.25 else f"openmmtorch gives the energy {energy} where 0.25 is right"


def torch_came_late() -> bool:
    """Whether openmm was imported before torch, by the order in which Python keeps modules."""
    order = list(sys.modules)
    return order.index("openmm") < order.index("torch")


def torchforce_can_be_copied() -> bool:
    """False for the one pair of versions known to crash when OpenMM reads a TorchForce back."""
    openmm_version = tuple(int(part) for part in openmm.Platform.getOpenMMVersion().split(".")[:2])
    return openmm_version < (8, 6) or version("openmmtorch") != "1.5"


class _SumOfSquares(torch.nn.Module):
    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """A force that anyone can check."""
        return positions.square().sum()


def torch_force(module: ForceModule, parameter: str | None) -> openmm.Force:
    """The force as openmm-torch's TorchForce; `parameter` is the name of the global parameter that scales it."""
    import openmmtorch

    force = openmmtorch.TorchForce(script(module))
    force.setOutputsForces(True)
    force.setUsesPeriodicBoundaryConditions(module.periodic)
    if parameter is not None:
        force.addGlobalParameter(parameter, 1.0)
    return force


def python_force(module: ForceModule, parameter: str | None, devices: list[torch.device]) -> openmm.Force:
    """The force as openmm.PythonForce; positions and forces cross the host once a step."""
    computation = PythonComputation(module, parameter, devices)
    force = openmm.PythonForce(computation, {parameter: 1.0} if parameter else {})
    force.setUsesPeriodicBoundaryConditions(module.periodic)
    force.getPotential = lambda: module.potential  # a function, which OpenMM does not copy with the force
    force.forget = computation.forget
    return force


class PythonComputation:
    """What PythonForce calls: State in, energy [kJ/mol] and forces (N, 3) [kJ/mol/nm] out. It can be pickled."""

    def __init__(self, module: ForceModule, parameter: str | None, devices: list[torch.device]) -> None:
        self.device = devices[0]
        self.module = module.to(self.device)
        self.parameter = parameter
        self.devices = devices
        self.one_at_a_time = threading.Lock()
        """Contexts of one System share this, and a step leaves Python's lock."""
        self.inputs: list[NDArray[np.float64]] = []
        self.answer: tuple[float, NDArray[np.float64]] | None = None
        if isinstance(module.potential, ScriptedPotential):
            if len(devices) > 1:
                raise ValueError(f"`device` is {devices}, but a model that runs as it is can use one only; name one")
        else:
            work_on(module.potential, devices)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        """Called by OpenMM at every evaluation."""
        inputs = [state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)]
        if self.module.periodic:
            inputs.append(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
        if self.parameter is not None:
            inputs.append(np.array(state.getParameters()[self.parameter]))
        with self.one_at_a_time:
            return self.evaluate(inputs)

    def evaluate(self, inputs: list[NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
        """What `ForceModule` gives; reporters and barostats ask for that of the step before once more."""
        if self.answer is None or not all(map(np.array_equal, inputs, self.inputs)):
            self.answer = None  # nothing of before is left if this fails
            arguments = [torch.as_tensor(each, dtype=torch.float64).to(self.device) for each in inputs]
            energy, forces = self.module(*arguments)
            self.inputs, self.answer = inputs, (energy.item(), forces.cpu().numpy())
        return self.answer

    def forget(self) -> None:
        """Drop the neighbour list and the last answer: sums go on in the order that a new process gives them."""
        with self.one_at_a_time:
            self.answer = None
            self.module.potential.neighbors.reset()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as the bytes of the model file and plain options, so that no class of torch is in it."""
        module, potential = self.module, self.module.potential
        options: dict[str, object] = {
            "types": module.types.tolist(),
            "atoms": module.atoms.tolist() if module.subset else None,
            "periodic": module.periodic,
            "skin": potential.skin,
            "parameter": self.parameter,
            "devices": [str(device) for device in self.devices],
        }
        if isinstance(potential, ScriptedPotential):
            model = potential.model
            about = (model.config, model.dtype, model.input_dtype, model.energy_ev, model.length_angstrom)
            return _rebuild_scripted, (model.content, about, options)
        options |= {
            "block_edges": potential.block_edges,
            "max_bytes": potential.max_bytes,
            "tabulate": potential.tabulate,
            "kernels": potential.kernels,
        }
        return _rebuild_computation, (to_bytes(potential.model), options)


def _rebuild_computation(model_bytes: bytes, options: dict) -> PythonComputation:
    model = from_bytes(model_bytes)
    kernels = options["kernels"] and triton_problem() is None
    potential = Potential(model, options["skin"], options["block_edges"], options["tabulate"], kernels)
    potential.max_bytes = options["max_bytes"]
    return _rebuilt(potential, options)


def _rebuild_scripted(content: bytes, about: tuple, options: dict) -> PythonComputation:
    config, *others = about
    model = ScriptedModel(config, content, *others)
    return _rebuilt(ScriptedPotential(model, options["skin"]), options)


def _rebuilt(potential: Potential | ScriptedPotential, options: dict) -> PythonComputation:
    devices = [torch.device(name) for name in options["devices"]]
    if devices[-1].type == "cuda" and max(device.index or 0 for device in devices) >= torch.cuda.device_count():
        device = chosen_device("auto")
        warnings.warn(f"this force was made for {options['devices']}; it is evaluated on {device}", stacklevel=2)
        devices = [device]
    atoms = None if options["atoms"] is None else torch.tensor(options["atoms"])
    types = torch.tensor(options["types"])
    module = ForceModule(potential, types, atoms, options["periodic"], options["parameter"] is not None)
    return PythonComputation(module, options["parameter"], devices)
