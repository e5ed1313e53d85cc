// NOT COMPILED HERE: written from MediaPipe's documentation; the file it loads was run in MediaPipe's Python and web.
//
// Classify text with a bundle's litert/task.tflite on Android: vocabulary, labels and softmax are inside.
//
//     implementation("com.google.mediapipe:tasks-text:<version>")       copy litert/task.tflite to src/main/assets/
package example

import android.content.Context
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.text.textclassifier.TextClassifier
import com.google.mediapipe.tasks.text.textclassifier.TextClassifier.TextClassifierOptions

class Classify(context: Context) : AutoCloseable {
    private val classifier = TextClassifier.createFromOptions(
        context,
        TextClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("task.tflite").build())
            .setMaxResults(1)
            .build(),
    )

    /** The most probable label and its probability. */
    fun label(text: String): Pair<String, Float> {
        val best = classifier.classify(text).classificationResult().classifications().first().categories().first()
        return best.categoryName() to best.score()
    }

    override fun close() = classifier.close()
}
