"""The verb that times steps of dynamics and of training."""

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.flags import options_from
from openmm_allegro.verbs.options import AsJson


@options_from(BenchConfig)
def bench(as_json: AsJson = False, **flags: object) -> None:
    """Time steps of dynamics or training, alone or beside others.

    Beside another program where a peer is named. Prints median, lowest and highest of the timed steps, the time of the
    model's matrix products alone, memory, and what was measured on what. Without options it is 615 atoms of water on
    the CPU.

    \b
    Examples:
      openmm-allegro bench
      openmm-allegro bench --peer openmm-ml --json
      openmm-allegro bench --model water.safetensors --system water.pdb --device cuda --bridge torchforce
      openmm-allegro bench --train --data train.extxyz --steps 100 --peer nequip
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.options import checked

        config = checked({name: value for name, value in flags.items() if value is not None}, BenchConfig)
        if config.train:
            from openmm_allegro.training.speed import training_speed

            answer(training_speed(config))
        else:
            from openmm_allegro.bench.run import bench

            answer(bench(config))
