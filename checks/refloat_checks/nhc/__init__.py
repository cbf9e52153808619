# SPDX-License-Identifier: Apache-2.0
"""NHC's configuration language, answered as NHC answers it."""
