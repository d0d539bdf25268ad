# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The home of the integration tests is that of the chaos tests too."""

from tests.integration.conftest import fresh_home

__all__ = ["fresh_home"]
