"""Everything needed to rebuild an untrained model; stored whole in every model file."""

from typing import Literal, Self

from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, model_validator

Nonlinearity = Literal["silu", "mish", "gelu", "none"]


class AllegroConfig(BaseModel):
    """Hyperparameters of an Allegro model, named as in nequip-allegro where they mean the same.

    Reference: Musaelian, Batzner et al., Nat. Commun. 14, 579 (2023).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    type_names: tuple[str, ...] = Field(min_length=1)
    """Chemical symbols, in the order of the type index."""
    r_max: float = Field(gt=0)
    """Radius of the local environment [Å]."""
    per_edge_type_cutoff: dict[str, float | dict[str, float]] | None = None
    """Shorter cutoffs by centre type, or by centre and neighbour type [Å]; what is not named has `r_max`."""

    radial_chemical_embed: Literal["bessel", "spline"] = "bessel"
    """How an edge length and two types become features."""
    radial_chemical_embed_dim: int | None = Field(default=None, ge=2)
    """Width of that embedding; None means `num_scalar_features`."""
    num_bessels: int = Field(default=8, ge=1)
    """Bessel functions of the basis."""
    bessel_trainable: bool = False
    """Whether the Bessel frequencies are trained."""
    polynomial_cutoff_p: int = Field(default=6, ge=2)
    """Power of the smooth envelope; a smaller one decays earlier."""
    num_splines: int = Field(default=16, ge=1)
    """Basis functions of the spline embedding."""
    spline_span: int = Field(default=12, ge=0)
    """How many of them overlap."""
    scalar_embed_mlp_hidden_layers_depth: int = Field(default=1, ge=0)
    scalar_embed_mlp_hidden_layers_width: int = Field(default=64, ge=1)
    scalar_embed_mlp_nonlinearity: Nonlinearity = "silu"

    l_max: int = Field(default=2, ge=0)
    """Highest order of the spherical harmonics."""
    parity: bool = True
    """Whether tensor features of both mirror parities are kept."""
    num_layers: int = Field(default=2, ge=1)
    num_scalar_features: int = Field(default=64, ge=1)
    num_tensor_features: int = Field(default=32, ge=1)
    tp_path_channel_coupling: bool = True
    """Whether each tensor channel has its own weight for each tensor-product path."""
    allegro_mlp_hidden_layers_depth: int = Field(default=1, ge=0)
    allegro_mlp_hidden_layers_width: int = Field(default=64, ge=1)
    allegro_mlp_nonlinearity: Nonlinearity = "silu"

    readout_mlp_hidden_layers_depth: int = Field(default=1, ge=0)
    readout_mlp_hidden_layers_width: int = Field(default=32, ge=1)
    readout_mlp_nonlinearity: Nonlinearity = "silu"

    avg_num_neighbors: float | dict[str, float]
    """Mean neighbours of an atom, over all or by centre type; normalises the sums over neighbours."""
    per_type_energy_scales: dict[str, float] | None = None
    """Multiplies an atom's learnt energy; None means 1."""
    per_type_energy_shifts: dict[str, float] | None = None
    """Added to an atom's energy: the energy of the isolated atom [eV]; None means 0."""
    per_type_energy_scales_trainable: bool = False
    per_type_energy_shifts_trainable: bool = False
    zbl: bool = False
    """Whether the Ziegler-Biersack-Littmark core repulsion is added."""
    zbl_polynomial_cutoff_p: int = Field(default=6, ge=2)
    """Power of that repulsion's own envelope."""

    @model_validator(mode="after")
    def _check_types(self) -> Self:
        unknown = [name for name in self.type_names if name not in atomic_numbers or name == "X"]
        if unknown:
            raise ValueError(f"`type_names` has {unknown[0]!r}, which is not a chemical symbol such as 'O'")
        if len(set(self.type_names)) != len(self.type_names):
            raise ValueError(f"`type_names` names a type twice: {', '.join(self.type_names)}")
        tables = {
            "avg_num_neighbors": self.avg_num_neighbors,
            "per_type_energy_scales": self.per_type_energy_scales,
            "per_type_energy_shifts": self.per_type_energy_shifts,
        }
        for option, table in tables.items():
            if isinstance(table, dict) and set(table) != set(self.type_names):
                raise ValueError(
                    f"`{option}` has values for {', '.join(table)}, but the types are "
                    f"{', '.join(self.type_names)}; give one value for each"
                )
        smallest = self.avg_num_neighbors
        if isinstance(smallest, dict):
            smallest = min(smallest.values())
        if smallest <= 0:
            raise ValueError(f"`avg_num_neighbors` is {smallest}; it must be above zero")
        return self

    @model_validator(mode="after")
    def _check_cutoffs(self) -> Self:
        for centre, cutoffs in (self.per_edge_type_cutoff or {}).items():
            by_neighbour = cutoffs if isinstance(cutoffs, dict) else {centre: cutoffs}
            for name in (centre, *by_neighbour):
                if name not in self.type_names:
                    raise ValueError(
                        f"`per_edge_type_cutoff` names {name}, but the types are {', '.join(self.type_names)}"
                    )
            for cutoff in by_neighbour.values():
                if not 0 < cutoff <= self.r_max:
                    raise ValueError(
                        f"`per_edge_type_cutoff` of {centre} is {cutoff} Å; it must be above zero and at most "
                        f"`r_max`, which is {self.r_max} Å"
                    )
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.radial_chemical_embed == "bessel" and self.embed_dim % 2 == 1:
            raise ValueError(
                f"the Bessel embedding is {self.embed_dim} wide, but half of it belongs to each of two types; "
                "make `radial_chemical_embed_dim` (or `num_scalar_features`) even"
            )
        if self.spline_span > self.num_splines:
            raise ValueError(f"`spline_span` is {self.spline_span}, above `num_splines`, {self.num_splines}")
        return self

    @property
    def embed_dim(self) -> int:
        """Width of the two-body embedding."""
        return self.radial_chemical_embed_dim or self.num_scalar_features

    @property
    def atomic_numbers(self) -> tuple[int, ...]:
        """Atomic number of each type."""
        return tuple(int(atomic_numbers[name]) for name in self.type_names)

    def pair_cutoffs(self) -> list[list[float]]:
        """Cutoff of each ordered pair of types [Å], rows by centre."""
        table: list[list[float]] = []
        for centre in self.type_names:
            cutoffs = (self.per_edge_type_cutoff or {}).get(centre, self.r_max)
            row = [cutoffs.get(name, self.r_max) if isinstance(cutoffs, dict) else cutoffs for name in self.type_names]
            table.append(row)
        return table

    def by_type(self, table: float | dict[str, float] | None, default: float) -> list[float]:
        """One number for each type, from a number, a table by symbol, or a default."""
        if isinstance(table, dict):
            return [table[name] for name in self.type_names]
        return [default if table is None else table] * len(self.type_names)
