"""`python -m openmm_allegro`, the command where the folder of installed commands is not on the path."""

from openmm_allegro.cli import entry_point

if __name__ == "__main__":
    entry_point()
