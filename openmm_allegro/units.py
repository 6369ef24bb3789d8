"""Unit factors: Å and eV inside, nm, kJ/mol and ps where OpenMM and mdtraj are spoken to.

Values from CODATA 2018; exact constants: e = 1.602176634e-19 C, N_A = 6.02214076e23 / mol.
"""

NM_TO_ANGSTROM = 10.0
ANGSTROM_TO_NM = 0.1
EV_TO_KJ_PER_MOL = 1.602176634e-19 * 6.02214076e23 / 1000
KJ_PER_MOL_TO_EV = 1.0 / EV_TO_KJ_PER_MOL
EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM = EV_TO_KJ_PER_MOL * NM_TO_ANGSTROM
KCAL_PER_MOL_TO_EV = 4.184 * KJ_PER_MOL_TO_EV
HARTREE_TO_EV = 27.211386245988
ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": KCAL_PER_MOL_TO_EV,
    "kJ/mol": KJ_PER_MOL_TO_EV,
    "Hartree": HARTREE_TO_EV,
}
"""What data files may have their energies in, in eV."""
BOHR_TO_ANGSTROM = 0.529177210903
EV_PER_ANGSTROM3_TO_GPA = 160.2176634
DALTON_PER_ANGSTROM3_TO_G_PER_CM3 = 1.66053906660
COULOMB_EV_ANGSTROM = 14.399645
"""e²/(4π ε₀), the value that LAMMPS and nequip use in the ZBL repulsion."""
EV_TO_MEV = 1000.0
BOLTZMANN_J_PER_K = 1.380649e-23
ELEMENTARY_CHARGE_C = 1.602176634e-19
