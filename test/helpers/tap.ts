/** Counts brittle's TAP line by line, and keeps the lines of the test under way until it is known whether it failed. */
export class Tap {
  passed = 0
  failed = 0
  /** What did not run, each with its reason where the test gave one. */
  readonly skipped: string[] = []
  /** Brittle prints the plan last, once every test has ended. */
  ended = false
  #lines: string[] = []

  /** @returns the lines to show: those of a test that has just failed */
  push(line: string): string[] {
    this.#lines.push(line)
    if (/^1\.\.\d+/.test(line)) this.ended = true
    const [, not, name = ''] = /^(not )?ok \d+ - (.*)$/.exec(line) ?? []
    if (name === '') return []
    const lines = this.#lines
    this.#lines = []
    const skipped = /^(.*) # (SKIP|TODO)\b/.exec(name)
    if (skipped !== null) {
      this.skipped.push(skipped[1] as string)
      return []
    }
    const asserted = lines.some((one) => /^\s+(not )?ok \d+ - /.test(one))
    if (not === undefined && asserted) {
      this.passed++
      return []
    }
    this.failed++
    return asserted ? lines : [...lines, '    ---', '    it ended without having asserted anything', '    ...']
  }

  /** What was printed since the last test ended. */
  rest(): string[] {
    return this.#lines
  }
}
