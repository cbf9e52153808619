# SPDX-License-Identifier: Apache-2.0
"""`nhc`: the drop-in for the command of NHC."""
