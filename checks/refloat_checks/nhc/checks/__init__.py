# SPDX-License-Identifier: Apache-2.0
"""NHC's 46 checks, natively: pure judges over the facts of a pass, one module for each kind of thing checked."""
