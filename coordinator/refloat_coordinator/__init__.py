# SPDX-License-Identifier: Apache-2.0
"""The coordinator: feed, permits, waves and the record."""
