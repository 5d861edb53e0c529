"""The engine that runs inside sundog: openvino-genai in a process of its own, and what drives it."""
