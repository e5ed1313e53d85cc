"""Sweeps: many configurations of the build, each stage of them computed once, compared on one page."""
