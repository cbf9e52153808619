# SPDX-License-Identifier: Apache-2.0
"""`refloat demo`: real agents and a real coordinator on a simulated cluster, with nothing to install or to break."""
