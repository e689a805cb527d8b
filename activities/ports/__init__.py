"""Ports: what activities need of the world, as protocols."""
