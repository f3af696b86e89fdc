"""Workflows: an interpreter of their steps, and the engine that it runs on."""
