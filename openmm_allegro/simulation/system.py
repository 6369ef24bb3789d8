"""The OpenMM Simulation that a configuration describes."""

from collections.abc import Callable

import torch  # noqa: F401  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import openmm
from openmm import app, unit

from openmm_allegro.force import AllegroForce
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.structure import Structure


def build_simulation(
    config: SimulateConfig, structure: Structure, last_step: int | None
) -> tuple[app.Simulation, Callable[[], None]]:
    """A System in which the model acts on every atom, its integrator and its Context.

    last_step: that of the checkpoint which will be loaded.
    Returns also what makes the force forget its neighbour list at a checkpoint, so that the run goes on from there in
    the same order of sums as one that is resumed; a TorchForce keeps its list.
    """
    system = openmm.System()
    for atom in structure.topology.atoms():
        is_changed = config.hydrogen_mass_amu is not None and atom.element.symbol == "H"
        system.addParticle(config.hydrogen_mass_amu if is_changed else atom.element.mass)
    box = structure.topology.getPeriodicBoxVectors()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    force = AllegroForce(
        config.model,
        structure.topology,
        model_units=config.model_units,
        bridge=config.bridge,
        device=config.device,
        precision=config.precision,
    )
    system.addForce(force)
    system.addForce(openmm.CMMotionRemover())
    # Random numbers that no checkpoint keeps (the barostat's; all, where only the State fits) must not repeat.
    seed = (config.seed + (last_step or 0)) % (2**31 - 1) + 1
    if config.uses_pressure:
        # Stages set their own before the first step.
        pressure = next((leg.pressure_bar for leg in config.legs if leg.pressure_bar is not None), config.pressure_bar)
        barostat = openmm.MonteCarloBarostat(
            pressure * unit.bar, config.first_temperature_k * unit.kelvin, config.barostat_every
        )
        barostat.setRandomNumberSeed(seed)
        system.addForce(barostat)
    try:
        simulation = app.Simulation(structure.topology, system, _integrator(config, seed), *_platform(config))
    except openmm.OpenMMException as error:  # such as a GPU that is not there
        raise ValueError(f"OpenMM cannot run on `platform` {config.platform}: {error}") from error
    simulation.context.setPositions(structure.positions_nm)
    return simulation, getattr(force, "forget", lambda: None)


def _integrator(config: SimulateConfig, seed: int) -> openmm.Integrator:
    timestep_ps = config.timestep_fs / 1000
    if config.ensemble == "NVE" and not config.stages:
        return openmm.VerletIntegrator(timestep_ps)
    integrator = openmm.LangevinMiddleIntegrator(config.first_temperature_k, config.friction_per_ps, timestep_ps)
    integrator.setRandomNumberSeed(seed)
    return integrator


def _platform(config: SimulateConfig) -> tuple[()] | tuple[openmm.Platform, dict[str, str]]:
    """The platform asked for with its properties; with `auto` OpenMM chooses, with these as its defaults."""
    platforms = [openmm.Platform.getPlatform(index) for index in range(openmm.Platform.getNumPlatforms())]
    if config.platform == "auto":
        for platform in platforms:
            for name, value in _properties(config, platform).items():
                platform.setPropertyDefaultValue(name, value)
        return ()
    for platform in platforms:
        if platform.getName() == config.platform:
            return platform, _properties(config, platform)
    names = ", ".join(platform.getName() for platform in platforms)
    raise ValueError(f"`platform` is {config.platform}, but this OpenMM has only {names}")


def _properties(config: SimulateConfig, platform: openmm.Platform) -> dict[str, str]:
    properties = {}
    if "Precision" in platform.getPropertyNames():
        properties["Precision"] = "double" if config.precision == "double" else "mixed"
    if ":" in config.device and "DeviceIndex" in platform.getPropertyNames():
        properties["DeviceIndex"] = config.device.partition(":")[2]
    return properties
