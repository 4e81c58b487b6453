import type { FastifyReply } from 'fastify'
import { AnswerCollector, validate } from '../../../lib/protocol/index.js'
import { completionBodySchema } from './bodies.js'
import type { Call } from './call.js'
import { frameOf } from './frame.js'
import { completionLogprobs, textCompletion, totalUsage, usageObject } from './objects.js'
import type { DoorOptions } from './options.js'
import { runAll, toldPlace } from './run.js'
import { streamed } from './sse.js'
import { choicesOf, completionInferences } from './to-inference.js'

/** `POST /v1/completions`. Choices are numbered prompt by prompt. */
export async function completions(
  { requests }: DoorOptions,
  given: unknown,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const body = validate(completionBodySchema, given, 'body')
  const n = body.n ?? 1
  const inputs = completionInferences(body).flatMap((request) => choicesOf(request, n))
  const wantsLogprobs = body.logprobs != null
  const frame = frameOf('cmpl-', requests, inputs[0]?.model, call)
  const echoes = inputs.map((input) => (body.echo === true && input.kind === 'completion' ? String(input.prompt) : ''))

  if (body.stream !== true) {
    const collectors = inputs.map(() => new AnswerCollector())
    const finishes = await runAll(requests, inputs, call, (choice, event) => collectors[choice]?.add(event))
    const answers = finishes.map((finish, i) => ({
      collected: collectors[i] as AnswerCollector,
      finish,
      echo: echoes[i] as string,
    }))
    return textCompletion(frame, answers, n, wantsLogprobs)
  }

  const includesUsage = body.stream_options?.include_usage === true
  const chunk = (choices: object[], usage: object | null = null): string =>
    JSON.stringify({ ...frame, object: 'text_completion', choices, ...(includesUsage && { usage }) })
  /** Characters told of each choice. */
  const told = inputs.map(() => 0)
  return streamed(reply, call, async (stream) => {
    const write = (index: number, text: string, logprobs: object | null, finish_reason: string | null): void => {
      const echo = told[index] === 0 ? (echoes[index] ?? '') : ''
      told[index] = (told[index] ?? 0) + echo.length + text.length
      stream.data(chunk([{ index, text: echo + text, logprobs, finish_reason }]))
    }
    const finishes = await runAll(requests, inputs, call, (choice, event) => {
      if (toldPlace(event, (text) => stream.comment(text)) || event.type !== 'tokens') return
      const logprobs =
        wantsLogprobs && event.logprobs?.length ? completionLogprobs(event.logprobs, told[choice] ?? 0) : null
      if (event.text !== '' || logprobs !== null) write(choice, event.text, logprobs, null)
    })
    for (const [index, { reason }] of finishes.entries()) write(index, '', null, reason)
    if (includesUsage) stream.data(chunk([], usageObject(totalUsage(finishes, n))))
    stream.data('[DONE]')
  })
}
