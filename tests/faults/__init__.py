"""The operator's own life: killed at any await, before and after each.

`points` finds every await of the product's modules and puts a numbered point on both of its sides;
`trigger` is what such a point runs: it notes that it was reached, or ends the process at once.
`mother` is a process that has loaded the modules so, and forks one life after the other; a life is
a dispatcher (`dispatcher_life`, no cluster) or the whole operator (`operator_life`).

`sweep` (`make faults`) lets the operator die at every point on a cluster (`release`) under a stream
of maps (`stream`) and checks each of their results.
"""
