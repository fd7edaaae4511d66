"""A model bundle: its manifest, its verified files, its integrator."""
