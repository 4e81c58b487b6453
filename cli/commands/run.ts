import { readFileSync } from 'node:fs'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { z } from 'zod'
import { type ChatRequest, type InferenceResult, MeshClient } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import { MeshError, messageOf } from '../../lib/protocol/index.js'
import { cutText } from '../shared/answer-stats.js'
import { fileFault } from '../shared/files.js'
import { command } from '../shared/hints.js'
import { clientOptions, optionsOf } from '../shared/mesh.js'
import { dim, durationText, interruptible, onTerminal, print, printJson, warn, withSpinner } from '../shared/output.js'
import { decimal, gather, integer } from '../shared/parse.js'
import { answerWriter } from '../terminal/answer-writer.js'

interface RunOptions {
  model?: string
  system?: string
  maxTokens?: number
  temperature?: number
  seed?: number
  stop?: string[]
  schema?: string
  plain?: boolean
}

export function define(run: Command): void {
  run
    .argument('[prompt]', 'what to ask; standard input is added to it, or stands alone')
    .option('-m, --model <name>', 'which model (default: the mesh’s)')
    .option('--system <text>', 'how the model should behave')
    .option('--max-tokens <n>', 'longest answer, in tokens', integer)
    .option('--temperature <n>', '0 always takes the likeliest token', decimal)
    .option('--seed <n>', 'same seed, same answer', integer)
    .option('--stop <text>', 'end before this text; can be repeated', gather)
    .option('--schema <file>', 'JSON schema that the answer must fit')
    .option('--plain', 'show the answer as it comes, without Markdown')
    .addHelpText(
      'after',
      `
Examples:
  infermesh run "Why is the sky blue?"
  cat report.txt | infermesh run "Summarise this:"
  infermesh run "A person as JSON" --schema person.schema.json --json | jq -r .text`,
    )
    .action(async (prompt: string | undefined, _options, self: Command) => {
      const options = optionsOf<RunOptions>(self)
      const request = requestOf(options, await wholePrompt(prompt))
      await interruptible(async (signal) => {
        const startedAt = performance.now()
        const mesh = new MeshClient(clientOptions(options))
        try {
          const answer = mesh.chat(request, { signal })
          const chunks = answer[Symbol.asyncIterator]()
          let next = await withSpinner('thinking', options.json === true, chunks.next())
          const firstTokenMs = performance.now() - startedAt
          const writer = answerWriter(options.plain === true || options.schema !== undefined)
          try {
            for (; !next.done; next = await chunks.next()) if (!options.json) writer.write(next.value.text)
          } finally {
            writer.end()
          }
          const result = await answer.result
          const totalMs = performance.now() - startedAt
          if (options.json) printJson(summary(result, firstTokenMs, totalMs))
          else {
            if (!result.text.endsWith('\n')) print()
            const cut = cutText(result.finish)
            if (result.finish.cutBy === 'budget') {
              const whoami = command('whoami', homePath(options.home))
              warn(`The answer is ${cut}: ${whoami} tells what is left, and when there is more`)
            } else if (onTerminal() && cut !== undefined) print(dim(`(${cut}, after ${durationText(totalMs)})`))
          }
        } finally {
          await mesh.close()
        }
      })
    })
}

/** What `--json` gives. Times are from the command's start of work to its receipt, so they hold connecting too. */
function summary({ requestId, text, finish }: InferenceResult, firstTokenMs: number, totalMs: number) {
  const { reason, cutBy, usage, route } = finish
  return {
    requestId,
    text,
    model: route?.model,
    finishReason: reason,
    cutBy,
    usage,
    timing: { firstTokenMs: Math.round(firstTokenMs), totalMs: Math.round(totalMs) },
    processor: route?.processor,
    gateway: route?.gateway,
  }
}

function requestOf(options: RunOptions, prompt: string): ChatRequest {
  const { model, system, maxTokens, temperature, seed, stop, schema } = options
  return {
    messages: [
      ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
      { role: 'user', content: prompt },
    ],
    model,
    maxTokens,
    stop,
    sampling: { temperature, seed },
    ...(schema === undefined ? {} : { format: { type: 'json_schema', schema: readSchema(schema) } }),
  }
}

/** @throws MeshError BAD_REQUEST where there is nothing to ask */
async function wholePrompt(prompt: string | undefined): Promise<string> {
  const piped = process.stdin.isTTY === true ? '' : (await readAll(process.stdin)).trimEnd()
  const whole = [prompt ?? '', piped].filter((part) => part !== '').join('\n\n')
  if (whole === '') throw MeshError.BAD_REQUEST('Nothing to ask: give a prompt, or something on standard input')
  return whole
}

function readSchema(path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (err) {
    const fault = err instanceof SyntaxError ? `${path} is no JSON: ${messageOf(err)}` : fileFault(path, err)
    throw MeshError.BAD_REQUEST(`--schema: ${fault}`)
  }
  const schema = z.record(z.string(), z.unknown()).safeParse(value)
  if (!schema.success) throw MeshError.BAD_REQUEST(`--schema ${path}: expected a JSON object`)
  return schema.data
}
