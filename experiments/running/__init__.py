"""Many runs in parallel (pool, Dask), or each run on many processes (kvstore), with progress and TensorBoard logs."""
