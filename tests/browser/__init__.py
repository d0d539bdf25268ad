# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
