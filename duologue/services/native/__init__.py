"""The kit for engines that are one service: they hear and speak by themselves."""
