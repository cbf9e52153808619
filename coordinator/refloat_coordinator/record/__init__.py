# SPDX-License-Identifier: Apache-2.0
"""The record: the ledger on disk, and all that leaves it for InfluxDB and for whoever must look."""
