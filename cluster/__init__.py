"""A real Kubernetes cluster for trying out and testing Shoal.

``python3 -m cluster up`` is the way in. The modules read in this order: `choice` picks which
cluster to use, `embedded`, `kind` and `named` are the three that there are, and below `embedded`
come what it is made of: `binaries` and `images` (built once, kept), `network`, `cgroups` and `pki`
(what the machine must have), `components` (what runs, and how it is configured), `processes`
(starting and finding it), `nodes` (containers of one node) and `sweep` (taking it all away).

Only the standard library is used: this runs before anything is installed.
"""
