"""The kernel: processors, routes, lanes and groups. It depends on a `Host`, not on a session."""
