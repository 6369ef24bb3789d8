"""A free molecule of water after a model and after density functionals, which tells what the model's labels are.

    python tests/benchmarks/free_molecule.py MODEL --functionals pbe,pbe scan,scan

Bond lengths and angle at the lowest energy. The functionals are those of PySCF (`pip install pyscf`, not needed by the
package) in aug-cc-pVTZ.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
from scipy.optimize import minimize

from openmm_allegro.calculator import AllegroCalculator

HARTREE_EV = 27.211386


def main() -> None:
    """Print a line for the model and for each functional."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--functionals", nargs="*", default=["pbe,pbe", "scan,scan"], help="in PySCF's words")
    arguments = parser.parse_args()
    tell(str(arguments.model), after_model(arguments.model))
    for functional in arguments.functionals:
        tell(functional, after_functional(functional))


def tell(what: str, energy_ev: Callable[[np.ndarray], float]) -> None:
    """Find the lowest energy. energy_ev: of hydrogens at places (2, 3) [Å] around an oxygen at the origin."""

    def of_shape(shape: np.ndarray) -> float:
        length, angle = shape[0], np.radians(100 * shape[1])
        return energy_ev(length * np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0]]))

    found = minimize(of_shape, [0.97, 1.04], method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-8}).x
    print(f"{what}: {found[0]:.4f} Å, {100 * found[1]:.2f}°", flush=True)


def after_model(path: Path) -> Callable[[np.ndarray], float]:
    """The energy by a model, in double precision."""
    calculator = AllegroCalculator(path, precision="double")
    return lambda places: calculator.get_potential_energy(ase.Atoms("OHH", [[0, 0, 0], *places]))


def after_functional(functional: str) -> Callable[[np.ndarray], float]:
    """The energy by PySCF."""
    from pyscf import dft, gto

    def energy_ev(places: np.ndarray) -> float:
        atoms = [("O", (0.0, 0.0, 0.0)), *(("H", tuple(place)) for place in places)]
        calculation = dft.RKS(gto.M(atom=atoms, basis="aug-cc-pvtz", verbose=0))
        calculation.xc, calculation.grids.level, calculation.conv_tol = functional, 5, 1e-10
        return float(calculation.kernel()) * HARTREE_EV

    return energy_ev


if __name__ == "__main__":
    main()
