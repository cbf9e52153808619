# SPDX-License-Identifier: Apache-2.0
"""The real adapters behind `ports`: one per port, idempotent, without a word about phases."""
