// NOT COMPILED HERE: written from Apple's and swift-transformers' documentation; no Mac has run it.
//
// Continue a text with a bundle's coreml/ directory (iOS 18, macOS 15). Add model.mlpackage and the folder tokenizer/ to
// the app's target; package dependency: https://github.com/huggingface/swift-transformers, product Tokenizers.
//
//     let generate = try await Generate(compiled: url, folder: tokenizer)
//     try generate.continue("Once upon a time") { print($0, terminator: "") }
import CoreML
import Tokenizers

struct Generate {
    enum End { case stop, room }

    private let model: MLModel
    private let tokenizer: Tokenizer
    private let room: Int
    private let stops: Set<Int>

    /// - Parameters:
    ///   - compiled: `model.mlmodelc`, which Xcode makes of the package (elsewhere: `MLModel.compileModel(at:)`).
    ///   - folder: `coreml/tokenizer`.
    init(compiled: URL, folder: URL) async throws {
        let settings = MLModelConfiguration()
        settings.computeUnits = .cpuAndGPU
        model = try MLModel(contentsOf: compiled, configuration: settings)
        tokenizer = try await AutoTokenizer.from(modelFolder: folder)
        let defined = model.modelDescription.metadata[.creatorDefinedKey] as! [String: String]
        room = Int(defined["max_length"]!)!
        stops = Set(try JSONDecoder().decode([Int].self, from: Data(defined["stop_ids"]!.utf8)))
    }

    /// Write a text on with the likeliest token each time.
    func `continue`(_ text: String, show: (String) -> Void) throws -> End {
        try write(on: tokenizer.encode(text: text), show: show)
    }

    /// Answer a chat, in the form that the model was trained on.
    func answer(_ messages: [Message], show: (String) -> Void) throws -> End {
        try write(on: tokenizer.applyChatTemplate(messages: messages), show: show)
    }

    /// - Parameter show: is given each further piece of text as soon as its characters are whole.
    private func write(on prompt: [Int], show: (String) -> Void) throws -> End {
        precondition((1..<room).contains(prompt.count), "a prompt has 1 to \(room - 1) tokens")
        let state = model.makeState()  // of this text alone
        var ids = prompt
        var shown = tokenizer.decode(tokens: ids)
        var next = try likeliest(after: prompt, at: 0, state)
        while !stops.contains(next) {
            ids.append(next)
            let whole = tokenizer.decode(tokens: ids)
            if !whole.hasSuffix("\u{FFFD}"), whole.hasPrefix(shown) {  // a character may take several tokens
                show(String(whole.dropFirst(shown.count)))
                shown = whole
            }
            if ids.count == room { return .room }
            next = try likeliest(after: [next], at: ids.count - 1, state)
        }
        return .stop
    }

    /// Feed tokens, of which `position` came before, and return the one that is likeliest to follow.
    private func likeliest(after tokens: [Int], at position: Int, _ state: MLState) throws -> Int {
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "input_ids": MLMultiArray(MLShapedArray<Int32>(scalars: tokens.map(Int32.init), shape: [1, tokens.count])),
            "position": MLMultiArray(MLShapedArray<Int32>(scalars: [Int32(position)], shape: [1])),
        ])
        let outputs = try model.prediction(from: inputs, using: state)
        let logits = MLShapedArray<Float>(outputs.featureValue(for: "logits")!.multiArrayValue!).scalars
        return logits.indices.max { logits[$0] < logits[$1] }!
    }
}
