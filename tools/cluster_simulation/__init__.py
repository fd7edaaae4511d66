"""A discrete-event simulation of her2d on a cluster, with service times that were measured.

python -m tools.cluster_simulation --help
"""
