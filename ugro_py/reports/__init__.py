"""Experiments as people take them away: tables, files, pictures, runs of MLflow."""
