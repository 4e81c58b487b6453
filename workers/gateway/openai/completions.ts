import type { FastifyReply } from 'fastify'
import type { Finish, InferenceRequest } from '../../../lib/protocol/index.js'
import { type Call, streamed } from '../http/index.js'
import type { AnswerEvent } from '../requests/index.js'
import { CompletionLogprobs, countOf, LogprobRoom } from './completion-logprobs.js'
import { frameOf } from './frame.js'
import { cutOf, type Frame, totalUsage, usageObject } from './objects.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { runAll, toldPlace } from './run.js'
import { choicesOf } from './to-inference.js'

/** `POST /v1/completions`. Choices are numbered prompt by prompt. */
export async function completions(
  { requests, catalogue }: DoorOptions,
  prepared: PreparedBody<'completions'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const { requests: asked, n, bestOf, echoes, streams, includesUsage, wantsLogprobs, words, hasPrompts } = prepared
  const frame = frameOf('cmpl-', catalogue, asked[0]?.model, call)
  const room = streams ? undefined : new LogprobRoom(bestOf)
  const choices = asked
    .flatMap((request) => choicesOf(request, bestOf))
    .map((request, index) => ({
      request,
      index,
      said: new Said(request, echoes, wantsLogprobs, room && { room, prompt: Math.floor(index / bestOf) }),
      ...(hasPrompts && { prompt: `prompt[${Math.floor(index / bestOf)}]` }),
    }))

  if (!streams) {
    const answers = await runAll(requests, choices, call, words, (event, { said }) => said.add(event))
    const best = asked.flatMap((_, i) => likeliest(answers.slice(i * bestOf, (i + 1) * bestOf), n))
    const usage = usageObject(
      totalUsage(
        answers.map(({ finish }) => finish),
        bestOf,
      ),
    )
    reply.type('application/json; charset=utf-8')
    return objectOf(
      frame,
      best.map(({ said, finish }, index) => said.whole(index, finish)),
      usage,
    )
  }

  const usageOf = includesUsage ? null : undefined
  return streamed(reply, call, async (stream) => {
    const answers = await runAll(requests, choices, call, words, (event, { said, index }) => {
      if (toldPlace(event, (text) => stream.comment(text))) return
      said.add(event)
      if (said.hasMore) stream.data(objectOf(frame, [said.take(index, null)], usageOf))
    })
    for (const { said, index, finish } of answers) {
      stream.data(objectOf(frame, [said.take(index, finish)], usageOf))
    }
    const finishes = answers.map(({ finish }) => finish)
    if (includesUsage) stream.data(objectOf(frame, [], usageObject(totalUsage(finishes, n))))
    stream.data('[DONE]')
  })
}

/** An answer, or a piece of it. @param choices in JSON */
function objectOf(frame: Frame, choices: readonly string[], usage: object | null | undefined): string {
  const head = JSON.stringify({ ...frame, object: 'text_completion' }).slice(0, -1)
  const tail = usage === undefined ? '' : `,"usage":${JSON.stringify(usage)}`
  return `${head},"choices":[${choices.join(',')}]${tail}}`
}

/** The room for an answer's log-probabilities, and which of the prompts it is of. */
interface Within {
  room: LogprobRoom
  prompt: number
}

/** What one answer says, prompt included where that is echoed, until it is told. */
class Said {
  readonly #prompt: string | undefined
  readonly #logprobs: CompletionLogprobs | undefined
  readonly #within: Within | undefined
  #echoed = 0
  #text = ''
  #more = false
  #logprobSum = 0
  #tokens = 0

  constructor(request: InferenceRequest, echoes: boolean, wantsLogprobs: boolean, within: Within | undefined) {
    const isText = request.kind === 'completion' && typeof request.prompt === 'string'
    // A text comes back as it was sent; of token ids the engine tells what they say.
    this.#prompt = echoes && isText ? String(request.prompt) : undefined
    if (this.#prompt !== undefined) this.#text = this.#prompt
    this.#logprobs = wantsLogprobs ? new CompletionLogprobs() : undefined
    this.#within = within
  }

  add(event: AnswerEvent): void {
    if (event.type !== 'tokens') return
    const { text, logprobs = [], echo } = event
    if (echo !== undefined && this.#prompt === undefined) this.#text += echo.text
    this.#text += text
    for (const { logprob } of logprobs) {
      this.#logprobSum += logprob
      this.#tokens++
    }
    const echoed = echo?.logprobs ?? []
    const all = [...echoed, ...logprobs]
    if (this.#logprobs !== undefined && all.length > 0) {
      this.#echoed += countOf(echoed)
      this.#within?.room.takeEcho(this.#within.prompt, this.#echoed)
      this.#within?.room.take(countOf(logprobs))
      this.#logprobs.add(all)
      this.#more = true
    }
    this.#more ||= this.#text !== ''
  }

  /** Whether something was said that is not told. */
  get hasMore(): boolean {
    return this.#more
  }

  /** The mean log-probability of its tokens, by which the best of several are found. */
  get meanLogprob(): number {
    return this.#tokens === 0 ? Number.NEGATIVE_INFINITY : this.#logprobSum / this.#tokens
  }

  /** All that was said, as a choice in JSON. */
  whole(index: number, finish: Finish): string {
    return this.#choice(index, finish, this.#logprobs?.take())
  }

  /** What was said since the last time, as a choice in JSON. */
  take(index: number, finish: Finish | null): string {
    return this.#choice(index, finish, this.#logprobs?.isEmpty ? undefined : this.#logprobs?.take())
  }

  #choice(index: number, finish: Finish | null, logprobs = 'null'): string {
    const ended = JSON.stringify({ finish_reason: finish?.reason ?? null, ...(finish !== null && cutOf(finish)) })
    const choice = `{"index":${index},"text":${JSON.stringify(this.#text)},"logprobs":${logprobs},${ended.slice(1)}`
    this.#text = ''
    this.#more = false
    return choice
  }
}

/** The `n` answers whose tokens were the likeliest, in the order of their likelihood. */
function likeliest<A extends { said: Said; finish: Finish }>(answers: readonly A[], n: number): readonly A[] {
  if (answers.length <= n) return answers
  return [...answers].sort((a, b) => order(b.said.meanLogprob, a.said.meanLogprob)).slice(0, n)
}

function order(a: number, b: number): number {
  return a === b ? 0 : a - b
}
