"""Dask workers: local processes, a running scheduler, or Slurm jobs."""
