"""Hyperparameters of nequip-allegro, as its training writes them into checkpoints, in ours."""

from collections.abc import Mapping

from pydantic import ValidationError

from openmm_allegro.config import AllegroConfig

BUILDERS = ("allegro.model.AllegroModel", "allegro.model.AllegroEnergyModel")
EMBEDDINGS = {"allegro.nn.TwoBodyBesselScalarEmbed": "bessel", "allegro.nn.TwoBodySplineScalarEmbed": "spline"}
ZBL = ("nequip.nn.pair_potential.ZBL", "nequip.nn.ZBL")
DEFAULTS: dict[str, object] = {"num_tensor_features": 16}
"""nequip-allegro 0.5 to 0.8 have these defaults where ours differ."""
SAME = set(AllegroConfig.model_fields) - {"radial_chemical_embed", "zbl", "zbl_polynomial_cutoff_p"}
OF_EMBEDDING = {
    "bessel": ("num_bessels", "bessel_trainable", "polynomial_cutoff_p"),
    "spline": ("num_splines", "spline_span"),
}
FIXED: dict[str, object] = {"forward_normalize": True, "weight_individual_irreps": True, "scatter_features": False}
"""What only has one value here."""
WITHOUT_EFFECT = ("_target_", "seed", "model_dtype", "do_derivatives", "compile_mode")
OWN_ZBL_CUTOFF = (0, 17)
"""Version of nequip from which the repulsion has an envelope of its own; before, it took that of the Bessel basis."""


def config_of_options(options: Mapping[str, object], nequip_version: str, source: str) -> AllegroConfig:
    """Our configuration of a model that nequip-allegro 0.5-0.8 builds from `options`.

    nequip_version: that the model was trained with. Raises ValueError naming the option that cannot be had here;
    `source` names the file.
    """
    if options.get("_target_") not in BUILDERS:
        raise ValueError(f"{source} is a model of `{options.get('_target_')}`, which this package has no network for")
    fields = DEFAULTS | {name: value for name, value in options.items() if name in SAME}
    embedding = _mapping(options, "radial_chemical_embed", source)
    if embedding.get("_target_") not in EMBEDDINGS:
        raise _unsupported(source, "radial_chemical_embed", embedding.get("_target_"), " or ".join(EMBEDDINGS))
    kind = EMBEDDINGS[str(embedding["_target_"])]
    fields["radial_chemical_embed"] = kind
    for name, value in embedding.items():
        if name in OF_EMBEDDING[kind]:
            fields[name] = value
        elif name != "_target_":
            raise _unsupported(source, f"radial_chemical_embed.{name}", value, "none such")
    for name, value in options.items():
        if name in FIXED and value != FIXED[name]:
            raise _unsupported(source, name, value, str(FIXED[name]))
        known = name in SAME or name in FIXED or name in WITHOUT_EFFECT
        if not known and name not in ("radial_chemical_embed", "pair_potential"):
            raise _unsupported(source, name, value, "none such")
    if options.get("pair_potential") is not None:
        fields |= _zbl_fields(_mapping(options, "pair_potential", source), fields, nequip_version, source)
    for network in ("scalar_embed", "allegro", "readout"):
        name = f"{network}_mlp_nonlinearity"
        if name in fields and fields[name] in (None, "null", "None"):
            fields[name] = "none"
    for name in ("per_type_energy_scales", "per_type_energy_shifts"):
        fields[name] = _by_type(fields.get(name), fields.get("type_names"))
    return checked_config(fields, source)


def checked_config(fields: Mapping[str, object], source: str) -> AllegroConfig:
    """The configuration of these fields; a field that is not as ours can be is named."""
    try:
        return AllegroConfig.model_validate(dict(fields))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        about = f"`{name}` = {problem['input']!r}: " if name else ""
        raise ValueError(f"{source} has options that this package does not have: {about}{problem['msg']}") from error


def _zbl_fields(
    options: Mapping[str, object], fields: Mapping[str, object], nequip_version: str, source: str
) -> dict[str, object]:
    """Fields for the core repulsion."""
    if options.get("_target_") not in ZBL:
        raise _unsupported(source, "pair_potential", options.get("_target_"), ZBL[0])
    if options.get("units") != "metal":
        raise _unsupported(source, "pair_potential.units", options.get("units"), "metal")
    species, names = _names(options.get("chemical_species")), _names(fields.get("type_names"))
    if species != names:
        raise _unsupported(source, "pair_potential.chemical_species", species, f"{names}, the names of the types")
    power: object = options.get("polynomial_cutoff_p", 6)
    if tuple(int(part) for part in nequip_version.split(".")[:2]) < OWN_ZBL_CUTOFF:
        power = fields.get("polynomial_cutoff_p", 6)
    return {"zbl": True, "zbl_polynomial_cutoff_p": power}


def _by_type(values: object, names: object) -> object:
    """A value for each type, from one for all or from a list."""
    types = _names(names)
    if isinstance(values, int | float):
        return dict.fromkeys(types, float(values))
    if isinstance(values, list):
        return dict(zip(types, values, strict=True)) if len(values) == len(types) else values
    return values


def _names(names: object) -> list[str]:
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _mapping(options: Mapping[str, object], name: str, source: str) -> Mapping[str, object]:
    found = options.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"{source} has `{name}` = {found!r}, where a table of options is expected")
    return found


def _unsupported(source: str, name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{source} was made with `{name}` = {value!r}, which this package does not have ({expected})")
