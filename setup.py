"""Builds the distribution `namsg-mx`; its metadata stands in pyproject.toml."""

from setuptools import setup

setup()
