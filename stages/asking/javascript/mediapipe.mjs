// MediaPipe's TextClassifier for the web: the same task file as Android, iOS and Python.
import { versionOf } from "./harness.mjs";

export async function open(question, modules) {
  const { FilesetResolver, TextClassifier } = await import(`${modules}@mediapipe/tasks-text/text_bundle.mjs`);
  const files = await FilesetResolver.forTextTasks(`${modules}@mediapipe/tasks-text/wasm`);
  const options = { baseOptions: { modelAssetPath: question.file }, maxResults: question.labels.length };
  const classifier = await TextClassifier.createFromOptions(files, options);
  const ask = async ({ text }) => {
    const { categories } = classifier.classify(text).classifications[0];
    const scores = Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score]));
    return { probabilities: question.labels.map((label) => scores[label]), ids: null };
  };
  return { version: await versionOf(modules, "@mediapipe/tasks-text"), ask };
}
