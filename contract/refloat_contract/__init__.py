# SPDX-License-Identifier: Apache-2.0
"""The words, topics and messages that all parts share; no I/O."""
