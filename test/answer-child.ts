import { readFileSync } from 'node:fs'
import { answerWriter } from '../cli/terminal/answer-writer.js'

/** Shows an answer that comes in pieces, as `run` and `chat` do: node answer-child.js <JSON list of texts> [plain] */

const [, , file = '', plain] = process.argv
const pieces = JSON.parse(readFileSync(file, 'utf8')) as string[]
const writer = answerWriter(plain === 'plain')
for (const piece of pieces) {
  writer.write(piece)
  // Each in a write of its own.
  await new Promise((resolve) => setTimeout(resolve, 1))
}
writer.end()
process.stdout.write('\nEND\n')
