# SPDX-License-Identifier: Apache-2.0
"""The TOML form of each of NHC's checks: from its words to the `[[check]]` tables that ask the same."""
