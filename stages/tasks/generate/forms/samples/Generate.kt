// NOT COMPILED HERE: written from ONNX Runtime's documentation; the graph and the loop were run in Python and JavaScript.
//
// Continue a text with a bundle's model.onnx on Android. The app tokenises: `ids` are what tokenizer/tokenizer.json makes of
// the text, `begins_with` of limits.json among them.
//
//     implementation("com.microsoft.onnxruntime:onnxruntime-android:<version>")
//     copy model.onnx and limits.json to src/main/assets/
package example

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.json.JSONObject

class Generate(model: ByteArray, limits: JSONObject) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(model, OrtSession.SessionOptions())
    private val room = limits.getInt("max_length")
    private val stops = limits.getJSONObject("generation").getJSONArray("stop_ids").let { list ->
        (0 until list.length()).map { list.getLong(it) }.toSet()
    }

    /** Call [show] with each further token, until a stop id or the room ends the text. */
    fun generate(ids: List<Long>, show: (Long) -> Unit) {
        require(ids.size in 1 until room) { "${ids.size} tokens given; at least 1 and fewer than $room are taken" }
        var cache = session.inputInfo.filterKeys { it.startsWith("past_key_values") }.mapValues { (_, node) ->
            val shape = (node.info as TensorInfo).shape.map { if (it < 0) 0L else it }.toLongArray()
            OnnxTensor.createTensor(environment, FloatBuffer.allocate(0), shape)
        }
        var kept: OrtSession.Result? = null
        var fed = ids
        var length = 0
        try {
            while (length + fed.size < room) {
                length += fed.size
                val row = LongBuffer.wrap(fed.toLongArray())
                val mask = LongBuffer.wrap(LongArray(length) { 1 })
                val result = OnnxTensor.createTensor(environment, row, longArrayOf(1, fed.size.toLong())).use { tokens ->
                    OnnxTensor.createTensor(environment, mask, longArrayOf(1, length.toLong())).use { all ->
                        session.run(cache + mapOf("input_ids" to tokens, "attention_mask" to all))
                    }
                }
                if (kept == null) cache.values.forEach(OnnxTensor::close) else kept.close()
                kept = result
                cache = cache.mapValues { (name, _) ->
                    result.get(name.replace("past_key_values", "present")).get() as OnnxTensor
                }
                val logits = (result.get("logits").get() as OnnxTensor).floatBuffer
                val best = (0 until logits.remaining()).maxByOrNull { logits.get(it) }!!.toLong()
                show(best)
                if (best in stops) return
                fed = listOf(best)
            }
        } finally {
            kept?.close()
        }
    }

    override fun close() = session.close()
}
