"""What a bundle holds beside the artifact: forms of it that clients take as they are, and what to know to use them.

    hf/                     onnx-cpu: config.json, tokenizer files, onnx/NAME.onnx with int64 inputs
    ort/                    onnx-cpu, on demand: model.ort, and the operators that a minimal build must hold
    litert/model.tflite     tflite-nnapi, where runtimes too old for the artifact would answer wrongly: they refuse it
    coreml/                 coreml-metal: the package with descriptions, tokenizer files beside it
    limits.json             maximum length, truncation, special ids; the forms, and the clients they were tried in
    probe.json              ids and answers for a client to check itself with; tokenizer edge cases as text
    README.md               the model card

Which of them a model has, what else lies there and in which words it is told says the part `forms` of its task. Every
form is derived from the artifact that the gate judged, and runs beside it before it ships.
"""
