"""Teams: a leader, which is an agent of its own, with tools that run the members."""
