"""What a machine needs to run Hibernaut: set-up, the sandbox image, deployment files."""
