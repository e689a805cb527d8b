"""Sets up what Hibernaut needs of a MinIO server: a bucket, and a user that may use this bucket and nothing else."""
