"""The Allegro model: energies of atoms from the vectors to their neighbours.

Symbols used in this file
    n  centre atoms        k  neighbour slots (padding lies beyond the cutoff and contributes zero)
    s  scalar features     u  tensor channels        m  components of the spherical harmonics
"""

import math
from collections.abc import Mapping

import torch
from pydantic import JsonValue
from torch import Tensor
from torch.nn import Parameter

from openmm_allegro.config import AllegroConfig
from openmm_allegro.mlp import scalar_mlp
from openmm_allegro.operators import (
    AtomOperator,
    SphericalHarmonics,
    read_scalars,
    sum_environment,
    telescope,
    track_irreps,
)
from openmm_allegro.radial import BesselEmbedding, SplineEmbedding, ZBLRepulsion
from openmm_allegro.summary import MODEL_FORMAT, UNITS, Description, count_weights


class Allegro(torch.nn.Module):
    """Strictly local equivariant potential (Musaelian, Batzner et al., Nat. Commun. 14, 579, 2023).

    The energy of an atom is a sum over its neighbours within the cutoff; nothing beyond is seen. Tensor
    products act as one small matrix for each atom (`operators`), which is the same function as on edges.
    """

    inverse_cutoffs: Tensor
    sum_norm: Tensor

    def __init__(self, config: AllegroConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.provenance: Mapping[str, JsonValue] = {}
        """How the model came to be, as its file says."""
        self.n_types = len(config.type_names)
        self.n_scalars = config.num_scalar_features
        self.n_channels = config.num_tensor_features
        self.n_layers = config.num_layers
        self._build_two_body(config, dtype)
        self._build_layers(config, dtype)
        self._build_energies(config, dtype)

    def _build_two_body(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        embedding = BesselEmbedding if config.radial_chemical_embed == "bessel" else SplineEmbedding
        self.two_body = embedding(config, dtype)
        hidden = [config.scalar_embed_mlp_hidden_layers_width] * config.scalar_embed_mlp_hidden_layers_depth
        nonlinearity = config.scalar_embed_mlp_nonlinearity
        self.two_body_mlp = scalar_mlp(config.embed_dim, hidden, self.n_scalars, nonlinearity, dtype)
        cutoffs = torch.tensor(config.pair_cutoffs(), dtype=torch.float64).reciprocal()
        self.register_buffer("inverse_cutoffs", cutoffs.flatten(), persistent=False)
        self.harmonics = SphericalHarmonics(config.l_max, dtype)

    def _build_layers(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        n_weights = (config.l_max + 1) * self.n_channels
        self.first_tensors = scalar_mlp(self.n_scalars, [], n_weights, "none", dtype)
        self.first_latent = scalar_mlp(self.n_scalars, [], self.n_scalars + n_weights, "none", dtype)
        track = track_irreps(config.l_max, config.parity, config.num_layers)
        hidden = [config.allegro_mlp_hidden_layers_width] * config.allegro_mlp_hidden_layers_depth
        self.operators = torch.nn.ModuleList()
        self.latents = torch.nn.ModuleList()
        for layer in range(self.n_layers):
            operator = AtomOperator(
                track[layer],
                track[layer + 1],
                environment=track[0],
                n_channels=self.n_channels,
                coupling=config.tp_path_channel_coupling,
                dtype=dtype,
            )
            n_in = self.n_scalars * (layer + 1) + self.n_channels
            n_out = self.n_scalars + (n_weights if layer < self.n_layers - 1 else 0)
            self.operators.append(operator)
            self.latents.append(scalar_mlp(n_in, hidden, n_out, config.allegro_mlp_nonlinearity, dtype))

    def _build_energies(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        hidden = [config.readout_mlp_hidden_layers_width] * config.readout_mlp_hidden_layers_depth
        n_in = self.n_scalars * (self.n_layers + 1)
        self.readout = scalar_mlp(n_in, hidden, 1, config.readout_mlp_nonlinearity, dtype)
        neighbours = torch.tensor(config.by_type(config.avg_num_neighbors, 1.0), dtype=torch.float64)
        self.register_buffer("sum_norm", neighbours.rsqrt().to(dtype), persistent=False)
        scales = torch.tensor(config.by_type(config.per_type_energy_scales, 1.0), dtype=torch.float64)
        shifts = torch.tensor(config.by_type(config.per_type_energy_shifts, 0.0), dtype=torch.float64)
        self.scales = Parameter(scales, requires_grad=config.per_type_energy_scales_trainable)
        self.shifts = Parameter(shifts, requires_grad=config.per_type_energy_shifts_trainable)
        self.repulsion = ZBLRepulsion(config, dtype) if config.zbl else None

    def forward(self, edge_vectors: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """Energy of each atom.

        Parameters
        ----------
        edge_vectors
            (n, k, 3) from centre to neighbour [Å]; padding entries are longer than the cutoff.
        centre_types, neighbour_types
            Type indices, (n,) and (n, k).

        Returns
        -------
        Tensor
            (n,) float64 [eV].
        """
        r = torch.linalg.vector_norm(edge_vectors, dim=2)
        x = r * self.inverse_cutoffs[centre_types.unsqueeze(1) * self.n_types + neighbour_types].to(r.dtype)
        harmonics = self.harmonics(edge_vectors / r.unsqueeze(2))
        norm = self.sum_norm[centre_types].unsqueeze(1)
        scalars = self.two_body_mlp(self.two_body(x, centre_types, neighbour_types))

        first = self.first_tensors(scalars)
        latent = self.first_latent(scalars)
        scalars, weights = torch.split(latent, [self.n_scalars, latent.shape[2] - self.n_scalars], 2)
        features: list[Tensor] = [scalars]
        matrices: list[Tensor] = []
        for operator, mlp in zip(self.operators, self.latents, strict=True):
            environment = sum_environment(harmonics, weights, self.n_channels) * norm.unsqueeze(2)
            matrices.append(operator(environment))
            readers = telescope(matrices)
            latent = mlp(torch.cat(features + [read_scalars(harmonics, first, readers, self.n_channels)], dim=2))
            scalars, weights = torch.split(latent, [self.n_scalars, latent.shape[2] - self.n_scalars], 2)
            features.append(scalars)

        learnt = self.readout(torch.cat(features, dim=2)).sum(1) * (norm / math.sqrt(2.0))
        energies = self.shifts[centre_types] + self.scales[centre_types] * learnt.squeeze(1).to(torch.float64)
        if self.repulsion is not None:
            pairs = self.repulsion(r, x, centre_types, neighbour_types)
            energies = energies + pairs.sum(1).to(torch.float64)
        return energies

    def describe(self) -> Description:
        """What its file says of it."""
        return Description(
            format=MODEL_FORMAT,
            dtype=str(self.dtype).removeprefix("torch."),
            units=dict(UNITS),
            config=self.config.model_dump(mode="json"),
            provenance=dict(self.provenance),
            n_weights=count_weights({name: tensor.numel() for name, tensor in self.state_dict().items()}),
        )

    def _repr_html_(self) -> str:
        return self.describe()._repr_html_()
