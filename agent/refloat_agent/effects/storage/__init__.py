# SPDX-License-Identifier: Apache-2.0
"""The storage drivers, one module each, and what they share: the mount table, transports, and who holds a mount."""
