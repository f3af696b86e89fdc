"""gRPC reads this once, when it is imported: without its event engine it wakes fewer threads for a message. What that
saves is in docs/performance.md.
"""

import os

_PARTS = ("listener", "client", "callback_cq", "for_all_other_endpoints", "fork")
os.environ.setdefault("GRPC_EXPERIMENTS", ",".join(f"-event_engine_{part}" for part in _PARTS))
