const KEPT_LINES = 20
/** How the lines begin that say why a process aborts: an assertion, a C++ exception, a GPU driver's error. */
const LAST_WORDS = /GGML_ASSERT|terminate called|what\(\):|CUDA error|vk::|out of memory/

/**
 * The last lines that llama.cpp wrote in one engine process. They are not logged as they come: some quote what a user
 * sent.
 */
export class EngineOutput {
  readonly #lines: string[] = []

  add(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
  }

  /** What a crashed engine said last, ready to be put behind a sentence. */
  lastWords(): string {
    const line = this.#lines.findLast((one) => LAST_WORDS.test(one))
    return line === undefined ? '' : `: ${line}`
  }
}
