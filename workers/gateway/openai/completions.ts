import type { FastifyReply } from 'fastify'
import { AnswerCollector, type InferenceRequest } from '../../../lib/protocol/index.js'
import { type Call, streamed } from '../http/index.js'
import { frameOf } from './frame.js'
import { completionLogprobs, textCompletion, totalUsage, usageObject } from './objects.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { runAll, toldPlace } from './run.js'
import { choicesOf } from './to-inference.js'

/** `POST /v1/completions`. Choices are numbered prompt by prompt. */
export async function completions(
  { requests, catalogue }: DoorOptions,
  { requests: asked, n, echoes, streams, includesUsage, wantsLogprobs, words, hasPrompts }: PreparedBody<'completions'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const choices = asked
    .flatMap((request) => choicesOf(request, n))
    .map((request, index) => ({
      request,
      index,
      echo: echoes ? promptText(request) : '',
      ...(hasPrompts && { prompt: `prompt[${Math.floor(index / n)}]` }),
    }))
  const frame = frameOf('cmpl-', catalogue, choices[0]?.request.model, call)

  if (!streams) {
    const collecting = choices.map((choice) => ({ ...choice, collected: new AnswerCollector() }))
    const answers = await runAll(requests, collecting, call, words, (event, { collected }) => collected.add(event))
    return textCompletion(frame, answers, n, wantsLogprobs)
  }

  const chunk = (choices: object[], usage: object | null = null): string =>
    JSON.stringify({ ...frame, object: 'text_completion', choices, ...(includesUsage && { usage }) })
  /** With the characters told of each, and those before its next token that log-probabilities are told of. */
  const telling = choices.map((choice) => ({ ...choice, told: { chars: 0, offset: choice.echo.length } }))
  return streamed(reply, call, async (stream) => {
    const write = (
      { index, echo, told }: (typeof telling)[number],
      text: string,
      logprobs: object | null,
      finish_reason: string | null,
    ): void => {
      const whole = told.chars === 0 ? echo + text : text
      told.chars += whole.length
      stream.data(chunk([{ index, text: whole, logprobs, finish_reason }]))
    }
    const answers = await runAll(requests, telling, call, words, (event, choice) => {
      if (toldPlace(event, (text) => stream.comment(text)) || event.type !== 'tokens') return
      const logprobs =
        wantsLogprobs && event.logprobs?.length ? completionLogprobs(event.logprobs, choice.told.offset) : null
      for (const { text } of event.logprobs ?? []) choice.told.offset += text.length
      if (event.text !== '' || logprobs !== null) write(choice, event.text, logprobs, null)
    })
    for (const answer of answers) write(answer, '', null, answer.finish.reason)
    const finishes = answers.map(({ finish }) => finish)
    if (includesUsage) stream.data(chunk([], usageObject(totalUsage(finishes, n))))
    stream.data('[DONE]')
  })
}

function promptText(request: InferenceRequest): string {
  return request.kind === 'completion' ? String(request.prompt) : ''
}
