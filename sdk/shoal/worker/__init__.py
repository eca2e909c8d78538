"""What runs inside a Pod: an agent, a zygote, and one child process per job.

Standard library and cloudpickle only, Python 3.9 and up, relative imports only: the same files ship
in the worker zip under a private package name, so that a shoal installed in the user's image and
the worker that drives it never shadow each other.

The way of a task: `agent` polls the dispatcher for claims, `inputs` fetches and verifies what a
claim needs, `crew` hands tasks to the process that `zygote` forked, `child` runs the function,
`outbox` keeps each result until the dispatcher says that it is durable.
"""

#: The version of what worker and dispatcher say to each other.
PROTOCOL = "1"
