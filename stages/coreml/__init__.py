"""A reference executor for saved Core ML programs: numpy and the protobuf definitions, on any host.

It checks an artifact, not Apple's runtime: results are labelled `reference-interpreted`.
"""

from stages.coreml.program import Program, open_program

LABEL = "reference-interpreted"

__all__ = ["LABEL", "Program", "open_program"]
