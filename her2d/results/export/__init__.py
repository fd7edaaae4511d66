"""Export a run's result to files for other programs.

Import the module of the format, because Parquet needs the extra `parquet`.
"""
