# SPDX-License-Identifier: Apache-2.0
"""What tells the agent that something may have changed: one module per source, and the watch over all of them."""
