"""What a bundle holds beside the artifact: forms of it that clients take as they are, and what to know to use them.

    hf/                     onnx-cpu: config.json, tokenizer files, onnx/NAME.onnx with int64 inputs
    ort/                    onnx-cpu, on demand: model.ort, and the operators that a minimal build must hold
    text/model.onnx         onnx-cpu, on demand: text in, probabilities out
    litert/task.tflite      tflite-nnapi: three inputs, softmax, vocabulary and labels inside
    litert/model.tflite     tflite-nnapi, where runtimes too old for the artifact would answer wrongly: they refuse it
    coreml/                 coreml-metal: the package with labels and descriptions, tokenizer files beside it
    labels.txt              one label a line, the line's number being the class
    limits.json             maximum length, truncation, special ids; the forms, and the clients they were tried in
    probe.json              ids and answers for a client to check itself with; tokenizer edge cases as text
    README.md               the model card
    samples/                short programs that load the bundle they lie in

Every form is derived from the artifact that the gate judged, and runs beside it before it ships.
"""
