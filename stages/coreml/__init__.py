"""A reference executor for saved Core ML programs: numpy and the protobuf definitions, on any host.

It checks an artifact, not Apple's runtime.
"""

from stages.coreml.program import Program, open_program

__all__ = ["Program", "open_program"]
