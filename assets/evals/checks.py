"""Checks of the assets beside this file."""

from assets.node import Check

CHECKS: dict[str, tuple[Check, ...]] = {}
