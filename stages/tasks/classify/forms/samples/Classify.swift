// NOT COMPILED HERE: written from Apple's and swift-transformers' documentation; no Mac has run it.
//
// Classify text with a bundle's coreml/ directory. Add model.mlpackage and the folder tokenizer/ to the app's target;
// package dependency: https://github.com/huggingface/swift-transformers, product Tokenizers.
import CoreML
import Tokenizers

struct Classify {
    private let model: MLModel
    private let tokenizer: Tokenizer
    private let labels: [String]
    private let lengths: [Int]
    private let pad: Int32
    private let end: Int32

    /// - Parameters:
    ///   - compiled: `model.mlmodelc`, which Xcode makes of the package (elsewhere: `MLModel.compileModel(at:)`).
    ///   - folder: `coreml/tokenizer`.
    ///   - lengths: `sequence_lengths` of limits.json, ascending.
    ///   - pad, end: ids of `pad_token` and `sep_token` in limits.json.
    init(compiled: URL, folder: URL, lengths: [Int], pad: Int32, end: Int32) async throws {
        model = try MLModel(contentsOf: compiled)
        tokenizer = try await AutoTokenizer.from(modelFolder: folder)
        let defined = model.modelDescription.metadata[.creatorDefinedKey] as! [String: String]
        labels = try JSONDecoder().decode([String].self, from: Data(defined["labels"]!.utf8))
        (self.lengths, self.pad, self.end) = (lengths, pad, end)
    }

    /// The most probable label and its probability.
    func label(_ text: String) throws -> (String, Double) {
        var ids = tokenizer.encode(text: text).map(Int32.init)
        let longest = lengths.last!
        if ids.count > longest { ids = ids.prefix(longest - 1) + [end] }
        let length = lengths.first { $0 >= ids.count }!
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "input_ids": row(ids, length, pad),
            "attention_mask": row(ids.map { _ in 1 }, length, 0),
        ])
        let logits = try model.prediction(from: inputs).featureValue(for: "logits")!.multiArrayValue!
        let values = (0..<logits.count).map { logits[$0].doubleValue }
        let most = values.max()!
        return (labels[values.firstIndex(of: most)!], 1 / values.map { exp($0 - most) }.reduce(0, +))
    }

    private func row(_ values: [Int32], _ length: Int, _ fill: Int32) throws -> MLMultiArray {
        let array = try MLMultiArray(shape: [1, NSNumber(value: length)], dataType: .int32)
        for index in 0..<length { array[index] = NSNumber(value: index < values.count ? values[index] : fill) }
        return array
    }
}
