# SPDX-License-Identifier: Apache-2.0
"""A small certificate authority for the broker and those who log in to it."""
