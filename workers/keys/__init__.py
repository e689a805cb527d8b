"""The keys that seal snapshots at rest."""
