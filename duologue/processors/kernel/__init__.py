"""The kernel: processors, routes, lanes and groups. It knows a `Host`, not a session."""
